//! A clock that a test sets.

use std::sync::atomic::{AtomicI64, Ordering};

use inlet_core::document::Timestamp;
use inlet_core::ports::Clock;

use crate::sample;

/// Tells the moment it was set to, and stands still in between.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_micros()))
    }

    /// Sets it, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_micros(), Ordering::SeqCst);
    }

    /// Moves it by that many microseconds; back where negative.
    pub fn advance(&self, micros: i64) {
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

/// A clock that stands at [`sample::NOW`].
impl Default for ManualClock {
    fn default() -> Self {
        Self::new(sample::NOW)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }
}
