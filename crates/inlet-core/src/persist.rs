//! The step that moves documents from the queue to the store.

use std::sync::Arc;
use std::time::Duration;

use crate::calendar::Calendar;
use crate::dead_letter::{Cause, DeadLetter};
use crate::document::{StreamName, Timestamp};
use crate::failure::Failure;
use crate::limits::Limits;
use crate::ports::{Batch, BatchLimit, Clock, Delivery, Outcome, Queue, Store};

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
    let (batch, document_at) = batch_of(persister, &delivery);
    let stored = persister.store.put_batch(batch).await?;
    let outcomes = outcomes_in_order(&delivery, &document_at, stored);
    persister.queue.settle(&delivery, &outcomes).await?;
    let documents = delivery.messages.iter().filter_map(|message| message.document.as_ref().ok());
    let oldest = documents.map(|document| document.received).min();
    let lag = oldest.map_or(Duration::ZERO, |oldest| lag(persister.clock.now(), oldest));
    Ok(PersistReport { lag, ..report(&outcomes) })
}

/// The batch for a delivery, and which messages its documents are.
fn batch_of(persister: &Persister, delivery: &Delivery) -> (Batch, Vec<usize>) {
    let now = persister.clock.now();
    let mut documents = Vec::with_capacity(delivery.messages.len());
    let mut document_at = Vec::with_capacity(delivery.messages.len());
    let mut dead = Vec::new();
    for (index, message) in delivery.messages.iter().enumerate() {
        match &message.document {
            Ok(document) => {
                document_at.push(index);
                documents.push(document.clone());
            }
            Err(undecodable) => dead.push(DeadLetter {
                id: id_of_bytes(&undecodable.payload),
                stream: StreamName::default(),
                key: None,
                received: now,
                body: undecodable.payload.clone(),
                cause: Cause::Undecodable(undecodable.cause.clone()),
                attempts: message.deliveries_before.saturating_add(1),
                died: now,
                redriven: None,
            }),
        }
    }
    let batch = Batch {
        documents,
        dead,
        cursor: delivery.cursor.clone(),
        now,
        calendar: persister.calendar.clone(),
        attempts_max: persister.limits.attempts_max.max(1),
    };
    (batch, document_at)
}

/// Bytes that are no document get the id that follows from them, so that delivered again they
/// are the same dead letter.
fn id_of_bytes(payload: &[u8]) -> crate::id::DocumentId {
    let digest = crate::document::hex(&crate::document::md5(payload));
    let key =
        crate::document::IdempotencyKey::new(&digest).expect("hexadecimal digits are visible");
    crate::id::DocumentId::derive(&StreamName::default(), &key)
}

fn outcomes_in_order(
    delivery: &Delivery,
    document_at: &[usize],
    stored: Vec<Outcome>,
) -> Vec<Outcome> {
    debug_assert_eq!(document_at.len(), stored.len(), "a store gives one outcome a document");
    let mut outcomes: Vec<Outcome> = delivery
        .messages
        .iter()
        .map(|message| match &message.document {
            Ok(_) => Outcome::Stored,
            Err(undecodable) => Outcome::Dead(Cause::Undecodable(undecodable.cause.clone())),
        })
        .collect();
    for (index, outcome) in document_at.iter().zip(stored) {
        outcomes[*index] = outcome;
    }
    outcomes
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
