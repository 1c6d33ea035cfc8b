use std::sync::Arc;

use inlet_adapters::cache::{RedisCache, RedisOptions};
use inlet_core::health::{Health, State};
use inlet_core::ports::{Cache, SystemClock};
use inlet_testkit::server::{Server, ServerKind};

use super::{Fixture, patient, put_until_it_is_there};

/// Every word of why the cache at `url` can't be used: the start is refused, or goes on and the
/// health board says so.
async fn told(url: &str) -> String {
    let health = Health::new(Arc::new(SystemClock));
    let part = Some(Arc::new(health.part("cache")));
    match RedisCache::open(url, &RedisOptions { part, ..patient() }).await {
        Err(failure) => format!("{failure:?} {failure} {:?}", failure.hint_text()),
        Ok(cache) => {
            assert_eq!(cache.get("a").await, None);
            assert_eq!(health.state(), State::Degraded);
            format!("{:?}", health.parts())
        }
    }
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_no_failure_and_is_found_when_it_comes() {
    let fixture = Fixture::new();
    fixture.0.lock().await.stop(true);
    let cache = fixture.cache().await;
    assert_eq!(cache.get("a").await, None);
    fixture.0.lock().await.resume_or_start();
    put_until_it_is_there(&cache, "a", "1").await;
}

#[tokio::test]
async fn a_wrong_password_user_or_database_is_refused_without_showing_it() {
    let fixture = Fixture::new();
    fixture.tell::<()>(&["CONFIG", "SET", "requirepass", "right"]).await;
    let port = fixture.0.lock().await.port();
    for (url, hint) in [
        (format!("redis://:s3cret@127.0.0.1:{port}"), "check user and password"),
        (format!("redis://someone:s3cret@127.0.0.1:{port}"), "check user and password"),
        (format!("redis://127.0.0.1:{port}"), "check user and password"),
        (format!("redis://:right@127.0.0.1:{port}/99"), "check --cache"),
        (format!("redis://:s3cret@127.0.0.1:{port}/x"), "redis://:PASSWORD@HOST"),
    ] {
        let shown = told(&url).await;
        assert!(shown.contains(hint), "{shown}");
        assert!(!shown.contains("s3cret") && !shown.contains("right"), "{shown}");
    }
    let right = format!("redis://:right@127.0.0.1:{port}/1");
    let cache = RedisCache::open(&right, &patient()).await.unwrap();
    put_until_it_is_there(&cache, "a", "1").await;
}

#[tokio::test]
async fn a_user_who_may_touch_no_more_than_it_needs_can_be_the_cache() {
    let fixture = Fixture::new();
    let rights = ["+info", "+mget", "+get", "+getrange", "+set", "+del", "+eval"];
    let user = ["ACL", "SETUSER", "inlet", "on", ">s3cret", "~inlet:*"];
    fixture.tell::<()>(&[&user[..], &rights[..]].concat()).await;
    let port = fixture.0.lock().await.port();
    let url = format!("redis://inlet:s3cret@127.0.0.1:{port}");
    let cache = RedisCache::open(&url, &patient()).await.unwrap();
    put_until_it_is_there(&cache, "a", "1").await;
    cache.remove("a").await;
    assert_eq!(cache.get("a").await, None);

    fixture.tell::<()>(&["ACL", "SETUSER", "inlet", "-mget"]).await;
    let shown = told(&url).await;
    assert!(shown.contains("MGET"), "{shown}");
}

#[tokio::test]
async fn tls_is_checked_against_the_authority_that_the_url_names() {
    let server = Server::start(ServerKind::RedisTls);
    let port = server.port();
    let authority = server.directory().join("ca.pem").display().to_string();
    for name in ["localhost", "127.0.0.1"] {
        let url = format!("rediss://{name}:{port}?ca={authority}");
        let cache = RedisCache::open(&url, &patient()).await.unwrap();
        put_until_it_is_there(&cache, name, "1").await;
    }
    let other = tempfile::tempdir().unwrap();
    let other = other.path().join("other.pem");
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=other", "-keyout", "/dev/null", "-out"])
        .arg(&other)
        .output()
        .unwrap();
    assert!(made.status.success());
    for url in [
        format!("rediss://localhost:{port}?ca={}", other.display()),
        format!("rediss://localhost:{port}"),
    ] {
        let shown = told(&url).await;
        assert!(shown.contains("ca=FILE"), "{shown}");
    }
}
