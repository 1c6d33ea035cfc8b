//! How long is waited before a process that ended is started again.

use std::time::Duration;

/// The pause after the second end in a row; it doubles with each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// For how long a process must have run well for its past to be forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// The ends of a process in a row.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Backoff {
    ends: u32,
}

impl Backoff {
    /// Takes that the process ended after having run well for `well`, and says how long to wait.
    /// The first time it is started again at once: whoever killed it once is not known to do it
    /// again, and what it has accepted waits in its log.
    pub(super) fn ended(&mut self, well: Duration) -> Duration {
        if well >= FORGET_AFTER {
            self.ends = 0;
        }
        self.ends = self.ends.saturating_add(1);
        match self.ends - 1 {
            0 => Duration::ZERO,
            doublings => PAUSE_MIN.saturating_mul(1 << (doublings - 1).min(16)).min(PAUSE_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_again_at_once_and_a_loop_of_crashes_slows_down() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> =
            (0..10).map(|_| backoff.ended(Duration::ZERO).as_millis()).collect();
        let expected = [0, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000];
        assert_eq!(pauses, expected);
    }

    #[test]
    fn a_process_that_ran_well_is_started_again_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.ended(Duration::ZERO);
        }
        assert_eq!(backoff.ended(FORGET_AFTER), Duration::ZERO);
    }
}
