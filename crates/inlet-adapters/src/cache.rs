//! What can be had again from elsewhere.

#[cfg(feature = "embedded")]
mod memory;

#[cfg(feature = "embedded")]
pub use memory::MemoryCache;
