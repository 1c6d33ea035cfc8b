//! The edge before real sockets: small instances in this process, each with what it does wrong.

#![allow(clippy::unwrap_used, reason = "a test that meets an error is to fail there")]

mod balancing;
mod files;
mod firewall;
mod front;
mod health;
mod instance;
mod limits;
mod logs;
mod proxying;
mod retries;
mod service;
mod setup;
