//! Writing a plan with one transaction.
//!
//! A transaction holds documents with all that goes with them: their counts, their place in the
//! order, the letters that come and go. Each record is written on the condition that it is as the
//! plan has it; where one is not, DynamoDB refuses the transaction whole and says what is there.
//! The log's cursor goes with the last plan of a batch.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::types::builders::{PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{
    CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update,
};
use bytes::Bytes;
use inlet_core::document::BodyHash;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::{Item as PlanItem, KnownIds, LetterWrite, Plan};
use inlet_core::ports::{Cursor, Known, Written};
use inlet_core::tally::TallySheet;
use tokio::sync::MutexGuard;

use super::DynamoStore;
use super::attributes::{Item, key, number, text};
use super::lane::{Lane, Step};
use super::letter::Letter;
use super::record::{Body, Change, Record, RecordWrite, Stored};
use super::span::Entry;
use super::table::{Table, TransactError, pause};

/// The partition of the cursors.
pub(super) const CURSORS_KEY: &str = "cursors";
/// How many actions DynamoDB takes in one transaction.
pub(super) const ACTIONS_MAX: usize = 100;
/// How many bytes of bodies go into one transaction; DynamoDB takes 4 MiB with all around them.
const BYTES_MAX: usize = 3 << 20;
/// How many lanes are tried without a pause.
const HOPS_AT_ONCE_MAX: u32 = 2;
/// How often a transaction is tried in all: while it meets another one, or too little throughput,
/// or other writers in the lane.
const ATTEMPTS_MAX: u32 = 8;
const HOPS_MAX: u32 = 60;

const ATTEMPTED: &str = "write a batch to the table";

/// Writes the plan.
pub(super) async fn put(store: &DynamoStore, plan: &Plan) -> Result<Written, Failure> {
    let fitting = fitting(plan, &store.options);
    if fitting < plan.items.len() {
        return Ok(Written::TooLarge(fitting));
    }
    let mut lane = store.lane.lock().await;
    let existing = match existing_letters(store, plan).await? {
        Ok(existing) => existing,
        Err(changed) => return Ok(Written::Changed(changed)),
    };
    let mut transaction = Transaction {
        store,
        plan,
        entries: plan.inserts().map(Entry::of).collect(),
        sheet: plan.tallies(),
        existing,
        bodies: HashMap::new(),
        cursor: plan.cursor(),
        refusals: HashMap::new(),
        attempts: 0,
        hops: 0,
        lane: &mut lane,
    };
    let written = transaction.run().await;
    match &written {
        Ok(Written::Done) => transaction.remove_gone_bodies().await,
        Ok(_) => transaction.remove_uploaded_bodies().await,
        // It may have come about after all.
        Err(_) => transaction.lane.forget(),
    }
    written
}

/// How many of the plan's items, from its beginning, can be tried with one transaction.
fn fitting(plan: &Plan, options: &super::DynamoOptions) -> usize {
    let mut bytes = 0;
    let documents_max = options.transaction_documents_max.clamp(1, ACTIONS_MAX);
    let fitting = plan.items().take(documents_max).take_while(|item| {
        let body = match item {
            PlanItem::Document(document) => document.body.len(),
            PlanItem::Letter(letter) => letter.body.len(),
        };
        // A larger one goes to the bucket.
        bytes += if body > options.item_bytes_max { 0 } else { body };
        bytes <= BYTES_MAX
    });
    fitting.count().max(1).min(plan.items.len())
}

/// The letters that die again or go, as they are; or the states of their ids, where one is no
/// longer there.
async fn existing_letters(
    store: &DynamoStore,
    plan: &Plan,
) -> Result<Result<HashMap<LetterId, Letter>, KnownIds>, Failure> {
    let wanted: Vec<LetterId> = plan
        .letters
        .iter()
        .filter_map(|write| match write {
            LetterWrite::Again { id, body, .. } | LetterWrite::Gone { id, body } => {
                Some((*id, *body))
            }
            LetterWrite::New { .. } => None,
        })
        .collect();
    let mut existing = HashMap::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(Ok(existing));
    }
    let keys = wanted.iter().map(|(id, body)| Letter::key_of(*id, body.as_bytes())).collect();
    for item in store.table.get_many(keys).await? {
        let letter = Letter::read(&item)?;
        existing.insert((letter.letter.id, BodyHash::from_bytes(letter.sha256)), letter);
    }
    let missing: Vec<DocumentId> =
        wanted.iter().filter(|it| !existing.contains_key(it)).map(|(id, _)| *id).collect();
    if missing.is_empty() {
        return Ok(Ok(existing));
    }
    let mut changed = store.known_ids(&missing).await?;
    for id in missing {
        changed.entry(id).or_default();
    }
    Ok(Err(changed))
}

