//! Conclusions about an engine's health from the calls to it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::{Part, State};

/// A failure of one direction is over when a call of the other succeeds this long after it: nobody
/// may ask in the first one any more.
const FADES_AFTER: Duration = Duration::from_secs(60);
/// For how long damage that was seen is reported though other calls succeed.
const DAMAGE_FADES_AFTER: Duration = Duration::from_secs(600);

/// The two kinds of calls. A right to write can be missing while reads work, and the reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// Reports to one part of the board.
pub(super) struct Reports {
    part: Part,
    /// The state of the process while nothing can be written to the engine.
    unwritable: State,
    /// Set if damage that one call found is the engine's.
    keeps_damage: bool,
    /// True while `failing` has anything, for calls that succeed.
    is_failing: AtomicBool,
    failing: Mutex<Failing>,
}

/// The last failure of each kind, since it last worked.
#[derive(Debug, Default)]
struct Failing {
    reads: Option<Instant>,
    writes: Option<Instant>,
    damage: Option<Instant>,
}

impl Reports {
    pub(super) fn new(part: Part, unwritable: State) -> Self {
        let failing = Mutex::default();
        let is_failing = AtomicBool::new(false);
        Self { part, unwritable, keeps_damage: false, is_failing, failing }
    }

    /// The same for an engine in which damage concerns more than what was read.
    pub(super) fn keeping_damage(self) -> Self {
        Self { keeps_damage: true, ..self }
    }

    pub(super) fn name(&self) -> &str {
        self.part.name()
    }

    pub(super) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Acquire)
    }

    /// Returns true if a call found damage a while ago.
    pub(super) fn is_damaged(&self) -> bool {
        self.is_failing() && self.with(|failing| failing.damage.is_some())
    }

    /// The engine is open.
    pub(super) fn opened(&self) {
        self.with(|failing| *failing = Failing::default());
        self.part.works();
    }

    /// An attempt to open it failed.
    pub(super) fn not_opened(&self, failure: &Failure) {
        self.part.fails(self.unwritable, failure);
    }

    /// It is opened anew.
    pub(super) fn restarted(&self) {
        self.part.restarted();
    }

    /// A call ended, with this failure or with none.
    pub(super) fn seen(&self, direction: Direction, failure: Option<&Failure>) {
        match failure {
            None if !self.is_failing() => {}
            None => {
                if self.with(|failing| failing.worked(direction)) {
                    self.part.works();
                }
            }
            // The caller's doing: a cursor that is none, a value that is never taken.
            Some(failure) if failure.kind() == FailureKind::Refused => {}
            // An object's: the engine itself is well.
            Some(failure) if failure.kind() == FailureKind::Damaged && !self.keeps_damage => {}
            Some(failure) => {
                let is_damage = failure.kind() == FailureKind::Damaged;
                let is_told = self.with(|failing| failing.failed(direction, is_damage));
                let state = match direction {
                    Direction::Write if !is_damage => self.unwritable,
                    _ => State::Degraded,
                };
                if is_told {
                    self.part.fails(state, failure);
                }
            }
        }
    }

    fn with<R>(&self, change: impl FnOnce(&mut Failing) -> R) -> R {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut failing);
        self.is_failing.store(failing.is_any(), Ordering::Release);
        result
    }
}

impl Failing {
    fn is_any(&self) -> bool {
        self.reads.is_some() || self.writes.is_some() || self.damage.is_some()
    }

    /// Notes a success; whether nothing fails any more.
    fn worked(&mut self, direction: Direction) -> bool {
        let lasts = |since: Option<Instant>, fades_after| {
            since.filter(|since| since.elapsed() < fades_after)
        };
        let (reads, writes) = (self.reads, self.writes);
        (self.reads, self.writes) = match direction {
            Direction::Read => (None, lasts(writes, FADES_AFTER)),
            Direction::Write => (lasts(reads, FADES_AFTER), None),
        };
        self.damage = lasts(self.damage, DAMAGE_FADES_AFTER);
        !self.is_any()
    }

    /// Notes a failure. Whether it is to be told: while several things fail the board has the
    /// worst, so that its cause and its beginning do not change with every call.
    fn failed(&mut self, direction: Direction, is_damage: bool) -> bool {
        let now = Some(Instant::now());
        match (is_damage, direction) {
            (true, _) => self.damage = now,
            (false, Direction::Write) => self.writes = now,
            (false, Direction::Read) => self.reads = now,
        }
        match (is_damage, direction) {
            (true, _) => true,
            (false, Direction::Write) => self.damage.is_none(),
            (false, Direction::Read) => self.damage.is_none() && self.writes.is_none(),
        }
    }
}
