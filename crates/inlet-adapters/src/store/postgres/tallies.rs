//! The counts of days.

use inlet_core::calendar::{Day, Week};
use inlet_core::ports::{Tallies, TallyKind, TallyRow, TallyWeek, ZoneTally};
use inlet_core::tally::TallySheet;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::failure::Fault;
use super::rows::{self, signed};

const STORED: i16 = 0;
const DEAD: i16 = 1;
const FIELD: i16 = 2;

/// Adds to rows that are there, and makes those that are not. At most 512 fields (a path with a
/// type) are counted a stream and day under their own names; what comes beyond is counted under
/// the path `…`, so that documents whose names are data can't make the tallies grow with them.
/// That path itself goes the second way only, because one statement can't change a row twice.
const ADD: &str = "
    WITH input AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::smallint[], $4::text[], $5::text[],
            $6::bigint[], $7::bigint[]) AS u (day, stream, kind, name, type, documents, bytes)
    ), counted AS (
        UPDATE inlet.tallies AS t
        SET documents = t.documents + i.documents, bytes = t.bytes + i.bytes
        FROM input AS i
        WHERE t.day = i.day AND t.stream = i.stream AND t.kind = i.kind AND t.name = i.name
            AND t.type = i.type AND NOT (i.kind = 2 AND i.name = '…')
        RETURNING t.day, t.stream, t.kind, t.name, t.type
    ), fresh AS (
        SELECT i.*, row_number() OVER (PARTITION BY day, stream, kind ORDER BY name, type) AS n
        FROM input AS i
        WHERE (day, stream, kind, name, type) NOT IN (SELECT * FROM counted)
    ), fields AS (
        SELECT day, stream, count(*) AS known FROM inlet.tallies
        WHERE kind = 2 AND (day, stream) IN (SELECT day, stream FROM fresh WHERE kind = 2)
        GROUP BY day, stream
    ), named AS (
        SELECT f.day, f.stream, f.kind, f.type, f.documents, f.bytes,
            CASE WHEN f.kind = 2 AND coalesce(k.known, 0) + f.n > 512 THEN '…' ELSE f.name END
                AS name
        FROM fresh AS f LEFT JOIN fields AS k ON k.day = f.day AND k.stream = f.stream
    )
    INSERT INTO inlet.tallies AS t (day, stream, kind, name, type, documents, bytes)
    SELECT day, stream, kind, name, type, sum(documents)::bigint, sum(bytes)::bigint
    FROM named GROUP BY day, stream, kind, name, type
    ON CONFLICT (day, stream, kind, name, type) DO UPDATE
        SET documents = t.documents + excluded.documents, bytes = t.bytes + excluded.bytes";

/// Adds what the sheet counted.
pub(super) async fn add(client: &Client, sheet: &TallySheet) -> Result<(), Fault> {
    let rows = sheet.rows();
    if rows.is_empty() {
        return Ok(());
    }
    tokio::try_join!(
        biased;
        add_rows(client, &rows),
        add_zones(client, sheet.zones()),
        raise_revisions(client, sheet),
    )?;
    Ok(())
}

