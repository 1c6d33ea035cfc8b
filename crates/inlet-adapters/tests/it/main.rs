//! The adapters keep the promises of their ports, on real files and real SQLite, and do with the
//! accidents of their engines what they say.

#![allow(clippy::unwrap_used, reason = "a test's panic is its finding")]

mod deferred;
mod directory;
#[cfg(feature = "aws")]
mod dynamodb;
#[cfg(feature = "aws")]
mod emulator;
mod file;
mod log;
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "aws")]
mod s3;
#[cfg(feature = "aws")]
mod seaweedfs;
#[cfg(feature = "aws")]
mod secrets_manager;
mod sqlite;
#[cfg(feature = "aws")]
mod sqs;
mod takeover;
