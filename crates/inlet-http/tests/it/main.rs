//! The whole face of Inlet over real loopback sockets, with engines in memory behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, and its helpers do too")]

mod caps;
mod client;
mod files;
mod harness;
mod http2;
mod lanes;
mod openapi;
mod patience;
mod read;
mod rights;
mod save;
mod scopes;
mod shutdown;
mod site;
mod slow;
mod smuggling;
mod tls;
mod tokens;
