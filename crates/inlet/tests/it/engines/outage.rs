//! A server that disappears for a while: nothing acknowledged is lost, and it recovers by itself.

use inlet_testkit::server::{Server as Engine, ServerKind};

use super::servers::{AWS, Aws, Namespace, Postgres, Redis, start, try_migrate};
use crate::server::{Server, TOKEN, inlet, until};

#[test]
fn the_door_stays_open_while_postgres_is_away() {
    let mut postgres = Postgres(Engine::start(ServerKind::Postgres));
    let url = postgres.empty_database();
    assert!(try_migrate(&["--store", &url]).status.success());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--store", &url], Some(TOKEN));
    let before = server.save(r#"{"postgres":"there"}"#);
    server.wait_until_stored(&before);
    postgres.0.stop(true);
    let during: Vec<String> = (0..20).map(|n| server.save(&format!("{{\"away\":{n}}}"))).collect();
    let receipt = server.get(&format!("/api/receipts/{}", during[0]));
    assert!(receipt.status == 503 || receipt.json()["state"] == "queued", "{}", receipt.text());
    postgres.0.resume_or_start();
    for id in &during {
        server.wait_until_stored(id);
    }
    assert_eq!(server.get("/api/dead-letters").json()["dead_letters"].as_array().unwrap().len(), 0);
}

#[test]
fn sqs_that_is_away_is_a_503_with_retry_after_and_comes_back() {
    let aws = Aws(Engine::start(ServerKind::Moto));
    let queue = aws.queue(&Namespace::new());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, &["--queue", &queue], aws.variables());
    let before = server.save(r#"{"sqs":"there"}"#);
    server.wait_until_stored(&before);
    aws.0.freeze();
    let refused = server.post("/api/save", &[], br#"{"sqs":"away"}"#);
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"));
    aws.0.thaw();
    until("documents are taken again", || {
        server.post("/api/save", &[], br#"{"sqs":"back"}"#).status == 202
    });
    server.wait_until_stored(&server.save(r#"{"sqs":"back for good"}"#));
}

#[test]
fn without_redis_everything_still_works_and_what_was_erased_stays_gone() {
    let mut redis = Redis(Engine::start(ServerKind::Redis));
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--cache", &redis.url()], Some(TOKEN));
    let id = server.save(r#"{"redis":"there"}"#);
    server.wait_until_stored(&id);
    let path = format!("/api/documents/{id}");
    assert_eq!(server.get(&path).status, 200);
    assert_eq!(server.get(&path).status, 200);
    // It is erased while the cache can't be told.
    redis.0.freeze();
    assert_eq!(server.get(&path).status, 200);
    assert_eq!(server.delete(&path).status, 204);
    assert_eq!(server.get(&path).status, 404);
    redis.0.thaw();
    for _ in 0..50 {
        assert_eq!(server.get(&path).status, 404, "the cache gave what was erased");
    }
    redis.0.stop(true);
    let id = server.save(r#"{"redis":"gone"}"#);
    server.wait_until_stored(&id);
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
    redis.0.resume_or_start();
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
}

#[test]
fn a_poison_message_in_sqs_is_a_dead_letter_and_the_rest_is_stored() {
    let queue = AWS.queue(&Namespace::new());
    AWS.put_on_queue(&queue, "this is no JSON");
    AWS.put_on_queue(&queue, r#"{"from":"another client"}"#);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, &["--queue", &queue], AWS.variables());
    let stored = server.save(r#"{"from":"us"}"#);
    server.wait_until_stored(&stored);
    until("the foreign document is stored", || {
        server.get("/api/documents").json().to_string().contains("another client")
    });
    until("the poison is a dead letter", || {
        let dead = server.get("/api/dead-letters").json();
        dead["dead_letters"].as_array().unwrap().len() == 1
    });
    let listed = inlet(directory.path())
        .args(["dead-letters", "--json", "--data"])
        .arg(&data)
        .env("INLET_TOKEN", TOKEN)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(String::from_utf8_lossy(&listed.stdout).contains("this is no JSON"));
}
