//! The server with services of a few lines: what a service is told, and answers that take long.
//! How it bears slow, broken and hostile clients is tested through `inlet-http`, which has routes
//! and bodies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers do too")]

mod conversation;
mod differential;
mod echo;
mod names;
mod proxied;
mod streaming;
