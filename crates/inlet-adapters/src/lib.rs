//! The engines behind the ports of Inlet: the folders are the product table.
//!
//! | port | adapter |
//! | --- | --- |
//! | [`queue`] | [`queue::LogQueue`]: logs on this machine's disk; `queue::SqsQueue`: Amazon SQS |
//! | [`store`] | [`store::SqliteStore`]: one SQLite file; `store::PostgresStore`: a PostgreSQL database; `store::DynamoStore`: a DynamoDB table |
//! | [`bucket`] | [`bucket::DirectoryBucket`]: a directory |
//! | [`cache`] | [`cache::MemoryCache`]: in this process |
//! | [`secrets`] | [`secrets::FileSecrets`]: a directory only its owner can read |
//!
//! [`deferred::Deferred`] stands before any of them where a process starts while one is away.
//!
//! May import `inlet-core` and `inlet-log`. No type of an engine leaves this crate: what a caller
//! sees is the port, the adapter's constructor and its options.
//!
//! Invariants: each adapter passes the contract suite of its port in `inlet-testkit`; each
//! [`Failure`](inlet_core::failure::Failure) names what was attempted on what; files and SQLite
//! are never touched on a thread of the async runtime.
//!
//! Start reading at [`queue::LogQueue`], then [`store::SqliteStore`].

#[cfg(feature = "aws")]
pub mod aws;
pub mod bucket;
pub mod cache;
pub mod deferred;
mod files;
#[cfg(feature = "aws")]
mod overflow;
pub mod queue;
pub mod secrets;
pub mod store;
