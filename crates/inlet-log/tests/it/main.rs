//! The tests of the log: on a simulated disk driven by hand, and on real files.
#![allow(clippy::unwrap_used, reason = "what helps a test may fail it as the test may")]

mod append;
mod damage;
mod drivers;
mod faults;
mod fsck;
mod pair;
mod reader;
mod repair;
mod room;
mod schedule;
mod seal;
mod simulated;
