//! One backend: how it stands, what it has to do, its connections and its figures.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::balance::{Candidate, Load};
use crate::clock::Clock;
use crate::health::{EjectionCause, Health, Outcome, Standing, Tally};
use crate::options::{BackendOptions, EdgeOptions};
use crate::padded::Padded;
use crate::pool::{Connector, Pool, lane};

pub use crate::pool::BackendTlsError;

/// A share of 1 as it is kept.
const SHARE_ONE: u32 = 1000;

/// What is kept of a backend while it is one.
pub(crate) struct Backend {
    pub(crate) options: BackendOptions,
    pub(crate) connector: Connector,
    pub(crate) pool: Pool,
    pub(crate) load: Padded<Load>,
    pub(crate) counters: Counters,
    /// Woken when the backend is let go.
    pub(crate) gone: Notify,
    /// For each lane, woken now and then for those that wait for an answer to look whether they
    /// should go on waiting. A timer for each request would cost more: setting one wakes the
    /// runtime's driver, by a system call, whenever it is the next to go off.
    looks: Box<[Padded<Notify>]>,
    is_gone: AtomicBool,
    health: Mutex<Health>,
    /// Whether `health` counts errors in a row, so that an ordinary answer has to end the row.
    counts_errors: AtomicBool,
    is_down: AtomicBool,
    is_draining: AtomicBool,
    /// The share of its requests it gets, in thousandths.
    share: AtomicU32,
    outstanding_max: usize,
}

/// What is counted of a backend, since it is one.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) retries: AtomicU64,
    pub(crate) connect_errors: AtomicU64,
    pub(crate) answer_errors: AtomicU64,
    pub(crate) connects: AtomicU64,
    pub(crate) checks_failed: AtomicU64,
    ejections: [AtomicU64; 3],
    window_failures: AtomicU32,
}

/// What a request is chosen a backend by.
pub(crate) struct Asking<'a> {
    pub(crate) now_ms: u32,
    pub(crate) tried: &'a [Arc<Backend>],
}

impl Backend {
    pub(crate) fn new(
        options: BackendOptions,
        edge: &EdgeOptions,
        now: Instant,
    ) -> Result<Self, BackendTlsError> {
        let connections = &edge.connections;
        let tls = options.tls.as_ref();
        let connector = Connector::new(&options.id, options.address, tls, connections)?;
        Ok(Self {
            connector,
            options,
            pool: Pool::new(edge.lanes, connections),
            load: Padded(Load::new(edge.balance.decay_ms, edge.balance.latency_floor_us)),
            counters: Counters::default(),
            gone: Notify::new(),
            looks: (0..edge.lanes.max(1)).map(|_| Padded(Notify::new())).collect(),
            is_gone: AtomicBool::new(false),
            health: Mutex::new(Health::new(edge.health.clone(), now)),
            counts_errors: AtomicBool::new(false),
            is_down: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            share: AtomicU32::new(SHARE_ONE),
            outstanding_max: connections.outstanding_max,
        })
    }

    /// Its health, for a moment.
    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands at `now`, which what requests look at is brought up to.
    pub(crate) fn refresh(&self, now: Instant) -> Standing {
        let health = self.health();
        let standing = health.standing(now);
        self.counts_errors.store(health.counts_errors(), Ordering::Relaxed);
        drop(health);
        if let Standing::Up(share) = standing {
            // A share is from 0 to 1.
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "see above"
            )]
            let thousandths = (share * f64::from(SHARE_ONE)) as u32;
            self.share.store(thousandths, Ordering::Relaxed);
        }
        let is_down = standing == Standing::Down;
        if is_down && !self.is_down.swap(is_down, Ordering::Relaxed) {
            // What is idle leads to a process that is no more, or to one that is cut off.
            self.pool.clear();
        }
        self.is_down.store(is_down, Ordering::Relaxed);
        standing
    }

    /// What wakes those of this lane that wait for an answer.
    pub(crate) fn look(&self) -> &Notify {
        &self.looks[lane() % self.looks.len()]
    }

    /// Has all that wait for an answer look whether they should go on waiting.
    pub(crate) fn have_all_look(&self) {
        self.looks.iter().for_each(|look| look.notify_waiters());
    }

    /// Whether checks say that it is down.
    pub(crate) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }

    /// Whether an ordinary answer would end a row of errors.
    pub(crate) fn counts_errors(&self) -> bool {
        self.counts_errors.load(Ordering::Relaxed)
    }

    /// Gives it no more requests; those it has go on.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Lets it go: no more checks, no idle connections.
    pub(crate) fn let_go(&self) {
        self.drain();
        self.is_gone.store(true, Ordering::Relaxed);
        self.gone.notify_waiters();
        self.pool.clear();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Relaxed)
    }

    /// Counts the end of a request for the window and the average.
    pub(crate) fn observe(&self, outcome: Outcome, latency_us: u64, clock: &Clock) {
        let counters = &self.counters;
        self.load.count(latency_us);
        match outcome {
            Outcome::Answered => self.load.observe(latency_us, clock.now_ms()),
            Outcome::ConnectFailed => {
                counters.window_failures.fetch_add(1, Ordering::Relaxed);
                counters.connect_errors.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::AnswerFailed => {
                counters.window_failures.fetch_add(1, Ordering::Relaxed);
                counters.answer_errors.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Ends the window and gives what was counted in it.
    pub(crate) fn take_window(&self) -> Tally {
        let (answers, latency_us) = self.load.take_window();
        let failures = self.counters.window_failures.swap(0, Ordering::Relaxed);
        Tally { answers, failures, latency_us }
    }
}

impl Counters {
    pub(crate) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn check_failed(&self) {
        self.checks_failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ejected(&self, cause: EjectionCause) {
        self.ejections[cause as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ejections(&self, cause: EjectionCause) -> u64 {
        self.ejections[cause as usize].load(Ordering::Relaxed)
    }
}

impl Candidate<Asking<'_>> for Arc<Backend> {
    fn score(&self, asking: &Asking<'_>) -> f64 {
        self.load.score(asking.now_ms)
    }

    fn outstanding(&self) -> usize {
        self.load.outstanding()
    }

    fn share(&self) -> f64 {
        f64::from(self.share.load(Ordering::Relaxed)) / f64::from(SHARE_ONE)
    }

    fn is_out(&self, asking: &Asking<'_>) -> bool {
        self.load.outstanding() >= self.outstanding_max
            || asking.tried.iter().any(|tried| Arc::ptr_eq(tried, self))
    }
}

/// A request that a backend has outstanding, until this is dropped.
pub(crate) struct Lease(Arc<Backend>);

impl Lease {
    pub(crate) fn new(backend: Arc<Backend>) -> Self {
        backend.load.begin();
        Self(backend)
    }

    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.load.end();
    }
}
