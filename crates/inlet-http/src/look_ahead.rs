//! A look into the store that nobody waits for: the door's side of [`LookAhead`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use inlet_core::circuit::Circuit;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Known, LookAhead, Store, StreamFigures};

/// How long one look may take.
const LOOK_MAX: Duration = Duration::from_millis(50);
/// For how long the store is not asked after a look that failed; it doubles with each in a row.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Looks into a [`Store`], for at most 50 ms.
///
/// A look that takes longer or fails closes the way for a while: every document with a key would
/// wait as long otherwise. After the pause one look goes first, and the others follow once the
/// store has answered it.
pub struct StoreLookAhead {
    store: Arc<dyn Store>,
    circuit: Circuit,
}

impl StoreLookAhead {
    /// Looks into `store`.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, circuit: Circuit::new(PAUSE, PAUSE_MAX) }
    }

    async fn look<T>(&self, look: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        let attempt = self.circuit.attempt()?;
        match tokio::time::timeout(LOOK_MAX, look).await {
            Ok(Ok(found)) => {
                attempt.succeeded();
                Some(found)
            }
            Ok(Err(failure)) => {
                tracing::debug!(failure = failure.chain(), "the look-ahead failed");
                attempt.failed();
                None
            }
            Err(_) => {
                tracing::debug!("the look-ahead took too long");
                attempt.failed();
                None
            }
        }
    }
}

#[async_trait]
impl LookAhead for StoreLookAhead {
    async fn known(&self, ids: &[DocumentId]) -> Option<HashMap<DocumentId, Known>> {
        self.look(self.store.known(ids)).await
    }

    async fn streams(&self) -> Option<Vec<StreamFigures>> {
        self.look(self.store.streams()).await
    }
}
