//! The door waits for no engine, is never held up by one request, and holds no more than it may.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use inlet_core::failure::FailureKind;
use inlet_core::limits::Limits;
use inlet_testkit::fault::{FailingStore, Faults};
use inlet_testkit::memory::MemoryStore;
use rustix::time::{ClockId, clock_gettime};

use crate::client::{Connection, ask, json_headers, request};
use crate::harness::{ALL, Harness, SAVE, Setup};

/// A server whose store fails or hangs as told.
async fn with_faults() -> (Harness, Faults) {
    let faults = Faults::default();
    let store = Arc::new(FailingStore::new(MemoryStore::default(), faults.clone()));
    (Harness::start_with(Setup { store: Some(store), ..Setup::default() }).await, faults)
}

#[tokio::test]
async fn a_store_that_hangs_costs_one_look_and_no_document() {
    let (server, faults) = with_faults().await;
    faults.set_hanging(true);
    let begun = Instant::now();
    for n in 0..50 {
        let key = n.to_string();
        let keyed = [&json_headers(SAVE)[..], &[("Idempotency-Key", key.as_str())]].concat();
        assert_eq!(ask(server.address, "POST", "/api/save", &keyed, b"1").await.status, 202);
        let batch = format!("[{}]", vec!["1"; 200].join(","));
        let answer = ask(server.address, "POST", "/api/save/batch", &keyed, batch.as_bytes()).await;
        assert_eq!(answer.status, 202);
        let stream = format!("/api/save?stream=s{n}");
        assert_eq!(
            ask(server.address, "POST", &stream, &json_headers(SAVE), b"1").await.status,
            202
        );
    }
    // 150 looks of 50 ms each would be 7.5 s; a pause of 500 ms and more stands between two.
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(3_500), "{took:?}");

    // Once it is back, it is asked again.
    faults.set_hanging(false);
    server.persist().await;
    let other = Setup { store: Some(Arc::clone(&server.app.store)), ..Setup::default() };
    let other = Harness::start_with(other).await;
    let keyed = [&json_headers(SAVE)[..], &[("Idempotency-Key", "0")]].concat();
    let again = ask(other.address, "POST", "/api/save", &keyed, b"1").await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

