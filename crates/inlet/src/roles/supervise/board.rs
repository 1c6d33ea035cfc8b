//! What is known of every child, for all who want to know.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use inlet_core::health::State;
use tokio::sync::watch;

use super::placement::Place;
use crate::roles::parent::{FailingPart, Figures};

/// How far a child has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its process is started and has answered nothing yet.
    Starting,
    /// It answers.
    Running,
    /// It was told to end.
    Stopping,
    /// It ended, and is started again after a pause.
    BackingOff,
}

/// What is known of one child.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Where an instance is; the worker has no place.
    pub(super) place: Option<Place>,
    pub(super) phase: Phase,
    /// Whether it is to get no more requests.
    pub(super) is_draining: bool,
    /// Since when it has said that it is ready; `None` while it is not.
    pub(super) ready_since: Option<Instant>,
    pub(super) pid: Option<u32>,
    pub(super) address: Option<SocketAddr>,
    /// When its present process was started.
    pub(super) started: Instant,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// How often in a row it ended before it was ready.
    pub(super) failures: u32,
    /// Why it ended the last time.
    pub(super) reason: Option<String>,
    /// The figures that a worker tells.
    pub(super) figures: Option<Figures>,
    /// The parts of a worker that fail.
    pub(super) failing: Vec<FailingPart>,
}

/// All children. Clones are the same board.
#[derive(Debug, Clone, Default)]
pub(super) struct Board {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<BTreeMap<String, Entry>>,
    version: watch::Sender<u64>,
}

impl Entry {
    /// What a person calls how it stands.
    pub(super) fn state(&self) -> &'static str {
        match self.phase {
            Phase::Starting => "starting",
            Phase::Stopping => "stopping",
            Phase::BackingOff => "backing-off",
            Phase::Running if self.is_draining => "draining",
            Phase::Running if self.ready_since.is_none() => "unready",
            Phase::Running => match self.worst() {
                Some(part) if part.state == State::Unready.word() => "unready",
                Some(_) => "degraded",
                None => "up",
            },
        }
    }

    /// The reason it is not up, or the reason it ended the last time.
    pub(super) fn reason(&self) -> Option<String> {
        let failing = self.worst().map(|part| format!("{}: {}", part.name, part.detail));
        failing.or_else(|| self.reason.clone())
    }

    /// The part that keeps a worker from being up.
    fn worst(&self) -> Option<&FailingPart> {
        let unready = |part: &&FailingPart| part.state == State::Unready.word();
        self.failing.iter().find(unready).or_else(|| self.failing.first())
    }
}

impl Board {
    /// Adds a child that is about to be started.
    pub(super) fn add(&self, id: &str, place: Option<Place>) {
        let entry = Entry {
            id: id.to_owned(),
            place,
            phase: Phase::Starting,
            is_draining: false,
            ready_since: None,
            pid: None,
            address: None,
            started: Instant::now(),
            restarts: 0,
            failures: 0,
            reason: None,
            figures: None,
            failing: Vec::new(),
        };
        self.entries_now().insert(id.to_owned(), entry);
        self.changed();
    }

    /// Takes a child off that is gone for good.
    pub(super) fn remove(&self, id: &str) {
        self.entries_now().remove(id);
        self.changed();
    }

    /// Changes what is known of a child, and tells all who watch.
    pub(super) fn update(&self, id: &str, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries_now().get_mut(id) {
            change(entry);
        }
        self.changed();
    }

    /// All of them, by id.
    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries_now().values().cloned().collect()
    }

    /// One of them.
    pub(super) fn entry(&self, id: &str) -> Option<Entry> {
        self.entries_now().get(id).cloned()
    }

    /// Tells when anything has changed.
    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    fn changed(&self) {
        self.shared.version.send_modify(|version| *version += 1);
    }

    fn entries_now(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
