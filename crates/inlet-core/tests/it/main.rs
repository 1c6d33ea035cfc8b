//! The integration tests of `inlet-core`, in one binary.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail the test as the test itself does")]

mod accept;
mod backup;
mod decode;
mod double;
mod fields;
mod json;
mod persist;
mod plan;
mod redrive;
mod schedule;
mod summary;
mod tokens;
mod weekly;
