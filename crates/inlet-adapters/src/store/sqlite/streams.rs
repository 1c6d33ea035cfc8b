//! The names of streams and their figures.

use std::collections::HashMap;

use inlet_core::document::{StreamName, Timestamp};
use inlet_core::ports::StreamFigures;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::rows;

/// How many numbers are remembered; beyond it all are looked up anew.
const REMEMBERED_MAX: usize = 4_096;

/// The numbers of streams, as far as they were looked up. A number never changes.
#[derive(Debug, Default)]
pub(super) struct StreamIds {
    ids: HashMap<StreamName, i64>,
    last: Option<(StreamName, i64)>,
}

impl StreamIds {
    /// The number of `stream`; made if there is none.
    pub(super) fn id(
        &mut self,
        tx: &Transaction<'_>,
        stream: &StreamName,
    ) -> rusqlite::Result<i64> {
        // Documents of a stream mostly come behind one another.
        if let Some((last, id)) = &self.last
            && last == stream
        {
            return Ok(*id);
        }
        let id = match self.ids.get(stream) {
            Some(id) => *id,
            None => {
                if self.ids.len() == REMEMBERED_MAX {
                    self.ids.clear();
                }
                let id = find_or_make(tx, stream)?;
                self.ids.insert(stream.clone(), id);
                id
            }
        };
        self.last = Some((stream.clone(), id));
        Ok(id)
    }

    /// Forgets all numbers.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

/// What a batch adds to the figures of streams.
#[derive(Debug, Default)]
pub(super) struct FiguresSheet(HashMap<i64, Added>);

#[derive(Debug)]
struct Added {
    documents: i64,
    bytes: i64,
    first: Timestamp,
    last: Timestamp,
}

impl FiguresSheet {
    /// Counts a document that was stored.
    pub(super) fn stored(&mut self, stream_id: i64, received: Timestamp, bytes: i64) {
        let none = Added { documents: 0, bytes: 0, first: received, last: received };
        let added = self.0.entry(stream_id).or_insert(none);
        added.documents += 1;
        added.bytes += bytes;
        added.first = added.first.min(received);
        added.last = added.last.max(received);
    }

    /// Adds it all.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut update = tx.prepare_cached(
            "UPDATE streams SET documents = documents + ?2, bytes = bytes + ?3,
                 first_us = min(coalesce(first_us, ?4), ?4),
                 last_us = max(coalesce(last_us, ?5), ?5)
             WHERE stream_id = ?1",
        )?;
        for (stream_id, added) in &self.0 {
            let (first, last) = (added.first.as_micros(), added.last.as_micros());
            update.execute(params![stream_id, added.documents, added.bytes, first, last])?;
        }
        Ok(())
    }
}

/// The streams that have documents or had some, in name order. One that only dead letters name
/// has no first document.
pub(super) fn list(connection: &Connection) -> rusqlite::Result<Vec<StreamFigures>> {
    let mut statement = connection.prepare_cached(
        "SELECT name, documents, bytes, first_us, last_us FROM streams
         WHERE first_us IS NOT NULL ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| {
        let moment = |micros: Option<i64>| micros.map(Timestamp::from_micros);
        Ok(StreamFigures {
            stream: rows::stream(row, 0)?,
            documents: rows::count(row, 1)?,
            bytes: rows::count(row, 2)?,
            first: moment(row.get(3)?),
            last: moment(row.get(4)?),
        })
    })?;
    rows.collect()
}

fn find_or_make(tx: &Transaction<'_>, stream: &StreamName) -> rusqlite::Result<i64> {
    let found = tx
        .prepare_cached("SELECT stream_id FROM streams WHERE name = ?1")?
        .query_row([stream.as_str()], |row| row.get(0))
        .optional()?;
    match found {
        Some(id) => Ok(id),
        None => tx
            .prepare_cached("INSERT INTO streams (name) VALUES (?1) RETURNING stream_id")?
            .query_row([stream.as_str()], |row| row.get(0)),
    }
}
