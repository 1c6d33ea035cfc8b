//! The queue port.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::document::{Document, Timestamp};
use crate::failure::Failure;
use crate::id::DocumentId;
use crate::ports::{Cursor, Outcome};

/// How much one [`Queue::receive`] may bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimit {
    /// The most documents.
    pub documents_max: usize,
    /// The most bytes of bodies; one document is given even where it alone is larger.
    pub bytes_max: usize,
    /// How long to wait for the first document.
    pub wait: Duration,
}

/// A message whose bytes are no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undecodable {
    /// The bytes.
    pub payload: Bytes,
    /// What is wrong with them.
    pub cause: String,
}

/// One message as the queue delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The document, or what could not be read as one.
    pub document: Result<Document, Undecodable>,
    /// How often it was delivered before.
    pub deliveries_before: u32,
    /// Why the queue has given it up, where it has: it is to be a dead letter for this cause, and
    /// not tried again. Queues that count deliveries do that with what never came to be settled.
    pub given_up: Option<String>,
    /// The queue's own name for this delivery; empty where a cursor says it all.
    pub handle: Box<str>,
}

/// What one `receive` brought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Delivery {
    /// The messages, in the queue's order.
    pub messages: Vec<Delivered>,
    /// Where the queue stands once these messages are stored, for a queue that is a log; the
    /// store keeps it in the same transaction as the documents.
    pub cursor: Option<Cursor>,
}

/// The oldest document that waits in a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Oldest {
    /// None waits.
    Nothing,
    /// It was accepted at this moment.
    Accepted(Timestamp),
    /// The queue can't tell.
    #[default]
    Unknown,
}

impl Oldest {
    /// For how long it has waited by `now`: zero where none waits, and where the clock went back;
    /// nothing where that is not known.
    pub fn age(self, now: Timestamp) -> Option<Duration> {
        match self {
            Self::Nothing => Some(Duration::ZERO),
            Self::Accepted(at) => Some(now.since(at)),
            Self::Unknown => None,
        }
    }
}

/// A document that a queue has accepted and can no longer deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// The time at which it was found.
    pub found: Timestamp,
    /// True if its id was read from the bytes that were set aside; otherwise it was accepted while
    /// documents were that are gone, and may be one of them.
    pub certain: bool,
}

/// How much waits in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Bytes that wait, as the queue counts them.
    pub bytes: u64,
    /// The most bytes that may wait; `None` where the queue has no limit of its own.
    pub bytes_max: Option<u64>,
    /// Messages that wait, where the queue can tell.
    pub messages: Option<u64>,
    /// The oldest document that waits: its age is the lag.
    pub oldest: Oldest,
}

/// Where accepted documents wait, durably, until they are stored.
///
/// Contract:
/// 1. When `send` returned `Ok`, its documents survive a crash of the process and of the machine.
/// 2. When `send` returned an error, its documents may or may not be delivered later; nothing
///    was promised.
/// 3. A document that was sent is delivered, byte for byte, at least once.
/// 4. What was received and not settled is received again.
/// 5. What was settled is not received again by the same worker; after a crash it may be.
/// 6. A full queue refuses with [`Full`](crate::failure::FailureKind::Full), at once, and takes
///    documents again once there is room.
/// 7. `receive` returns an empty delivery when nothing came within `wait`.
/// 8. Dropping a `send` or a `receive` half-way loses nothing that was acknowledged.
/// 9. `damaged` knows each document that was accepted and is known to be lost or set aside, and
///    none that was settled.
/// 10. `depth` has the oldest document that waits, where the queue can tell: from when it was sent
///     until it is settled.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Whether a document would be taken now: a cheap look, asked before a body is read.
    fn has_room(&self) -> Result<(), Failure>;
    /// Keeps the documents. Returns once all of them are durable.
    async fn send(&self, documents: &[Document]) -> Result<(), Failure>;
    /// The next messages. One worker at a time receives from one handle.
    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure>;
    /// Says that each message of `delivery` has come to the outcome beside it, and is done with.
    async fn settle(&self, delivery: &Delivery, outcomes: &[Outcome]) -> Result<(), Failure>;
    /// How much waits.
    async fn depth(&self) -> Result<Depth, Failure>;
    /// The known damage to an accepted document that can't be delivered any more. To be asked about
    /// ids that are neither in the store nor among the dead letters. A queue that loses nothing
    /// that it could know of has nothing to tell.
    async fn damaged(&self, id: DocumentId) -> Result<Option<Damaged>, Failure> {
        let _: DocumentId = id;
        Ok(None)
    }
}
