//! Putting a batch: in as few transactions as DynamoDB's limits allow.
//!
//! A transaction holds documents with all that goes with them: their counts, their place in the
//! order, the letters that come and go. It is written as if every id were new, which is so nearly
//! always; if one is not, DynamoDB refuses it whole and says what is there, and it is planned
//! again with that. The log's cursor goes with the last transaction.

use aws_sdk_dynamodb::types::builders::PutBuilder;
use aws_sdk_dynamodb::types::{
    CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use inlet_core::document::Document;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Batch, Cursor, Outcome};
use sha2::{Digest, Sha256};
use tokio::sync::MutexGuard;

use super::DynamoStore;
use super::attributes::{Item, key, number, text};
use super::lane::{Lane, Step};
use super::letter::Letter;
use super::plan::{Known, LetterId, LetterWrite, Plan, Planned, Prepared, Work, plan};
use super::record::{Body, Record};
use super::table::{Table, TransactError, pause};

/// The partition of the cursors.
pub(super) const CURSORS_KEY: &str = "cursors";
/// How many actions DynamoDB takes in one transaction.
pub(super) const ACTIONS_MAX: usize = 100;
/// How many bytes of bodies go into one transaction; DynamoDB takes 4 MiB with all around them.
const BYTES_MAX: usize = 3 << 20;
/// How often a part is planned anew; far beyond what its documents can give reason for.
const ROUNDS_MAX: u32 = 200;
/// How many lanes are tried without a pause.
const HOPS_AT_ONCE_MAX: u32 = 2;
/// How often a transaction that met another one, or too little throughput, is tried in all.
const ATTEMPTS_MAX: u32 = 8;

/// Puts the batch; the outcomes are in the order of its documents.
pub(super) async fn put_batch(store: &DynamoStore, batch: &Batch) -> Result<Vec<Outcome>, Failure> {
    let mut work = prepare(store, batch).await?;
    let mut lane = store.lane.lock().await;
    let mut outcomes = Vec::with_capacity(batch.documents.len());
    let mut cursor = batch.cursor.as_ref();
    let mut at = 0;
    while at < work.len() || cursor.is_some() {
        let mut part = Part {
            store,
            batch,
            known: Known::default(),
            attempts: 0,
            hops: 0,
            lane: &mut lane,
            cursor,
        };
        let (count, some) = part.put(&mut work[at..]).await?;
        at += count;
        outcomes.extend(some);
        if at == work.len() {
            cursor = None;
        }
    }
    Ok(outcomes)
}

async fn prepare(store: &DynamoStore, batch: &Batch) -> Result<Vec<Work>, Failure> {
    let mut work = Vec::with_capacity(batch.documents.len() + batch.dead.len());
    for document in &batch.documents {
        let (sha256, body) = body(store, document.id, &document.body).await?;
        let document: Document = document.clone();
        work.push(Work::Document(Prepared { document, sha256, body, attempts: 0, refused: None }));
    }
    for letter in &batch.dead {
        let (sha256, body) = body(store, letter.id, &letter.body).await?;
        work.push(Work::Letter(Letter { letter: letter.clone(), sha256, body }));
    }
    Ok(work)
}

/// The body's checksum, and the body or where it was put because it is too large for an item.
async fn body(
    store: &DynamoStore,
    id: DocumentId,
    bytes: &bytes::Bytes,
) -> Result<([u8; 32], Body), Failure> {
    let sha256 = Sha256::digest(bytes).into();
    let body = if bytes.len() > store.options.item_bytes_max {
        Body::There(store.overflow.put(id, bytes).await?)
    } else {
        Body::Here(bytes.clone())
    };
    Ok((sha256, body))
}

/// What an action of a transaction is about, to know what its refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Record(DocumentId),
    Head,
    Cursor,
    Other,
}

/// The actions of a transaction, and what each is about.
#[derive(Default)]
struct Actions {
    items: Vec<TransactWriteItem>,
    about: Vec<About>,
}

impl Actions {
    fn put(&mut self, about: About, put: PutBuilder, table: &Table) {
        let put = put
            .table_name(&table.name)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("the item and the table are set");
        self.push(about, TransactWriteItem::builder().put(put).build());
    }

    fn put_item(&mut self, item: Item, table: &Table) {
        self.put(About::Other, Put::builder().set_item(Some(item)), table);
    }

    fn delete(&mut self, key: Item, table: &Table) {
        self.push(About::Other, delete(key, table));
    }

    fn push(&mut self, about: About, item: TransactWriteItem) {
        self.items.push(item);
        self.about.push(about);
    }
}

