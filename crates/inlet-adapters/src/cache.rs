//! What can be had again from elsewhere.

#[cfg(feature = "embedded")]
mod memory;
#[cfg(feature = "redis")]
mod redis;

#[cfg(feature = "redis")]
pub use self::redis::{RedisCache, RedisOptions};
#[cfg(feature = "embedded")]
pub use memory::MemoryCache;
