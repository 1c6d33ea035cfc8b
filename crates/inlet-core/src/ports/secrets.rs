//! The secrets port.

use async_trait::async_trait;

use crate::failure::Failure;

/// Keeps small named values that nobody else may read.
///
/// Contract:
/// 1. `get` gives what the last successful `swap` under that name put, also after a restart.
/// 2. `get` of a name never put gives `None`.
/// 3. `swap` is atomic: a reader, also in another process, sees the old value or the new one.
/// 4. `swap` puts its value only where what is there is what was expected (`None`: nothing is).
///    Of any number that expect the same value at once, also in other processes, one is
///    [`Swapped::Done`]; the others change nothing and give what is there.
/// 5. A `swap` to the value that is expected compares and writes nothing.
/// 6. What is kept is readable by the owner alone.
///
/// There is no unconditional put: two that read, change and put would lose one of the changes.
#[async_trait]
pub trait Secrets: Send + Sync {
    /// The value under `name` (`a-z 0-9 -`, at most 64 bytes), or `None`. An adapter may give a
    /// value that it read a moment ago.
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure>;
    /// Puts `value` (at most [`SECRET_BYTES_MAX`] bytes) under `name` if `expected` is there.
    async fn swap(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swapped, Failure>;
}

/// The largest value of a secret, in bytes: that of AWS Secrets Manager.
/// Source: <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>.
pub const SECRET_BYTES_MAX: usize = 64 << 10;

/// What became of a swap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    /// The value is there.
    Done,
    /// Something else was there than was expected: this.
    Other(Option<Vec<u8>>),
}