#[tokio::test(start_paused = true)]
async fn a_read_from_a_store_that_hangs_is_a_503_with_retry_after_in_bounded_time() {
    let (server, faults) = with_faults().await;
    faults.set_hanging(true);
    let id = "019aa2f0-1111-7222-8333-444455556666";
    for path in [
        format!("/api/receipts/{id}"),
        format!("/api/documents/{id}"),
        "/api/documents".to_owned(),
        "/api/streams".to_owned(),
        "/api/dead-letters".to_owned(),
    ] {
        let answer = ask(server.address, "GET", &path, &json_headers(ALL), b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "Unavailable"), "{path}");
        assert!(answer.header("retry-after").is_some(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_finds_damage_says_so_to_readiness_until_it_is_mended() {
    let (server, faults) = with_faults().await;
    let ready = async || ask(server.address, "GET", "/readyz", &[], b"").await.json();
    assert_eq!(ready().await["store"], "ready");
    let id = "019aa2f0-1111-7222-8333-444455556666";
    faults.set_failing(Some(FailureKind::Damaged));
    for path in [format!("/api/documents/{id}"), "/api/documents".to_owned()] {
        let answer = ask(server.address, "GET", &path, &json_headers(ALL), b"").await;
        assert_eq!((answer.status, answer.code().as_str()), (500, "InternalFailure"), "{path}");
    }
    let damaged = ready().await;
    assert_eq!((&damaged["status"], &damaged["store"]), (&"degraded".into(), &"damaged".into()));
    assert_eq!(damaged["parts"][0]["name"], "store-reads");
    // Another read that goes well does not take it back, nor does time alone.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(ready().await["store"], "damaged");
    faults.set_failing(None);
    tokio::time::sleep(Duration::from_secs(301)).await;
    let mended = ready().await;
    assert_eq!((&mended["status"], &mended["store"]), (&"ready".into(), &"ready".into()));
    assert_eq!(mended["parts"], serde_json::json!([]));
}

#[tokio::test]
async fn health_checks_and_the_landing_page_wait_for_no_engine() {
    let (server, faults) = with_faults().await;
    ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"1").await;
    server.persist().await;
    let before = ask(server.address, "GET", "/", &[], b"").await.json();
    assert_eq!(before["store"]["documents"], 1);
    faults.set_hanging(true);
    for path in ["/readyz", "/", "/metrics"] {
        let begun = Instant::now();
        let answer = ask(server.address, "GET", path, &[], b"").await;
        assert_eq!(answer.status, 200, "{path}");
        // Balancers and Kubernetes wait a second by default.
        assert!(begun.elapsed() < Duration::from_millis(900), "{path}: {:?}", begun.elapsed());
    }
    let landing = ask(server.address, "GET", "/", &[], b"").await.json();
    assert_eq!(landing["store"]["documents"], 1, "the figures it told last");
    let calls = faults.calls();
    let checks = (0..20).map(|_| ask(server.address, "GET", "/readyz", &[], b""));
    for answer in all_at_once(checks).await {
        assert_eq!(answer.json()["store"], "slow");
    }
    assert_eq!(faults.calls(), calls, "those that ask while one looks wait for it");
}

/// Runs all of them at the same time.
async fn all_at_once<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in running.iter_mut().zip(&mut done) {
            if output.is_none()
                && let std::task::Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// CPU time that this thread has used.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

fn process_cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

#[tokio::test]
async fn a_large_batch_is_examined_beside_the_thread_that_serves() {
    let server = Harness::start().await;
    let line = format!("{{\"reading\":\"{}\"}}\n", "0123456789abcdef".repeat(16 << 10));
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..60 {
        gzip.write_all(line.as_bytes()).unwrap();
    }
    let body = gzip.finish().unwrap();
    let headers = [
        ("X-Auth-Token", SAVE),
        ("Content-Type", "application/x-ndjson"),
        ("Content-Encoding", "gzip"),
    ];
    let before = (thread_cpu(), process_cpu());
    let answer = ask(server.address, "POST", "/api/save/batch", &headers, &body).await;
    assert_eq!(answer.status, 202);
    // Everything but the examining runs on this thread, the client included.
    let (here, all) = (thread_cpu() - before.0, process_cpu() - before.1);
    assert!(here * 4 < all, "{here:?} of {all:?} on the thread that serves");
}

#[tokio::test]
async fn bodies_that_never_end_take_the_budget_and_not_a_byte_more() {
    let limits =
        Limits { bodies_bytes_max: 4 << 20, batch_bytes_max: 1 << 20, ..Limits::default() };
    let server = Harness::start_with(Setup { limits, ..Setup::default() }).await;
    let budget = server.app.intake.budget().clone();
    let whole = request("POST", "/api/save/batch", &json_headers(SAVE), &vec![b' '; 1 << 20]);
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut connection = Connection::open(server.address).await;
        connection.send(&whole[..whole.len() - 1]).await;
        // Either it waits for the last byte, or it is refused.
        let settled = tokio::select! {
            answer = connection.answer() => answer,
            () = reads_all(&budget, held.len() + 1) => None,
        };
        assert!(budget.taken_bytes() <= 4 << 20);
        match settled {
            Some(answer) => {
                assert_eq!((answer.status, answer.code().as_str()), (503, "Full"));
                assert!(answer.header("retry-after").is_some());
                refused += 1;
            }
            None => held.push(connection),
        }
    }
    assert_eq!((held.len(), refused), (3, 17), "an eighth is kept for small bodies");
    let small = ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"1").await;
    assert_eq!(small.status, 202);
    let metrics = ask(server.address, "GET", "/metrics", &[], b"").await;
    let metrics = metrics.text();
    assert!(metrics.contains("inlet_bodies_refused_total 17"), "{metrics}");

    // A bomb within the limit takes its share as well.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b' '; 1 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    let headers = [&json_headers(SAVE)[..], &[("Content-Encoding", "gzip")]].concat();
    let answer = ask(server.address, "POST", "/api/save/batch", &headers, &bomb).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "Full"));

    drop(held);
    while budget.taken_bytes() > 0 {
        tokio::task::yield_now().await;
    }
    let answer = ask(server.address, "POST", "/api/save/batch", &headers, &bomb).await;
    assert_eq!(answer.code(), "JsonInvalid");
    assert_eq!(budget.taken_bytes(), 0);
}

/// Returns once that many bodies of a mebibyte less a byte are held.
async fn reads_all(budget: &inlet_core::budget::Budget, bodies: usize) {
    while budget.taken_bytes() < bodies << 20 {
        tokio::task::yield_now().await;
    }
}