/// A part of a batch that is put with one transaction.
struct Part<'a, 'b> {
    store: &'a DynamoStore,
    batch: &'a Batch,
    known: Known,
    attempts: u32,
    /// How often somebody else was writing to the lane.
    hops: u32,
    lane: &'a mut MutexGuard<'b, Lane>,
    /// Where the log is stored up to, once all of the batch is.
    cursor: Option<&'a Cursor>,
}

impl Part<'_, '_> {
    /// Puts as many of `work` as fit, from its beginning: how many those were, and what became
    /// of the documents among them.
    async fn put(&mut self, work: &mut [Work]) -> Result<(usize, Vec<Outcome>), Failure> {
        let mut count = fitting(work, self.store.options.transaction_documents_max);
        for _ in 0..ROUNDS_MAX {
            let n = self.lane.next(&self.store.table).await?;
            let part = &work[..count];
            let plan = match plan(self.batch, part, &self.known, (self.lane.number, n)) {
                Planned::Missing(letters) => {
                    self.look_up(letters).await?;
                    continue;
                }
                Planned::Ready(plan) => plan,
            };
            let step = self.lane.step(&self.store.table, &plan).await?;
            let cursor = self.cursor.filter(|_| count == work.len());
            let actions = self.actions(&plan, step.as_ref(), cursor);
            let over = actions.items.len().saturating_sub(ACTIONS_MAX);
            if over > 0 && count > 1 {
                count = count.saturating_sub(over).max(count / 2).max(1);
                continue;
            }
            if actions.items.is_empty() {
                self.remove_unused(&plan).await;
                return Ok((count, plan.outcomes));
            }
            match self.store.table.transact(actions.items).await {
                Ok(()) => {
                    if let Some(step) = step {
                        self.lane.made(step);
                    }
                    self.remove_unused(&plan).await;
                    return Ok((count, plan.outcomes));
                }
                Err(TransactError::Failed(failure)) => {
                    self.lane.forget();
                    return Err(failure);
                }
                Err(TransactError::Cancelled(reasons)) => {
                    self.learn(&reasons, &actions.about, &mut work[..count]).await?;
                }
                Err(TransactError::Invalid(said)) if count <= 1 => {
                    let attempts_max = self.batch.attempts_max;
                    if !work.first_mut().is_some_and(|work| refuse(work, &said, attempts_max)) {
                        return Err(self.refused(said));
                    }
                }
                // One of them: halves tell which, and hold up no other.
                Err(TransactError::Invalid(_)) => count /= 2,
            }
        }
        Err(self.store.table.unavailable("put a batch into the table"))
    }

    /// Learns from a refusal what is in the way. What can pass is waited for.
    async fn learn(
        &mut self,
        reasons: &[CancellationReason],
        about: &[About],
        work: &mut [Work],
    ) -> Result<(), Failure> {
        let mut waits = false;
        let mut learned = false;
        for (reason, about) in reasons.iter().zip(about) {
            match (reason.code().unwrap_or("None"), about) {
                ("None", _) => {}
                ("ConditionalCheckFailed", About::Record(id)) => {
                    let record = match reason.item().filter(|item| !item.is_empty()) {
                        Some(item) => Record::read(item)?,
                        // It went between the refusal and its answer.
                        None => Record::default(),
                    };
                    self.known.letters.retain(|(of, _), _| of != id);
                    self.known.records.insert(*id, record);
                    learned = true;
                }
                ("ConditionalCheckFailed", About::Head) => {
                    self.lane.hop();
                    self.hops += 1;
                    learned = true;
                }
                ("ConditionalCheckFailed", About::Cursor) => {
                    self.cursor = None;
                    learned = true;
                }
                ("ValidationError" | "ItemCollectionSizeLimitExceeded", About::Record(id)) => {
                    let said = reason.message().unwrap_or("the item is refused");
                    for work in work.iter_mut().filter(|work| is_of(work, *id)) {
                        learned |= refuse(work, said, self.batch.attempts_max);
                    }
                }
                ("ValidationError", _) => {
                    return Err(self.refused(reason.message().unwrap_or_default().to_owned()));
                }
                _ => waits = true,
            }
        }
        if self.hops > HOPS_AT_ONCE_MAX {
            // More write than there are lanes: pauses part them.
            pause(self.hops - HOPS_AT_ONCE_MAX).await;
        }
        if waits || !learned {
            self.attempts += 1;
            if self.attempts >= ATTEMPTS_MAX {
                return Err(self.store.table.unavailable("put a batch into the table"));
            }
            pause(self.attempts).await;
        }
        Ok(())
    }

    async fn look_up(&mut self, letters: Vec<LetterId>) -> Result<(), Failure> {
        let keys = letters.iter().map(|(id, sum)| Letter::key_of(*id, sum)).collect();
        for id in letters {
            self.known.letters.insert(id, None);
        }
        for item in self.store.table.get_many(keys).await? {
            let letter = Letter::read(&item)?;
            self.known.letters.insert((letter.letter.id, letter.sha256), Some(letter));
        }
        Ok(())
    }

