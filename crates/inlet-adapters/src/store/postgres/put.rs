//! What a batch does: documents, dead letters, figures, tallies and cursor, in one transaction.
//!
//! ```text
//! to the server                                           from the server
//! BEGIN · hold the row of `positions` · which ids are known     first position, known ids
//! INSERT … SELECT FROM unnest(…)   (meanwhile the tallies)      stored
//! letters · tallies · figures · spans · cursor · COMMIT         done
//! ```
//!
//! Holding that one row from the first statement on makes one writer wait for the other, as their
//! tallies would anyway, and earlier: so nothing can deadlock, positions become visible in order,
//! and what was found to be new stays new. A document the engine refuses fails its statement;
//! the batch is then begun again, looking for it by halves.

mod insert;
mod letters;
mod sums;

use std::collections::{HashMap, HashSet};

use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::Document;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Batch, Cursor, Outcome};
use inlet_core::tally::TallySheet;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::failure::Fault;
use super::rows::{Id, signed};
use super::tallies;
use letters::Letters;
use sums::Sums;

/// Adding so few documents to the tallies is not worth another thread.
const COUNTED_INLINE_MAX: usize = 64;

/// How the documents of a batch are inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// All at once: one that is refused fails them all.
    Together,
    /// So that one that is refused is found and the others are stored.
    Apart,
}

/// Which of the ids of a batch are known, and as what.
#[derive(Debug, Default)]
struct Known {
    stored: HashSet<Id>,
    /// When each was erased.
    erased: HashMap<Id, i64>,
    /// The ids of dead letters, with the hashes of their bodies.
    letters: HashSet<(Id, [u8; 32])>,
    /// The ids alone.
    dead: HashSet<Id>,
}

/// Puts the batch and commits; the outcomes are in the order of its documents.
pub(super) async fn put_batch(
    client: &Client,
    begin: &str,
    batch: &Batch,
    care: Care,
) -> Result<Vec<Outcome>, Fault> {
    let ids = batch.documents.iter().map(|document| document.id);
    let ids: Vec<Id> = ids.chain(batch.dead.iter().map(|letter| letter.id)).map(Id::from).collect();
    let positions = signed(ids.len() as u64)?;
    let ((), first, known) = tokio::try_join!(
        biased;
        async { Ok::<_, Fault>(client.batch_execute(begin).await?) },
        hold_positions(client, positions),
        known(client, &ids),
    )?;
    let mut put = Put {
        client,
        batch,
        care,
        known,
        next: first,
        outcomes: vec![None; batch.documents.len()],
        sheet: TallySheet::new(batch.calendar.clone()),
        letters: Letters::default(),
        sums: Sums::default(),
    };
    put.documents().await?;
    for letter in &batch.dead {
        put.bury(letter.clone());
    }
    put.finish().await
}

/// Holds the row that all writers hold, and takes that many positions; returns the first.
async fn hold_positions(client: &Client, positions: i64) -> Result<i64, Fault> {
    let sql = "UPDATE inlet.positions SET last = last + $1 WHERE one RETURNING last - $1 + 1";
    let rows = client.query_typed(sql, &[(&positions, Type::INT8)]).await?;
    Ok(rows.first().ok_or(Fault::Damaged("positions"))?.try_get(0)?)
}

async fn known(client: &Client, ids: &[Id]) -> Result<Known, Fault> {
    let sql = "SELECT id, NULL::bigint, NULL::bytea FROM inlet.documents WHERE id = ANY($1)
         UNION ALL SELECT id, erased_us, NULL FROM inlet.erased WHERE id = ANY($1)
         UNION ALL SELECT id, NULL, body_sha256 FROM inlet.dead_letters WHERE id = ANY($1)";
    let mut known = Known::default();
    if ids.is_empty() {
        return Ok(known);
    }
    for row in client.query_typed(sql, &[(&ids, Type::UUID_ARRAY)]).await? {
        let id = row.try_get(0)?;
        let (erased_us, sha256): (Option<i64>, Option<&[u8]>) = (row.try_get(1)?, row.try_get(2)?);
        match (erased_us, sha256) {
            (Some(erased_us), _) => drop(known.erased.insert(id, erased_us)),
            (None, Some(sha256)) => {
                let sha256 = sha256.try_into().map_err(|_| Fault::Damaged("body_sha256"))?;
                known.letters.insert((id, sha256));
                known.dead.insert(id);
            }
            (None, None) => drop(known.stored.insert(id)),
        }
    }
    Ok(known)
}

