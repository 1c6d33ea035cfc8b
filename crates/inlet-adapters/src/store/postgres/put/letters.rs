//! What a batch does to the dead letters.

use std::collections::HashMap;

use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::{Document, IdempotencyKey};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::Known;
use crate::store::postgres::failure::Fault;
use crate::store::postgres::rows::Id;

/// What is to be buried, and what is to be taken away.
#[derive(Debug, Default)]
pub(super) struct Letters {
    buried: Vec<(DeadLetter, [u8; 32])>,
    at: HashMap<(Id, [u8; 32]), usize>,
    away_ids: Vec<Id>,
    away_sha256: Vec<Vec<u8>>,
}

impl Letters {
    /// Keeps a dead letter; whether it is a new one. One that died before keeps its place and its
    /// first death; its attempts add up, where they are not counted by the queue.
    pub(super) fn bury(&mut self, letter: DeadLetter, known: &Known) -> bool {
        let name = (Id::from(letter.id), sha256(&letter.body));
        if let Some(at) = self.at.get(&name) {
            let (before, _) = &mut self.buried[*at];
            before.attempts = match letter.cause {
                Cause::Undecodable(_) => before.attempts.max(letter.attempts),
                Cause::KeyConflict | Cause::Refused(_) => {
                    before.attempts.saturating_add(letter.attempts)
                }
            };
            before.cause = letter.cause;
            return false;
        }
        self.at.insert(name, self.buried.len());
        self.buried.push((letter, name.1));
        !known.letters.contains(&name)
    }

    /// Takes the letter with the same id and bytes away, now that the document is stored.
    pub(super) fn take_away(&mut self, document: &Document, known: &Known) {
        let id = Id::from(document.id);
        if !known.dead.contains(&id) {
            return;
        }
        let sha256 = sha256(&document.body);
        if known.letters.contains(&(id, sha256)) {
            self.away_ids.push(id);
            self.away_sha256.push(sha256.to_vec());
        }
    }

    /// Writes it all; letters that are new get the positions from `first` on.
    pub(super) async fn write(&self, client: &Client, first: i64) -> Result<(), Fault> {
        tokio::try_join!(biased; self.write_away(client), self.write_buried(client, first))?;
        Ok(())
    }

    async fn write_away(&self, client: &Client) -> Result<(), Fault> {
        if self.away_ids.is_empty() {
            return Ok(());
        }
        client
            .execute_typed(
                "DELETE FROM inlet.dead_letters AS d
                 USING unnest($1::uuid[], $2::bytea[]) AS u (id, body_sha256)
                 WHERE d.id = u.id AND d.body_sha256 = u.body_sha256",
                &[(&self.away_ids, Type::UUID_ARRAY), (&self.away_sha256, Type::BYTEA_ARRAY)],
            )
            .await?;
        Ok(())
    }

    async fn write_buried(&self, client: &Client, first: i64) -> Result<(), Fault> {
        if self.buried.is_empty() {
            return Ok(());
        }
        let letters = || self.buried.iter().map(|(letter, _)| letter);
        let ids: Vec<Id> = letters().map(|letter| letter.id.into()).collect();
        let sha256: Vec<&[u8]> = self.buried.iter().map(|(_, sha256)| &sha256[..]).collect();
        let streams: Vec<&str> = letters().map(|letter| letter.stream.as_str()).collect();
        let received: Vec<i64> = letters().map(|letter| letter.received.as_micros()).collect();
        let keys: Vec<Option<&str>> =
            letters().map(|letter| letter.key.as_ref().map(IdempotencyKey::as_str)).collect();
        let bodies: Vec<&[u8]> = letters().map(|letter| &letter.body[..]).collect();
        let causes: Vec<&str> = letters().map(|letter| letter.cause.code()).collect();
        let classes: Vec<&str> = letters().map(|letter| letter.cause.class()).collect();
        // PostgreSQL's texts hold every character but this one.
        let details: Vec<String> =
            letters().map(|letter| letter.cause.detail().replace('\0', "\u{fffd}")).collect();
        let attempts: Vec<i64> = letters().map(|letter| i64::from(letter.attempts)).collect();
        let died: Vec<i64> = letters().map(|letter| letter.died.as_micros()).collect();
        let redriven: Vec<Option<i64>> =
            letters().map(|letter| letter.redriven.map(|moment| moment.as_micros())).collect();
        client
            .execute_typed(
                "INSERT INTO inlet.dead_letters AS d (position, id, body_sha256, stream,
                     received_us, key, body, cause, class, detail, attempts, died_us, redriven_us)
                 SELECT $1 + n - 1, id, body_sha256, stream, received_us, key, body, cause, class,
                     detail, attempts, died_us, redriven_us
                 FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::bigint[], $6::text[],
                     $7::bytea[], $8::text[], $9::text[], $10::text[], $11::bigint[],
                     $12::bigint[], $13::bigint[]) WITH ORDINALITY
                     AS u (id, body_sha256, stream, received_us, key, body, cause, class, detail,
                         attempts, died_us, redriven_us, n)
                 ON CONFLICT (id, body_sha256) DO UPDATE SET cause = excluded.cause,
                     class = excluded.class, detail = excluded.detail,
                     attempts = CASE excluded.cause
                         WHEN 'undecodable' THEN greatest(d.attempts, excluded.attempts)
                         ELSE least(d.attempts + excluded.attempts, 4294967295) END",
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
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}
