//! The future of an append.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::committer::{Entry, Placed};
use crate::error::AppendError;
use crate::log::{Log, Shared};
use crate::position::Position;

/// Records on their way into the log; made by [`Log::append`] and [`Log::append_all`].
///
/// It comes to the position after the last of the records once all of them are durable, and to
/// an error otherwise. It belongs to no runtime and allocates nothing of its own.
///
/// Dropping it before it is done harms nothing: records that were not taken yet are not written,
/// and those that were may or may not become durable.
#[derive(Debug)]
#[must_use = "nothing is appended before it is polled"]
pub struct Append<'a> {
    shared: &'a Shared,
    records: Records<'a>,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum Records<'a> {
    One(&'a [&'a [u8]]),
    All(&'a [&'a [&'a [u8]]]),
}

#[derive(Debug)]
enum State {
    New,
    Outside(u64),
    Placed(Placed),
    Done,
}

impl Log {
    /// Appends one record; its payload is the parts, one after the other.
    ///
    /// A record has a place in the log once this was polled for the first time, unless the disk
    /// can't keep up; then it waits for one, in order, and the future keeps the parts borrowed.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]. After [`AppendError::Poisoned`] the record may be durable; after any
    /// other it is not.
    pub fn append<'a>(&'a self, parts: &'a [&'a [u8]]) -> Append<'a> {
        Append { shared: self.shared(), records: Records::One(parts), state: State::New }
    }

    /// Appends records, each of them given as its parts, in one group: they are all taken or none
    /// is. With no records it comes to the end of what is durable.
    ///
    /// # Errors
    ///
    /// As [`Log::append`], for all of them.
    pub fn append_all<'a>(&'a self, records: &'a [&'a [&'a [u8]]]) -> Append<'a> {
        Append { shared: self.shared(), records: Records::All(records), state: State::New }
    }
}

impl Future for Append<'_> {
    type Output = Result<Position, AppendError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Records::All([]) = this.records {
            return Poll::Ready(Ok(this.shared.tail()));
        }
        let polled = this.shared.with(|committer, wake| {
            let ticket = match this.state {
                State::New => None,
                State::Outside(ticket) => Some(ticket),
                State::Placed(placed) => return committer.poll_outcome(placed, cx.waker()),
                State::Done => panic!("an append was polled after it was done"),
            };
            let one;
            let records = match this.records {
                Records::One(parts) => {
                    one = [parts];
                    &one
                }
                Records::All(records) => records,
            };
            match committer.append(records, ticket, cx.waker(), wake) {
                Ok(Entry::Placed(placed)) => this.state = State::Placed(placed),
                Ok(Entry::Waits(ticket)) => this.state = State::Outside(ticket),
                Err(error) => return Poll::Ready(Err(error)),
            }
            Poll::Pending
        });
        if polled.is_ready() {
            this.state = State::Done;
        }
        polled
    }
}

impl Drop for Append<'_> {
    fn drop(&mut self) {
        if let State::Outside(ticket) = self.state {
            self.shared.with(|committer, wake| committer.leave(ticket, wake));
        }
    }
}