/// Names a letter: the document's id and the hash of its body.
type LetterId = (DocumentId, BodyHash);

/// What an action of a transaction is about, to know what its refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Id(DocumentId),
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

    fn update(&mut self, about: About, update: UpdateBuilder, table: &Table) {
        let update = update
            .table_name(&table.name)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .build()
            .expect("the key, the table and the expression are set");
        self.push(about, TransactWriteItem::builder().update(update).build());
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

/// A transaction, tried until it comes about or says why it can't.
struct Transaction<'a, 'b> {
    store: &'a DynamoStore,
    plan: &'a Plan,
    entries: Vec<Entry>,
    sheet: TallySheet,
    existing: HashMap<LetterId, Letter>,
    /// Where bodies that are too large for an item were put.
    bodies: HashMap<LetterId, Body>,
    cursor: Option<&'a Cursor>,
    /// How often each item was refused.
    refusals: HashMap<usize, u32>,
    attempts: u32,
    /// How often somebody else was writing to the lane.
    hops: u32,
    lane: &'a mut MutexGuard<'b, Lane>,
}

impl Transaction<'_, '_> {
    async fn run(&mut self) -> Result<Written, Failure> {
        loop {
            let step = self.lane.step(&self.store.table, &self.sheet, &self.entries).await?;
            let count = self.plan.items.len();
            let actions = self.actions(step.as_ref()).await?;
            let over = actions.items.len().saturating_sub(ACTIONS_MAX);
            if over > 0 && count > 1 {
                return Ok(Written::TooLarge(count.saturating_sub(over).max(count / 2).max(1)));
            }
            if actions.items.is_empty() {
                return Ok(Written::Done);
            }
            match self.store.table.transact(actions.items).await {
                Ok(()) => {
                    if let Some(step) = step {
                        self.lane.made(step);
                    }
                    return Ok(Written::Done);
                }
                Err(TransactError::Failed(failure)) => return Err(failure),
                Err(TransactError::Cancelled(reasons)) => {
                    if let Some(written) = self.learn(&reasons, &actions.about).await? {
                        return Ok(written);
                    }
                }
                // One of them: halves tell which, and hold up no other.
                Err(TransactError::Invalid(_)) if count > 1 => {
                    return Ok(Written::TooLarge(count / 2));
                }
                Err(TransactError::Invalid(said)) => {
                    let id = self.plan.batch.item(self.plan.items.start).id();
                    if let Some(index) = self.refuse(id, &said)? {
                        return Ok(Written::Refused(HashMap::from([(index, said)])));
                    }
                }
            }
        }
    }

    /// Learns from a refusal what is in the way: `None` where it is worth trying again.
    async fn learn(
        &mut self,
        reasons: &[CancellationReason],
        about: &[About],
    ) -> Result<Option<Written>, Failure> {
        let (mut changed, mut refused) = (KnownIds::new(), HashMap::new());
        let (mut waits, mut learned) = (false, false);
        for (reason, about) in reasons.iter().zip(about) {
            match (reason.code().unwrap_or("None"), about) {
                ("None", _) => {}
                ("ConditionalCheckFailed", About::Id(id)) => {
                    changed.insert(*id, self.state_of(*id, reason).await?);
                }
                ("ConditionalCheckFailed", About::Head) => {
                    self.lane.hop();
                    self.hops += 1;
                    learned = true;
                }
                ("ConditionalCheckFailed", About::Cursor) => {
                    // Another worker stored more of the log already.
                    self.cursor = None;
                    learned = true;
                }
                ("ValidationError" | "ItemCollectionSizeLimitExceeded", About::Id(id)) => {
                    let said = reason.message().unwrap_or("the item is refused");
                    if let Some(index) = self.refuse(*id, said)? {
                        refused.insert(index, said.to_owned());
                    }
                    learned = true;
                }
                ("ValidationError", _) => {
                    return Err(self.refused(reason.message().unwrap_or_default().to_owned()));
                }
                _ => waits = true,
            }
        }
        if !changed.is_empty() {
            return Ok(Some(Written::Changed(changed)));
        }
        if !refused.is_empty() {
            return Ok(Some(Written::Refused(refused)));
        }
        if self.hops > HOPS_AT_ONCE_MAX {
            // More write than there are lanes: pauses part them.
            pause(self.hops - HOPS_AT_ONCE_MAX).await;
        }
        self.attempts += u32::from(waits || !learned);
        if self.attempts >= ATTEMPTS_MAX || self.hops >= HOPS_MAX {
            return Err(self.store.table.unavailable(ATTEMPTED));
        }
        if waits || !learned {
            pause(self.attempts).await;
        }
        Ok(None)
    }

    /// The state of an id whose record or letter is not as the plan has it.
    async fn state_of(
        &self,
        id: DocumentId,
        reason: &CancellationReason,
    ) -> Result<Known, Failure> {
        let item = reason.item().filter(|item| !item.is_empty() && Record::is_record(item));
        match item {
            Some(item) => self.store.known_of(id, &Record::read(item)?).await,
            None => Ok(self.store.known_ids(&[id]).await?.remove(&id).unwrap_or_default()),
        }
    }

    /// Notes that DynamoDB refused the document of that id once more, and names it once that was
    /// often enough. Where there is no document, it is not a document that is at fault.
    fn refuse(&mut self, id: DocumentId, said: &str) -> Result<Option<usize>, Failure> {
        let of_id = |index: &&usize| self.plan.batch.documents[**index].id == id;
        let Some(index) = self.plan.inserts.iter().find(of_id).copied() else {
            return Err(self.refused(said.to_owned()));
        };
        let refusals = self.refusals.entry(index).or_default();
        *refusals += 1;
        Ok((*refusals >= self.plan.batch.attempts_max).then_some(index))
    }

    async fn actions(&mut self, step: Option<&Step>) -> Result<Actions, Failure> {
        let mut actions = Actions::default();
        for (id, change) in self.changes().await? {
            match change.write(id) {
                RecordWrite::Put(put) => actions.put(About::Id(id), put, &self.store.table),
                RecordWrite::Update(update) => {
                    actions.update(About::Id(id), update, &self.store.table);
                }
            }
        }
        for write in &self.plan.letters {
            self.letter_actions(write, &mut actions);
        }
        let table = &self.store.table;
        if let Some(step) = step {
            actions.put(About::Head, step.head.put(self.lane.number, &step.before), table);
            for item in &step.items {
                actions.put_item(item.clone(), table);
            }
        }
        if let Some(cursor) = self.cursor {
            actions.push(About::Cursor, move_cursor(cursor, table));
        }
        Ok(actions)
    }

    /// What changes in the record of each id.
    async fn changes(&mut self) -> Result<BTreeMap<DocumentId, Change>, Failure> {
        let mut changes: BTreeMap<DocumentId, Change> = BTreeMap::new();
        let plan = self.plan;
        let mut place = (self.lane.number, 0);
        if !plan.inserts.is_empty() {
            place.1 = self.lane.next(&self.store.table).await?;
        }
        for document in plan.inserts() {
            let sha256 = document.body_hash();
            let body = self.body((document.id, sha256), &document.body).await?;
            let stored = Stored {
                stream: document.stream.clone(),
                key: document.key.clone(),
                received: document.received,
                stored: plan.batch.now,
                bytes: document.body.len() as u64,
                sha256: *sha256.as_bytes(),
                body,
                lane: place.0,
                n: place.1,
            };
            let change =
                changes.entry(document.id).or_insert_with(|| Change::of(plan, document.id));
            change.stored = Some(stored);
        }
        for write in &plan.letters {
            let id = write.id();
            let by = match write {
                LetterWrite::New { letter, body } => {
                    self.body((id, *body), &letter.body).await?;
                    1
                }
                LetterWrite::Gone { .. } => -1,
                LetterWrite::Again { .. } => continue,
            };
            let change = changes.entry(id).or_insert_with(|| Change::of(plan, id));
            change.letters += by;
        }
        Ok(changes)
    }

    fn letter_actions(&self, write: &LetterWrite, actions: &mut Actions) {
        let table = &self.store.table;
        match write {
            LetterWrite::New { letter, body } => {
                let stays = self.bodies.get(&(letter.id, *body)).cloned();
                let stays = stays.unwrap_or_else(|| Body::Here(letter.body.clone()));
                let letter =
                    Letter { letter: letter.clone(), sha256: *body.as_bytes(), body: stays };
                actions.put_item(letter.write(), table);
                actions.put_item(letter.write_listed(), table);
            }
            LetterWrite::Again { id, body, cause, attempts } => {
                let Some(before) = self.existing.get(&(*id, *body)) else { return };
                let mut letter = before.clone();
                letter.letter.cause = cause.clone();
                letter.letter.attempts = *attempts;
                let update = die_again(&letter, before.letter.attempts);
                actions.update(About::Id(*id), update, table);
                actions.put_item(letter.write_listed(), table);
            }
            LetterWrite::Gone { id, body } => {
                let Some(letter) = self.existing.get(&(*id, *body)) else { return };
                actions.delete(letter.key(), table);
                actions.delete(letter.listed_key(), table);
            }
        }
    }

    /// The body, or where it was put because it is too large for an item.
    async fn body(&mut self, of: LetterId, bytes: &Bytes) -> Result<Body, Failure> {
        if bytes.len() <= self.store.options.item_bytes_max {
            return Ok(Body::Here(bytes.clone()));
        }
        if let Some(body) = self.bodies.get(&of) {
            return Ok(body.clone());
        }
        let body = Body::There(self.store.overflow.put(of.0, bytes).await?);
        self.bodies.insert(of, body.clone());
        Ok(body)
    }

    /// Removes the bodies of letters that went.
    async fn remove_gone_bodies(&self) {
        for write in &self.plan.letters {
            if let LetterWrite::Gone { id, body } = write
                && let Some(letter) = self.existing.get(&(*id, *body))
                && let Some(key) = letter.body.overflow()
            {
                self.store.overflow.delete_or_tell(key).await;
            }
        }
    }

    /// Removes the bodies that were put for nothing.
    async fn remove_uploaded_bodies(&self) {
        for key in self.bodies.values().filter_map(Body::overflow) {
            self.store.overflow.delete_or_tell(key).await;
        }
    }

    fn refused(&self, said: String) -> Failure {
        Failure::new(FailureKind::Refused, ATTEMPTED, &self.store.table.name)
            .because(said)
            .hint("its keys have to be pk and sk, both of type S, as `inlet migrate` makes them")
    }
}

/// Deletes an item.
pub(super) fn delete(key: Item, table: &Table) -> TransactWriteItem {
    let delete = Delete::builder().set_key(Some(key)).table_name(&table.name).build();
    let delete = delete.expect("the key and the table are set");
    TransactWriteItem::builder().delete(delete).build()
}

/// Notes the last death, unless the letter died once more meanwhile. A redrive may be noted on it
/// at the same time: what is not of this death is left alone.
fn die_again(letter: &Letter, attempts_before: u32) -> UpdateBuilder {
    Update::builder()
        .set_key(Some(letter.key()))
        .update_expression("SET #attempts = :attempts, #cause = :cause, #detail = :detail")
        .condition_expression("#attempts = :before")
        .expression_attribute_names("#attempts", "attempts")
        .expression_attribute_names("#cause", "cause")
        .expression_attribute_names("#detail", "detail")
        .expression_attribute_values(":before", number(attempts_before))
        .expression_attribute_values(":attempts", number(letter.letter.attempts))
        .expression_attribute_values(":cause", text(letter.letter.cause.code()))
        .expression_attribute_values(":detail", text(letter.letter.cause.detail()))
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
