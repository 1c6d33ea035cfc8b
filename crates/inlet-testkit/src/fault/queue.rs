//! A queue that fails when told to.

use async_trait::async_trait;
use inlet_core::document::Document;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::ports::{BatchLimit, Damaged, Delivery, Depth, Outcome, Queue};

use super::plan::{Faults, with_fault};

/// A [`Queue`] whose `send`, `receive`, `settle` and `depth` fail as its [`Faults`] say.
#[derive(Debug, Clone)]
pub struct FailingQueue<Q> {
    inner: Q,
    faults: Faults,
}

impl<Q> FailingQueue<Q> {
    /// `inner`, with faults as planned.
    pub fn new(inner: Q, faults: Faults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<Q: Queue> Queue for FailingQueue<Q> {
    fn has_room(&self) -> Result<(), Failure> {
        self.inner.has_room()
    }

    async fn send(&self, documents: &[Document]) -> Result<(), Failure> {
        with_fault!(self.faults, "send to", self.inner.send(documents).await)
    }

    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        with_fault!(self.faults, "receive from", self.inner.receive(limit).await)
    }

    async fn settle(&self, delivery: &Delivery, outcomes: &[Outcome]) -> Result<(), Failure> {
        with_fault!(self.faults, "settle with", self.inner.settle(delivery, outcomes).await)
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        with_fault!(self.faults, "measure", self.inner.depth().await)
    }

    async fn damaged(&self, id: DocumentId) -> Result<Option<Damaged>, Failure> {
        with_fault!(self.faults, "ask", self.inner.damaged(id).await)
    }
}
