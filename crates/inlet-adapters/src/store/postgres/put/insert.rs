//! Documents into their table.

use std::collections::HashMap;

use inlet_core::document::IdempotencyKey;
use inlet_core::ports::Batch;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::postgres::failure::{Fault, refusal};
use crate::store::postgres::rows::{Id, signed};

/// Inserts those documents at the positions from `first` on. One that is refused fails them all.
pub(super) async fn insert(
    client: &Client,
    batch: &Batch,
    first: i64,
    these: &[usize],
) -> Result<(), Fault> {
    if these.is_empty() {
        return Ok(());
    }
    let documents = || these.iter().map(|at| &batch.documents[*at]);
    let ids: Vec<Id> = documents().map(|document| document.id.into()).collect();
    let streams: Vec<&str> = documents().map(|document| document.stream.as_str()).collect();
    let received: Vec<i64> = documents().map(|document| document.received.as_micros()).collect();
    let keys: Vec<Option<&str>> =
        documents().map(|document| document.key.as_ref().map(IdempotencyKey::as_str)).collect();
    let bodies: Vec<&[u8]> = documents().map(|document| &document.body[..]).collect();
    client
        .execute_typed(
            "INSERT INTO inlet.documents (position, received_us, stored_us, id, stream, key, body)
             SELECT $1 + n - 1, received_us, $2, id, stream, key, body
             FROM unnest($3::uuid[], $4::text[], $5::bigint[], $6::text[], $7::bytea[])
                 WITH ORDINALITY AS u (id, stream, received_us, key, body, n)",
            &[
                (&first, Type::INT8),
                (&batch.now.as_micros(), Type::INT8),
                (&ids, Type::UUID_ARRAY),
                (&streams, Type::TEXT_ARRAY),
                (&received, Type::INT8_ARRAY),
                (&keys, Type::TEXT_ARRAY),
                (&bodies, Type::BYTEA_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// The documents among those that the engine refuses, with its reasons, found by inserting halves.
/// Each statement that a document was in counts as one of its attempts, and alone it gets those
/// that are left: so a batch of nothing but refused documents takes two statements a document. What
/// is inserted meanwhile is for the caller to undo.
pub(super) async fn refused(
    client: &Client,
    batch: &Batch,
    first: i64,
    these: &[usize],
) -> Result<HashMap<usize, String>, Fault> {
    let mut refused = HashMap::new();
    let mut open = vec![(first, these, 1)];
    while let Some((first, these, attempt)) = open.pop() {
        let inserted = tokio::try_join!(
            biased;
            async { Ok::<_, Fault>(client.batch_execute("SAVEPOINT attempt").await?) },
            insert(client, batch, first, these),
            async { Ok(client.batch_execute("RELEASE attempt").await?) },
        );
        let Err(fault) = inserted else { continue };
        let Some(reason) = refusal(&fault) else { return Err(fault) };
        client.batch_execute("ROLLBACK TO attempt; RELEASE attempt").await?;
        if these.len() > 1 {
            let (front, back) = these.split_at(these.len() / 2);
            open.push((first + signed(front.len() as u64)?, back, attempt + 1));
            open.push((first, front, attempt + 1));
        } else if attempt < batch.attempts_max {
            open.push((first, these, attempt + 1));
        } else {
            refused.extend(these.iter().map(|at| (*at, reason.clone())));
        }
    }
    Ok(refused)
}
