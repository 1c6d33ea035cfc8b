//! The promises of [`Cache`].

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::ports::Cache;

/// Opens a cache.
#[async_trait]
pub trait CacheFixture: Send + Sync {
    /// Opens an empty cache that remembers `bytes_max` bytes at most.
    async fn open(&self, bytes_max: usize) -> Arc<dyn Cache>;
    /// Takes the engine away; a cache in the process has none that could go.
    async fn go_away(&self) {}
}

/// Makes a test of each promise of [`Cache`]; the argument is an expression that makes a fresh
/// [`CacheFixture`].
#[macro_export]
macro_rules! cache_contract {
    ($fixture:expr) => {
        $crate::contract_tests! {
            cache, $fixture,
            cache_1_get_gives_what_was_put_last,
            cache_1_a_value_too_large_to_remember_is_not_the_one_before,
            cache_2_removed_is_forgotten,
            cache_3_it_remembers_no_more_than_it_may,
            cache_4_an_engine_that_is_away_forgets_and_never_fails,
        }
    };
}

/// The last value, or nothing.
pub async fn cache_1_get_gives_what_was_put_last(fixture: &dyn CacheFixture) {
    let cache = fixture.open(1 << 20).await;
    assert_eq!(cache.get("a").await, None);
    cache.put("a", Bytes::from("1")).await;
    cache.put("b", Bytes::from("2")).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from("1")));
    cache.put("a", Bytes::from("3")).await;
    assert_eq!(cache.get("a").await, Some(Bytes::from("3")));
    assert_eq!(cache.get("b").await, Some(Bytes::from("2")));
}

/// A value that does not fit leaves nothing rather than the older value.
pub async fn cache_1_a_value_too_large_to_remember_is_not_the_one_before(
    fixture: &dyn CacheFixture,
) {
    let cache = fixture.open(1 << 20).await;
    cache.put("a", Bytes::from("old")).await;
    let large = Bytes::from(vec![1; 8 << 20]);
    cache.put("a", large.clone()).await;
    let now = cache.get("a").await;
    assert!(now.is_none() || now == Some(large), "the value before came back");
}

/// Removed is gone until it is put again.
pub async fn cache_2_removed_is_forgotten(fixture: &dyn CacheFixture) {
    let cache = fixture.open(1 << 20).await;
    cache.put("a", Bytes::from("1")).await;
    cache.remove("a").await;
    cache.remove("never").await;
    assert_eq!(cache.get("a").await, None);
    cache.put("a", Bytes::from("2")).await;
    assert_ne!(cache.get("a").await, Some(Bytes::from("1")));
    cache.put("b", Bytes::from("3")).await;
    assert_eq!(cache.get("b").await, Some(Bytes::from("3")), "only that key is gone");
}

/// Four times what it may hold was put; no more than what it may hold is there.
pub async fn cache_3_it_remembers_no_more_than_it_may(fixture: &dyn CacheFixture) {
    let (bytes_max, value_bytes, values) = (1 << 20, 4_096, 1_024);
    let cache = fixture.open(bytes_max).await;
    for n in 0..values {
        cache.put(&format!("key-{n}"), Bytes::from(vec![7; value_bytes])).await;
    }
    let mut remembered = 0;
    for n in 0..values {
        remembered += cache.get(&format!("key-{n}")).await.map_or(0, |value| value.len());
    }
    assert!(remembered <= bytes_max, "{remembered} bytes are remembered");
    assert!(remembered > 0, "nothing is remembered");
}

/// Nothing a caller does is an error.
pub async fn cache_4_an_engine_that_is_away_forgets_and_never_fails(fixture: &dyn CacheFixture) {
    let cache = fixture.open(1 << 20).await;
    cache.put("a", Bytes::from("1")).await;
    fixture.go_away().await;
    let seen = cache.get("a").await;
    assert!(seen.is_none() || seen == Some(Bytes::from("1")));
    cache.put("a", Bytes::from("2")).await;
    assert_ne!(cache.get("a").await, Some(Bytes::from("1")));
    cache.remove("a").await;
    assert_eq!(cache.get("a").await, None);
}
