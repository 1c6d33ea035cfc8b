//! The health of a process: a board on which its parts report their state.
//!
//! Every loop, thread and engine that can fail while the process runs has a [`Part`]. Readiness,
//! metrics and the log read the same board, so they cannot contradict each other.
//!
//! Invariants:
//! - A part that was never registered is never reported; one that was registered stays until its
//!   handle is dropped.
//! - `since` is the moment the present state began; reporting the same state again keeps it.
//! - The log has one line when a part begins to fail, one a minute while it goes on, and one when
//!   it works again. Callers log nothing for a failure they report here.
//! - Text that came from an engine is for the log and for operators alone: clients get the name
//!   of the part, its state, and one word for the cause.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::document::Timestamp;
use crate::failure::Failure;
use crate::ports::Clock;

/// The time between two log lines about a failure that goes on.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The state of a part, and of the whole: the worst of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It works.
    Ready,
    /// It fails, and documents are still accepted: they wait in the queue (G7).
    Degraded,
    /// It fails, and no document should be sent here.
    Unready,
}

impl State {
    /// The word for answers, metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Unready => "unready",
        }
    }
}

/// The health of one part at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHealth {
    /// The name of the part: `store`, `persist`, `backup`.
    pub name: String,
    /// Its state.
    pub state: State,
    /// When that state began, by the wall clock.
    pub since: Timestamp,
    /// How long that state has lasted, by the monotonic clock.
    pub lasted: Duration,
    /// One word for the cause, which clients may see; `None` while it works.
    pub cause: Option<&'static str>,
    /// The cause in full, for operators; empty while it works.
    pub detail: String,
    /// The action by which an operator can fix it, where one is known.
    pub hint: Option<String>,
    /// How often it has failed since the process started.
    pub failures: u64,
    /// The time at which it last did its work, by the wall clock, for a part that has some to do at
    /// a time.
    pub last_success: Option<Timestamp>,
}

#[derive(Debug)]
struct Entry {
    state: State,
    since: Timestamp,
    began: Instant,
    cause: Option<&'static str>,
    detail: String,
    hint: Option<String>,
    failures: u64,
    last_success: Option<Timestamp>,
    logged: Option<Instant>,
}

/// The board. Clones share it.
#[derive(Clone)]
pub struct Health {
    clock: Arc<dyn Clock>,
    parts: Arc<Mutex<BTreeMap<String, Entry>>>,
    restarts: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Health {
    /// An empty board.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, parts: Arc::default(), restarts: Arc::default() }
    }

    /// Registers a part, which works until it reports otherwise. The name is lower-case words
    /// with `-` between them; registering a name again starts it anew.
    pub fn part(&self, name: impl Into<String>) -> Part {
        let name = name.into();
        let entry = Entry {
            state: State::Ready,
            since: self.clock.now(),
            began: Instant::now(),
            cause: None,
            detail: String::new(),
            hint: None,
            failures: 0,
            last_success: None,
            logged: None,
        };
        self.lock().insert(name.clone(), entry);
        Part { health: self.clone(), name }
    }

    /// The health of all parts, by name.
    pub fn parts(&self) -> Vec<PartHealth> {
        self.lock()
            .iter()
            .map(|(name, entry)| PartHealth {
                name: name.clone(),
                state: entry.state,
                since: entry.since,
                lasted: entry.began.elapsed(),
                cause: entry.cause,
                detail: entry.detail.clone(),
                hint: entry.hint.clone(),
                failures: entry.failures,
                last_success: entry.last_success,
            })
            .collect()
    }

    /// The state of the whole: that of its worst part.
    pub fn state(&self) -> State {
        self.lock().values().map(|entry| entry.state).max().unwrap_or(State::Ready)
    }

    /// Counts a restart of the thread or task with that name.
    pub fn restarted(&self, thread: &str) {
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        *restarts.entry(thread.to_owned()).or_default() += 1;
    }

