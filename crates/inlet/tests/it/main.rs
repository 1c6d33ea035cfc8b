//! The binary as its users meet it: real processes, real files, real sockets.

#![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod backups;
mod bad_input;
mod benching;
mod cli;
#[cfg(feature = "deploy")]
mod deploy;
mod disk;
#[cfg(all(feature = "aws", feature = "postgres", feature = "redis"))]
mod door;
mod edge;
#[cfg(all(feature = "aws", feature = "postgres", feature = "redis"))]
mod engines;
mod files;
mod first_minute;
mod kill;
mod lifecycle;
mod load;
mod logs;
mod owner;
mod reading;
mod remote;
mod replaying;
mod sending;
mod server;
mod settings;
mod signals;
mod structure;
mod supervise;
mod systemd;
mod tokens;
#[cfg(feature = "fail-points")]
mod watched;
