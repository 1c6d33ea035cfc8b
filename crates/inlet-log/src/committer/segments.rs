//! The segments of a log: the one written to, the next one, and those that are done with.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::committer::{Committer, Extent, Next, State, Wakers};
use crate::error::SegmentError;
use crate::position::Position;
use crate::segment::{GROUPS_START, Plan, RunStart, Segment, block_after};

/// The work of the one that makes segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The next segment.
    Segment,
    /// The next segment as large as planned: it is smaller for want of room.
    Room,
    /// None any more: the log is closing or poisoned.
    End,
}

impl Committer {
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

    /// The next task of the maker of segments, once there is one; remembers whom to wake when that
    /// changes.
    pub(crate) fn poll_wanted(&mut self, cx: &mut Context<'_>) -> Poll<Wanted> {
        self.idle_maker = Some(cx.waker().clone());
        match &self.next {
            _ if !matches!(self.state, State::Open) => Poll::Ready(Wanted::End),
            Next::Wanted | Next::Failed(_) => Poll::Ready(Wanted::Segment),
            Next::Ready(next) if next.cramped => Poll::Ready(Wanted::Room),
            Next::Unwanted | Next::Making | Next::Ready(_) => Poll::Pending,
        }
    }

    /// Returns true if segments were removed since the last call: there may be room now.
    pub(crate) fn take_room_came(&mut self) -> bool {
        std::mem::take(&mut self.room_came)
    }

    /// The plan for the next segment, where it is smaller than that for want of room.
    pub(crate) fn roomier_plan(&self) -> Option<Plan> {
        let is_cramped = matches!(&self.next, Next::Ready(next) if next.cramped);
        (is_cramped && !self.making && matches!(self.state, State::Open)).then_some(self.next_plan)
    }

    /// Takes the next segment away to be made anew as planned.
    pub(crate) fn take_cramped(&mut self) -> Option<Plan> {
        let plan = self.roomier_plan()?;
        if let Next::Ready(segment) = std::mem::replace(&mut self.next, Next::Making) {
            self.cramped = Some(segment);
        }
        self.making = true;
        Some(plan)
    }

    /// Takes the segment that was planned, or the reason why there is none.
    pub(crate) fn made(&mut self, made: io::Result<Segment>, wake: &mut Wakers) {
        self.making = false;
        let cramped = self.cramped.take();
        match made {
            Ok(segment) if self.active.is_none() => {
                self.next = Next::Unwanted;
                self.activate(Arc::new(segment));
            }
            Ok(segment) => self.next = Next::Ready(Arc::new(segment)),
            Err(_) if let Some(cramped) = cramped => self.next = Next::Ready(cramped),
            Err(source) => {
                let dir = Arc::clone(&self.dir);
                self.next = Next::Failed(Arc::new(SegmentError { dir, source }));
            }
        }
        wake.extend(self.outside.values().cloned());
    }

    /// The segments that are drained and may be removed once everything before `position` is,
    /// never the one that is written to; and up to where everything is drained.
    pub(crate) fn drained(&mut self, position: Position) -> (Vec<u64>, Position) {
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
        (drained, released)
    }

    /// The segments before `number` are not there any more.
    pub(crate) fn removed_before(&mut self, number: u64, wake: &mut Wakers) {
        let before = self.extents.len();
        while self.extents.front().is_some_and(|extent| extent.number < number) {
            self.extents.pop_front();
        }
        self.released = self.released.max(Position { segment: number, offset: GROUPS_START });
        self.bytes = self.undrained_bytes();
        if self.extents.len() < before {
            self.room_came = true;
            wake.extend(self.idle_maker.take());
        }
    }

    pub(super) fn activate(&mut self, segment: Arc<Segment>) {
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

    pub(super) fn want_next(&mut self, wake: &mut Wakers) {
        if matches!(self.next, Next::Unwanted) {
            self.next = Next::Wanted;
            wake.extend(self.idle_maker.take());
        }
    }

    pub(super) fn undrained_bytes(&self) -> u64 {
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
