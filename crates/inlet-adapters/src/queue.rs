//! Where accepted documents wait.

#[cfg(feature = "embedded")]
mod log;

#[cfg(feature = "embedded")]
pub use log::{LogQueue, LogQueueOptions};
