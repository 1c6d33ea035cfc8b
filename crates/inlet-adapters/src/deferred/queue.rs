//! A queue that is opened now or later.

use async_trait::async_trait;
use inlet_core::document::Document;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::{Part, State};
use inlet_core::id::DocumentId;
use inlet_core::ports::{BatchLimit, Damaged, Delivery, Depth, Outcome, Queue};

use super::reports::Direction::{Read, Write};
use super::reports::Reports;
use super::{Deferred, Opening};

impl Deferred<dyn Queue> {
    /// A queue that `open` opens and that reports to `part`. Nothing is opened yet.
    ///
    /// While nothing can be sent to it no document can be accepted: the process is unready.
    pub fn queue(
        part: Part,
        open: impl Fn() -> Opening<dyn Queue> + Send + Sync + 'static,
    ) -> Self {
        let question = |queue: std::sync::Arc<dyn Queue>| {
            Box::pin(async move { queue.depth().await.map(drop) }) as _
        };
        Self::new(Reports::new(part, State::Unready), Some(question), false, open)
    }
}

#[async_trait]
impl Queue for Deferred<dyn Queue> {
    fn has_room(&self) -> Result<(), Failure> {
        self.opened()?.has_room()
    }

    async fn send(&self, documents: &[Document]) -> Result<(), Failure> {
        let queue = self.opened()?;
        let sent = queue.send(documents).await;
        // A full queue is told by `has_room`, and by nothing that would have to pass.
        if sent.as_ref().is_err_and(|failure| failure.kind() == FailureKind::Full) {
            return sent;
        }
        self.seen(Write, &queue, sent)
    }

    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        let queue = self.opened()?;
        self.seen(Read, &queue, queue.receive(limit).await)
    }

    async fn settle(&self, delivery: &Delivery, outcomes: &[Outcome]) -> Result<(), Failure> {
        let queue = self.opened()?;
        self.seen(Read, &queue, queue.settle(delivery, outcomes).await)
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        let queue = self.opened()?;
        self.seen(Read, &queue, queue.depth().await)
    }

    async fn damaged(&self, id: DocumentId) -> Result<Option<Damaged>, Failure> {
        let queue = self.opened()?;
        self.seen(Read, &queue, queue.damaged(id).await)
    }
}
