//! The outcome of an operation that did not succeed: the caller's fault, or ours.

use crate::failure::Failure;
use crate::rejection::Rejection;

/// The error of an operation that a caller asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is at fault; sending it again unchanged does not help.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The fault is ours; where it is retryable, the request may be sent again later.
    #[error(transparent)]
    Failed(#[from] Failure),
}
