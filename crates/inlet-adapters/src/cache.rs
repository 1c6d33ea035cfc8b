//! What can be had again from elsewhere.

mod memory;

pub use memory::MemoryCache;
