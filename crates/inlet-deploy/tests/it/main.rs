//! Packages are the same for the same input, hold what runs, and go to a real registry.

#![allow(clippy::unwrap_used, reason = "a test's panic is its finding")]

mod package;
mod stacks;
