//! How fast one document is read again and again: from Redis beside PostgreSQL, in rounds of one
//! run, by readers that each wait for their answer.
//!
//! `cargo run --release -p inlet-adapters --features redis,postgres --example cache_rate \
//!     [ROUNDS] [READERS] [BODY_BYTES]`

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use inlet_adapters::cache::{RedisCache, RedisOptions};
use inlet_adapters::store::{PostgresOptions, PostgresStore};
use inlet_core::calendar::Calendar;
use inlet_core::document::{Document, StreamName};
use inlet_core::envelope;
use inlet_core::id::DocumentId;
use inlet_core::persist::put_batch;
use inlet_core::ports::{Batch, Cache, Clock, Store, SystemClock};
use inlet_testkit::server::{Server, ServerKind};
use tokio::task::JoinSet;

/// How long each engine is read from in a round.
const ROUND: Duration = Duration::from_secs(2);

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let readers: usize = arguments.next().map_or(Ok(32), |text| text.parse())?;
    let body_bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let document = document(body_bytes);
    let id = document.id;

    let postgres = Server::start(ServerKind::Postgres);
    let url =
        format!("postgres://inlet:inlet@127.0.0.1:{}/documents?sslmode=disable", postgres.port());
    let (client, connection) =
        tokio_postgres::connect(&url.replace("/documents?", "/postgres?"), tokio_postgres::NoTls)
            .await?;
    tokio::spawn(connection);
    client.batch_execute("CREATE DATABASE documents").await?;
    PostgresStore::migrate(&url, &PostgresOptions::default()).await?;
    let store: Arc<dyn Store> =
        Arc::new(PostgresStore::open(&url, &PostgresOptions::default()).await?);

    let redis = Server::start(ServerKind::Redis);
    let url = format!("redis://127.0.0.1:{}", redis.port());
    // A machine that is busy with this alone: what takes longer is measured, not left out.
    let options = RedisOptions { call_ms: 5_000, ..RedisOptions::default() };
    let cache: Arc<dyn Cache> = Arc::new(RedisCache::open(&url, &options).await?);
    let key = id.to_string();
    cache.put(&key, envelope::encode(&document)).await;
    let batch = Batch {
        documents: vec![document],
        dead: Vec::new(),
        cursor: None,
        now: SystemClock.now(),
        calendar: Calendar::utc(),
        attempts_max: 3,
    };
    put_batch(&*store, batch).await?;

    let mut ratios = Vec::new();
    for round in 0..rounds {
        let (mut from_redis, mut from_postgres) = (0.0, 0.0);
        for is_redis in [round % 2 == 0, round % 2 != 0] {
            if is_redis {
                let cache = Arc::clone(&cache);
                let key: Arc<str> = Arc::from(key.as_str());
                from_redis = rate(readers, move || {
                    let (cache, key) = (Arc::clone(&cache), Arc::clone(&key));
                    async move {
                        let bytes = cache.get(&key).await.expect("it was put");
                        envelope::decode(&bytes).expect("it is what was put").id == id
                    }
                })
                .await;
            } else {
                let store = Arc::clone(&store);
                from_postgres = rate(readers, move || {
                    let store = Arc::clone(&store);
                    async move {
                        let stored = store.get(id).await.expect("the store answers");
                        stored.expect("it was put").document.id == id
                    }
                })
                .await;
            }
        }
        ratios.push(from_redis / from_postgres);
        println!(
            "Redis {from_redis:.0}/s, PostgreSQL {from_postgres:.0}/s, {:.2} times",
            from_redis / from_postgres
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("median of {rounds} rounds with {readers} readers: {:.2}", ratios[rounds / 2]);
    Ok(())
}

/// Reads a second that all readers make together.
async fn rate<F>(readers: usize, read: impl Fn() -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = bool> + Send,
{
    let begun = Instant::now();
    let mut reading = JoinSet::new();
    for _ in 0..readers {
        let read = read.clone();
        reading.spawn(async move {
            let mut count = 0_u32;
            while begun.elapsed() < ROUND {
                assert!(read().await, "another document came back");
                count += 1;
            }
            count
        });
    }
    let count: u32 = reading.join_all().await.into_iter().sum();
    f64::from(count) / begun.elapsed().as_secs_f64()
}

fn document(body_bytes: usize) -> Document {
    let received = SystemClock.now();
    Document {
        id: DocumentId::mint(received),
        stream: StreamName::default(),
        key: None,
        received,
        generation: Some(0),
        body: Bytes::from(format!(
            "{{\"text\":\"{}\"}}",
            "x".repeat(body_bytes.saturating_sub(11))
        )),
    }
}
