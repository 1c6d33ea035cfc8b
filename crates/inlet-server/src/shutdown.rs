//! The word that the server is to stop.

use std::sync::Arc;

use tokio::sync::watch;

/// Says, once and to all who hold a clone, that no more is taken and what was taken is to be
/// finished. It works across threads and runtimes.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<watch::Sender<bool>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }
}

impl Shutdown {
    /// One that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins it. A second time changes nothing.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it has begun.
    pub async fn begun(&self) {
        // The sender lives as long as we do, so waiting can't fail.
        self.0.subscribe().wait_for(|begun| *begun).await.map(drop).unwrap_or_default();
    }
}
