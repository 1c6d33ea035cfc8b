//! A step of work on pieces, on blocking threads, beside other steps on the same pieces.

use std::future;
use std::mem;

use bytes::Bytes;
use inlet_core::failure::Failure;
use tokio::task::{self, JoinHandle};

use super::finished;

/// How much may wait for a step, in bytes, before nothing more is taken in. With less, the steps
/// and the client wait for each other in turn.
const WAITING_MAX: usize = 2 << 20;

/// Does its work on all pieces in their order. No thread is held while there is nothing to do: a
/// client may be slow, and many may be.
pub(super) struct Stage<S> {
    work: fn(S, &[Bytes]) -> Result<S, Failure>,
    /// What the work so far left, while none is under way.
    state: Option<S>,
    working: Option<JoinHandle<Result<S, Failure>>>,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
}

impl<S: Send + 'static> Stage<S> {
    /// A step whose state is being made.
    pub(super) fn begin(
        beginning: impl FnOnce() -> Result<S, Failure> + Send + 'static,
        work: fn(S, &[Bytes]) -> Result<S, Failure>,
    ) -> Self {
        let working = Some(task::spawn_blocking(beginning));
        Self { work, state: None, working, waiting: Vec::new(), waiting_bytes: 0 }
    }

    /// Takes pieces to work on.
    pub(super) fn add(&mut self, pieces: &[Bytes]) {
        self.waiting.extend_from_slice(pieces);
        self.waiting_bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        self.start();
    }

    /// Whether it should get no more for now.
    pub(super) fn is_full(&self) -> bool {
        self.waiting_bytes >= WAITING_MAX
    }

    /// Waits until the work under way is done, and begins on what waits. Forever where none is
    /// under way. It may be dropped, and called again.
    pub(super) async fn turn(&mut self) -> Result<(), Failure> {
        let Some(working) = &mut self.working else { return future::pending().await };
        let done = finished(working).await;
        self.working = None;
        self.state = Some(done?);
        self.start();
        Ok(())
    }

    /// What is left when all is done. `None` where it failed before.
    pub(super) async fn finish(mut self) -> Result<Option<S>, Failure> {
        while self.working.is_some() {
            self.turn().await?;
        }
        Ok(self.state)
    }

    /// What the work so far left. What waits is not done.
    pub(super) async fn stop(mut self) -> Option<S> {
        self.waiting.clear();
        self.finish().await.ok().flatten()
    }

    fn start(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let Some(state) = self.state.take() else { return };
        let (work, pieces) = (self.work, mem::take(&mut self.waiting));
        self.waiting_bytes = 0;
        self.working = Some(task::spawn_blocking(move || work(state, &pieces)));
    }
}
