//! Documents, batches and ids to test with.

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::calendar::{Calendar, Day};
use inlet_core::document::{Document, IdempotencyKey, StreamName, Timestamp};
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::persist::put_batch;
use inlet_core::ports::{Batch, Cursor, Outcome, Store};

/// 2026-11-21T00:00:00Z, the moment samples are about.
pub const MIDNIGHT: Timestamp = Timestamp::from_micros(1_795_219_200_000_000);
/// An hour later: when sample batches are stored.
pub const NOW: Timestamp = after(3_600_000);

/// The moment `millis` milliseconds after [`MIDNIGHT`].
pub const fn after(millis: i64) -> Timestamp {
    Timestamp::from_micros(MIDNIGHT.as_micros() + millis * 1_000)
}

/// The day that [`MIDNIGHT`] begins.
pub fn day() -> Day {
    Calendar::utc().day(MIDNIGHT)
}

/// The stream with that name.
pub fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("a test names streams that are allowed")
}

/// The id made of that number.
pub fn id(n: u64) -> DocumentId {
    let mut bytes = [0x5a; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    DocumentId::from_bytes(bytes)
}

/// The `n`th document of the stream `orders`, received `n` milliseconds after [`MIDNIGHT`].
pub fn document(n: u64) -> Document {
    Document {
        id: id(n),
        stream: stream("orders"),
        key: None,
        received: after(i64::try_from(n).expect("a test counts documents in small numbers")),
        generation: Some(0),
        body: Bytes::from(format!("{{\"n\":{n}}}")),
    }
}

/// The same document in another stream.
pub fn document_in(name: &str, n: u64) -> Document {
    Document { stream: stream(name), ..document(n) }
}

/// The same document with a key.
pub fn keyed_document(key: &str, n: u64) -> Document {
    let key = IdempotencyKey::new(key).expect("a test gives keys that are allowed");
    Document { key: Some(key), ..document(n) }
}

/// The same document with another body.
pub fn document_with(n: u64, body: &str) -> Document {
    Document { body: Bytes::copy_from_slice(body.as_bytes()), ..document(n) }
}

/// A batch of these documents, stored at [`NOW`], without a cursor.
pub fn batch(documents: impl IntoIterator<Item = Document>) -> Batch {
    Batch {
        documents: documents.into_iter().collect(),
        dead: Vec::new(),
        cursor: None,
        now: NOW,
        calendar: Calendar::utc(),
        attempts_max: 3,
    }
}

/// A cursor of the log with that name.
pub fn cursor(log: &str, segment: u64, offset: u64) -> Cursor {
    Cursor { log: log.to_owned(), segment, offset }
}

/// Puts batches into a store, the way the persist step does.
#[async_trait]
pub trait PutBatch: Store {
    /// Stores the batch: an outcome for each document, in order.
    async fn put_batch(&self, batch: Batch) -> Result<Vec<Outcome>, Failure> {
        let documents = batch.documents.len();
        let mut outcomes = put_batch(self, batch).await?;
        outcomes.truncate(documents);
        Ok(outcomes)
    }
}

impl<S: Store + ?Sized> PutBatch for S {}
