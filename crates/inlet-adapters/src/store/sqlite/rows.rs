//! From rows to nouns.

use bytes::Bytes;
use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::{Document, IdempotencyKey, StoredDocument, StreamName, Timestamp};
use inlet_core::id::DocumentId;
use rusqlite::Row;

use super::failure::damaged;

/// The columns that [`document`] reads, of `documents` as `d` and `streams` as `s`.
pub(super) const DOCUMENT: &str = "d.position, d.id, s.name, d.key, d.received_us, d.body, \
     (SELECT generation FROM erased e WHERE e.id = d.id), d.stored_us";
/// The columns that [`dead_letter`] reads, of `dead_letters` as `d` and `streams` as `s`.
pub(super) const DEAD_LETTER: &str = "d.position, d.id, s.name, d.key, d.received_us, d.body, \
     (SELECT generation FROM erased e WHERE e.id = d.id), d.cause, d.detail, d.attempts, d.died_us, d.redriven_us";

pub(super) fn document(row: &Row<'_>) -> rusqlite::Result<StoredDocument> {
    let document = Document {
        id: id(row, 1)?,
        stream: stream(row, 2)?,
        key: key(row, 3)?,
        received: moment(row, 4)?,
        generation: generation(row, 6)?,
        body: body(row, 5)?,
    };
    Ok(StoredDocument { document, stored: moment(row, 7)? })
}

pub(super) fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let (code, detail) = (row.get_ref(7)?.as_str()?, row.get_ref(8)?.as_str()?);
    Ok(DeadLetter {
        id: id(row, 1)?,
        stream: stream(row, 2)?,
        key: key(row, 3)?,
        received: moment(row, 4)?,
        generation: generation(row, 6)?,
        body: body(row, 5)?,
        cause: Cause::from_parts(code, detail),
        attempts: row.get(9)?,
        died: moment(row, 10)?,
        redriven: row.get::<_, Option<i64>>(11)?.map(Timestamp::from_micros),
    })
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<DocumentId> {
    let bytes: [u8; 16] = row.get(column)?;
    Ok(DocumentId::from_bytes(bytes))
}

pub(super) fn stream(row: &Row<'_>, column: usize) -> rusqlite::Result<StreamName> {
    StreamName::new(row.get_ref(column)?.as_str()?).map_err(|_| damaged("stream"))
}

pub(super) fn moment(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    row.get(column).map(Timestamp::from_micros)
}

/// A number that is never negative.
pub(super) fn count(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(|_| damaged("a count"))
}

/// The generation of what is there under an id: that of the id's mark, which it came after.
fn generation(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let mark: Option<i64> = row.get(column)?;
    u64::try_from(mark.unwrap_or(0)).map(Some).map_err(|_| damaged("generation"))
}

fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<IdempotencyKey>> {
    let Some(text) = row.get_ref(column)?.as_str_or_null()? else { return Ok(None) };
    IdempotencyKey::new(text).map(Some).map_err(|_| damaged("key"))
}

fn body(row: &Row<'_>, column: usize) -> rusqlite::Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?))
}
