//! A server that stops, dies, freezes or may no longer write.

use std::time::{Duration, Instant};

use inlet_adapters::store::{PostgresOptions, PostgresStore};
use inlet_core::failure::FailureKind;
use inlet_core::ports::{Outcome, Store};
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::sample::{NOW, PutBatch, batch, document};
use inlet_testkit::server::{Server, ServerKind, free_port};
use tokio::sync::watch;

use super::database::{Database, as_a_worker_pauses, url};

/// A server of its own, with the schema.
async fn own_server() -> (Server, String) {
    let server = tokio::task::spawn_blocking(|| Server::start(ServerKind::Postgres)).await.unwrap();
    let url = url(server.port(), "postgres");
    PostgresStore::migrate(&url, &PostgresOptions::default()).await.unwrap();
    (server, url)
}

/// Stops the server and starts it again.
async fn restart(mut server: Server, kill: bool) -> Server {
    let restarted = tokio::task::spawn_blocking(move || {
        server.stop(kill);
        server.resume_or_start();
        server
    });
    restarted.await.unwrap()
}

#[tokio::test]
async fn a_server_that_stops_and_dies_under_load_loses_nothing_and_stores_once() {
    const BATCHES: u64 = 400;
    let (mut server, url) = own_server().await;
    let (progress, mut seen) = watch::channel(0);
    let worker = async {
        let store = PostgresStore::open(&url, &PostgresOptions::default()).await.unwrap();
        let mut failures = 0;
        for n in 0..BATCHES {
            loop {
                let documents = (n * 10..n * 10 + 10).map(document);
                match store.put_batch(batch(documents)).await {
                    Ok(outcomes) => {
                        assert_eq!(outcomes.len(), 10);
                        break;
                    }
                    Err(failure) => {
                        assert_eq!(failure.kind(), FailureKind::Unavailable, "{failure}");
                        failures += 1;
                        as_a_worker_pauses().await;
                    }
                }
            }
            progress.send_replace(n);
        }
        failures
    };
    let accidents = async {
        for (after, kill) in [(30, true), (100, false), (180, true)] {
            seen.wait_for(|n| *n >= after).await.unwrap();
            server = restart(server, kill).await;
        }
        server
    };
    let (failures, server) = tokio::join!(worker, accidents);
    assert!(failures > 0, "the accidents were not noticed");
    let store = PostgresStore::open(&url, &PostgresOptions::default()).await.unwrap();
    let streams = store.streams().await.unwrap();
    assert_eq!(streams[0].documents, BATCHES * 10);
    for n in 0..BATCHES * 10 {
        assert!(store.get(document(n).id).await.unwrap().is_some(), "document {n} is lost");
    }
    drop(server);
}

#[tokio::test]
async fn a_server_that_freezes_is_an_outage_after_a_bounded_time() {
    let (server, url) = own_server().await;
    let options =
        PostgresOptions { connect_ms: 500, transaction_ms: 500, ..PostgresOptions::default() };
    let store = PostgresStore::open(&url, &options).await.unwrap();
    store.put_batch(batch([document(1)])).await.unwrap();
    server.freeze();
    let begun = Instant::now();
    for _ in 0..3 {
        let failure = store.put_batch(batch([document(2)])).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Unavailable, "{failure}");
        assert!(!store.get(document(1).id).await.is_ok_and(|found| found.is_some()));
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    server.thaw();
    let outcomes = loop {
        if let Ok(outcomes) = store.put_batch(batch([document(2)])).await {
            break outcomes;
        }
        as_a_worker_pauses().await;
    };
    // The commit that nobody waited for may have come through.
    assert!(matches!(outcomes[..], [Outcome::Stored | Outcome::Duplicate]), "{outcomes:?}");
    assert_eq!(store.streams().await.unwrap()[0].documents, 2);
}

