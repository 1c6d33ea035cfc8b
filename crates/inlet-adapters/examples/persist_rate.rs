//! How fast the persist step moves documents from a log to SQLite, in rounds of one run beside
//! the store alone, and how much memory that takes.
//!
//! `cargo run --release -p inlet-adapters --example persist_rate [ROUNDS] [BODY_BYTES] [DIRECTORY]`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlet_adapters::queue::{LogQueue, LogQueueOptions};
use inlet_adapters::store::{SqliteOptions, SqliteStore};
use inlet_core::calendar::Calendar;
use inlet_core::document::{Document, StreamName};
use inlet_core::id::DocumentId;
use inlet_core::limits::Limits;
use inlet_core::persist::put_batch;
use inlet_core::persist::{Persister, persist_batch};
use inlet_core::ports::{Batch, Clock, Store, SystemClock};

const DOCUMENTS: u64 = 80_000;

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let body_bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(parent)?;
    let open =
        |name: &str| SqliteStore::open(directory.path().join(name), &SqliteOptions::default());
    let (store, alone): (Arc<dyn Store>, _) = (Arc::new(open("store")?), open("alone")?);
    let root = directory.path().join("log");
    let queue =
        LogQueue::open(&root, "one", Arc::clone(&store), &LogQueueOptions::default()).await?;
    let driven = queue.drive().map(tokio::spawn);
    let persister = Persister {
        queue: Arc::new(queue),
        store,
        clock: Arc::new(SystemClock),
        calendar: Calendar::utc(),
        limits: Limits::default(),
    };
    for round in 0..rounds {
        let documents = documents(body_bytes);
        for some in documents.chunks(4_096) {
            persister.queue.send(some).await?;
        }
        let begun = Instant::now();
        let mut stored = 0;
        while stored < DOCUMENTS {
            stored += persist_batch(&persister, Duration::from_secs(1)).await?.stored;
        }
        let persisted = begun.elapsed();
        let put = put(&alone, &documents).await?;
        let ratio = put.as_secs_f64() / persisted.as_secs_f64();
        let memory = std::fs::read_to_string("/proc/self/status")?;
        let memory = memory.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
        println!(
            "round {round}: store alone {put:?}, from the log {persisted:?}, {ratio:.2}, {memory}"
        );
    }
    drop(driven);
    Ok(())
}

async fn put(store: &SqliteStore, documents: &[Document]) -> Result<Duration, Box<dyn Error>> {
    let begun = Instant::now();
    for some in documents.chunks(4_096) {
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
