//! When to stop asking a server that does not answer, and for how long.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Open after a failure, for a while that doubles with each failure in a row.
#[derive(Debug)]
pub(super) struct Circuit {
    pause: Duration,
    pause_max: Duration,
    /// Failures in a row.
    failures: AtomicU32,
    until: Mutex<Option<Instant>>,
}

impl Circuit {
    pub(super) fn new(pause: Duration, pause_max: Duration) -> Self {
        Self { pause, pause_max, failures: AtomicU32::new(0), until: Mutex::new(None) }
    }

    /// How long nothing may be asked yet; `None` where something may.
    pub(super) fn remaining(&self) -> Option<Duration> {
        if self.failures.load(Ordering::Acquire) == 0 {
            return None;
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Notes a failure; gives how many there were in a row. Those of calls that were under way
    /// together count as one.
    pub(super) fn failed(&self) -> u32 {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let failures = self.failures.load(Ordering::Acquire);
        if failures > 0 && until.is_some_and(|until| until > now) {
            return failures;
        }
        let pause = self.pause.saturating_mul(1 << failures.min(16)).min(self.pause_max);
        *until = Some(now + pause);
        let failures = failures.saturating_add(1);
        self.failures.store(failures, Ordering::Release);
        failures
    }

    /// Notes an answer; gives whether there was a failure before it.
    pub(super) fn succeeded(&self) -> bool {
        // Read first: what all threads write to at each call, they would wait for.
        self.failures.load(Ordering::Acquire) != 0 && self.failures.swap(0, Ordering::AcqRel) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_an_answer_ends_them() {
        let hour = Duration::from_secs(3_600);
        let circuit = Circuit::new(hour, hour);
        assert!(circuit.remaining().is_none());
        assert_eq!(circuit.failed(), 1);
        assert_eq!(circuit.failed(), 1, "it was under way when the first one failed");
        assert!(circuit.remaining().is_some_and(|left| left <= hour));
        assert!(circuit.succeeded());
        assert!(!circuit.succeeded());
        assert!(circuit.remaining().is_none());

        let circuit = Circuit::new(Duration::ZERO, hour);
        assert_eq!([circuit.failed(), circuit.failed(), circuit.failed()], [1, 2, 3]);
        let circuit = Circuit::new(Duration::from_nanos(1), Duration::from_nanos(4));
        for _ in 0..100 {
            circuit.failed();
            while circuit.remaining().is_some() {}
        }
    }
}
