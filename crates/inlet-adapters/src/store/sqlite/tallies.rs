//! The counts of days.

use std::collections::HashMap;

use inlet_core::calendar::{Day, Week};
use inlet_core::ports::{Tallies, TallyKind, TallyRow, TallyWeek, ZoneTally};
use inlet_core::tally::TallySheet;
use rusqlite::{Connection, Transaction, params};

use super::failure::damaged;
use super::rows;
use super::spans;
use super::streams::StreamIds;

/// How many fields (a path with a type) are counted a stream and day under their own names. What
/// comes beyond is counted under [`OTHER_FIELDS`], so that documents whose names are data can't
/// make the tallies grow with them.
const FIELDS_MAX: i64 = 512;
/// The path that stands for all fields beyond [`FIELDS_MAX`].
const OTHER_FIELDS: &str = "…";

const STORED: i64 = 0;
const DEAD: i64 = 1;
const FIELD: i64 = 2;

/// Adds what the sheet counted.
pub(super) fn add(
    tx: &Transaction<'_>,
    streams: &mut StreamIds,
    sheet: &TallySheet,
) -> rusqlite::Result<()> {
    add_rows(tx, streams, &sheet.rows())?;
    for ZoneTally { day, zone, documents, bytes } in sheet.zones() {
        tx.prepare_cached(
            "INSERT INTO tally_zones (day, zone, documents, bytes) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT DO UPDATE SET documents = documents + excluded.documents,
                 bytes = bytes + excluded.bytes",
        )?
        .execute(params![day.to_string(), zone, signed(documents)?, signed(bytes)?])?;
    }
    for week in sheet.weeks() {
        tx.prepare_cached(
            "INSERT INTO tally_weeks (week, revision) VALUES (?1, 1)
             ON CONFLICT DO UPDATE SET revision = revision + 1",
        )?
        .execute([week.to_string()])?;
    }
    Ok(())
}

fn add_rows(
    tx: &Transaction<'_>,
    streams: &mut StreamIds,
    rows: &[TallyRow],
) -> rusqlite::Result<()> {
    let mut fields = HashMap::new();
    for row in rows {
        let day = row.day.to_string();
        let stream_id = streams.id(tx, &row.stream)?;
        let (kind, name, of_type) = match &row.kind {
            TallyKind::Stored => (STORED, "", ""),
            TallyKind::Dead(code) => (DEAD, code.as_str(), ""),
            TallyKind::Field(path, of_type) => (FIELD, path.as_str(), of_type.as_str()),
        };
        let (documents, bytes) = (signed(row.documents)?, signed(row.bytes)?);
        let increased = tx
            .prepare_cached(
                "UPDATE tallies SET documents = documents + ?6, bytes = bytes + ?7
                 WHERE day = ?1 AND stream_id = ?2 AND kind = ?3 AND name = ?4 AND type = ?5",
            )?
            .execute(params![day, stream_id, kind, name, of_type, documents, bytes])?;
        if increased > 0 {
            continue;
        }
        let mut name = name;
        if kind == FIELD {
            let known = match fields.entry((row.day, stream_id)) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(unknown) => {
                    unknown.insert(count_fields(tx, &day, stream_id)?)
                }
            };
            if *known >= FIELDS_MAX {
                name = OTHER_FIELDS;
            }
            *known += 1;
        }
        tx.prepare_cached(
            "INSERT INTO tallies (day, stream_id, kind, name, type, documents, bytes)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT DO UPDATE SET documents = documents + excluded.documents,
                 bytes = bytes + excluded.bytes",
        )?
        .execute(params![day, stream_id, kind, name, of_type, documents, bytes])?;
    }
    Ok(())
}

/// The tallies from `first` to `last`, both included.
pub(super) fn between(connection: &Connection, first: Day, last: Day) -> rusqlite::Result<Tallies> {
    Ok(Tallies {
        rows: rows_between(connection, first, last)?,
        zones: zones_between(connection, first, last)?,
        cursor: spans::last_position(connection)?.map(|position| position.to_string()),
    })
}

/// The weeks that have tallies or a note.
pub(super) fn weeks(connection: &Connection) -> rusqlite::Result<Vec<TallyWeek>> {
    let mut statement =
        connection.prepare_cached("SELECT week, revision, summarized FROM tally_weeks")?;
    let found = statement.query_map([], |row| {
        Ok(TallyWeek {
            week: row.get_ref(0)?.as_str()?.parse().map_err(|_| damaged("week"))?,
            revision: rows::count(row, 1)?,
            summarized: match row.get::<_, Option<i64>>(2)? {
                Some(noted) => Some(u64::try_from(noted).map_err(|_| damaged("summarized"))?),
                None => None,
            },
        })
    })?;
    found.collect()
}

/// Notes that a summary of `week` was written from tallies of this revision.
pub(super) fn mark_summarized(
    tx: &Transaction<'_>,
    week: Week,
    revision: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO tally_weeks (week, revision, summarized) VALUES (?1, 0, ?2)
         ON CONFLICT DO UPDATE SET summarized = excluded.summarized",
    )?
    .execute(params![week.to_string(), signed(revision)?])
    .map(drop)
}

fn zones_between(
    connection: &Connection,
    first: Day,
    last: Day,
) -> rusqlite::Result<Vec<ZoneTally>> {
    let mut statement = connection.prepare_cached(
        "SELECT day, zone, documents, bytes FROM tally_zones WHERE day BETWEEN ?1 AND ?2",
    )?;
    let found = statement.query_map([first.to_string(), last.to_string()], |row| {
        Ok(ZoneTally {
            day: row.get_ref(0)?.as_str()?.parse().map_err(|_| damaged("day"))?,
            zone: row.get(1)?,
            documents: rows::count(row, 2)?,
            bytes: rows::count(row, 3)?,
        })
    })?;
    found.collect()
}

fn rows_between(connection: &Connection, first: Day, last: Day) -> rusqlite::Result<Vec<TallyRow>> {
    let mut statement = connection.prepare_cached(
        "SELECT t.day, s.name, t.kind, t.name, t.type, t.documents, t.bytes
         FROM tallies t JOIN streams s USING (stream_id) WHERE t.day BETWEEN ?1 AND ?2",
    )?;
    let found = statement.query_map([first.to_string(), last.to_string()], |row| {
        let (name, of_type) = (row.get(3)?, row.get(4)?);
        Ok(TallyRow {
            day: row.get_ref(0)?.as_str()?.parse().map_err(|_| damaged("day"))?,
            stream: rows::stream(row, 1)?,
            kind: match row.get(2)? {
                STORED => TallyKind::Stored,
                DEAD => TallyKind::Dead(name),
                FIELD => TallyKind::Field(name, of_type),
                _ => return Err(damaged("kind")),
            },
            documents: rows::count(row, 5)?,
            bytes: rows::count(row, 6)?,
        })
    })?;
    found.collect()
}

fn count_fields(tx: &Transaction<'_>, day: &str, stream_id: i64) -> rusqlite::Result<i64> {
    tx.prepare_cached(
        "SELECT count(*) FROM tallies WHERE day = ?1 AND stream_id = ?2 AND kind = ?3",
    )?
    .query_row(params![day, stream_id, FIELD], |row| row.get(0))
}

/// SQLite's integers are signed.
pub(super) fn signed(count: u64) -> rusqlite::Result<i64> {
    i64::try_from(count).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}
