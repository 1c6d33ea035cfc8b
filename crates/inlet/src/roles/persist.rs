//! The persist loop: one step after the other, and back-off while a step fails.
//!
//! No failure ends it, of whatever kind: a right that was revoked, a table that was removed and a
//! password that was wrong come back as a server does. Until then documents wait in the queue,
//! and the board's part `persist` has the cause and the moment it began.

use std::sync::Arc;
use std::time::Duration;

use inlet_core::failure::FailureKind;
use inlet_core::health::{Part, State};
use inlet_core::persist::{Persister, persist_batch};
use inlet_http::Metrics;

use super::stop::Stop;

/// The name of the part on the board.
pub(super) const PART: &str = "persist";
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

/// Persists until it is time to stop.
///
/// Damage makes the process unready while it lasts: what can't be read as it was written needs a
/// person. Any other failure makes it degraded.
pub(crate) async fn run(persister: Persister, metrics: Arc<Metrics>, part: Arc<Part>, stop: Stop) {
    let mut failures = 0;
    loop {
        let step = tokio::select! {
            _ = stop.wait() => return,
            step = persist_batch(&persister, WAIT) => step,
        };
        let pause = match step {
            Ok(report) => {
                failures = 0;
                part.works();
                metrics.persisted(&report);
                if report.dead > 0 {
                    tracing::warn!(dead = report.dead, "documents became dead letters");
                }
                (report.received < LITTLE).then_some(LINGER)
            }
            Err(failure) => {
                metrics.persist_failed();
                let state = match failure.kind() {
                    FailureKind::Damaged => State::Unready,
                    _ => State::Degraded,
                };
                part.fails(state, &failure);
                failures += 1;
                Some(pause_after(failures))
            }
        };
        if let Some(pause) = pause {
            tokio::select! {
                _ = stop.wait() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// The pause after as many failures in a row.
fn pause_after(failures: u32) -> Duration {
    BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use inlet_core::calendar::Calendar;
    use inlet_core::health::Health;
    use inlet_core::limits::Limits;
    use inlet_core::ports::{Clock, Queue, Store, SystemClock};
    use inlet_testkit::fault::{FailingQueue, FailingStore, Faults};
    use inlet_testkit::memory::{MemoryQueue, MemoryStore};
    use inlet_testkit::sample;

    use super::*;
    use crate::roles::stop::Reason;
    use crate::roles::watched::Watched;

    /// A worker whose engines fail as they are told, watched as in a process.
    struct Worker {
        queue: MemoryQueue,
        store: MemoryStore,
        queue_faults: Faults,
        store_faults: Faults,
        health: Health,
        stop: Stop,
        task: tokio::task::JoinHandle<()>,
    }

    impl Worker {
        fn start() -> Self {
            let (queue, store) = (MemoryQueue::new(1 << 20), MemoryStore::default());
            let (queue_faults, store_faults) = (Faults::default(), Faults::default());
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let (health, stop) = (Health::new(Arc::clone(&clock)), Stop::new());
            let persister = Persister {
                queue: Arc::new(FailingQueue::new(queue.clone(), queue_faults.clone())),
                store: Arc::new(FailingStore::new(store.clone(), store_faults.clone())),
                clock,
                calendar: Calendar::utc(),
                limits: Limits::default(),
            };
            let (part, metrics) = (Arc::new(health.part(PART)), Arc::new(Metrics::default()));
            let stopped = stop.clone();
            let watched = Watched::new(stop.clone(), health.clone()).soon_steady();
            let task = watched.restarted_task("persist", move || {
                let (metrics, part) = (Arc::clone(&metrics), Arc::clone(&part));
                run(persister.clone(), metrics, part, stopped.clone())
            });
            Self { queue, store, queue_faults, store_faults, health, stop, task }
        }

        async fn send(&self, n: u64) {
            self.queue.send(&[sample::document(n)]).await.unwrap();
        }

        async fn until_stored(&self, n: u64) {
            let id = sample::document(n).id;
            until(async || self.store.get(id).await.unwrap().is_some()).await;
        }

        /// The state and the cause of the loop, and when it began.
        fn part(&self) -> (State, Option<&'static str>) {
            let parts = self.health.parts();
            let part = parts.iter().find(|part| part.name == PART).unwrap();
            (part.state, part.cause)
        }

        async fn stop(self) {
            self.stop.now(Reason::Asked);
            self.task.await.unwrap();
        }
    }

    async fn until(mut condition: impl AsyncFnMut() -> bool) {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses: Vec<u128> = (1..=8).map(|failures| pause_after(failures).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(pause_after(u32::MAX), BACKOFF_MAX);
    }

    #[tokio::test]
    async fn no_kind_of_failure_of_the_store_or_the_queue_ends_the_loop() {
        let worker = Worker::start();
        let mut n = 0;
        for faults in [worker.store_faults.clone(), worker.queue_faults.clone()] {
            for kind in FailureKind::ALL {
                faults.set_failing(Some(kind));
                n += 1;
                worker.send(n).await;
                let failing = match kind {
                    FailureKind::Damaged => State::Unready,
                    _ => State::Degraded,
                };
                until(async || worker.part() == (failing, Some(kind.word()))).await;
                faults.set_failing(None);
                worker.until_stored(n).await;
                until(async || worker.part() == (State::Ready, None)).await;
            }
        }
        assert!(worker.health.restarts().is_empty());
        worker.stop().await;
    }

    #[tokio::test]
    async fn a_store_that_panics_restarts_the_loop_and_the_restarts_are_counted() {
        let worker = Worker::start();
        worker.store_faults.set_panicking(true);
        worker.send(1).await;
        let restarts = || worker.health.restarts().first().map_or(0, |(_, count)| *count);
        until(async || restarts() >= 3).await;
        assert_eq!(worker.health.state(), State::Degraded);
        worker.store_faults.set_panicking(false);
        worker.until_stored(1).await;
        until(async || worker.health.state() == State::Ready).await;
        assert_eq!(worker.health.restarts()[0].0, "persist");
        worker.stop().await;
    }
}
