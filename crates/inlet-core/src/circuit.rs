//! When to stop asking an engine that does not answer, and for how long.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Open after a failure, for a while that doubles with each failure in a row.
///
/// Once the while is over the caller decides who asks first: [`attempt`](Self::attempt) lets one
/// through and the others only after it was answered, so that an engine that is back is not met by
/// everybody at once.
#[derive(Debug)]
pub struct Circuit {
    pause: Duration,
    pause_max: Duration,
    /// Failures in a row.
    failures: AtomicU32,
    until: Mutex<Option<Instant>>,
    /// Whether somebody asks whether it is back.
    is_probed: AtomicBool,
}

/// The leave to ask once. Dropped without an outcome it says nothing.
#[derive(Debug)]
pub struct Attempt<'a> {
    circuit: &'a Circuit,
    probes: bool,
}

impl Circuit {
    /// A circuit that is closed; `pause` follows the first failure, and twice as long the next, up
    /// to `pause_max`.
    pub fn new(pause: Duration, pause_max: Duration) -> Self {
        Self {
            pause,
            pause_max,
            failures: AtomicU32::new(0),
            until: Mutex::new(None),
            is_probed: AtomicBool::new(false),
        }
    }

    /// Leave to ask; `None` while the pause lasts, and while somebody asks whether it is back.
    pub fn attempt(&self) -> Option<Attempt<'_>> {
        if self.failures.load(Ordering::Acquire) == 0 {
            return Some(Attempt { circuit: self, probes: false });
        }
        if self.remaining().is_some() || self.is_probed.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Attempt { circuit: self, probes: true })
    }

    /// How long nothing may be asked yet; `None` where something may.
    pub fn remaining(&self) -> Option<Duration> {
        if self.failures.load(Ordering::Acquire) == 0 {
            return None;
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Notes a failure; gives how many there were in a row. Those of calls that were under way
    /// together count as one.
    pub fn failed(&self) -> u32 {
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
    pub fn succeeded(&self) -> bool {
        // Read first: what all threads write to at each call, they would wait for.
        self.failures.load(Ordering::Acquire) != 0 && self.failures.swap(0, Ordering::AcqRel) != 0
    }
}

impl Attempt<'_> {
    /// Notes an answer.
    pub fn succeeded(self) {
        self.circuit.succeeded();
    }

    /// Notes a failure.
    pub fn failed(self) {
        self.circuit.failed();
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.probes {
            self.circuit.is_probed.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_pause_one_asks_and_the_others_once_it_was_answered() {
        let circuit = Circuit::new(Duration::ZERO, Duration::ZERO);
        let (one, two) = (circuit.attempt().unwrap(), circuit.attempt().unwrap());
        one.failed();
        two.failed();
        let probe = circuit.attempt().unwrap();
        assert!(circuit.attempt().is_none(), "one is enough");
        drop(probe);
        circuit.attempt().unwrap().failed();
        circuit.attempt().unwrap().succeeded();
        let all: Vec<_> = (0..8).map(|_| circuit.attempt()).collect();
        assert!(all.iter().all(Option::is_some));

        let circuit = Circuit::new(Duration::from_secs(3_600), Duration::from_secs(3_600));
        circuit.attempt().unwrap().failed();
        assert!(circuit.attempt().is_none(), "the pause lasts");
    }

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
