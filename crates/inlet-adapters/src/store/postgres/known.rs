//! The states of ids.

use inlet_core::document::{BodyHash, Timestamp};
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::KnownIds;
use inlet_core::ports::{EraseMark, KnownLetter};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::Fault;
use super::rows::Id;

/// One statement, so that all of it is of one moment. The first column says which table a row is
/// of; only bodies that are stored are hashed.
const KNOWN: &str = "
    SELECT 0, id, sha256(body), NULL::bigint FROM inlet.documents WHERE id = ANY($1)
    UNION ALL SELECT 1, id, body_sha256, attempts FROM inlet.dead_letters WHERE id = ANY($1)
    UNION ALL SELECT 2, id, NULL, erased_us FROM inlet.erased WHERE id = ANY($1)";

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
            _ => {
                let at = Timestamp::from_micros(row.try_get(3)?);
                known.erased = Some(EraseMark { generation: 0, at });
            }
        }
    }
    for known in found.values_mut() {
        // In one order, so that two looks at the same can be compared.
        known.letters.sort_unstable_by_key(|letter| letter.body);
    }
    Ok(found)
}
