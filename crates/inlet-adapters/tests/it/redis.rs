use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::cache::{RedisCache, RedisOptions};
use inlet_core::failure::FailureKind;
use inlet_core::ports::Cache;
use inlet_testkit::contract::cache::CacheFixture;
use inlet_testkit::server::{Server, ServerKind, free_port};
use tokio::sync::Mutex;

/// A server of its own, so that its memory can be bounded and it can be taken away.
struct Fixture(Mutex<Server>);

impl Fixture {
    fn new() -> Self {
        Self(Mutex::new(Server::start(ServerKind::Redis)))
    }

    async fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.0.lock().await.port())
    }

    async fn cache(&self) -> RedisCache {
        RedisCache::open(&self.url().await, &patient()).await.unwrap()
    }

    /// Says something to the server itself.
    async fn tell<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url().await).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }
}

/// On a busy machine an answer may take longer than the store would.
fn patient() -> RedisOptions {
    RedisOptions { call_ms: 2_000, pause_ms: 20, ..RedisOptions::default() }
}

#[async_trait]
impl CacheFixture for Fixture {
    async fn open(&self, bytes_max: usize) -> Arc<dyn Cache> {
        let used: String = self.tell(&["INFO", "memory"]).await;
        let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        let bytes_max = used.trim().parse::<usize>().unwrap() + bytes_max;
        self.tell::<()>(&["CONFIG", "SET", "maxmemory", &bytes_max.to_string()]).await;
        self.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
        Arc::new(self.cache().await)
    }

    async fn go_away(&self) {
        self.0.lock().await.stop(true);
    }
}

inlet_testkit::cache_contract!(Fixture::new());

#[tokio::test]
async fn what_was_removed_can_not_be_put_back_by_who_read_it_before() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.cache().await, fixture.cache().await);
    ours.put("a", Bytes::from("1")).await;
    assert_eq!(theirs.get("a").await, Some(Bytes::from("1")));
    theirs.remove("a").await;
    ours.put("a", Bytes::from("1")).await;
    assert_eq!(ours.get("a").await, None);
    assert_eq!(theirs.get("a").await, None);
}

#[tokio::test]
async fn a_removal_that_did_not_get_through_is_made_up_for_with_everything_else() {
    let fixture = Fixture::new();
    let (ours, theirs) = (fixture.cache().await, fixture.cache().await);
    for key in ["a", "b"] {
        ours.put(key, Bytes::from("1")).await;
    }
    let impatient = RedisOptions { call_ms: 20, pause_ms: 0, ..RedisOptions::default() };
    let impatient = RedisCache::open(&fixture.url().await, &impatient).await.unwrap();
    assert_eq!(impatient.get("a").await, Some(Bytes::from("1")));
    fixture.0.lock().await.freeze();
    impatient.remove("a").await;
    assert_eq!(impatient.get("a").await, None, "what was removed is served");
    fixture.0.lock().await.thaw();
    // Whatever this process asks next raises the epoch; no instance has the old entries then.
    while impatient.get("b").await.is_some() {}
    impatient.put("c", Bytes::from("2")).await;
    while impatient.get("c").await.is_none() {
        impatient.put("c", Bytes::from("2")).await;
    }
    assert_eq!(theirs.get("a").await, None);
    assert_eq!(theirs.get("c").await, Some(Bytes::from("2")));
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_short_wait_and_then_none() {
    let fixture = Fixture::new();
    let options = RedisOptions { call_ms: 30, pause_ms: 60_000, ..RedisOptions::default() };
    let cache = RedisCache::open(&fixture.url().await, &options).await.unwrap();
    fixture.0.lock().await.freeze();
    assert_eq!(cache.get("a").await, None);
    let begun = std::time::Instant::now();
    for _ in 0..1_000 {
        assert_eq!(cache.get("a").await, None);
    }
    // A thousand waits would take half a minute.
    assert!(begun.elapsed().as_secs() < 10);
    fixture.0.lock().await.thaw();
}

#[tokio::test]
async fn a_server_that_was_emptied_or_started_again_is_filled_again() {
    let fixture = Fixture::new();
    let cache = fixture.cache().await;
    cache.put("a", Bytes::from("1")).await;
    fixture.tell::<()>(&["FLUSHALL"]).await;
    assert_eq!(cache.get("a").await, None);
    cache.put("a", Bytes::from("2")).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from("2")));
    {
        let mut server = fixture.0.lock().await;
        server.stop(true);
        assert_eq!(cache.get("a").await, None);
        server.resume_or_start();
    }
    while cache.get("a").await.is_none() {
        cache.put("a", Bytes::from("3")).await;
    }
    assert_eq!(cache.get("a").await, Some(Bytes::from("3")));
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_no_failure() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let cache = RedisCache::open(&url, &patient()).await.unwrap();
    cache.put("a", Bytes::from("1")).await;
    assert_eq!(cache.get("a").await, None);
}

#[tokio::test]
async fn a_wrong_url_or_password_is_refused_without_showing_it() {
    let fixture = Fixture::new();
    fixture.tell::<()>(&["CONFIG", "SET", "requirepass", "right"]).await;
    let port = fixture.0.lock().await.port();
    for url in [
        format!("redis://:s3cret@127.0.0.1:{port}"),
        format!("redis://someone:s3cret@127.0.0.1:{port}"),
        "redis://:s3cret@127.0.0.1:notaport".to_owned(),
    ] {
        let failure = RedisCache::open(&url, &patient()).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused, "{failure:?}");
        assert!(failure.hint_text().is_some());
        assert!(!format!("{failure:?}").contains("s3cret"), "{failure:?}");
    }
    let without = format!("redis://127.0.0.1:{port}");
    let failure = RedisCache::open(&without, &patient()).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Refused, "{failure:?}");
    let right = format!("redis://:right@127.0.0.1:{port}");
    RedisCache::open(&right, &patient()).await.unwrap();
}
