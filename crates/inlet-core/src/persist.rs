//! The step that moves documents from the queue to the store.

use std::sync::Arc;
use std::time::Duration;

use crate::calendar::Calendar;
use crate::dead_letter::{Cause, DeadLetter};
use crate::document::{Document, StreamName, Timestamp};
use crate::failure::Failure;
use crate::limits::Limits;
use crate::ports::{
    Batch, BatchLimit, Clock, Delivered, Delivery, Outcome, Queue, Store, Undecodable,
};

/// What one step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PersistReport {
    /// Messages received.
    pub received: u64,
    /// Documents stored for the first time.
    pub stored: u64,
    /// Documents that were stored already.
    pub duplicates: u64,
    /// Documents that became dead letters.
    pub dead: u64,
    /// Documents that had been erased.
    pub erased: u64,
    /// For how long the oldest of them had waited; nothing where nothing came.
    pub lag: Duration,
}

/// What persisting needs: where from, where to, and by which rules.
#[derive(Clone)]
pub struct Persister {
    /// Where accepted documents wait.
    pub queue: Arc<dyn Queue>,
    /// Where documents live.
    pub store: Arc<dyn Store>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Which day a moment belongs to.
    pub calendar: Calendar,
    /// The limits in force.
    pub limits: Limits,
}

/// Receives one batch, stores it, and settles it. An empty report means that nothing came within
/// `wait`.
///
/// On an error nothing is lost: what was received is received again. An error that
/// [is retryable](Failure::is_retryable) is an outage to wait out, whatever its length; a
/// document never becomes a dead letter by it.
pub async fn persist_batch(
    persister: &Persister,
    wait: Duration,
) -> Result<PersistReport, Failure> {
    let limit = BatchLimit {
        documents_max: persister.limits.persist_documents_max,
        bytes_max: persister.limits.persist_bytes_max,
        wait,
    };
    let delivery = persister.queue.receive(limit).await?;
    if delivery.messages.is_empty() && delivery.cursor.is_none() {
        return Ok(PersistReport::default());
    }
    let outcomes = store_delivery(persister, &delivery).await?;
    persister.queue.settle(&delivery, &outcomes).await?;
    let documents = delivery.messages.iter().filter_map(|message| message.document.as_ref().ok());
    let oldest = documents.map(|document| document.received).min();
    let lag = oldest.map_or(Duration::ZERO, |oldest| lag(persister.clock.now(), oldest));
    Ok(PersistReport { lag, ..report(&outcomes) })
}

/// Stores what was delivered, and says what became of each message, in order. The middle of
/// [`persist_batch`], for a caller to whom messages are handed.
pub async fn store_delivery(
    persister: &Persister,
    delivery: &Delivery,
) -> Result<Vec<Outcome>, Failure> {
    let (batch, kept) = batch_of(persister, delivery).await?;
    let stored = persister.store.put_batch(batch).await?;
    Ok(outcomes_in_order(&kept, stored))
}

/// What is known of a message's outcome before the store was asked to take its document.
enum Kept {
    /// The store will say: it is the next document of the batch.
    InBatch,
    /// It is this.
    Known(Outcome),
}

/// The batch for a delivery, and what becomes of each of its messages.
async fn batch_of(
    persister: &Persister,
    delivery: &Delivery,
) -> Result<(Batch, Vec<Kept>), Failure> {
    let now = persister.clock.now();
    let mut documents = Vec::with_capacity(delivery.messages.len());
    let mut kept = Vec::with_capacity(delivery.messages.len());
    let mut dead = Vec::new();
    for message in &delivery.messages {
        let letter = match (&message.document, &message.given_up) {
            (Ok(document), None) => {
                documents.push(document.clone());
                kept.push(Kept::InBatch);
                continue;
            }
            // Stored by a worker that ended before it could say so: nothing is to be kept twice.
            (Ok(document), Some(_)) if is_stored(persister, document).await? => {
                kept.push(Kept::Known(Outcome::Duplicate));
                continue;
            }
            (Ok(document), Some(why)) => given_up(document, why.clone(), message, now),
            (Err(undecodable), _) => no_document(undecodable, message, now),
        };
        kept.push(Kept::Known(Outcome::Dead(letter.cause.clone())));
        dead.push(letter);
    }
    let batch = Batch {
        documents,
        dead,
        cursor: delivery.cursor.clone(),
        now,
        calendar: persister.calendar.clone(),
        attempts_max: persister.limits.attempts_max.max(1),
    };
    Ok((batch, kept))
}

async fn is_stored(persister: &Persister, document: &Document) -> Result<bool, Failure> {
    let stored = persister.store.get(document.id).await?;
    Ok(stored.is_some_and(|stored| stored.document.body == document.body))
}

fn given_up(document: &Document, why: String, message: &Delivered, now: Timestamp) -> DeadLetter {
    DeadLetter {
        id: document.id,
        stream: document.stream.clone(),
        key: document.key.clone(),
        received: document.received,
        body: document.body.clone(),
        cause: Cause::Refused(why),
        attempts: message.deliveries_before.max(1),
        died: now,
        redriven: None,
    }
}

fn no_document(undecodable: &Undecodable, message: &Delivered, now: Timestamp) -> DeadLetter {
    DeadLetter {
        id: id_of_bytes(&undecodable.payload),
        stream: StreamName::default(),
        key: None,
        received: now,
        body: undecodable.payload.clone(),
        cause: Cause::Undecodable(undecodable.cause.clone()),
        attempts: message.deliveries_before.saturating_add(1),
        died: now,
        redriven: None,
    }
}

/// Bytes that are no document get the id that follows from them, so that delivered again they
/// are the same dead letter.
fn id_of_bytes(payload: &[u8]) -> crate::id::DocumentId {
    let digest = crate::document::hex(&crate::document::md5(payload));
    let key =
        crate::document::IdempotencyKey::new(&digest).expect("hexadecimal digits are visible");
    crate::id::DocumentId::derive(&StreamName::default(), &key)
}

fn outcomes_in_order(kept: &[Kept], stored: Vec<Outcome>) -> Vec<Outcome> {
    let mut stored = stored.into_iter();
    kept.iter()
        .map(|kept| match kept {
            Kept::InBatch => stored.next().expect("a store gives one outcome a document"),
            Kept::Known(outcome) => outcome.clone(),
        })
        .collect()
}

fn report(outcomes: &[Outcome]) -> PersistReport {
    let mut report = PersistReport::default();
    for outcome in outcomes {
        report.received += 1;
        match outcome {
            Outcome::Stored => report.stored += 1,
            Outcome::Duplicate => report.duplicates += 1,
            Outcome::Dead(_) => report.dead += 1,
            Outcome::Erased => report.erased += 1,
        }
    }
    report
}

/// How far behind the door the store is; nothing where the clock went back.
fn lag(now: Timestamp, oldest: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(now.as_micros() - oldest.as_micros()).unwrap_or(0))
}
