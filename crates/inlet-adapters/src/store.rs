//! Where documents live.

mod sqlite;

pub use sqlite::{SqliteOptions, SqliteStore};
