//! The numbered promises of the ports, as functions, and a macro a port that makes a test of
//! each.
//!
//! A function's name begins with its port and the number of the promise in the port's docs. It
//! takes a fixture: what opens the adapter, opens it again as after a restart, and causes what
//! only the engine's own means can cause (a document it refuses, an outage).

#![allow(clippy::unwrap_used, reason = "a suite is a test: its panic is the finding")]

pub mod bucket;
pub mod cache;
pub mod queue;
pub mod secrets;
pub mod store;

/// Tells that the promise can't be tested here, past the test harness, which shows no words of
/// tests that pass: `scripts/contract-tests` counts the test as not run.
fn not_run(why: &str) {
    use std::io::Write;
    let thread = std::thread::current();
    let line = format!("not run: {}: {why}\n", thread.name().unwrap_or_default());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// Makes one test of each named suite function; the suites' own macros call it.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($port:ident, $fixture:expr, $($name:ident),+ $(,)?) => {
        $(
            #[::tokio::test]
            async fn $name() {
                let fixture = $fixture;
                $crate::contract::$port::$name(&fixture).await;
            }
        )+
    };
}
