//! The door of a running server: what it waits for, what it holds, and what it says.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use inlet_testkit::server::{Server as Engine, ServerKind};

use crate::engines::servers::{Postgres, Redis, migrate};
use crate::files::peak_kib;
use crate::server::{Server, TOKEN};

#[test]
fn a_frozen_database_holds_up_no_document() {
    let postgres = Postgres(Engine::start(ServerKind::Postgres));
    let url = postgres.empty_database();
    migrate(&["--store", &url]);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--store", &url], Some(TOKEN));
    let keyed = |key: &str, body: &str| {
        let answer = server.post("/api/save", &[("Idempotency-Key", key)], body.as_bytes());
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer
    };
    let first = keyed("before", "1").json()["MessageId"].as_str().unwrap().to_owned();
    server.wait_until_stored(&first);
    postgres.0.freeze();
    let begun = Instant::now();
    let during: Vec<_> = (0..20).map(|n| keyed(&format!("during-{n}"), "1")).collect();
    let lines: String = (0..10_000).map(|n| format!("{n}\n")).collect();
    let headers = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", "batch")];
    let batch = server.post("/api/save/batch", &headers, lines.as_bytes());
    assert_eq!(batch.status, 202);
    // One look alone took 5 to 60 s, and there were 10,020.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Health checks of load balancers are answered meanwhile, and reads in bounded time.
    let begun = Instant::now();
    assert_eq!(server.get("/readyz").status, 200);
    assert_eq!(server.get("/").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // A slow look is no failure yet; one that was given up is.
    crate::server::until("readiness tells of it", || {
        server.get("/readyz").json()["status"] == "degraded"
    });
    let id = during[0].json()["MessageId"].as_str().unwrap().to_owned();
    let read = server.get(&format!("/api/receipts/{id}"));
    assert_eq!((read.status, read.headers.contains_key("retry-after")), (503, true));
    postgres.0.thaw();
    let last = batch.json()["results"][9_999]["MessageId"].as_str().unwrap().to_owned();
    server.wait_until_stored(&last);
    crate::server::until("the store is looked into again", || {
        keyed("before", "1").headers.contains_key("idempotency-replayed")
    });
}

#[test]
fn a_frozen_cache_holds_up_no_read() {
    let redis = Redis(Engine::start(ServerKind::Redis));
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--cache", &redis.url()], Some(TOKEN));
    let id = server.save("1");
    server.wait_until_stored(&id);
    redis.0.freeze();
    let begun = Instant::now();
    for _ in 0..50 {
        assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
        assert_eq!(server.get(&format!("/api/receipts/{id}")).status, 200);
    }
    // A hundred reads of 50 ms each would be 5 s, and get and put are two calls.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn readiness_says_what_reads_have_found_in_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data);
    let document = format!("\"{}\"\n", "x".repeat(2_000));
    let headers = [("Content-Type", "application/x-ndjson")];
    let batch = server.post("/api/save/batch", &headers, document.repeat(500).as_bytes());
    let last = batch.json()["results"][499]["MessageId"].as_str().unwrap().to_owned();
    server.wait_until_stored(&last);
    assert!(server.stop().success());
    let file = data.join("store/documents.sqlite3");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    // The first pages are left, so that it opens and answers its check.
    damaged[30 * 4_096..].fill(0xa5);
    std::fs::write(&file, damaged).unwrap();
    let server = Server::start(&data);
    assert_eq!(server.get("/api/documents?limit=1000").status, 500);
    let ready = server.get("/readyz");
    assert_eq!((ready.status, &ready.json()["store"]), (200, &"damaged".into()));
    assert_eq!(ready.json()["status"], "degraded", "{}", ready.text());
    server.kill();
    std::fs::write(&file, whole).unwrap();
    let server = Server::start(&data);
    assert_eq!(server.get("/api/documents?limit=1000").status, 200);
    assert_eq!(server.get("/readyz").json()["store"], "ready");
}

#[test]
fn memory_is_flat_under_bodies_that_never_end() {
    const BATCH: usize = 16 << 20;
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--bodies-bytes-max", "64MiB"], Some(TOKEN));
    server.save("1");
    let before = peak_kib(server.pid());
    let head = format!(
        "POST /api/save/batch HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {TOKEN}\r\n\
         Content-Type: application/json\r\nContent-Length: {BATCH}\r\n\r\n"
    );
    let body = vec![b' '; BATCH - 1];
    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..500 {
        let mut stream = TcpStream::connect(server.plain_address()).unwrap();
        // The server may answer and close before it has all.
        let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        stream.set_nonblocking(true).unwrap();
        let held = || held_bytes(&server) >= (open.len() as u64 + 1) * BATCH as u64;
        let mut answer = [0; 12];
        let is_held = loop {
            match stream.peek(&mut answer) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(12) => {
                    assert_eq!(&answer, b"HTTP/1.1 503");
                    break false;
                }
                _ => break false,
            }
            if sent.is_ok() && held() {
                break true;
            }
        };
        match is_held {
            true => open.push(stream),
            false => refused += 1,
        }
    }
    assert_eq!((open.len(), refused), (3, 497), "an eighth is kept for small bodies");
    let more = peak_kib(server.pid()) - before;
    assert!(more < 128 << 10, "{more} KiB more");
    // Small documents go on, and a large one once there is room.
    server.save("2");
    let batch = [vec![b' '; BATCH - 2], b"1\n".to_vec()].concat();
    let headers = [("Content-Type", "application/x-ndjson")];
    let full = server.post("/api/save/batch", &headers, &batch);
    assert_eq!((full.status, full.headers.contains_key("retry-after")), (503, true));
    drop(open);
    crate::server::until("there is room again", || {
        server.post("/api/save/batch", &headers, &batch).json()["accepted"].is_number()
    });
}

