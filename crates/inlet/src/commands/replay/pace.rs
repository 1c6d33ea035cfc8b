//! The cap on the rate.

use std::time::{Duration, Instant};

/// Lets one through after another, no two closer than the rate has it. Time that was lost is not
/// made up for: after a pause there is no burst.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    next: Option<Instant>,
}

impl Pace {
    /// At most `rate` a second.
    pub(super) fn new(rate: u32) -> Self {
        Self { interval: Duration::from_secs(1) / rate, next: None }
    }

    /// Waits until the next may go.
    pub(super) fn wait(&mut self) {
        let pause = self.pause(Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }

    /// The time the next one, which comes at `now`, has to wait.
    fn pause(&mut self, now: Instant) -> Duration {
        let due = self.next.map_or(now, |next| next.max(now));
        self.next = Some(due + self.interval);
        due - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_the_rate_also_after_a_pause() {
        let mut pace = Pace::new(100);
        let mut now = Instant::now();
        let mut gone = Vec::new();
        for n in 0..500u64 {
            // It is held up now and then, once for three seconds.
            now += Duration::from_millis(if n == 200 { 3_000 } else { n * 7 % 13 });
            now += pace.pause(now);
            gone.push(now);
        }
        for window in gone.windows(101) {
            let took = window[100] - window[0];
            assert!(took >= Duration::from_secs(1), "{took:?}");
        }
    }
}
