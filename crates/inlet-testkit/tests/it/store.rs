use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::ports::Store;
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::fault::{FailingStore, Faults};
use inlet_testkit::memory::MemoryStore;

#[derive(Default)]
struct InMemory(MemoryStore);

#[async_trait]
impl StoreFixture for InMemory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    async fn refuse(&self, marker: Option<&str>) {
        self.0.refuse(marker);
    }

    async fn set_away(&self, away: bool) {
        self.0.set_away(away);
    }
}

/// The engine's own outage is that of the plan here.
#[derive(Default)]
struct Decorated(MemoryStore, Faults);

#[async_trait]
impl StoreFixture for Decorated {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(FailingStore::new(self.0.clone(), self.1.clone()))
    }

    async fn refuse(&self, marker: Option<&str>) {
        self.0.refuse(marker);
    }

    async fn set_away(&self, away: bool) {
        self.1.set_away(away);
    }
}

mod in_memory {
    inlet_testkit::store_contract!(super::InMemory::default());
}

mod decorated {
    inlet_testkit::store_contract!(super::Decorated::default());
}
