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
use crate::error::{AppendError, Full, Poison, SegmentError};
use crate::position::Position;
use crate::record::{Kind, RECORD_HEADER_BYTES, RecordHeader};
use crate::segment::{BLOCK_BYTES, GROUPS_START, Plan, RunStart, Segment, block_after};

/// Room below which a segment counts as full while there is no next one.
const ROOM_BYTES_MIN: u64 = 64 << 10;

/// What a group's buffer holds before it grows for the first time, in bytes.
const GROUP_BYTES_MIN: usize = 64 << 10;

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

    /// Why nothing is acknowledged any more, if that is so.
    pub(crate) fn poison(&self) -> Option<&Arc<Poison>> {
        match &self.state {
            State::Poisoned(poison) => Some(poison),
            State::Open | State::Closing => None,
        }
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

    /// Whether an append would be taken, or would wait for no more than the disk's turn.
    pub(crate) fn has_room(&self) -> Result<(), AppendError> {
        self.accepts()?;
        if self.bytes() >= self.bounds.queue_bytes_max {
            return Err(self.queue_is_full());
        }
        self.room_outside()?;
        let left = self.active.as_ref().map_or(0, |segment| segment.bytes - self.place);
        match &self.next {
            Next::Failed(error) if left < ROOM_BYTES_MIN.min(self.bounds.segment_bytes / 4) => {
                Err(self.no_segment(error))
            }
            _ => Ok(()),
        }
    }

    /// Takes records into the filling group, all of them or none, or has them wait outside.
    /// Wakers to be woken are added to `wake`.
    pub(crate) fn append(
        &mut self,
        records: &[&[&[u8]]],
        ticket: Option<u64>,
        waker: &Waker,
        wake: &mut Wakers,
    ) -> Result<Entry, AppendError> {
        let tried = self.try_append(records, ticket, waker, wake);
        if let (Ok(Entry::Placed(_)) | Err(_), Some(ticket)) = (&tried, ticket) {
            // Those behind it come to the front, and may have been woken before they were.
            self.leave(ticket, wake);
        }
        tried
    }

    /// Takes an append that waits outside away.
    pub(crate) fn leave(&mut self, ticket: u64, wake: &mut Wakers) {
        self.outside.remove(&ticket);
        wake.extend(self.outside.values().next().cloned());
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

    /// The segment to be made, if one is wanted.
    pub(crate) fn take_plan(&mut self) -> Option<Plan> {
        let wanted = matches!(self.next, Next::Wanted | Next::Failed(_)) && !self.making;
        if !wanted || !matches!(self.state, State::Open) {
            return None;
        }
        // A failure stays in sight while it is tried again: those at the door are not kept.
        if matches!(self.next, Next::Wanted) {
            self.next = Next::Making;
        }
        self.making = true;
        Some(self.next_plan)
    }

    /// Whether a segment is wanted, once one is, and `false` once the log is closing or
    /// poisoned; remembers whom to wake until then.
    pub(crate) fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !matches!(self.state, State::Open) {
            return Poll::Ready(false);
        }
        if matches!(self.next, Next::Wanted | Next::Failed(_)) {
            return Poll::Ready(true);
        }
        self.idle_maker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Brings the segment that was planned, or why there is none.
    pub(crate) fn made(&mut self, made: io::Result<Segment>, wake: &mut Wakers) {
        self.making = false;
        match made {
            Ok(segment) if self.active.is_none() => {
                self.next = Next::Unwanted;
                self.activate(Arc::new(segment));
            }
            Ok(segment) => self.next = Next::Ready(Arc::new(segment)),
            Err(source) => {
                let dir = Arc::clone(&self.dir);
                self.next = Next::Failed(Arc::new(SegmentError { dir, source }));
            }
        }
        wake.extend(self.outside.values().cloned());
    }

    /// Remembers whom to wake when room may have come for a segment that could not be made.
    pub(crate) fn wait_for_room(&mut self, waker: &Waker) {
        self.idle_maker = Some(waker.clone());
    }

    /// The segments that are drained and may be removed once everything before `position` is:
    /// never the one that is written to.
    pub(crate) fn drained(&mut self, position: Position) -> Vec<u64> {
        self.released = self.released.max(position.min(self.tail));
        let released = self.released;
        let sealed = match &self.active {
            Some(active) => active.number,
            None => self.extents.back().map_or(0, |extent| extent.number),
        };
        let drained = |extent: &&Extent| {
            extent.number < sealed
                && (extent.number < released.segment
                    || extent.end <= GROUPS_START
                    || extent.number == released.segment && extent.end <= released.offset)
        };
        let drained = self.extents.iter().take_while(drained).map(|extent| extent.number).collect();
        self.bytes = self.undrained_bytes();
        drained
    }

    /// The segments before `number` are not there any more.
    pub(crate) fn removed_before(&mut self, number: u64, wake: &mut Wakers) {
        while self.extents.front().is_some_and(|extent| extent.number < number) {
            self.extents.pop_front();
        }
        self.released = self.released.max(Position { segment: number, offset: GROUPS_START });
        self.bytes = self.undrained_bytes();
        wake.extend(self.idle_maker.take());
    }

    fn accepts(&self) -> Result<(), AppendError> {
        match &self.state {
            State::Open => Ok(()),
            State::Closing => Err(AppendError::Closed { dir: Arc::clone(&self.dir) }),
            State::Poisoned(poison) => Err(AppendError::Poisoned(Arc::clone(poison))),
        }
    }

    fn try_append(
        &mut self,
        records: &[&[&[u8]]],
        ticket: Option<u64>,
        waker: &Waker,
        wake: &mut Wakers,
    ) -> Result<Entry, AppendError> {
        self.accepts()?;
        let bytes: usize = records.iter().map(|parts| RECORD_HEADER_BYTES + payload(parts)).sum();
        let bytes_max = self.bounds.append_bytes_max;
        if bytes > bytes_max {
            return Err(AppendError::TooLarge { bytes, bytes_max });
        }
        let waits = self.bytes() + whole_blocks(bytes);
        if waits > self.bounds.queue_bytes_max {
            return Err(self.queue_is_full());
        }
        // Those that came before go in before.
        let first = self.outside.keys().next().copied();
        let is_first = first.is_none_or(|first| ticket.is_some_and(|ticket| ticket <= first));
        if !is_first || !self.find_place(bytes, wake)? {
            return self.wait_outside(ticket, waker).map(Entry::Waits);
        }
        Ok(Entry::Placed(self.place(records, waker, wake)))
    }

    /// Whether the filling group can take `bytes` more; starts one if there is none.
    fn find_place(&mut self, bytes: usize, wake: &mut Wakers) -> Result<bool, AppendError> {
        if let Some(group) = &self.filling {
            let used = group.buffer.len() + bytes;
            return Ok(used <= self.bounds.group_bytes_max
                && group.start + whole_blocks(used) <= group.segment.bytes);
        }
        let blocks = whole_blocks(bytes);
        let segment = loop {
            let fits = |active: &&Arc<Segment>| self.place + blocks <= active.bytes;
            if let Some(active) = self.active.as_ref().filter(fits) {
                break Arc::clone(active);
            }
            match std::mem::replace(&mut self.next, Next::Unwanted) {
                // It may be too small as well, being young; the one after it will not be.
                Next::Ready(segment) => self.activate(segment),
                Next::Failed(error) => {
                    let refusal = self.no_segment(&error);
                    self.next = Next::Failed(error);
                    return Err(refusal);
                }
                next => {
                    self.next = next;
                    self.next_plan.bytes = self.next_plan.bytes.max(GROUPS_START + blocks);
                    self.want_next(wake);
                    return Ok(false);
                }
            }
        };
        // The room after this segment is reserved from the moment this one is written to.
        self.want_next(wake);
        let fresh = || (AlignedBuffer::with_capacity(GROUP_BYTES_MIN), Vec::new());
        let (buffer, wakers) = self.spare.take().unwrap_or_else(fresh);
        self.groups += 1;
        let (number, start) = (self.groups, self.place);
        self.filling = Some(Group { number, segment, start, buffer, wakers });
        Ok(true)
    }

    fn place(&mut self, records: &[&[&[u8]]], waker: &Waker, wake: &mut Wakers) -> Placed {
        let group = self.filling.as_mut().expect("a place was found");
        for parts in records {
            let length = payload(parts);
            let record = group.buffer.grow(RECORD_HEADER_BYTES + length);
            let mut at = RECORD_HEADER_BYTES;
            for part in *parts {
                record[at..at + part.len()].copy_from_slice(part);
                at += part.len();
            }
            let header = RecordHeader {
                length,
                sequence: self.next_sequence,
                identity: group.segment.identity,
                group: group.start,
                kind: Kind::Payload,
            };
            header.seal(record);
            self.next_sequence += 1;
        }
        let waiter = group.wakers.len();
        group.wakers.push(waker.clone());
        wake.extend(self.idle_writer.take());
        let offset = group.start + group.buffer.len() as u64;
        let position = Position { segment: group.segment.number, offset };
        Placed { group: group.number, waiter, position }
    }

    fn activate(&mut self, segment: Arc<Segment>) {
        if let Some(RunStart { first_sequence, .. }) = segment.run {
            self.next_sequence = first_sequence;
        }
        let number = segment.number;
        debug_assert!(self.extents.back().is_none_or(|last| last.number + 1 == number));
        self.extents.push_back(Extent { number, end: GROUPS_START });
        let bytes = (segment.bytes * 4).min(self.bounds.segment_bytes);
        self.next_plan = Plan { number: number + 1, bytes, run: None };
        self.place = GROUPS_START;
        self.active = Some(segment);
    }

    fn want_next(&mut self, wake: &mut Wakers) {
        if matches!(self.next, Next::Unwanted) {
            self.next = Next::Wanted;
            wake.extend(self.idle_maker.take());
        }
    }

    fn wait_outside(&mut self, ticket: Option<u64>, waker: &Waker) -> Result<u64, AppendError> {
        if ticket.is_none() {
            self.room_outside()?;
        }
        let ticket = ticket.unwrap_or_else(|| {
            self.tickets += 1;
            self.tickets
        });
        self.outside.insert(ticket, waker.clone());
        Ok(ticket)
    }

    fn room_outside(&self) -> Result<(), AppendError> {
        let appends = self.outside.len();
        if appends < self.bounds.appends_waiting_max {
            return Ok(());
        }
        Err(AppendError::Full { dir: Arc::clone(&self.dir), cause: Full::Appends { appends } })
    }

    fn queue_is_full(&self) -> AppendError {
        let (bytes, bytes_max) = (self.bytes(), self.bounds.queue_bytes_max);
        let cause = Full::Queue { bytes, bytes_max };
        AppendError::Full { dir: Arc::clone(&self.dir), cause }
    }

    fn no_segment(&self, error: &Arc<SegmentError>) -> AppendError {
        let error = Arc::clone(error);
        if !crate::disk::is_full(&error.source) {
            return AppendError::NoSegment(error);
        }
        AppendError::Full { dir: Arc::clone(&self.dir), cause: Full::Disk(error) }
    }

    fn wake_all(&mut self, wake: &mut Wakers) {
        wake.extend(self.writing.iter().flat_map(|flight| &flight.wakers).cloned());
        wake.extend(self.filling.iter().flat_map(|group| &group.wakers).cloned());
        wake.extend(self.outside.values().cloned());
        wake.extend(self.idle_writer.take());
        wake.extend(self.idle_maker.take());
    }

    fn undrained_bytes(&self) -> u64 {
        let from = |extent: &Extent| match extent.number {
            number if number < self.released.segment => extent.end,
            number if number == self.released.segment => self.released.offset.max(GROUPS_START),
            _ => GROUPS_START,
        };
        // The padding behind the last record of a group goes with that record.
        let bytes = |extent: &Extent| {
            let left = extent.end.saturating_sub(from(extent));
            if left == 0 { 0 } else { block_after(extent.end).saturating_sub(from(extent)) }
        };
        self.extents.iter().map(bytes).sum()
    }
}

fn payload(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}

fn whole_blocks(bytes: usize) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES) as u64
}