    fn actions(&self, plan: &Plan, step: Option<&Step>, cursor: Option<&Cursor>) -> Actions {
        let table = &self.store.table;
        let mut actions = Actions::default();
        for (id, before, record) in &plan.records {
            actions.put(About::Record(*id), record.put(*id, *before), table);
        }
        for letter in &plan.letters {
            match letter {
                LetterWrite::New(letter) => {
                    actions.put_item(letter.write(), table);
                    actions.put_item(letter.write_listed(), table);
                }
                LetterWrite::Again(letter) => {
                    actions.push(About::Other, die_again(letter, table));
                    actions.put_item(letter.write_listed(), table);
                }
                LetterWrite::Gone(letter) => {
                    actions.delete(letter.key(), table);
                    actions.delete(letter.listed_key(), table);
                }
            }
        }
        if let Some(step) = step {
            actions.put(About::Head, step.head.put(self.lane.number, &step.before), table);
            for item in &step.items {
                actions.put_item(item.clone(), table);
            }
        }
        if let Some(cursor) = cursor {
            actions.push(About::Cursor, move_cursor(cursor, table));
        }
        actions
    }

    async fn remove_unused(&self, plan: &Plan) {
        for key in &plan.unused {
            self.store.overflow.delete_or_tell(key).await;
        }
    }

    fn refused(&self, said: String) -> Failure {
        let kind = inlet_core::failure::FailureKind::Refused;
        Failure::new(kind, "put a batch into the table", &self.store.table.name)
            .because(said)
            .hint("its keys have to be pk and sk, both of type S, as `inlet migrate` makes them")
    }
}

fn is_of(work: &Work, id: DocumentId) -> bool {
    matches!(work, Work::Document(prepared) if prepared.document.id == id)
}

/// Notes that DynamoDB refused the document once more. False where it has been given up already,
/// or is no document: then it is not the document that is at fault.
fn refuse(work: &mut Work, said: &str, attempts_max: u32) -> bool {
    let Work::Document(prepared) = work else { return false };
    prepared.attempts += 1;
    if prepared.refused.is_some() {
        return false;
    }
    if prepared.attempts >= attempts_max {
        prepared.refused = Some(said.to_owned());
    }
    true
}

/// How many of `work`, from its beginning, can be tried with one transaction.
fn fitting(work: &[Work], documents_max: usize) -> usize {
    let mut bytes = 0;
    let fitting = work.iter().take(documents_max.clamp(1, ACTIONS_MAX)).take_while(|work| {
        bytes += match work.body() {
            Body::Here(body) => body.len(),
            Body::There(_) => 0,
        };
        bytes <= BYTES_MAX
    });
    fitting.count().max(1).min(work.len())
}

/// Deletes an item.
pub(super) fn delete(key: Item, table: &Table) -> TransactWriteItem {
    let delete = Delete::builder().set_key(Some(key)).table_name(&table.name).build();
    let delete = delete.expect("the key and the table are set");
    TransactWriteItem::builder().delete(delete).build()
}

fn die_again(letter: &Letter, table: &Table) -> TransactWriteItem {
    // A redrive may be noted on it at the same time: what is not of this death is left alone.
    let update = Update::builder()
        .set_key(Some(letter.key()))
        .table_name(&table.name)
        .update_expression("SET #attempts = :attempts, #cause = :cause, #detail = :detail")
        .expression_attribute_names("#attempts", "attempts")
        .expression_attribute_names("#cause", "cause")
        .expression_attribute_names("#detail", "detail")
        .expression_attribute_values(":attempts", number(letter.letter.attempts))
        .expression_attribute_values(":cause", text(letter.letter.cause.code()))
        .expression_attribute_values(":detail", text(letter.letter.cause.detail()));
    let update = update.build().expect("the key, the table and the expression are set");
    TransactWriteItem::builder().update(update).build()
}

fn move_cursor(cursor: &Cursor, table: &Table) -> TransactWriteItem {
    let update = Update::builder()
        .set_key(Some(key(CURSORS_KEY, &cursor.log)))
        .table_name(&table.name)
        .update_expression("SET #segment = :segment, #offset = :offset")
        .condition_expression(
            "attribute_not_exists(pk) OR #segment < :segment OR \
             (#segment = :segment AND #offset < :offset)",
        )
        .expression_attribute_names("#segment", "segment")
        .expression_attribute_names("#offset", "offset")
        .expression_attribute_values(":segment", number(cursor.segment))
        .expression_attribute_values(":offset", number(cursor.offset));
    let update = update.build().expect("the key, the table and the expression are set");
    TransactWriteItem::builder().update(update).build()
}
