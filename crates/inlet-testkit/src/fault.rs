//! Decorators that let an engine fail when a test says so.
//!
//! A failure is before the effect (nothing happened) or after it (all happened, and the caller
//! was told otherwise): the two that a crash or a lost answer leaves behind.

mod plan;
mod queue;
mod store;

pub use plan::{Faults, When};
pub use queue::FailingQueue;
pub use store::FailingStore;
