//! The in-memory adapters and the decorators keep the promises of their ports.

mod bucket;
mod queue;
mod secrets;
mod server;
mod store;
mod suites;
