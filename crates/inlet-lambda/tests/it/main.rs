//! The executable as Lambda runs it: a process of its own that polls a runtime API, against an
//! emulator of the other services.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod aws;
mod deployed;
mod events;
mod flow;
#[cfg(feature = "postgres")]
mod migrate;
mod runtime;
