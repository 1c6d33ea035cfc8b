//! Erasing an id: its document, its letters, and what they have in the bucket.
//!
//! ```text
//! erasures / count   n                        how many erasures there were
//! e#ID / e           generation, erased_us    the mark: the number of the erasure, and when
//! ```
//!
//! The mark stands in the record of the id, too, by which a plan is written. It has an item of its
//! own so that it can be looked at for one unit of reading, however large the document is.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{
    Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update, builders::PutBuilder,
};
use inlet_core::document::Timestamp;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::ports::{EraseMark, Erasure};

use super::DynamoStore;
use super::attributes::{Item, find_number, find_text, key, must, number};
use super::ledger::Figures;
use super::letter::Letter;
use super::put::{ACTIONS_MAX, delete};
use super::record::{Record, Stored, read_mark, write_mark};
use super::table::{Table, TransactError, pause};

/// The most attempts while others write to the same id, or erase.
const ATTEMPTS_MAX: u32 = 20;
/// The actions of an erasure beside those for letters: record, mark, count and figures.
const ACTIONS_BESIDE_LETTERS: usize = 4;

const ATTEMPTED: &str = "erase from the table";

/// Returns the number of erasures so far.
pub(super) async fn count(table: &Table) -> Result<u64, Failure> {
    match table.get(count_key()).await? {
        Some(item) => must(find_number(&item, "n"), &item, "n"),
        None => Ok(0),
    }
}

/// The marks of those of `ids` that were erased.
pub(super) async fn marks(
    table: &Table,
    ids: &[DocumentId],
) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    let mut marks = HashMap::new();
    for item in table.get_many(ids.into_iter().map(mark_key).collect()).await? {
        let id = find_text(&item, "pk").and_then(|pk| pk.strip_prefix("e#")?.parse().ok());
        marks.insert(must(id, &item, "pk")?, must(read_mark(&item), &item, "erased_us")?);
    }
    Ok(marks)
}

/// Erases the id, and leaves the mark of it.
pub(super) async fn erase(
    store: &DynamoStore,
    id: DocumentId,
    now: Timestamp,
) -> Result<Erasure, Failure> {
    let mut was_there = false;
    for attempt in 0..ATTEMPTS_MAX {
        pause(attempt).await;
        let record = store.record(id).await?;
        let letters = match record.letters {
            0 => Vec::new(),
            _ => store.letters_of(id).await?,
        };
        let before = count(&store.table).await?;
        // Marks of versions that did not count come before the first that is counted.
        let generation = before.max(u64::from(record.erased.is_some())) + 1;
        was_there |= record.stored.is_some() || !letters.is_empty();
        let letters_max = (ACTIONS_MAX - ACTIONS_BESIDE_LETTERS) / 2;
        let (some, rest) = letters.split_at(letters.len().min(letters_max));
        let done = rest.is_empty();
        let mark = EraseMark { generation, at: record.erased.map_or(now, |it| it.at.max(now)) };
        let after = Record {
            rev: record.rev,
            erased: Some(mark),
            letters: u32::try_from(rest.len()).unwrap_or(u32::MAX),
            stored: None,
        };
        let mut marked = mark_key(id);
        write_mark(&mark, &mut marked);
        let mut actions = vec![
            put(after.put(id, record.rev), &store.table),
            put(Put::builder().set_item(Some(marked)), &store.table),
            put(put_count(before, generation), &store.table),
        ];
        for letter in some {
            actions.push(delete(letter.key(), &store.table));
            actions.push(delete(letter.listed_key(), &store.table));
        }
        actions.extend(record.stored.as_ref().map(|stored| subtract(stored, &store.table)));
        match store.table.transact(actions).await {
            Ok(()) => {
                let bodies = record.stored.iter().map(|stored| &stored.body);
                for body in bodies.chain(some.iter().map(|letter| &letter.body)) {
                    if let Some(key) = body.overflow() {
                        store.overflow.delete(key).await?;
                    }
                }
                if done {
                    return Ok(Erasure { was_there, generation });
                }
            }
            // Somebody else wrote to the id, or erased another: it is read again.
            Err(TransactError::Cancelled(_)) => {}
            Err(TransactError::Invalid(said)) => {
                return Err(store.table.unavailable(ATTEMPTED).because(said));
            }
            Err(TransactError::Failed(failure)) => return Err(failure),
        }
    }
    Err(store.table.unavailable(ATTEMPTED))
}

fn mark_key(id: DocumentId) -> Item {
    key(format!("e#{id}"), "e")
}

fn count_key() -> Item {
    key("erasures", "count")
}

/// Puts the count in the place of what was seen as `before`, and of nothing else.
fn put_count(before: u64, now: u64) -> PutBuilder {
    let mut item = count_key();
    item.insert("n".to_owned(), number(now));
    let put = Put::builder().set_item(Some(item));
    if before == 0 {
        return put.condition_expression("attribute_not_exists(pk)");
    }
    put.condition_expression("n = :before").expression_attribute_values(":before", number(before))
}

fn put(put: PutBuilder, table: &Table) -> TransactWriteItem {
    let put: Put = put
        .table_name(&table.name)
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::None)
        .build()
        .expect("the item and the table are set");
    TransactWriteItem::builder().put(put).build()
}

/// Takes the document out of its stream's figures.
fn subtract(stored: &Stored, table: &Table) -> TransactWriteItem {
    let update = Update::builder()
        .set_key(Some(Figures::erased_key(&stored.stream)))
        .table_name(&table.name)
        .update_expression("ADD #documents :documents, #bytes :bytes")
        .expression_attribute_names("#documents", "documents")
        .expression_attribute_names("#bytes", "bytes")
        .expression_attribute_values(":documents", number(-1))
        .expression_attribute_values(":bytes", number(format!("-{}", stored.bytes)));
    let update = update.build().expect("the key, the table and the expression are set");
    TransactWriteItem::builder().update(update).build()
}

/// Notes on the letters of an id that they were sent to the queue again.
pub(super) async fn mark_redriven(
    store: &DynamoStore,
    id: DocumentId,
    now: Timestamp,
) -> Result<(), Failure> {
    for letter in store.letters_of(id).await? {
        let letter: Letter = letter;
        let call = store
            .table
            .client
            .update_item()
            .table_name(&store.table.name)
            .set_key(Some(letter.key()))
            .update_expression("SET #redriven = :redriven")
            // One that went in between does not come back by this.
            .condition_expression("attribute_exists(pk)")
            .expression_attribute_names("#redriven", "redriven_us")
            .expression_attribute_values(":redriven", number(now.as_micros()));
        if let Err(error) = call.send().await
            && !crate::aws::code(&error).ends_with("ConditionalCheckFailedException")
        {
            return Err(store.table.failure("note a redrive in the table", &error));
        }
    }
    Ok(())
}
