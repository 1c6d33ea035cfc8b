//! Work that would hold up a serving thread, done beside it.
//!
//! A serving thread also drives the log: while it inflates and checks a batch of 16 MiB, nobody
//! else is answered. Such work runs on a few threads of the runtime's pool, and the kernel divides
//! the cores between them and the serving threads.

use inlet_core::failure::{Failure, FailureKind};
use tokio::sync::Semaphore;

/// Threads for heavy work, at most half of the cores.
#[derive(Debug)]
pub(crate) struct Workers(Semaphore);

impl Default for Workers {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Semaphore::new((cores / 2).max(1)))
    }
}

impl Workers {
    /// Runs `work` on another thread, once one is free.
    ///
    /// # Errors
    /// Where the process is ending.
    ///
    /// # Panics
    /// Where `work` does.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let ending = || Failure::new(FailureKind::Unavailable, "examine", "a body: it is stopping");
        let _permit = self.0.acquire().await.map_err(|_| ending())?;
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => Ok(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(ending()),
        }
    }
}
