//! The nouns, limits and steps of Inlet, and the ports they stand on.
//!
//! This crate owns what a document is, who may send one, what is refused and why, and the three
//! steps everything else is a shell around: [`accept`], [`persist`] and [`summary`]. It imports
//! no other crate of Inlet and no engine: engines stand behind the traits in [`ports`].
//!
//! Invariants:
//! - Nothing is appended to the queue before every check has passed, and nothing may be refused
//!   after the append.
//! - A document's bytes are never changed: what the client sent is what is given back.
//! - A step does one thing once. Loops, timers and back-off belong to the caller, so that a
//!   server, a worker and a function share the step and a test needs no sleep.
//!
//! Start reading at [`accept::Intake`], then [`persist::persist_batch`], then
//! [`summary::summarize_week`].

pub mod accept;
pub mod auth;
pub mod backup;
pub mod budget;
pub mod calendar;
pub mod circuit;
pub mod dead_letter;
pub mod decode;
pub mod document;
pub mod envelope;
pub mod error;
pub mod failure;
pub mod fields;
pub mod health;
pub mod id;
pub mod json;
pub mod limits;
pub mod log_filter;
pub mod media_type;
pub mod persist;
pub mod ports;
pub mod redact;
pub mod redrive;
pub mod rejection;
pub mod schedule;
pub mod summary;
pub mod tally;
pub mod weekly;
