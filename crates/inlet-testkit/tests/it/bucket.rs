use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::ports::Bucket;
use inlet_testkit::contract::bucket::BucketFixture;
use inlet_testkit::memory::MemoryBucket;

#[derive(Default)]
struct InMemory(MemoryBucket);

#[async_trait]
impl BucketFixture for InMemory {
    async fn open(&self) -> Arc<dyn Bucket> {
        Arc::new(self.0.clone())
    }

    async fn remains(&self) -> Vec<String> {
        Vec::new()
    }
}

inlet_testkit::bucket_contract!(InMemory::default());
