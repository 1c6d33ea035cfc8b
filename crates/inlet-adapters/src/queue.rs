//! Where accepted documents wait.

mod log;

pub use log::{LogQueue, LogQueueOptions};
