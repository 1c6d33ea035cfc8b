//! The counts of days.

use inlet_core::calendar::Day;
use inlet_core::ports::{TallyKind, TallyRow};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

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

/// Adds `tallies` to what is counted.
pub(super) async fn add(client: &Client, tallies: &[TallyRow]) -> Result<(), Fault> {
    if tallies.is_empty() {
        return Ok(());
    }
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

/// What was counted from `first` to `last`, both included.
pub(super) async fn between(
    client: &Client,
    first: Day,
    last: Day,
) -> Result<Vec<TallyRow>, Fault> {
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
