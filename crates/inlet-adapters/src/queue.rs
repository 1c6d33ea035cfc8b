//! Where accepted documents wait.

#[cfg(feature = "embedded")]
mod log;
#[cfg(feature = "aws")]
mod sqs;

#[cfg(feature = "embedded")]
pub use log::{LogDirectory, LogQueue, LogQueueOptions, LossNote, MissingLog, StoreView};
#[cfg(feature = "aws")]
pub use sqs::{Redrive, SqsCalls, SqsMessage, SqsOptions, SqsQueue};
