//! Monotonic time, which a paused clock can stand in for in tests.

use std::time::{Duration, Instant};

/// Now, by the runtime's clock.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Milliseconds since an edge was made, for what is kept in few bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { began: now() }
    }

    /// It wraps after 49 days.
    pub(crate) fn now_ms(&self) -> u32 {
        let ms = now().saturating_duration_since(self.began).as_millis();
        u32::try_from(ms & u128::from(u32::MAX)).expect("32 bits are left")
    }
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