struct Put<'a> {
    client: &'a Client,
    batch: &'a Batch,
    care: Care,
    known: Known,
    /// The position that the next document or letter gets.
    next: i64,
    outcomes: Vec<Option<Outcome>>,
    sheet: TallySheet,
    letters: Letters,
    sums: Sums,
}

impl Put<'_> {
    /// Gives each document its outcome. Of those with the same id the first that the engine takes
    /// is stored; what comes behind it is measured against that one.
    async fn documents(&mut self) -> Result<(), Fault> {
        self.set_aside_known().await?;
        let mut open: Vec<usize> =
            (0..self.outcomes.len()).filter(|at| self.outcomes[*at].is_none()).collect();
        let mut held: HashMap<DocumentId, usize> = HashMap::new();
        // Each round settles at least the first of those that are open.
        while !open.is_empty() {
            let (mut now, mut later, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
            for at in open {
                let document = &self.batch.documents[at];
                match held.get(&document.id) {
                    Some(first) => {
                        let same = self.batch.documents[*first].body == document.body;
                        self.found(at, same);
                    }
                    None if seen.insert(document.id) => now.push(at),
                    None => later.push(at),
                }
            }
            self.store(&now).await?;
            let stored = |at: &usize| self.outcomes[*at] == Some(Outcome::Stored);
            if !later.is_empty() {
                held.extend(now.iter().filter(|at| stored(at)).map(|at| (self.id(*at), *at)));
            }
            open = later;
        }
        Ok(())
    }

    fn id(&self, at: usize) -> DocumentId {
        self.batch.documents[at].id
    }

    /// Settles those that were erased and those that are in the store already.
    async fn set_aside_known(&mut self) -> Result<(), Fault> {
        if self.known.erased.is_empty() && self.known.stored.is_empty() {
            return Ok(());
        }
        let mut there = Vec::new();
        for (at, document) in self.batch.documents.iter().enumerate() {
            if self.is_erased(document.id, document.received.as_micros()) {
                self.outcomes[at] = Some(Outcome::Erased);
            } else if self.known.stored.contains(&Id::from(document.id)) {
                there.push(at);
            }
        }
        let same = insert::same(self.client, &self.batch.documents, &there).await?;
        for at in there {
            self.found(at, same.contains(&at));
        }
        Ok(())
    }

    /// Settles one whose id is in the store, with the same bytes or with others.
    fn found(&mut self, at: usize, same: bool) {
        let document = &self.batch.documents[at];
        if same {
            self.letters.take_away(document, &self.known);
            self.outcomes[at] = Some(Outcome::Duplicate);
        } else {
            self.die(at, Cause::KeyConflict, 1);
        }
    }

    /// Stores those, or buries what is refused of them.
    async fn store(&mut self, these: &[usize]) -> Result<(), Fault> {
        let documents = &self.batch.documents;
        let first = self.next;
        self.next += signed(these.len() as u64)?;
        let refused = match self.care {
            Care::Together => {
                let sheet = std::mem::replace(
                    &mut self.sheet,
                    TallySheet::new(self.batch.calendar.clone()),
                );
                let (inserted, sheet) = tokio::join!(
                    biased;
                    insert::together(self.client, self.batch, first, these),
                    count(sheet, documents, these),
                );
                inserted?;
                self.sheet = sheet;
                HashMap::new()
            }
            Care::Apart => {
                let refused = insert::apart(self.client, self.batch, first, these).await?;
                for at in these.iter().filter(|at| !refused.contains_key(at)) {
                    let Document { stream, received, body, .. } = &documents[*at];
                    self.sheet.stored(stream, *received, body);
                }
                refused
            }
        };
        for (position, at) in (first..).zip(these) {
            match refused.get(at) {
                Some(reason) => {
                    self.die(*at, Cause::Refused(reason.clone()), self.batch.attempts_max);
                }
                None => {
                    self.sums.stored(position, &documents[*at])?;
                    self.letters.take_away(&documents[*at], &self.known);
                    self.outcomes[*at] = Some(Outcome::Stored);
                }
            }
        }
        Ok(())
    }

    fn die(&mut self, at: usize, cause: Cause, attempts: u32) {
        let document = &self.batch.documents[at];
        self.outcomes[at] = Some(Outcome::Dead(cause.clone()));
        self.bury(DeadLetter {
            id: document.id,
            stream: document.stream.clone(),
            key: document.key.clone(),
            received: document.received,
            body: document.body.clone(),
            cause,
            attempts,
            died: self.batch.now,
            redriven: None,
        });
    }

    fn bury(&mut self, letter: DeadLetter) {
        if self.is_erased(letter.id, letter.received.as_micros()) {
            return;
        }
        let (stream, received) = (letter.stream.clone(), letter.received);
        let (code, bytes) = (letter.cause.code(), letter.body.len());
        if self.letters.bury(letter, &self.known) {
            self.sheet.dead(&stream, received, code, bytes);
        }
    }

    fn is_erased(&self, id: DocumentId, received_us: i64) -> bool {
        self.known.erased.get(&Id::from(id)).is_some_and(|erased_us| *erased_us >= received_us)
    }

    async fn finish(self) -> Result<Vec<Outcome>, Fault> {
        let client = self.client;
        tokio::try_join!(
            biased;
            self.letters.write(client, self.next),
            tallies::add(client, &self.sheet),
            self.sums.write(client),
            move_cursor(client, self.batch.cursor.as_ref()),
            async { Ok(client.batch_execute("COMMIT").await?) },
        )?;
        let outcomes = self.outcomes.into_iter();
        Ok(outcomes.map(|outcome| outcome.expect("each round settles what it takes")).collect())
    }
}

