//! The whole face of Inlet over real loopback sockets, with engines in memory behind it.

mod client;
mod harness;
mod save;
