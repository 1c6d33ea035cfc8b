//! The secrets port.

use async_trait::async_trait;

use crate::failure::Failure;

/// Keeps small named values that nobody else may read.
///
/// Contract:
/// 1. `get` gives what the last `put` under that name put, also after a restart.
/// 2. `get` of a name never put gives `None`.
/// 3. `put` is atomic: a reader, also in another process, sees the old value or the new one.
/// 4. `put_new` changes nothing and returns the value that is there if there is one already;
///    of two that run at once, one wins and both return its value.
/// 5. What is kept is readable by the owner alone.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The value under `name` (`a-z 0-9 -`, at most 64), or `None`.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure>;
    /// Puts `value` (at most 64 KiB) under `name`.
    async fn put(&self, name: &str, value: &[u8]) -> Result<(), Failure>;
    /// Puts `value` under `name` unless something is there; returns what is there afterwards.
    async fn put_new(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, Failure>;
}
