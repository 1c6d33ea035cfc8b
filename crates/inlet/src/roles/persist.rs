//! The persist loop: one step after the other, and back-off while the store is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inlet_core::failure::Failure;
use inlet_core::persist::{Persister, persist_batch};
use inlet_http::Metrics;

use super::stop::Stop;

/// How long a step waits for the first document.
const WAIT: Duration = Duration::from_millis(500);
/// The pause after a step that brought little, so that a trickle of documents costs one
/// transaction for several of them, not one for each.
const LINGER: Duration = Duration::from_millis(5);
/// A step that brings fewer documents than this brought little.
const LITTLE: u64 = 256;
/// The pause after the first failure; it doubles with each that follows.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a failure that goes on is said again.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Persists until it is time to stop. A failure that passes is waited out, whatever its length;
/// one that does not ends the loop, is said and given, and leaves the queue as it is.
pub(crate) async fn run(
    persister: Persister,
    metrics: Arc<Metrics>,
    stop: Stop,
) -> Result<(), Failure> {
    let mut backoff = Backoff::default();
    loop {
        let step = tokio::select! {
            _ = stop.wait() => return Ok(()),
            step = persist_batch(&persister, WAIT) => step,
        };
        let pause = match step {
            Ok(report) => {
                if backoff.is_failing() {
                    tracing::info!(stored = report.stored, "documents are stored again");
                }
                backoff = Backoff::default();
                metrics.persisted(&report);
                metrics.persist_lag(report.lag);
                if report.dead > 0 {
                    tracing::warn!(dead = report.dead, "documents became dead letters");
                }
                (report.received < LITTLE).then_some(LINGER)
            }
            Err(failure) => {
                metrics.persist_failed();
                if !failure.is_retryable() {
                    tracing::error!(
                        failure = %failure.chain(),
                        hint = failure.hint_text(),
                        "documents are no longer stored; they are kept in the queue"
                    );
                    return Err(failure);
                }
                Some(backoff.next(&failure))
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                _ = stop.wait() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// How long the pauses are while a failure goes on, and when it was last said.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    said: Option<Instant>,
}

impl Backoff {
    fn is_failing(&self) -> bool {
        self.failures > 0
    }

    fn next(&mut self, failure: &Failure) -> Duration {
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            self.said = Some(Instant::now());
            tracing::warn!(
                failure = %failure.chain(),
                hint = failure.hint_text(),
                "documents wait in the queue until the store takes them again"
            );
        }
        let pause = BACKOFF_MIN.saturating_mul(1 << self.failures.min(10)).min(BACKOFF_MAX);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use inlet_core::failure::FailureKind;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let failure = Failure::new(FailureKind::Unavailable, "write to", "the store");
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..8).map(|_| backoff.next(&failure).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }
}