/// The memory of bodies in flight, in bytes, as the server tells it.
fn held_bytes(server: &Server) -> u64 {
    let metrics = server.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix("inlet_bodies_bytes "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_budget_that_the_largest_batch_does_not_fit_into_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let output = crate::server::inlet(directory.path())
        .args(["up", "--https", "127.0.0.1:0", "--bodies-bytes-max", "1MiB"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bodies_bytes_max") && said.contains("batch_bytes_max"), "{said}");
}

#[test]
fn a_batch_sent_again_is_told_from_a_first_and_one_of_nothing_is_no_success() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data);
    let headers = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", "K")];
    let first = server.post("/api/save/batch", &headers, b"{\"n\":0}\n{\"n\":1}\n");
    assert_eq!((first.status, &first.json()["results"][0]["replayed"]), (202, &().into()));
    let again = server.post("/api/save/batch", &headers, b"{\"n\":0}\n{\"n\":1}\n");
    assert_eq!((again.status, &again.json()["results"][1]["replayed"]), (202, &true.into()));
    let own = server.post("/api/save", &[("Idempotency-Key", "K#1")], b"{\"n\":1}");
    assert_eq!((own.status, own.headers.get("idempotency-replayed")), (202, None));
    let other = server.post("/api/save", &[("Idempotency-Key", "K#0")], b"\"another\"");
    assert_eq!(other.status, 202, "{}", other.text());
    let nothing = server.post("/api/save/batch", &[], b"[{\"a\":1,\"a\":2}]");
    assert_eq!((nothing.status, &nothing.json()["code"]), (400, &"BatchRefused".into()));
    assert_eq!(nothing.json()["results"][0]["code"], "JsonInvalid");
    server.wait_until_drained();
    assert_eq!(server.get("/api/streams").json()["streams"][0]["documents"], 4);

    let bad = directory.path().join("bad.ndjson");
    std::fs::write(&bad, "{\n{\n").unwrap();
    let sent = crate::server::inlet(directory.path())
        .args(["send", "bad.ndjson", "--data", "data"])
        .env("INLET_TOKEN", TOKEN)
        .output()
        .unwrap();
    let said = String::from_utf8(sent.stderr).unwrap();
    assert_eq!(sent.status.code(), Some(1), "{said}");
    assert!(said.contains("bad.ndjson:1:") && said.contains("bad.ndjson:2:"), "{said}");
}

#[test]
fn a_token_that_has_made_all_its_streams_closes_none_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--streams-max", "2"], Some(TOKEN));
    let save = |stream: &str| server.post(&format!("/api/save?stream={stream}"), &[], b"1");
    let first = save("s1");
    assert_eq!((first.status, save("s2").status), (202, 202));
    let refused = save("s3");
    assert_eq!((refused.status, refused.headers.contains_key("retry-after")), (429, true));
    assert_eq!(save("default").status, 202);
    let made = crate::server::inlet(directory.path())
        .args(["token", "add", "other", "--scopes", "save", "--data", "data"])
        .output()
        .unwrap();
    let other = String::from_utf8(made.stdout).unwrap();
    let other = other.trim();
    crate::server::until("the other token is known and may begin a stream", || {
        let mut stream = TcpStream::connect(server.plain_address()).unwrap();
        let head = format!(
            "POST /api/save?stream=s3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             X-Auth-Token: {other}\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n1"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 202 ")
    });
    let id = first.json()["MessageId"].as_str().unwrap().to_owned();
    server.wait_until_stored(&id);
    assert_eq!(save("s4").status, 429);
    assert_eq!(server.delete(&format!("/api/documents/{id}")).status, 204);
    assert_eq!(save("s4").status, 202, "the place of s1 is free again");
}
