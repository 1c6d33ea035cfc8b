use std::time::{Duration, Instant};

use bytes::Bytes;
use inlet_adapters::cache::RedisOptions;
use inlet_core::ports::Cache;

use super::{Fixture, patient, put_until_it_is_there};

#[tokio::test]
async fn a_server_that_hangs_costs_one_short_wait_and_then_none() {
    let fixture = Fixture::new();
    let pause_ms = 60_000;
    let options =
        RedisOptions { call_ms: 200, pause_ms, pause_ms_max: pause_ms, ..RedisOptions::default() };
    let cache = fixture.cache_with(options).await;
    fixture.0.lock().await.freeze();
    let begun = Instant::now();
    assert_eq!(cache.get("a").await, None);
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(cache.get("a").await, None);
        cache.put("a", Bytes::from("1")).await;
        cache.remove("b").await;
    }
    // A wait each would take ten minutes.
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_hung_is_asked_again_once_it_answers() {
    let fixture = Fixture::new();
    let cache = fixture.cache_with(RedisOptions { call_ms: 100, ..patient() }).await;
    fixture.0.lock().await.freeze();
    for _ in 0..8 {
        assert_eq!(cache.get("a").await, None);
        tokio::task::yield_now().await;
    }
    fixture.0.lock().await.thaw();
    put_until_it_is_there(&cache, "a", "1").await;
}

#[tokio::test]
async fn a_server_that_was_emptied_or_started_again_is_filled_again() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    cache.put("a", Bytes::from("1")).await;
    fixture.tell::<()>(&["FLUSHALL"]).await;
    assert_eq!(cache.get("a").await, None);
    put_until_it_is_there(&cache, "a", "2").await;
    {
        let mut server = fixture.0.lock().await;
        server.stop(true);
        assert_eq!(cache.get("a").await, None);
        server.resume_or_start();
    }
    put_until_it_is_there(&cache, "a", "3").await;
}

#[tokio::test]
async fn a_password_that_changes_shuts_the_cache_and_nothing_else() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    cache.put("a", Bytes::from("1")).await;
    fixture.tell::<()>(&["CONFIG", "SET", "requirepass", "other"]).await;
    let port = fixture.0.lock().await.port();
    let client = redis::Client::open(format!("redis://:other@127.0.0.1:{port}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes");
    let killed: usize = kill.query_async(&mut connection).await.unwrap();
    assert!(killed > 0);
    for _ in 0..100 {
        assert_eq!(cache.get("a").await, None);
        tokio::task::yield_now().await;
    }
    let mut restore = redis::cmd("CONFIG");
    restore.arg("SET").arg("requirepass").arg("");
    restore.query_async::<()>(&mut connection).await.unwrap();
    put_until_it_is_there(&cache, "b", "2").await;
}
