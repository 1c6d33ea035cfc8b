//! Where documents live.

#[cfg(feature = "embedded")]
mod sqlite;

#[cfg(feature = "embedded")]
pub use sqlite::{SqliteOptions, SqliteStore};
