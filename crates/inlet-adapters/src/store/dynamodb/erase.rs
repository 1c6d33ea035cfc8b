//! Erasing an id: its document, its letters, and what they have in the bucket.

use aws_sdk_dynamodb::types::{
    Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem, Update, builders::PutBuilder,
};
use inlet_core::document::Timestamp;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;

use super::DynamoStore;
use super::attributes::number;
use super::ledger::Figures;
use super::letter::Letter;
use super::put::{ACTIONS_MAX, delete};
use super::record::{Record, Stored};
use super::table::{Table, TransactError, pause};

/// How often it is tried while others write to the same id.
const ATTEMPTS_MAX: u32 = 10;

/// Erases the id, and notes that `now`. Whether anything was there.
pub(super) async fn erase(
    store: &DynamoStore,
    id: DocumentId,
    now: Timestamp,
) -> Result<bool, Failure> {
    let mut was_there = false;
    for attempt in 0..ATTEMPTS_MAX {
        pause(attempt).await;
        let record = match store.table.get(Record::key(id)).await? {
            Some(item) => Record::read(&item)?,
            None => Record::default(),
        };
        let letters = match record.letters {
            0 => Vec::new(),
            _ => store.letters_of(id).await?,
        };
        was_there |= record.stored.is_some() || !letters.is_empty();
        // Beside each letter's two deletions the record and the figures are written.
        let (some, rest) = letters.split_at(letters.len().min((ACTIONS_MAX - 2) / 2));
        let done = rest.is_empty();
        let erased_us = record.erased_us.map_or(now.as_micros(), |at| at.max(now.as_micros()));
        let after = Record {
            rev: record.rev,
            erased_us: Some(erased_us),
            letters: u32::try_from(rest.len()).unwrap_or(u32::MAX),
            stored: None,
        };
        let mut actions = vec![put(after.put(id, record.rev), &store.table)];
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
                    return Ok(was_there);
                }
            }
            // Somebody else wrote to the id: it is read again.
            Err(TransactError::Cancelled(_)) => {}
            Err(TransactError::Invalid(said)) => {
                let failure = store.table.unavailable("erase from the table");
                return Err(failure.because(said));
            }
            Err(TransactError::Failed(failure)) => return Err(failure),
        }
    }
    Err(store.table.unavailable("erase from the table"))
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
