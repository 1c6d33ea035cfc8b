use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::ports::Secrets;
use inlet_testkit::contract::secrets::SecretsFixture;
use inlet_testkit::memory::MemorySecrets;

#[derive(Default)]
struct InMemory(MemorySecrets);

#[async_trait]
impl SecretsFixture for InMemory {
    async fn open(&self) -> Arc<dyn Secrets> {
        Arc::new(self.0.clone())
    }

    async fn exposed(&self) -> Vec<String> {
        Vec::new()
    }
}

inlet_testkit::secrets_contract!(InMemory::default());
