//! The states of ids.

use std::collections::HashMap;

use inlet_core::document::BodyHash;
use inlet_core::id::DocumentId;
use inlet_core::ports::{EraseMark, Known, KnownLetter};
use rusqlite::{Connection, OptionalExtension};

use super::rows;

/// The states of those of `ids` that the file has anything under.
pub(super) fn known(
    connection: &Connection,
    ids: &[DocumentId],
) -> rusqlite::Result<HashMap<DocumentId, Known>> {
    let exists = |sql| connection.prepare_cached(sql)?.exists([]);
    let has_letters = exists("SELECT 1 FROM dead_letters LIMIT 1")?;
    let has_erased = exists("SELECT 1 FROM erased LIMIT 1")?;
    let mut body = connection.prepare_cached("SELECT body FROM documents WHERE id = ?1")?;
    let mut letters = connection
        .prepare_cached("SELECT body_sha256, attempts FROM dead_letters WHERE id = ?1")?;
    let mut mark = connection.prepare_cached("SELECT erased_us FROM erased WHERE id = ?1")?;
    let mut found = HashMap::new();
    for id in ids {
        let mut known = Known {
            stored: body
                .query_row([id.as_bytes()], |row| Ok(BodyHash::of(row.get_ref(0)?.as_blob()?)))
                .optional()?,
            ..Known::default()
        };
        if has_letters {
            let rows = letters.query_map([id.as_bytes()], |row| {
                let body = BodyHash::from_bytes(row.get(0)?);
                Ok(KnownLetter { body, attempts: row.get(1)? })
            })?;
            known.letters = rows.collect::<rusqlite::Result<_>>()?;
        }
        if has_erased {
            known.erased = mark
                .query_row([id.as_bytes()], |row| {
                    Ok(EraseMark { generation: 0, at: rows::moment(row, 0)? })
                })
                .optional()?;
        }
        if known != Known::default() {
            found.insert(*id, known);
        }
    }
    Ok(found)
}
