//! Where documents live.

#[cfg(feature = "aws")]
mod dynamodb;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "embedded")]
mod sqlite;

#[cfg(feature = "aws")]
pub use dynamodb::{DynamoOptions, DynamoStore};
#[cfg(feature = "postgres")]
pub use postgres::{MigrateReport, Password, PostgresOptions, PostgresStore};
#[cfg(feature = "embedded")]
pub use sqlite::{SqliteOptions, SqliteStore};
