//! How fast documents become rows: `put_batch` into a `SqliteStore` against a bare loop that inserts the
//! same rows into the same tables with batched transactions, in interleaved rounds of one run.
//!
//! `cargo run --release -p inlet-adapters --example insert_rate [ROUNDS] [BODY_BYTES] [DIRECTORY]`

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use inlet_adapters::store::{SqliteOptions, SqliteStore};
use inlet_core::calendar::Calendar;
use inlet_core::document::{Document, StreamName, Timestamp};
use inlet_core::id::DocumentId;
use inlet_core::persist::put_batch;
use inlet_core::ports::{Batch, Clock, Cursor, SystemClock};
use rusqlite::{Connection, params};

const BATCH: usize = 4_096;
const BATCHES: usize = 20;

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(7), |text| text.parse())?;
    let body_bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(parent)?;
    let (store_at, bare_at) = (directory.path().join("store"), directory.path().join("bare"));
    let store = SqliteStore::open(&store_at, &SqliteOptions::default())?;
    let mut bare = bare(&bare_at).await?;
    let (mut stored, mut inserted) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let documents = documents(body_bytes);
        inserted.push(insert(&mut bare, &documents)?);
        stored.push(put(&store, documents, round).await?);
        let ratio = inserted[round].as_secs_f64() / stored[round].as_secs_f64();
        println!(
            "round {round}: bare {:?}, store {:?}, {ratio:.2}",
            inserted[round], stored[round]
        );
    }
    let rate = |durations: &mut Vec<Duration>| {
        durations.sort();
        let median = durations[durations.len() / 2].as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let documents = (BATCH * BATCHES) as f64;
        documents / median
    };
    let (bare, store) = (rate(&mut inserted), rate(&mut stored));
    println!("bare {bare:.0}/s, store {store:.0}/s, ratio {:.2}", store / bare);
    Ok(())
}

/// The same file with the same settings, written to without the store.
async fn bare(directory: &Path) -> Result<Connection, Box<dyn Error>> {
    let options = SqliteOptions { reserve_bytes: 0, ..SqliteOptions::default() };
    SqliteStore::open(directory, &options)?.close().await?;
    let connection = Connection::open(directory.join(SqliteStore::FILE))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 4096;
         INSERT INTO streams (name) VALUES ('default');",
    )?;
    Ok(connection)
}

fn insert(connection: &mut Connection, documents: &[Document]) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    for batch in documents.chunks(BATCH) {
        let tx = connection.transaction()?;
        let mut insert = tx.prepare_cached(
            "INSERT INTO documents (id, stream_id, received_us, stored_us, key, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for document in batch {
            let moment = document.received.as_micros();
            let id = document.id.as_bytes();
            insert.execute(params![id, 1, moment, moment, None::<&str>, &document.body[..]])?;
        }
        drop(insert);
        tx.commit()?;
    }
    Ok(begun.elapsed())
}

async fn put(
    store: &SqliteStore,
    documents: Vec<Document>,
    round: usize,
) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    let mut rest = documents.into_iter();
    for n in 0..BATCHES {
        let batch = Batch {
            documents: rest.by_ref().take(BATCH).collect(),
            dead: Vec::new(),
            cursor: Some(Cursor { log: "log".into(), segment: round as u64, offset: n as u64 }),
            now: SystemClock.now(),
            calendar: Calendar::utc(),
            attempts_max: 3,
        };
        put_batch(store, batch).await?;
    }
    Ok(begun.elapsed())
}

/// Documents with six fields, in bodies of about that many bytes.
fn documents(body_bytes: usize) -> Vec<Document> {
    (0..BATCH * BATCHES)
        .map(|n| {
            let now: Timestamp = SystemClock.now();
            let head = format!(
                "{{\"n\":{n},\"order\":\"o-{n}\",\"paid\":true,\"total\":{}.5,\"sku\":[\"a\",\"b\"],\
                 \"note\":\"",
                n % 977
            );
            let fill = "x".repeat(body_bytes.saturating_sub(head.len() + 2));
            Document {
                id: DocumentId::mint(now),
                stream: StreamName::default(),
                key: None,
                received: now,
                generation: Some(0),
                body: format!("{head}{fill}\"}}").into(),
            }
        })
        .collect()
}