async fn add_zones(client: &Client, zones: Vec<ZoneTally>) -> Result<(), Fault> {
    if zones.is_empty() {
        return Ok(());
    }
    let days: Vec<String> = zones.iter().map(|tally| tally.day.to_string()).collect();
    let names: Vec<&str> = zones.iter().map(|tally| tally.zone.as_str()).collect();
    let documents: Vec<i64> =
        zones.iter().map(|tally| signed(tally.documents)).collect::<Result<_, _>>()?;
    let bytes: Vec<i64> =
        zones.iter().map(|tally| signed(tally.bytes)).collect::<Result<_, _>>()?;
    client
        .execute_typed(
            "INSERT INTO inlet.tally_zones AS t (day, zone, documents, bytes)
             SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
             ON CONFLICT (day, zone) DO UPDATE SET
                 documents = t.documents + excluded.documents,
                 bytes = t.bytes + excluded.bytes",
            &[
                (&days, Type::TEXT_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&documents, Type::INT8_ARRAY),
                (&bytes, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

async fn raise_revisions(client: &Client, sheet: &TallySheet) -> Result<(), Fault> {
    let weeks: Vec<String> = sheet.weeks().iter().map(ToString::to_string).collect();
    client
        .execute_typed(
            "INSERT INTO inlet.tally_weeks AS t (week, revision)
             SELECT week, 1 FROM unnest($1::text[]) AS u (week)
             ON CONFLICT (week) DO UPDATE SET revision = t.revision + 1",
            &[(&weeks, Type::TEXT_ARRAY)],
        )
        .await?;
    Ok(())
}

async fn add_rows(client: &Client, tallies: &[TallyRow]) -> Result<(), Fault> {
    let days: Vec<String> = tallies.iter().map(|row| row.day.to_string()).collect();
    let streams: Vec<&str> = tallies.iter().map(|row| row.stream.as_str()).collect();
    let (mut kinds, mut names, mut types) = (Vec::new(), Vec::new(), Vec::new());
    let (mut documents, mut bytes) = (Vec::new(), Vec::new());
    for row in tallies {
        let (kind, name, of_type) = match &row.kind {
            TallyKind::Stored => (STORED, "", ""),
            TallyKind::Dead(code) => (DEAD, code.as_str(), ""),
            TallyKind::Field(path, of_type) => (FIELD, path.as_str(), of_type.as_str()),
        };
        kinds.push(kind);
        names.push(name);
        types.push(of_type);
        documents.push(signed(row.documents)?);
        bytes.push(signed(row.bytes)?);
    }
    client
        .execute_typed(
            ADD,
            &[
                (&days, Type::TEXT_ARRAY),
                (&streams, Type::TEXT_ARRAY),
                (&kinds, Type::INT2_ARRAY),
                (&names, Type::TEXT_ARRAY),
                (&types, Type::TEXT_ARRAY),
                (&documents, Type::INT8_ARRAY),
                (&bytes, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// The tallies from `first` to `last`, both included. To be asked in a transaction with one
/// snapshot.
pub(super) async fn between(client: &Client, first: Day, last: Day) -> Result<Tallies, Fault> {
    let (rows, zones, cursor) = tokio::try_join!(
        biased;
        rows_between(client, first, last),
        zones_between(client, first, last),
        last_position(client),
    )?;
    Ok(Tallies { rows, zones, cursor: cursor.map(|position| position.to_string()) })
}

/// The weeks that have tallies or a note.
pub(super) async fn weeks(client: &Client) -> Result<Vec<TallyWeek>, Fault> {
    let rows =
        client.query_typed("SELECT week, revision, summarized FROM inlet.tally_weeks", &[]).await?;
    rows.iter()
        .map(|row| {
            let summarized: Option<i64> = row.try_get(2)?;
            let summarized = summarized.map(u64::try_from).transpose();
            Ok(TallyWeek {
                week: row.try_get::<_, &str>(0)?.parse().map_err(|_| Fault::Damaged("week"))?,
                revision: rows::count(row, 1)?,
                summarized: summarized.map_err(|_| Fault::Damaged("summarized"))?,
            })
        })
        .collect()
}

/// Notes that a summary of `week` was written from tallies of this revision. Commits.
pub(super) async fn mark_summarized(
    client: &Client,
    begin: &str,
    week: Week,
    revision: u64,
) -> Result<(), Fault> {
    let (week, revision) = (week.to_string(), signed(revision)?);
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&week, Type::TEXT), (&revision, Type::INT8)];
    tokio::try_join!(
        biased;
        client.batch_execute(begin),
        client.execute_typed(
            "INSERT INTO inlet.tally_weeks AS t (week, revision, summarized) VALUES ($1, 0, $2)
             ON CONFLICT (week) DO UPDATE SET summarized = excluded.summarized",
            &parameters,
        ),
        client.batch_execute("COMMIT"),
    )?;
    Ok(())
}

/// The last position that was given out; `None` where none ever was.
async fn last_position(client: &Client) -> Result<Option<i64>, Fault> {
    let row = client.query_typed_one("SELECT last FROM inlet.positions", &[]).await?;
    Ok(Some(row.try_get(0)?).filter(|last| *last > 0))
}

async fn zones_between(client: &Client, first: Day, last: Day) -> Result<Vec<ZoneTally>, Fault> {
    let rows = client
        .query_typed(
            "SELECT day, zone, documents, bytes FROM inlet.tally_zones
             WHERE day BETWEEN $1 AND $2",
            &[(&first.to_string(), Type::TEXT), (&last.to_string(), Type::TEXT)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(ZoneTally {
                day: row.try_get::<_, &str>(0)?.parse().map_err(|_| Fault::Damaged("day"))?,
                zone: row.try_get(1)?,
                documents: rows::count(row, 2)?,
                bytes: rows::count(row, 3)?,
            })
        })
        .collect()
}

async fn rows_between(client: &Client, first: Day, last: Day) -> Result<Vec<TallyRow>, Fault> {
    let rows = client
        .query_typed(
            "SELECT day, stream, kind, name, type, documents, bytes FROM inlet.tallies
             WHERE day BETWEEN $1 AND $2",
            &[(&first.to_string(), Type::TEXT), (&last.to_string(), Type::TEXT)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            let (name, of_type) = (row.try_get(3)?, row.try_get(4)?);
            Ok(TallyRow {
                day: row.try_get::<_, &str>(0)?.parse().map_err(|_| Fault::Damaged("day"))?,
                stream: rows::stream(row, 1)?,
                kind: match row.try_get(2)? {
                    STORED => TallyKind::Stored,
                    DEAD => TallyKind::Dead(name),
                    FIELD => TallyKind::Field(name, of_type),
                    _ => return Err(Fault::Damaged("kind")),
                },
                documents: rows::count(row, 5)?,
                bytes: rows::count(row, 6)?,
            })
        })
        .collect()
}
