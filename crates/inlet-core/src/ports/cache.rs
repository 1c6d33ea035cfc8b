//! The cache port.

use async_trait::async_trait;
use bytes::Bytes;

/// Remembers bytes that can be had again from elsewhere.
///
/// Contract:
/// 1. `get` gives what the last `put` under that key put, or nothing.
/// 2. After `remove` returned, `get` gives nothing until the next `put`, and a `put` under that
///    key may be ignored for a while: who read the value before it was removed from the store
///    may put it only now.
/// 3. It may forget anything at any time, and is bounded in bytes.
/// 4. It never fails: an engine that is away forgets everything, and that is all.
#[async_trait]
pub trait Cache: Send + Sync {
    /// What is remembered under `key`.
    async fn get(&self, key: &str) -> Option<Bytes>;
    /// Remembers `value` under `key`.
    async fn put(&self, key: &str, value: Bytes);
    /// Forgets `key`.
    async fn remove(&self, key: &str);
}
