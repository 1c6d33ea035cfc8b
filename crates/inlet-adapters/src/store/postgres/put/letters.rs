//! Dead letters into their table, and out of it.

use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::{BodyHash, IdempotencyKey};
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::LetterWrite;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::store::postgres::failure::Fault;
use crate::store::postgres::rows::Id;

/// Writes what the plan says; letters that are new get the positions from `first` on.
pub(super) async fn write(
    client: &Client,
    first: i64,
    writes: &[LetterWrite],
) -> Result<(), Fault> {
    let (mut new, mut again, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for write in writes {
        match write {
            LetterWrite::New { letter, body } => new.push((letter, body)),
            LetterWrite::Again { id, body, cause, attempts } => {
                again.push((*id, body, cause, *attempts));
            }
            LetterWrite::Gone { id, body } => gone.push((*id, body)),
        }
    }
    tokio::try_join!(
        biased;
        delete(client, &gone),
        update(client, &again),
        insert(client, first, &new),
    )?;
    Ok(())
}

async fn delete(client: &Client, letters: &[(DocumentId, &BodyHash)]) -> Result<(), Fault> {
    if letters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Id> = letters.iter().map(|(id, _)| Id::from(*id)).collect();
    let bodies: Vec<&[u8]> = letters.iter().map(|(_, body)| &body.as_bytes()[..]).collect();
    client
        .execute_typed(
            "DELETE FROM inlet.dead_letters AS d
             USING unnest($1::uuid[], $2::bytea[]) AS u (id, body_sha256)
             WHERE d.id = u.id AND d.body_sha256 = u.body_sha256",
            &[(&ids, Type::UUID_ARRAY), (&bodies, Type::BYTEA_ARRAY)],
        )
        .await?;
    Ok(())
}

async fn update(
    client: &Client,
    letters: &[(DocumentId, &BodyHash, &Cause, u32)],
) -> Result<(), Fault> {
    if letters.is_empty() {
        return Ok(());
    }
    let ids: Vec<Id> = letters.iter().map(|letter| Id::from(letter.0)).collect();
    let bodies: Vec<&[u8]> = letters.iter().map(|letter| &letter.1.as_bytes()[..]).collect();
    let causes: Vec<&str> = letters.iter().map(|letter| letter.2.code()).collect();
    let classes: Vec<&str> = letters.iter().map(|letter| letter.2.class()).collect();
    let details: Vec<String> = letters.iter().map(|letter| detail(letter.2)).collect();
    let attempts: Vec<i64> = letters.iter().map(|letter| i64::from(letter.3)).collect();
    client
        .execute_typed(
            "UPDATE inlet.dead_letters AS d
             SET cause = u.cause, class = u.class, detail = u.detail, attempts = u.attempts
             FROM unnest($1::uuid[], $2::bytea[], $3::text[], $4::text[], $5::text[],
                 $6::bigint[]) AS u (id, body_sha256, cause, class, detail, attempts)
             WHERE d.id = u.id AND d.body_sha256 = u.body_sha256",
            &[
                (&ids, Type::UUID_ARRAY),
                (&bodies, Type::BYTEA_ARRAY),
                (&causes, Type::TEXT_ARRAY),
                (&classes, Type::TEXT_ARRAY),
                (&details, Type::TEXT_ARRAY),
                (&attempts, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

async fn insert(
    client: &Client,
    first: i64,
    new: &[(&DeadLetter, &BodyHash)],
) -> Result<(), Fault> {
    if new.is_empty() {
        return Ok(());
    }
    let letters = || new.iter().map(|(letter, _)| *letter);
    let ids: Vec<Id> = letters().map(|letter| letter.id.into()).collect();
    let sha256: Vec<&[u8]> = new.iter().map(|(_, body)| &body.as_bytes()[..]).collect();
    let streams: Vec<&str> = letters().map(|letter| letter.stream.as_str()).collect();
    let received: Vec<i64> = letters().map(|letter| letter.received.as_micros()).collect();
    let keys: Vec<Option<&str>> =
        letters().map(|letter| letter.key.as_ref().map(IdempotencyKey::as_str)).collect();
    let bodies: Vec<&[u8]> = letters().map(|letter| &letter.body[..]).collect();
    let causes: Vec<&str> = letters().map(|letter| letter.cause.code()).collect();
    let classes: Vec<&str> = letters().map(|letter| letter.cause.class()).collect();
    let details: Vec<String> = letters().map(|letter| detail(&letter.cause)).collect();
    let attempts: Vec<i64> = letters().map(|letter| i64::from(letter.attempts)).collect();
    let died: Vec<i64> = letters().map(|letter| letter.died.as_micros()).collect();
    let redriven: Vec<Option<i64>> =
        letters().map(|letter| letter.redriven.map(|moment| moment.as_micros())).collect();
    client
        .execute_typed(
            "INSERT INTO inlet.dead_letters (position, id, body_sha256, stream,
                 received_us, key, body, cause, class, detail, attempts, died_us, redriven_us)
             SELECT $1 + n - 1, id, body_sha256, stream, received_us, key, body, cause, class,
                 detail, attempts, died_us, redriven_us
             FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::bigint[], $6::text[],
                 $7::bytea[], $8::text[], $9::text[], $10::text[], $11::bigint[],
                 $12::bigint[], $13::bigint[]) WITH ORDINALITY
                 AS u (id, body_sha256, stream, received_us, key, body, cause, class, detail,
                     attempts, died_us, redriven_us, n)",
            &[
                (&first, Type::INT8),
                (&ids, Type::UUID_ARRAY),
                (&sha256, Type::BYTEA_ARRAY),
                (&streams, Type::TEXT_ARRAY),
                (&received, Type::INT8_ARRAY),
                (&keys, Type::TEXT_ARRAY),
                (&bodies, Type::BYTEA_ARRAY),
                (&causes, Type::TEXT_ARRAY),
                (&classes, Type::TEXT_ARRAY),
                (&details, Type::TEXT_ARRAY),
                (&attempts, Type::INT8_ARRAY),
                (&died, Type::INT8_ARRAY),
                (&redriven, Type::INT8_ARRAY),
            ],
        )
        .await?;
    Ok(())
}

/// PostgreSQL's texts hold every character but this one.
fn detail(cause: &Cause) -> String {
    cause.detail().replace('\0', "\u{fffd}")
}
