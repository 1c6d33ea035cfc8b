//! The states of ids.

use std::collections::HashMap;

use inlet_core::document::BodyHash;
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::KnownIds;
use inlet_core::ports::{EraseMark, KnownLetter};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::failure::Fault;
use super::rows::{self, Id};

/// One statement, so that all of it is of one moment. The first column says which table a row is
/// of; only bodies that are stored are hashed.
const KNOWN: &str = "
    SELECT 0, id, sha256(body), NULL::bigint, NULL::bigint
        FROM inlet.documents WHERE id = ANY($1)
    UNION ALL SELECT 1, id, body_sha256, attempts, NULL
        FROM inlet.dead_letters WHERE id = ANY($1)
    UNION ALL SELECT 2, id, NULL, generation, erased_us FROM inlet.erased WHERE id = ANY($1)";

/// The states of those of `ids` that the database has anything under.
pub(super) async fn known(client: &Client, ids: &[DocumentId]) -> Result<KnownIds, Fault> {
    if ids.is_empty() {
        return Ok(KnownIds::new());
    }
    let ids: Vec<Id> = ids.iter().copied().map(Id::from).collect();
    let mut found: KnownIds = KnownIds::new();
    for row in client.query_typed(KNOWN, &[(&ids, Type::UUID_ARRAY)]).await? {
        let (table, id): (i32, Id) = (row.try_get(0)?, row.try_get(1)?);
        let known = found.entry(DocumentId::from_bytes(id.0)).or_default();
        let hash = || -> Result<BodyHash, Fault> {
            let bytes: &[u8] = row.try_get(2)?;
            let bytes = bytes.try_into().map_err(|_| Fault::Damaged("body_sha256"))?;
            Ok(BodyHash::from_bytes(bytes))
        };
        match table {
            0 => known.stored = Some(hash()?),
            1 => {
                let attempts = u32::try_from(row.try_get::<_, i64>(3)?);
                let attempts = attempts.map_err(|_| Fault::Damaged("attempts"))?;
                known.letters.push(KnownLetter { body: hash()?, attempts });
            }
            _ => known.erased = Some(mark(&row, 3)?),
        }
    }
    for known in found.values_mut() {
        // In one order, so that two looks at the same can be compared.
        known.letters.sort_unstable_by_key(|letter| letter.body);
    }
    Ok(found)
}

/// The marks of those of `ids` that were erased.
pub(super) async fn marks(
    client: &Client,
    ids: &[DocumentId],
) -> Result<HashMap<DocumentId, EraseMark>, Fault> {
    let ids: Vec<Id> = ids.iter().copied().map(Id::from).collect();
    let sql = "SELECT id, generation, erased_us FROM inlet.erased WHERE id = ANY($1)";
    let rows = client.query_typed(sql, &[(&ids, Type::UUID_ARRAY)]).await?;
    rows.iter()
        .map(|row| {
            let id: Id = row.try_get(0)?;
            Ok((DocumentId::from_bytes(id.0), mark(row, 1)?))
        })
        .collect()
}

/// Returns the number of erasures so far.
pub(super) async fn erasures(client: &Client) -> Result<u64, Fault> {
    let sql = "SELECT CASE WHEN count(*) = 0 THEN 0 ELSE greatest(max(generation), 1) END
        FROM (SELECT generation FROM inlet.erased ORDER BY generation DESC LIMIT 1) AS last";
    rows::count(&client.query_typed_one(sql, &[]).await?, 0)
}

/// A mark of a number at `column` and a moment behind it.
fn mark(row: &Row, column: usize) -> Result<EraseMark, Fault> {
    Ok(EraseMark { generation: rows::count(row, column)?, at: rows::moment(row, column + 1)? })
}