    /// The restarts of each thread or task that was restarted since the process started, by name.
    pub fn restarts(&self) -> Vec<(String, u64)> {
        let restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        restarts.iter().map(|(thread, count)| (thread.clone(), *count)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part's handle on the board. Dropping it takes the part off the board.
pub struct Part {
    health: Health,
    name: String,
}

impl Part {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Counts that it was started anew.
    pub fn restarted(&self) {
        self.health.restarted(&self.name);
    }

    /// Reports that the part works.
    pub fn works(&self) {
        if let Some(lasted) = self.report(State::Ready, None, String::new(), None) {
            let failed_s = lasted.as_secs_f64();
            tracing::info!(part = self.name, failed_s, "works again");
        }
    }

    /// Notes when the part last did its work; says nothing about its state.
    pub fn succeeded(&self, at: Timestamp) {
        if let Some(entry) = self.health.lock().get_mut(&self.name) {
            entry.last_success = Some(at);
        }
    }

    /// The time at which the part last did its work.
    pub fn last_success(&self) -> Option<Timestamp> {
        self.health.lock().get(&self.name)?.last_success
    }

    /// Reports a failure in which documents are still accepted.
    pub fn degraded(&self, failure: &Failure) {
        self.fails(State::Degraded, failure);
    }

    /// Reports a failure in which no document should be sent here.
    pub fn unready(&self, failure: &Failure) {
        self.fails(State::Unready, failure);
    }

    /// Reports `failure` with this state.
    pub fn fails(&self, state: State, failure: &Failure) {
        self.fails_as(state, failure.kind().word(), &failure.chain(), failure.hint_text());
    }

    /// Reports a failure that is no [`Failure`]: `cause` is the word that clients see, `detail`
    /// the text for operators.
    pub fn fails_as(&self, state: State, cause: &'static str, detail: &str, hint: Option<&str>) {
        let reported = self.report(state, Some(cause), detail.to_owned(), hint.map(str::to_owned));
        if reported.is_some() {
            let state = state.word();
            tracing::warn!(part = self.name, state, cause, detail, hint, "fails; trying again");
        }
    }

    /// Notes the state. Returns how long the state before had lasted where the log should say
    /// something: on a change, and once a minute while a failure goes on.
    fn report(
        &self,
        state: State,
        cause: Option<&'static str>,
        detail: String,
        hint: Option<String>,
    ) -> Option<Duration> {
        let now = self.health.clock.now();
        let mut parts = self.health.lock();
        // A part that was registered anew under this name is another's to report on; both show.
        let entry = parts.get_mut(&self.name)?;
        let lasted = entry.began.elapsed();
        let has_changed = entry.state != state || entry.cause != cause;
        if has_changed {
            (entry.state, entry.cause) = (state, cause);
            (entry.since, entry.began, entry.logged) = (now, Instant::now(), None);
        }
        (entry.detail, entry.hint) = (detail, hint);
        if cause.is_some() {
            entry.failures = entry.failures.saturating_add(1);
            if entry.logged.is_some_and(|logged| logged.elapsed() < LOG_EVERY) {
                return None;
            }
            entry.logged = Some(Instant::now());
            return Some(lasted);
        }
        has_changed.then_some(lasted)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.health.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    use super::*;
    use crate::failure::FailureKind;

    #[derive(Default)]
    struct Ticking(AtomicI64);

    impl Clock for Ticking {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.0.fetch_add(1, Relaxed))
        }
    }

    fn health() -> Health {
        Health::new(Arc::new(Ticking::default()))
    }

    fn failure(kind: FailureKind) -> Failure {
        Failure::new(kind, "write to", "the store").because("EIO")
    }

    #[test]
    fn the_whole_is_as_its_worst_part() {
        let health = health();
        assert_eq!(health.state(), State::Ready);
        let (store, log) = (health.part("store"), health.part("log"));
        store.degraded(&failure(FailureKind::Unavailable));
        assert_eq!(health.state(), State::Degraded);
        log.unready(&failure(FailureKind::Poisoned));
        assert_eq!(health.state(), State::Unready);
        log.works();
        store.works();
        assert_eq!(health.state(), State::Ready);
    }

    #[test]
    fn a_failure_that_goes_on_keeps_its_beginning_and_counts() {
        let health = health();
        let part = health.part("store");
        part.degraded(&failure(FailureKind::Unavailable));
        let began = health.parts()[0].clone();
        part.degraded(&failure(FailureKind::Unavailable));
        let later = health.parts()[0].clone();
        assert_eq!((later.since, later.failures), (began.since, 2));
        assert_eq!(later.cause, Some("unavailable"));
        assert_eq!(later.detail, "could not write to the store: EIO");
        part.degraded(&failure(FailureKind::Refused));
        assert!(health.parts()[0].since > began.since, "another cause is another failure");
        part.works();
        let works = health.parts()[0].clone();
        assert_eq!((works.state, works.cause, works.detail.as_str()), (State::Ready, None, ""));
        assert_eq!(works.failures, 3);
    }

    #[test]
    fn restarts_are_counted_by_thread() {
        let health = health();
        assert!(health.restarts().is_empty());
        for thread in ["persist", "summary", "persist"] {
            health.restarted(thread);
        }
        let expected = [("persist".to_owned(), 2), ("summary".to_owned(), 1)];
        assert_eq!(health.restarts(), expected);
    }

    #[test]
    fn a_part_that_ended_is_off_the_board() {
        let health = health();
        drop(health.part("summary"));
        assert!(health.parts().is_empty());
    }

    #[test]
    fn the_log_hears_of_a_change_and_not_of_each_failure() {
        let health = health();
        let part = health.part("store");
        let cause = Some("unavailable");
        assert!(part.report(State::Degraded, cause, String::new(), None).is_some());
        assert!(part.report(State::Degraded, cause, String::new(), None).is_none());
        assert!(part.report(State::Ready, None, String::new(), None).is_some());
        assert!(part.report(State::Ready, None, String::new(), None).is_none());
    }
}
