//! Runs of positions with the times they were received in.
//!
//! Positions are handed out in the order of storing and never again, also after the last document
//! was erased: the last span remembers how far they went.

use inlet_core::document::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

/// At this many positions a new span is begun.
const POSITIONS: i64 = 4_096;

/// The last span, and what a batch adds behind it.
#[derive(Debug)]
pub(super) struct LastSpan {
    first: i64,
    last: i64,
    received: Option<(i64, i64)>,
    before: i64,
}

impl LastSpan {
    /// The last span of the file.
    pub(super) fn read(tx: &Transaction<'_>) -> rusqlite::Result<Self> {
        let found = tx
            .prepare_cached(
                "SELECT first_position, last_position, received_min_us, received_max_us
                 FROM spans ORDER BY first_position DESC LIMIT 1",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, (row.get(2)?, row.get(3)?))))
            .optional()?;
        Ok(match found {
            Some((first, last, received)) if last - first + 1 < POSITIONS => {
                Self { first, last, received: Some(received), before: last }
            }
            Some((_, last, _)) => Self { first: last + 1, last, received: None, before: last },
            None => Self { first: 1, last: 0, received: None, before: 0 },
        })
    }

    /// The position that the next document gets.
    pub(super) fn next(&self) -> i64 {
        self.last + 1
    }

    /// Counts the document that was stored at [`LastSpan::next`].
    pub(super) fn stored(&mut self, received: Timestamp) {
        let micros = received.as_micros();
        let (min, max) = self.received.unwrap_or((micros, micros));
        self.received = Some((min.min(micros), max.max(micros)));
        self.last += 1;
    }

    /// Writes the span, if anything was added.
    pub(super) fn write(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let (true, Some((min, max))) = (self.last > self.before, self.received) else {
            return Ok(());
        };
        tx.prepare_cached(
            "INSERT INTO spans (first_position, last_position, received_min_us, received_max_us)
             VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (first_position) DO UPDATE SET last_position = excluded.last_position,
                 received_min_us = excluded.received_min_us,
                 received_max_us = excluded.received_max_us",
        )?
        .execute(params![self.first, self.last, min, max])
        .map(drop)
    }
}

/// The position of the last document that was stored, erased or not; `None` where none ever was.
pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT max(last_position) FROM spans")?
        .query_row([], |row| row.get(0))
}

/// The first run of positions after `after` that can have documents received from `from` until
/// before `to`. Spans that lie side by side are one run.
pub(super) fn next_run(
    connection: &Connection,
    after: i64,
    from: i64,
    to: i64,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut statement = connection.prepare_cached(
        "SELECT first_position, last_position, received_max_us >= ?2 AND received_min_us < ?3
         FROM spans
         WHERE first_position >= coalesce(
             (SELECT max(first_position) FROM spans WHERE first_position <= ?1 + 1), 0)
         ORDER BY first_position",
    )?;
    let mut rows = statement.query(params![after, from, to])?;
    let mut run: Option<(i64, i64)> = None;
    while let Some(row) = rows.next()? {
        let (first, last, fits): (i64, i64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
        match &mut run {
            _ if last <= after => {}
            Some((_, end)) if fits => *end = last,
            Some(_) => break,
            None if fits => run = Some((first.max(after + 1), last)),
            None => {}
        }
    }
    Ok(run)
}