#[tokio::test]
async fn a_server_that_may_only_read_is_an_outage_until_it_may_write_again() {
    let (server, url) = own_server().await;
    let store = PostgresStore::open(&url, &PostgresOptions::default()).await.unwrap();
    store.put_batch(batch([document(1)])).await.unwrap();
    let (client, connection) =
        tokio_postgres::connect(&format!("{url}?sslmode=disable"), tokio_postgres::NoTls)
            .await
            .unwrap();
    tokio::spawn(connection);
    for read_only in [true, false] {
        let sql = format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}");
        client.batch_execute("SET default_transaction_read_only = off").await.unwrap();
        client.batch_execute(&sql).await.unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        let outcomes = loop {
            match store.put_batch(batch([document(1)])).await {
                Ok(_) if read_only => {}
                Ok(outcomes) => break outcomes,
                Err(failure) => {
                    assert_eq!(failure.kind(), FailureKind::Unavailable, "{failure}");
                    if read_only {
                        break Vec::new();
                    }
                }
            }
            as_a_worker_pauses().await;
        };
        assert_eq!(outcomes.is_empty(), read_only);
    }
    drop(server);
}

#[tokio::test]
async fn reads_go_on_while_no_server_may_write_also_after_a_start() {
    let (server, url) = own_server().await;
    let with_store = |url: String| async move {
        PostgresStore::open(&url, &PostgresOptions::default()).await.unwrap()
    };
    let store = with_store(url.clone()).await;
    store.put_batch(batch([document(1)])).await.unwrap();
    let set = async |read_only: bool| {
        let (client, connection) =
            tokio_postgres::connect(&format!("{url}?sslmode=disable"), tokio_postgres::NoTls)
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        for sql in [
            "SET default_transaction_read_only = off".to_owned(),
            format!("ALTER SYSTEM SET default_transaction_read_only = {read_only}"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            client.batch_execute(&sql).await.unwrap();
        }
        drop(client);
        connection.await.unwrap().unwrap();
    };
    set(true).await;
    // Until the server has read its settings again.
    while store.put_batch(batch([document(2)])).await.is_ok() {
        store.erase(document(2).id, NOW).await.ok();
        as_a_worker_pauses().await;
    }
    assert!(store.get(document(1).id).await.unwrap().is_some());
    // One that starts now, and one of whose hosts one is away.
    let port = format!("127.0.0.1:{}", server.port());
    let hosts = format!("127.0.0.1:{},{port}", free_port());
    for url in [url.clone(), url.replace(&port, &hosts)] {
        let other = with_store(url.clone()).await;
        assert!(other.get(document(1).id).await.unwrap().is_some(), "{url}");
        assert_eq!(other.streams().await.unwrap().len(), 1, "{url}");
        let refused = other.put_batch(batch([document(3)])).await.unwrap_err();
        assert_eq!(refused.kind(), FailureKind::Unavailable, "{refused}");
        assert!(other.get(document(1).id).await.unwrap().is_some(), "{url}");
    }
    set(false).await;
    while store.put_batch(batch([document(3)])).await.is_err() {
        as_a_worker_pauses().await;
    }
    assert!(store.get(document(3).id).await.unwrap().is_some());
}

#[tokio::test]
async fn a_call_that_is_given_up_holds_nothing() {
    let mut database = Database::new().await;
    database.options.lock_ms = 30_000;
    database.options.connections_max = 1;
    let store = database.try_open().await.unwrap();
    database.set_away(true).await;
    for _ in 0..3 {
        let put = store.put_batch(batch([document(1)]));
        assert!(tokio::time::timeout(Duration::from_millis(30), put).await.is_err());
    }
    database.set_away(false).await;
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
}

#[tokio::test]
async fn all_connections_in_use_is_an_outage_with_a_hint() {
    let mut database = Database::new().await;
    database.options.lock_ms = 30_000;
    database.options.connections_max = 1;
    database.options.wait_ms = 20;
    let store = database.try_open().await.unwrap();
    database.set_away(true).await;
    let put = store.put_batch(batch([document(1)]));
    let get = async {
        let failure = store.get(document(1).id).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Unavailable);
        assert!(failure.hint_text().unwrap().contains("number of connections"), "{failure}");
        database.set_away(false).await;
    };
    let (put, ()) = tokio::join!(biased; put, get);
    assert_eq!(put.unwrap(), [Outcome::Stored]);
}
