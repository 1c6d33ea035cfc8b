//! The look-ahead port.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::id::DocumentId;
use crate::ports::{Known, StreamFigures};

/// Looks into the store before a document is accepted, for what the door would like to tell a
/// client and need not know: whether a key was used before, and which streams there are.
///
/// Contract:
/// 1. It answers in bounded time, whatever the store does: 50 ms for one call, however many ids it
///    names.
/// 2. It never fails: a store that is away, slow or damaged says nothing, which is `None`, and the
///    document is accepted without it. The persist step looks again.
/// 3. While the store is known to be away it is not asked, but for one call now and then.
#[async_trait]
pub trait LookAhead: Send + Sync {
    /// What the store has under these ids; nothing for those that it does not know.
    async fn known(&self, ids: &[DocumentId]) -> Option<HashMap<DocumentId, Known>>;
    /// The streams of the store, with their figures.
    async fn streams(&self) -> Option<Vec<StreamFigures>>;
}
