//! What else is written: erasures and the marks of redrives.

use inlet_core::document::Timestamp;
use inlet_core::id::DocumentId;
use inlet_core::ports::Erasure;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::Fault;
use super::rows::{self, Id};

/// Held by every writer until it commits; see [`super::put`].
const HOLD: &str = "SELECT last FROM inlet.positions WHERE one FOR UPDATE";

/// Erases the document and the dead letters with that id, and leaves the mark of it. Commits.
pub(super) async fn erase(
    client: &Client,
    begin: &str,
    id: DocumentId,
    now: Timestamp,
) -> Result<Erasure, Fault> {
    let sql = "
        WITH document AS (
            DELETE FROM inlet.documents WHERE id = $1
            RETURNING stream, octet_length(body)::bigint AS bytes
        ), figures AS (
            UPDATE inlet.streams AS s SET documents = documents - 1, bytes = s.bytes - d.bytes
            FROM document AS d WHERE s.stream = d.stream
        ), letters AS (
            DELETE FROM inlet.dead_letters WHERE id = $1 RETURNING id
        ), mark AS (
            INSERT INTO inlet.erased AS e (id, erased_us) VALUES ($1, $2)
            ON CONFLICT (id) DO UPDATE SET erased_us = greatest(e.erased_us, excluded.erased_us)
            RETURNING generation
        )
        SELECT EXISTS (SELECT FROM document) OR EXISTS (SELECT FROM letters), generation
        FROM mark";
    let id = Id::from(id);
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&id, Type::UUID), (&now.as_micros(), Type::INT8)];
    let ((), _, row, ()) = tokio::try_join!(
        biased;
        client.batch_execute(begin),
        client.query_typed(HOLD, &[]),
        client.query_typed_one(sql, &parameters),
        client.batch_execute("COMMIT"),
    )?;
    Ok(Erasure { was_there: row.try_get(0)?, generation: rows::count(&row, 1)? })
}

/// Notes on the dead letters with those ids that they were sent to the queue again. Commits.
pub(super) async fn mark_redriven(
    client: &Client,
    begin: &str,
    ids: &[DocumentId],
    now: Timestamp,
) -> Result<(), Fault> {
    let ids: Vec<Id> = ids.iter().copied().map(Id::from).collect();
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
        [(&ids, Type::UUID_ARRAY), (&now.as_micros(), Type::INT8)];
    tokio::try_join!(
        biased;
        client.batch_execute(begin),
        client.query_typed(HOLD, &[]),
        client.execute_typed(
            "UPDATE inlet.dead_letters SET redriven_us = $2 WHERE id = ANY($1)",
            &parameters,
        ),
        client.batch_execute("COMMIT"),
    )?;
    Ok(())
}
