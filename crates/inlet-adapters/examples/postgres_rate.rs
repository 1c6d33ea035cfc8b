//! How fast batches go into PostgreSQL, in rounds of one run beside `\copy` of the same rows by
//! psql into the same tables of another database; and what it costs that statements are planned
//! each time, in reads of one document.
//!
//! `POSTGRES_FSYNC=on cargo run --release -p inlet-adapters --features postgres \
//!     --example postgres_rate [ROUNDS] [BODY_BYTES] [BATCH_DOCUMENTS]`

use std::error::Error;
use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use inlet_adapters::store::{PostgresOptions, PostgresStore};
use inlet_core::calendar::Calendar;
use inlet_core::document::{Document, StreamName, hex};
use inlet_core::id::DocumentId;
use inlet_core::persist::put_batch;
use inlet_core::ports::{Batch, Clock, Store, SystemClock};
use inlet_testkit::server::{Server, ServerKind};
use tokio_postgres::NoTls;

const DOCUMENTS: usize = 80_000;
const READS: usize = 5_000;

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(7), |text| text.parse())?;
    let body_bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let batch_documents: usize = arguments.next().map_or(Ok(4_096), |text| text.parse())?;
    let server = Server::start(ServerKind::Postgres);
    let url = |database: &str| {
        let port = server.port();
        format!("postgres://inlet:inlet@127.0.0.1:{port}/{database}?sslmode=disable")
    };
    let (client, connection) = tokio_postgres::connect(&url("postgres"), NoTls).await?;
    tokio::spawn(connection);
    for database in ["put", "copied"] {
        client.batch_execute(&format!("CREATE DATABASE {database}")).await?;
        PostgresStore::migrate(&url(database), &PostgresOptions::default()).await?;
    }
    let store = PostgresStore::open(&url("put"), &PostgresOptions::default()).await?;
    let file = tempfile::NamedTempFile::new()?;
    let mut ratios = Vec::new();
    let mut ids = Vec::new();
    for round in 0..rounds {
        let documents = documents(body_bytes);
        std::fs::write(&file, rows(round * DOCUMENTS, &documents))?;
        ids.extend(documents.iter().map(|document| document.id).take(READS));
        let (mut put_for, mut copied_for) = (Duration::ZERO, Duration::ZERO);
        // What runs second finds the disk as the first left it, so they take turns.
        for is_put in [round % 2 == 0, round % 2 != 0] {
            client.batch_execute("CHECKPOINT").await?;
            if is_put {
                put_for = put(&store, &documents, batch_documents).await?;
            } else {
                copied_for = copy(&url("copied"), &file.path().display().to_string())?;
            }
        }
        let rate = |time: Duration| DOCUMENTS as f64 / time.as_secs_f64();
        let ratio = rate(put_for) / rate(copied_for);
        println!(
            "round {round}: put {:.0} rows/s, \\copy {:.0} rows/s, {ratio:.2}",
            rate(put_for),
            rate(copied_for)
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median {:.2}", ratios[ratios.len() / 2]);

    let (client, connection) = tokio_postgres::connect(&url("put"), NoTls).await?;
    tokio::spawn(connection);
    let sql = "SELECT position, id, stream, key, received_us, stored_us, body
         FROM inlet.documents WHERE id = ($1::text)::uuid";
    let prepared = client.prepare(sql).await?;
    let begun = Instant::now();
    for id in ids.iter().take(READS) {
        client.query_one(&prepared, &[&id.to_string()]).await?;
    }
    let with_plan = begun.elapsed() / u32::try_from(READS)?;
    let begun = Instant::now();
    for id in ids.iter().take(READS) {
        store.get(*id).await?;
    }
    let each = begun.elapsed() / u32::try_from(READS)?;
    println!("one read: planned each time {each:?}, prepared {with_plan:?}");
    Ok(())
}

async fn put(
    store: &PostgresStore,
    documents: &[Document],
    batch_documents: usize,
) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    for some in documents.chunks(batch_documents) {
        let batch = Batch {
            documents: some.to_vec(),
            dead: Vec::new(),
            cursor: None,
            now: SystemClock.now(),
            calendar: Calendar::utc(),
            attempts_max: 3,
        };
        put_batch(store, batch).await?;
    }
    Ok(begun.elapsed())
}

fn copy(url: &str, file: &str) -> Result<Duration, Box<dyn Error>> {
    let sql = format!(
        "\\copy inlet.documents (position, received_us, stored_us, id, stream, key, body) \
         from '{file}'"
    );
    let begun = Instant::now();
    let status = Command::new("psql").args(["-qX", url, "-c", &sql]).status()?;
    if !status.success() {
        return Err("psql could not copy".into());
    }
    Ok(begun.elapsed())
}

/// The rows as psql takes them.
fn rows(first: usize, documents: &[Document]) -> String {
    let mut text = String::new();
    for (position, document) in (first..).zip(documents) {
        let received = document.received.as_micros();
        let (id, stream, body) = (document.id, &document.stream, hex(&document.body));
        writeln!(text, "{position}\t{received}\t{received}\t{id}\t{stream}\t\\N\t\\\\x{body}")
            .expect("a String takes any text");
    }
    text
}

fn documents(body_bytes: usize) -> Vec<Document> {
    (0..DOCUMENTS)
        .map(|n| {
            let now = SystemClock.now();
            let head = format!("{{\"n\":{n},\"order\":\"o-{n}\",\"paid\":true,\"note\":\"");
            let fill = "x".repeat(body_bytes.saturating_sub(head.len() + 2));
            let body = format!("{head}{fill}\"}}").into();
            let (id, stream) = (DocumentId::mint(now), StreamName::default());
            Document { id, stream, key: None, received: now, generation: Some(0), body }
        })
        .collect()
}
