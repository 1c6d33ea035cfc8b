//! The step that moves documents from the queue to the store.
//!
//! [`persist_batch`] receives a batch, [`put_batch`] plans it ([`plan()`]) and has the store write
//! the plan, and the queue is told what became of each message. A batch is planned as if every id
//! were new, which is so nearly always; where one is not, the store says what it has, and the
//! batch is planned again with that.

pub mod plan;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::plan::{KnownIds, Plan, plan};
use crate::calendar::Calendar;
use crate::dead_letter::{Cause, DeadLetter};
use crate::document::{StreamName, Timestamp};
use crate::failure::{Failure, FailureKind};
use crate::limits::Limits;
use crate::ports::{
    Batch, BatchLimit, Clock, Delivered, Delivery, Outcome, Queue, Store, Undecodable, Written,
};

/// How often one transaction is planned at most. Each time, something is learned that the plan
/// before did not know; a store that goes on giving reasons is written to by too many others.
const PLANS_MAX: u32 = 40;

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
    Ok(report(&outcomes))
}

/// Stores what was delivered, and says what became of each message, in order. The middle of
/// [`persist_batch`], for a caller to whom messages are handed.
pub async fn store_delivery(
    persister: &Persister,
    delivery: &Delivery,
) -> Result<Vec<Outcome>, Failure> {
    let batch = batch_of(persister, delivery);
    let documents = batch.documents.len();
    let mut outcomes = put_batch(&*persister.store, batch).await?;
    let mut dead = outcomes.split_off(documents).into_iter();
    let mut stored = outcomes.into_iter();
    let outcome = |message: &Delivered| {
        let next = if is_dead(message) { dead.next() } else { stored.next() };
        next.expect("each item of a batch has an outcome")
    };
    Ok(delivery.messages.iter().map(outcome).collect())
}

/// Stores a batch: an outcome for each item, documents first, then dead letters.
///
/// On an error some of it may be stored, where the engine's transactions are bounded: each item
/// with its counts, or nothing of it. The cursor moves with the last.
pub async fn put_batch<S: Store + ?Sized>(
    store: &S,
    batch: Batch,
) -> Result<Vec<Outcome>, Failure> {
    let batch = Arc::new(batch);
    let mut outcomes = Vec::with_capacity(batch.len());
    loop {
        let written = write_part(store, &batch, outcomes.len()).await?;
        outcomes.extend_from_slice(&written.outcomes);
        if written.items.end == batch.len() {
            return Ok(outcomes);
        }
    }
}

/// Writes as many items as fit into one transaction, from `first` on.
async fn write_part<S: Store + ?Sized>(
    store: &S,
    batch: &Arc<Batch>,
    first: usize,
) -> Result<Arc<Plan>, Failure> {
    let (mut known, mut refused) = (KnownIds::new(), HashMap::new());
    let mut end = batch.len();
    for _ in 0..PLANS_MAX {
        let planned = Arc::new(plan(batch, first..end, &known, &refused));
        match store.write(Arc::clone(&planned)).await? {
            Written::Done => return Ok(planned),
            Written::Changed(states) => known.extend(states),
            Written::Refused(items) => refused.extend(items),
            Written::TooLarge(items_max) => end = end.min(first + items_max.max(1)),
        }
    }
    Err(Failure::new(FailureKind::Unavailable, "write a batch to", "the store")
        .because(format!("it had changed each of {PLANS_MAX} times it was planned for"))
        .hint("others store the same documents at the same time; it is tried again"))
}

/// Whether the message is a dead letter already, whatever the store says.
fn is_dead(message: &Delivered) -> bool {
    message.document.is_err() || message.given_up.is_some()
}

fn batch_of(persister: &Persister, delivery: &Delivery) -> Batch {
    let now = persister.clock.now();
    let mut documents = Vec::with_capacity(delivery.messages.len());
    let mut dead = Vec::new();
    for message in &delivery.messages {
        match (&message.document, &message.given_up) {
            (Ok(document), None) => documents.push(document.clone()),
            (Ok(document), Some(why)) => {
                let attempts = message.deliveries_before.max(1);
                let cause = Cause::Refused(why.clone());
                dead.push(DeadLetter::of(document, cause, attempts, now));
            }
            (Err(undecodable), _) => dead.push(no_document(undecodable, message, now)),
        }
    }
    Batch {
        documents,
        dead,
        cursor: delivery.cursor.clone(),
        now,
        calendar: persister.calendar.clone(),
        attempts_max: persister.limits.attempts_max.max(1),
    }
}

fn no_document(undecodable: &Undecodable, message: &Delivered, now: Timestamp) -> DeadLetter {
    DeadLetter {
        id: id_of_bytes(&undecodable.payload),
        stream: StreamName::default(),
        key: None,
        received: now,
        generation: Some(0),
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
