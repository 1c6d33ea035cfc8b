//! The tests of the log.

mod append;
mod damage;
mod drivers;
mod faults;
mod fsck;
mod reader;
mod room;
mod schedule;
mod simulated;
