use std::sync::Arc;

use async_trait::async_trait;
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
