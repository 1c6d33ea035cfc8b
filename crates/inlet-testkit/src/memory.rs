//! Adapters that keep the ports' promises in memory. A clone is another handle on the same
//! state, as after a restart.

mod bucket;
mod queue;
mod secrets;
mod store;

pub use bucket::MemoryBucket;
pub use queue::MemoryQueue;
pub use secrets::MemorySecrets;
pub use store::MemoryStore;
