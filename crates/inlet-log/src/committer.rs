//! Group commit as a state machine without a disk, a clock or a thread.
//!
//! Appends are gathered in the filling group. A driver takes it ([`Committer::take_write`]),
//! writes and syncs it as one, and says how that went ([`Committer::complete`]), while the next
//! group fills. At most one group is with the driver, so the next is written only after the last
//! was synced: recovery stands on that (see `torn.rs`).
//!
//! Invariants:
//! - A group's outcome is known once: it is durable when `groups_done` has reached it, and lost
//!   to its waiters when the log is poisoned before that. Its waiters' wakers are given out by
//!   value with the outcome, so none is woken twice and none is forgotten.
//! - A group has its place in a segment from its first record on: what was taken into a group
//!   can't find the disk full later. What has no place yet waits outside, in the order it came,
//!   with its bytes still with the caller.
//! - Once poisoned, no write is ever taken again: nothing is written or synced after a failure.
//! - Everything is bounded: the group by bytes, those outside by `appends_waiting_max`, what is
//!   on the disk by `queue_bytes_max`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::buffer::AlignedBuffer;
use crate::error::{AppendError, Poison, SegmentError};
use crate::position::Position;
use crate::segment::{BLOCK_BYTES, Plan, Segment};

mod place;
mod segments;

pub(crate) use segments::Wanted;

/// The bounds of a committer; [`LogOptions`](crate::LogOptions) documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) group_bytes_max: usize,
    pub(crate) append_bytes_max: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) queue_bytes_max: u64,
    pub(crate) appends_waiting_max: usize,
}

/// A segment that holds groups, drained or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) number: u64,
    /// Where its last record ends.
    pub(crate) end: u64,
}

/// One write: a whole group, taken out of the committer until [`Committer::complete`].
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) segment: Arc<Segment>,
    /// Where in the segment it goes.
    pub(crate) offset: u64,
    /// The bytes, whole blocks.
    pub(crate) buffer: AlignedBuffer,
    group: u64,
}

impl Write {
    /// A write that is no group's, to try out whether one can be made.
    pub(crate) fn new(segment: Arc<Segment>, offset: u64, buffer: AlignedBuffer) -> Self {
        Self { segment, offset, buffer, group: 0 }
    }
}

/// A write or a sync that failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    pub(crate) attempted: &'static str,
    pub(crate) source: io::Error,
}

/// What became of an append that was tried.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It is in a group.
    Placed(Placed),
    /// It has to wait outside; it is to try again with this ticket when it is woken.
    Waits(u64),
}

/// Where in which group an append stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    group: u64,
    waiter: usize,
    /// After the last of its records.
    pub(crate) position: Position,
}

/// Wakers to be woken once the lock is given back.
pub(crate) type Wakers = Vec<Waker>;

#[derive(Debug)]
struct Group {
    number: u64,
    segment: Arc<Segment>,
    start: u64,
    buffer: AlignedBuffer,
    wakers: Vec<Waker>,
}

/// The group that is being written.
#[derive(Debug)]
struct Flight {
    number: u64,
    end: Position,
    wakers: Vec<Waker>,
}

/// The segment after the active one.
#[derive(Debug)]
enum Next {
    /// Not asked for yet.
    Unwanted,
    /// To be made when someone comes to make it.
    Wanted,
    /// Being made.
    Making,
    /// There.
    Ready(Arc<Segment>),
    /// It could not be made; it is tried again.
    Failed(Arc<SegmentError>),
}

#[derive(Debug)]
enum State {
    Open,
    Closing,
    Poisoned(Arc<Poison>),
}

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Committer {
    dir: Arc<Path>,
    bounds: Bounds,
    state: State,
    next_sequence: u64,
    /// All segments with groups, the active one last.
    extents: VecDeque<Extent>,
    active: Option<Arc<Segment>>,
    /// Where the next group starts in the active segment.
    place: u64,
    next: Next,
    next_plan: Plan,
    making: bool,
    /// The next segment while it is made anew with more room; it is used where that fails.
    cramped: Option<Arc<Segment>>,
    /// Set when segments were removed, until the maker has seen it.
    room_came: bool,
    filling: Option<Group>,
    /// An emptied buffer and list of wakers, to be used again.
    spare: Option<(AlignedBuffer, Vec<Waker>)>,
    writing: Option<Flight>,
    groups: u64,
    groups_done: u64,
    /// The durable end.
    tail: Position,
    released: Position,
    /// Undrained bytes on the disk or on their way, the filling group aside.
    bytes: u64,
    outside: BTreeMap<u64, Waker>,
    tickets: u64,
    idle_writer: Option<Waker>,
    idle_maker: Option<Waker>,
}

impl Committer {
    /// A committer after `extents`, which are sealed; `first` is the segment to be made first,
    /// and `tail` the end of what is durable.
    pub(crate) fn new(
        dir: Arc<Path>,
        bounds: Bounds,
        extents: VecDeque<Extent>,
        first: Plan,
        tail: Position,
        released: Position,
    ) -> Self {
        let mut committer = Self {
            dir,
            bounds,
            state: State::Open,
            next_sequence: 0,
            extents,
            active: None,
            place: 0,
            next: Next::Wanted,
            next_plan: first,
            making: false,
            cramped: None,
            room_came: false,
            filling: None,
            spare: None,
            writing: None,
            groups: 0,
            groups_done: 0,
            tail,
            released,
            bytes: 0,
            outside: BTreeMap::new(),
            tickets: 0,
            idle_writer: None,
            idle_maker: None,
        };
        committer.bytes = committer.undrained_bytes();
        committer
    }

