use std::sync::Arc;

use async_trait::async_trait;
use inlet_core::ports::Queue;
use inlet_testkit::contract::queue::QueueFixture;
use inlet_testkit::fault::{FailingQueue, Faults, When};
use inlet_testkit::memory::MemoryQueue;
use inlet_testkit::sample::document;

struct InMemory(MemoryQueue);

#[async_trait]
impl QueueFixture for InMemory {
    async fn open(&self) -> Arc<dyn Queue> {
        Arc::new(self.0.clone())
    }
}

struct Decorated(MemoryQueue);

#[async_trait]
impl QueueFixture for Decorated {
    async fn open(&self) -> Arc<dyn Queue> {
        Arc::new(FailingQueue::new(self.0.clone(), Faults::default()))
    }
}

mod in_memory {
    inlet_testkit::queue_contract!(super::InMemory(super::MemoryQueue::new(1 << 20)));
}

mod decorated {
    inlet_testkit::queue_contract!(super::Decorated(super::MemoryQueue::new(1 << 20)));
}

#[tokio::test]
async fn a_fault_falls_on_the_planned_call_and_side() {
    let (inner, faults) = (MemoryQueue::new(1 << 20), Faults::default());
    let queue = FailingQueue::new(inner.clone(), faults.clone());
    faults.fail_nth(2, When::Before);
    faults.fail_nth(3, When::After);
    let mut lengths = Vec::new();
    for n in 0..4 {
        let failed = queue.send(&[document(n)]).await.is_err();
        lengths.push((failed, inner.len()));
    }
    assert_eq!(lengths, [(false, 1), (true, 1), (true, 2), (false, 3)]);
    faults.set_away(true);
    assert!(queue.send(&[document(9)]).await.is_err());
    faults.clear();
    assert!(queue.send(&[document(9)]).await.is_ok());
    assert_eq!(faults.calls(), 6);
}

#[tokio::test]
async fn one_seed_gives_the_same_faults_twice() {
    let mut runs = Vec::new();
    for seed in [7, 7, 8] {
        let faults = Faults::default();
        faults.fail_at_random(seed, 3);
        let queue = FailingQueue::new(MemoryQueue::new(1 << 20), faults);
        let mut run = Vec::new();
        for n in 0..60 {
            run.push(queue.send(&[document(n)]).await.is_err());
        }
        runs.push(run);
    }
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
    assert!(runs[0].contains(&true) && runs[0].contains(&false));
}
