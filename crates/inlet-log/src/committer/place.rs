//! Where an append goes: into the filling group, outside to wait, or back.

use std::sync::Arc;
use std::task::Waker;

use crate::buffer::AlignedBuffer;
use crate::committer::{Committer, Entry, Group, Next, Placed, State, Wakers, whole_blocks};
use crate::disk::is_full;
use crate::error::{AppendError, Full, SegmentError};
use crate::log::no_room;
use crate::position::Position;
use crate::record::{Kind, RECORD_HEADER_BYTES, RecordHeader};
use crate::segment::{GROUPS_START, Segment};

/// Room below which a segment counts as full while there is no next one, in bytes.
const ROOM_BYTES_MIN: u64 = 64 << 10;

/// What a group's buffer holds before it grows for the first time, in bytes.
const GROUP_BYTES_MIN: usize = 64 << 10;

impl Committer {
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
                // There is no room on the disk for this append; smaller ones still go in.
                Next::Ready(segment)
                    if segment.cramped && GROUPS_START + blocks > segment.bytes =>
                {
                    self.next = Next::Ready(segment);
                    let (dir, source) = (Arc::clone(&self.dir), no_room());
                    return Err(self.no_segment(&Arc::new(SegmentError { dir, source })));
                }
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
        if !is_full(&error.source) {
            return AppendError::NoSegment(error);
        }
        AppendError::Full { dir: Arc::clone(&self.dir), cause: Full::Disk(error) }
    }
}

fn payload(parts: &[&[u8]]) -> usize {
    parts.iter().map(|part| part.len()).sum()
}