    /// The end of what is durable.
    pub(crate) fn tail(&self) -> Position {
        self.tail
    }

    /// Bytes of groups that are not drained, those not yet written among them.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes + self.filling.as_ref().map_or(0, |group| whole_blocks(group.buffer.len()))
    }

    /// The segment that is written to.
    pub(crate) fn active(&self) -> Option<&Arc<Segment>> {
        self.active.as_ref()
    }

    /// Why nothing is acknowledged any more, if that is so.
    pub(crate) fn poison(&self) -> Option<&Arc<Poison>> {
        match &self.state {
            State::Poisoned(poison) => Some(poison),
            State::Open | State::Closing => None,
        }
    }

    /// Returns true if appends are taken.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Whether the log was asked to close.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing)
    }

    /// Whether there is nothing to write and never will be again.
    pub(crate) fn is_ended(&self) -> bool {
        let flushed = self.filling.is_none() && self.writing.is_none();
        self.poison().is_some() || self.is_closing() && flushed
    }

    /// The outcome of a placed append; while there is none, `waker` is the one to be woken.
    pub(crate) fn poll_outcome(
        &mut self,
        placed: Placed,
        waker: &Waker,
    ) -> Poll<Result<Position, AppendError>> {
        if placed.group <= self.groups_done {
            return Poll::Ready(Ok(placed.position));
        }
        if let State::Poisoned(poison) = &self.state {
            return Poll::Ready(Err(AppendError::Poisoned(Arc::clone(poison))));
        }
        let filling = self.filling.as_mut().map(|group| (group.number, &mut group.wakers));
        let writing = self.writing.as_mut().map(|flight| (flight.number, &mut flight.wakers));
        let (_, wakers) = [filling, writing]
            .into_iter()
            .flatten()
            .find(|(number, _)| *number == placed.group)
            .expect("a group without an outcome is filling or being written");
        wakers[placed.waiter].clone_from(waker);
        Poll::Pending
    }

    /// The group that waits, for the driver to write; `None` when there is none, or one is being
    /// written, or nothing may be written any more.
    pub(crate) fn take_write(&mut self, wake: &mut Wakers) -> Option<Write> {
        if self.writing.is_some() || self.poison().is_some() {
            return None;
        }
        let Group { number, segment, start, mut buffer, wakers } = self.filling.take()?;
        let end = Position { segment: segment.number, offset: start + buffer.len() as u64 };
        buffer.pad();
        self.place = start + buffer.len() as u64;
        self.bytes += buffer.len() as u64;
        self.extents.back_mut().expect("a group stands in an extent").end = end.offset;
        self.writing = Some(Flight { number, end, wakers });
        wake.extend(self.outside.values().cloned());
        Some(Write { segment, offset: start, buffer, group: number })
    }

    /// Takes what waits, or remembers whom to wake when something does. `None` once the log is
    /// poisoned, or closing and flushed.
    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        wake: &mut Wakers,
    ) -> Poll<Option<Write>> {
        if let Some(write) = self.take_write(wake) {
            return Poll::Ready(Some(write));
        }
        if self.is_ended() {
            return Poll::Ready(None);
        }
        self.idle_writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Remembers whom to wake when a group waits to be written; says whether one waits.
    pub(crate) fn poll_group(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.filling.is_some() || self.is_closing() || self.poison().is_some() {
            return Poll::Ready(());
        }
        self.idle_writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says how a write went. Its waiters come back by value, to be woken, with all others where
    /// the log is poisoned by it.
    pub(crate) fn complete(
        &mut self,
        write: Write,
        result: Result<(), WriteFailure>,
        wake: &mut Wakers,
    ) {
        let Write { segment, mut buffer, group, .. } = write;
        let Flight { number, end, mut wakers } = self.writing.take().expect("it was taken");
        assert_eq!(number, group, "one group is written at a time");
        wake.append(&mut wakers);
        match result {
            Ok(()) => {
                self.groups_done = group;
                self.tail = end;
            }
            Err(WriteFailure { attempted, source }) => {
                let path = segment.path.clone();
                self.set_poison(Poison { attempted, path, source }, wake);
            }
        }
        if buffer.capacity() <= self.bounds.group_bytes_max {
            buffer.clear();
            self.spare = Some((buffer, wakers));
        }
    }

    /// Acknowledges nothing more. The first cause stays.
    pub(crate) fn set_poison(&mut self, poison: Poison, wake: &mut Wakers) {
        if self.poison().is_none() {
            self.state = State::Poisoned(Arc::new(poison));
        }
        self.wake_all(wake);
    }

    /// Takes no more appends; what was taken is still written.
    pub(crate) fn close(&mut self, wake: &mut Wakers) {
        if matches!(self.state, State::Open) {
            self.state = State::Closing;
        }
        wake.extend(self.outside.values().cloned());
        wake.extend(self.idle_writer.take());
        wake.extend(self.idle_maker.take());
    }

    fn wake_all(&mut self, wake: &mut Wakers) {
        wake.extend(self.writing.iter().flat_map(|flight| &flight.wakers).cloned());
        wake.extend(self.filling.iter().flat_map(|group| &group.wakers).cloned());
        wake.extend(self.outside.values().cloned());
        wake.extend(self.idle_writer.take());
        wake.extend(self.idle_maker.take());
    }
}

fn whole_blocks(bytes: usize) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES) as u64
}
