//! The states of ids.

use std::collections::HashMap;

use inlet_core::document::BodyHash;
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::{KnownIds, Plan};
use inlet_core::ports::{EraseMark, Known, KnownLetter};
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::rows;

/// Looks up what there is under an id, table by table.
pub(super) struct States<'a> {
    /// Whether there is any dead letter.
    has_letters: bool,
    /// Whether anything was ever erased.
    has_marks: bool,
    body: CachedStatement<'a>,
    letters: CachedStatement<'a>,
    mark: CachedStatement<'a>,
}

impl<'a> States<'a> {
    pub(super) fn open(connection: &'a Connection) -> rusqlite::Result<Self> {
        let exists = |sql| connection.prepare_cached(sql)?.exists([]);
        Ok(Self {
            has_letters: exists("SELECT 1 FROM dead_letters LIMIT 1")?,
            has_marks: exists("SELECT 1 FROM erased LIMIT 1")?,
            body: connection.prepare_cached("SELECT body FROM documents WHERE id = ?1")?,
            letters: connection.prepare_cached(
                "SELECT body_sha256, attempts FROM dead_letters WHERE id = ?1 ORDER BY position",
            )?,
            mark: connection
                .prepare_cached("SELECT generation, erased_us FROM erased WHERE id = ?1")?,
        })
    }

    /// Whether there is neither a dead letter nor a mark.
    pub(super) fn has_documents_alone(&self) -> bool {
        !self.has_letters && !self.has_marks
    }

    /// The hash of the body that is stored.
    pub(super) fn stored(&mut self, id: DocumentId) -> rusqlite::Result<Option<BodyHash>> {
        self.body
            .query_row([id.as_bytes()], |row| Ok(BodyHash::of(row.get_ref(0)?.as_blob()?)))
            .optional()
    }

    /// The dead letters, in the order in which they died.
    pub(super) fn letters(&mut self, id: DocumentId) -> rusqlite::Result<Vec<KnownLetter>> {
        if !self.has_letters {
            return Ok(Vec::new());
        }
        let letters = self.letters.query_map([id.as_bytes()], |row| {
            let body = BodyHash::from_bytes(row.get(0)?);
            Ok(KnownLetter { body, attempts: row.get(1)? })
        })?;
        letters.collect()
    }

    /// The mark of the last erasure.
    pub(super) fn mark(&mut self, id: DocumentId) -> rusqlite::Result<Option<EraseMark>> {
        if !self.has_marks {
            return Ok(None);
        }
        self.mark
            .query_row([id.as_bytes()], |row| {
                Ok(EraseMark { generation: rows::count(row, 0)?, at: rows::moment(row, 1)? })
            })
            .optional()
    }
}

/// The states of those of `ids` that the file has anything under.
pub(super) fn known(
    connection: &Connection,
    ids: impl IntoIterator<Item = DocumentId>,
) -> rusqlite::Result<KnownIds> {
    let mut states = States::open(connection)?;
    let mut found = KnownIds::new();
    for id in ids {
        let known = Known {
            stored: states.stored(id)?,
            letters: states.letters(id)?,
            erased: states.mark(id)?,
            version: 0,
        };
        if !known.is_nothing() {
            found.insert(id, known);
        }
    }
    Ok(found)
}

/// The marks of those of `ids` that were erased.
pub(super) fn marks(
    connection: &Connection,
    ids: &[DocumentId],
) -> rusqlite::Result<HashMap<DocumentId, EraseMark>> {
    let mut states = States::open(connection)?;
    let mut marks = HashMap::new();
    for id in ids {
        if let Some(mark) = states.mark(*id)? {
            marks.insert(*id, mark);
        }
    }
    Ok(marks)
}

/// Returns the number of erasures so far.
pub(super) fn erasures(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(max(generation), 1), 0) FROM erased")?
        .query_row([], |row| rows::count(row, 0))
}

/// The states that differ from those that the plan rests on.
pub(super) fn changed(connection: &Connection, plan: &Plan) -> rusqlite::Result<KnownIds> {
    let mut now = known(connection, plan.items().map(|item| item.id()))?;
    for id in plan.known.keys() {
        now.entry(*id).or_default();
    }
    now.retain(|id, known| plan.known.get(id) != Some(known));
    Ok(now)
}
