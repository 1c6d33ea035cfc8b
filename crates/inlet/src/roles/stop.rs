//! When a process is to stop, and why.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells all parts of a process that it is to stop. The first reason counts.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    sender: Arc<watch::Sender<Option<Reason>>>,
}

/// Why a process stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It was asked to: a signal.
    Asked,
    /// It can't go on: what a person is told.
    Failed(String),
}

impl Stop {
    /// Nothing is to stop yet.
    pub(crate) fn new() -> Self {
        Self { sender: Arc::new(watch::Sender::new(None)) }
    }

    /// Tells all parts to stop.
    pub(crate) fn now(&self, reason: Reason) {
        self.sender.send_if_modified(|known| {
            let first = known.is_none();
            known.get_or_insert(reason);
            first
        });
    }

    /// Waits until it is time to stop.
    pub(crate) async fn wait(&self) -> Reason {
        let mut receiver = self.sender.subscribe();
        let reason = receiver.wait_for(Option::is_some).await;
        reason.ok().and_then(|reason| reason.clone()).unwrap_or(Reason::Asked)
    }

    /// The result of `work`; `None` if it is time to stop before that.
    pub(crate) async fn before<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _ = self.wait() => None,
            done = work => Some(done),
        }
    }

    /// Whether it is time to stop.
    pub(crate) fn is_now(&self) -> bool {
        self.sender.borrow().is_some()
    }
}
