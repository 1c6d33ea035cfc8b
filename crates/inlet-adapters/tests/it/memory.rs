use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::cache::MemoryCache;
use inlet_core::ports::Cache;
use inlet_testkit::contract::cache::CacheFixture;

struct InProcess;

#[async_trait]
impl CacheFixture for InProcess {
    async fn open(&self, bytes_max: usize) -> Arc<dyn Cache> {
        Arc::new(MemoryCache::new(bytes_max as u64))
    }
}

inlet_testkit::cache_contract!(InProcess);

#[tokio::test]
async fn what_was_removed_can_not_be_put_back_by_who_read_it_before() {
    let cache = MemoryCache::new(1 << 20);
    cache.put("a", Bytes::from("1")).await;
    cache.remove("a").await;
    cache.put("a", Bytes::from("1")).await;
    assert_eq!(cache.get("a").await, None);
}
