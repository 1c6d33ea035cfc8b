//! Between rows and nouns.

use std::error::Error as StdError;

use bytes::{BufMut, Bytes, BytesMut};
use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::{Document, IdempotencyKey, StoredDocument, StreamName, Timestamp};
use inlet_core::id::DocumentId;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::failure::Fault;

/// An id as PostgreSQL's `uuid`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id(pub(super) [u8; 16]);

impl From<DocumentId> for Id {
    fn from(id: DocumentId) -> Self {
        Self(*id.as_bytes())
    }
}

impl ToSql for Id {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(of: &Type) -> bool {
        *of == Type::UUID
    }
}

/// The columns that [`document`] reads, of `documents` as `d`, but for the body.
pub(super) const DOCUMENT: &str = "position, id, stream, key, received_us, stored_us, \
     (SELECT e.generation FROM inlet.erased AS e WHERE e.id = d.id)";
/// The columns that [`dead_letter`] reads, of `dead_letters` as `d`, but for the body.
pub(super) const DEAD_LETTER: &str = "position, id, stream, key, received_us, cause, detail, \
     attempts, died_us, redriven_us, \
     (SELECT e.generation FROM inlet.erased AS e WHERE e.id = d.id)";

/// A document of the columns of [`DOCUMENT`] and then its body.
pub(super) fn document(row: &Row) -> Result<StoredDocument, Fault> {
    let document = Document {
        id: id(row, 1)?,
        stream: stream(row, 2)?,
        key: key(row, 3)?,
        received: moment(row, 4)?,
        generation: generation(row, 6)?,
        body: body(row, 7)?,
    };
    Ok(StoredDocument { document, stored: moment(row, 5)? })
}

/// A dead letter of the columns of [`DEAD_LETTER`] and then its body.
pub(super) fn dead_letter(row: &Row) -> Result<DeadLetter, Fault> {
    let attempts: i64 = row.try_get(7)?;
    Ok(DeadLetter {
        id: id(row, 1)?,
        stream: stream(row, 2)?,
        key: key(row, 3)?,
        received: moment(row, 4)?,
        generation: generation(row, 10)?,
        body: body(row, 11)?,
        cause: Cause::from_parts(row.try_get(5)?, row.try_get(6)?),
        attempts: u32::try_from(attempts).map_err(|_| Fault::Damaged("attempts"))?,
        died: moment(row, 8)?,
        redriven: row.try_get::<_, Option<i64>>(9)?.map(Timestamp::from_micros),
    })
}

/// The generation of what is there under an id: that of the id's mark, which it came after.
fn generation(row: &Row, column: usize) -> Result<Option<u64>, Fault> {
    let mark: Option<i64> = row.try_get(column)?;
    u64::try_from(mark.unwrap_or(0)).map(Some).map_err(|_| Fault::Damaged("generation"))
}

pub(super) fn stream(row: &Row, column: usize) -> Result<StreamName, Fault> {
    StreamName::new(row.try_get(column)?).map_err(|_| Fault::Damaged("stream"))
}

pub(super) fn moment(row: &Row, column: usize) -> Result<Timestamp, Fault> {
    Ok(Timestamp::from_micros(row.try_get(column)?))
}

/// A number that is never negative.
pub(super) fn count(row: &Row, column: usize) -> Result<u64, Fault> {
    u64::try_from(row.try_get::<_, i64>(column)?).map_err(|_| Fault::Damaged("a count"))
}

/// PostgreSQL's integers are signed.
pub(super) fn signed(number: u64) -> Result<i64, Fault> {
    i64::try_from(number).map_err(|_| Fault::TooLarge(number))
}

fn id(row: &Row, column: usize) -> Result<DocumentId, Fault> {
    let Id(bytes) = row.try_get(column)?;
    Ok(DocumentId::from_bytes(bytes))
}

fn key(row: &Row, column: usize) -> Result<Option<IdempotencyKey>, Fault> {
    let Some(text) = row.try_get::<_, Option<&str>>(column)? else { return Ok(None) };
    IdempotencyKey::new(text).map(Some).map_err(|_| Fault::Damaged("key"))
}

fn body(row: &Row, column: usize) -> Result<Bytes, Fault> {
    Ok(Bytes::copy_from_slice(row.try_get(column)?))
}
