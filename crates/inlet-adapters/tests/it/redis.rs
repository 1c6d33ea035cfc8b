//! The cache in a real Redis: its contract, what is refused, and what accidents leave.

mod accidents;
mod open;
mod removals;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::cache::{RedisCache, RedisOptions};
use inlet_core::ports::Cache;
use inlet_testkit::contract::cache::CacheFixture;
use inlet_testkit::server::{Server, ServerKind};
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
        self.cache_with(patient()).await
    }

    async fn cache_with(&self, options: RedisOptions) -> RedisCache {
        RedisCache::open(&self.url().await, &options).await.unwrap()
    }

    /// Says something to the server itself.
    async fn tell<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url().await).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    async fn keys(&self, pattern: &str) -> Vec<String> {
        self.tell(&["KEYS", pattern]).await
    }
}

/// On a busy machine an answer may take longer than the store would.
fn patient() -> RedisOptions {
    RedisOptions {
        call_ms: 2_000,
        connect_ms: 5_000,
        pause_ms: 20,
        pause_ms_max: 20,
        ..RedisOptions::default()
    }
}

/// Puts until the cache takes it: it connects while nobody waits.
async fn put_until_it_is_there(cache: &RedisCache, key: &str, value: &'static str) {
    while cache.get(key).await != Some(Bytes::from(value)) {
        cache.put(key, Bytes::from(value)).await;
        tokio::task::yield_now().await;
    }
}

#[async_trait]
impl CacheFixture for Fixture {
    async fn open(&self, bytes_max: usize) -> Arc<dyn Cache> {
        let used: String = self.tell(&["INFO", "memory"]).await;
        let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        let bytes_max = used.trim().parse::<usize>().unwrap() + bytes_max;
        self.tell::<()>(&["CONFIG", "SET", "maxmemory", &bytes_max.to_string()]).await;
        self.tell::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-lru"]).await;
        Arc::new(self.cache().await)
    }

    async fn go_away(&self) {
        self.0.lock().await.stop(true);
    }
}

inlet_testkit::cache_contract!(Fixture::new());