/// Counts those documents as stored, beside the thread that talks to the server where they are
/// many.
async fn count(mut sheet: TallySheet, documents: &[Document], these: &[usize]) -> TallySheet {
    if these.len() <= COUNTED_INLINE_MAX {
        for at in these {
            let Document { stream, received, body, .. } = &documents[*at];
            sheet.stored(stream, *received, body);
        }
        return sheet;
    }
    let parts: Vec<_> = these
        .iter()
        .map(|at| {
            let Document { stream, received, body, .. } = &documents[*at];
            (stream.clone(), *received, body.clone())
        })
        .collect();
    let counted = tokio::task::spawn_blocking(move || {
        for (stream, received, body) in &parts {
            sheet.stored(stream, *received, body);
        }
        sheet
    });
    counted.await.expect("counting does not panic, and is not aborted while it is waited for")
}

async fn move_cursor(client: &Client, cursor: Option<&Cursor>) -> Result<(), Fault> {
    let Some(cursor) = cursor else { return Ok(()) };
    client
        .execute_typed(
            "INSERT INTO inlet.cursors AS c (log, segment, \"offset\") VALUES ($1, $2, $3)
             ON CONFLICT (log) DO UPDATE
                 SET segment = excluded.segment, \"offset\" = excluded.\"offset\"
                 WHERE (excluded.segment, excluded.\"offset\") > (c.segment, c.\"offset\")",
            &[
                (&cursor.log, Type::TEXT),
                (&signed(cursor.segment)?, Type::INT8),
                (&signed(cursor.offset)?, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}
