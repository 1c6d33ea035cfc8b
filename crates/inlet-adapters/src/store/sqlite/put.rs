//! Writing a plan: documents, dead letters, figures, tallies and cursor, in one transaction.
//!
//! This is where throughput is made or lost. A document that is new costs one insert, which also
//! says whether its id is taken. Marks and dead letters are compared with those that the plan
//! rests on only where the file has any.

use std::collections::HashMap;

use inlet_core::dead_letter::DeadLetter;
use inlet_core::document::{BodyHash, Document, IdempotencyKey};
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::{LetterWrite, Plan};
use inlet_core::ports::Cursor;
use rusqlite::{CachedStatement, Transaction, params};

use super::failure::is_refusal;
use super::known::States;
use super::spans::LastSpan;
use super::streams::{FiguresSheet, StreamIds};
use super::tallies::{self, signed};

const INSERT: &str = "INSERT INTO documents
    (position, id, stream_id, received_us, stored_us, key, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (id) DO NOTHING";

/// What came of writing a plan. Anything but [`Put::Done`] is to be rolled back.
pub(super) enum Put {
    /// All of it is written.
    Done,
    /// Some ids have other states than the plan rests on.
    Changed,
    /// The file refuses these items.
    Refused(HashMap<usize, String>),
}

/// Writes the plan.
pub(super) fn put(
    tx: &Transaction<'_>,
    streams: &mut StreamIds,
    plan: &Plan,
) -> rusqlite::Result<Put> {
    if is_changed(tx, plan)? {
        return Ok(Put::Changed);
    }
    let mut inserts = Inserts {
        plan,
        insert: tx.prepare_cached(INSERT)?,
        span: LastSpan::read(tx)?,
        figures: FiguresSheet::default(),
    };
    let mut refused = HashMap::new();
    for (index, document) in plan.inserts.iter().zip(plan.inserts()) {
        let stream_id = streams.id(tx, &document.stream)?;
        match inserts.insert(document, stream_id) {
            Ok(true) => {}
            Ok(false) => return Ok(Put::Changed),
            Err(error) if is_refusal(&error) => drop(refused.insert(*index, error.to_string())),
            Err(error) => return Err(error),
        }
    }
    if !refused.is_empty() {
        return Ok(Put::Refused(refused));
    }
    inserts.span.write(tx)?;
    inserts.figures.write(tx)?;
    drop(inserts);
    for letter in &plan.letters {
        write_letter(tx, streams, letter)?;
    }
    tallies::add(tx, streams, &plan.tallies())?;
    if let Some(cursor) = plan.cursor() {
        move_cursor(tx, cursor)?;
    }
    Ok(Put::Done)
}

/// Whether an id has another state than the plan rests on, as far as the inserts will not tell. A
/// document that is stored goes by an erasure only, which changes the mark.
fn is_changed(tx: &Transaction<'_>, plan: &Plan) -> rusqlite::Result<bool> {
    let mut states = States::open(tx)?;
    if plan.known.is_empty() && plan.letters.is_empty() && states.has_documents_alone() {
        return Ok(false);
    }
    for id in plan.items().map(|item| item.id()) {
        let known = plan.known(id);
        if states.mark(id)? != known.and_then(|known| known.erased)
            || states.letters(id)? != known.map_or(&[][..], |known| &known.letters)
        {
            return Ok(true);
        }
    }
    for letter in &plan.letters {
        let known = plan.known(letter.id());
        if states.stored(letter.id())? != known.and_then(|known| known.stored) {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Inserts<'a> {
    plan: &'a Plan,
    insert: CachedStatement<'a>,
    span: LastSpan,
    figures: FiguresSheet,
}

impl Inserts<'_> {
    /// Inserts the document; false where its id is taken. One that is refused is tried as often as
    /// the batch says.
    fn insert(&mut self, document: &Document, stream_id: i64) -> rusqlite::Result<bool> {
        let mut inserted = self.try_insert(document, stream_id);
        for _ in 1..self.plan.batch.attempts_max {
            if !inserted.as_ref().is_err_and(is_refusal) {
                break;
            }
            inserted = self.try_insert(document, stream_id);
        }
        if inserted? == 0 {
            return Ok(false);
        }
        self.span.stored(document.received);
        let bytes = signed(document.body.len() as u64)?;
        self.figures.stored(stream_id, document.received, bytes);
        Ok(true)
    }

    fn try_insert(&mut self, document: &Document, stream_id: i64) -> rusqlite::Result<usize> {
        self.insert.execute(params![
            self.span.next(),
            document.id.as_bytes(),
            stream_id,
            document.received.as_micros(),
            self.plan.batch.now.as_micros(),
            document.key.as_ref().map(IdempotencyKey::as_str),
            &document.body[..],
        ])
    }
}

fn write_letter(
    tx: &Transaction<'_>,
    streams: &mut StreamIds,
    write: &LetterWrite,
) -> rusqlite::Result<()> {
    match write {
        LetterWrite::New { letter, body } => insert_letter(tx, streams, letter, body),
        LetterWrite::Again { id, body, cause, attempts } => tx
            .prepare_cached(
                "UPDATE dead_letters SET cause = ?3, class = ?4, detail = ?5, attempts = ?6
                 WHERE id = ?1 AND body_sha256 = ?2",
            )?
            .execute(params![
                id.as_bytes(),
                body.as_bytes(),
                cause.code(),
                cause.class(),
                cause.detail(),
                attempts,
            ])
            .map(drop),
        LetterWrite::Gone { id, body } => delete_letter(tx, *id, body),
    }
}

fn insert_letter(
    tx: &Transaction<'_>,
    streams: &mut StreamIds,
    letter: &DeadLetter,
    body: &BodyHash,
) -> rusqlite::Result<()> {
    let stream_id = streams.id(tx, &letter.stream)?;
    tx.prepare_cached(
        "INSERT INTO dead_letters (id, body_sha256, stream_id, received_us, key, body, cause,
             class, detail, attempts, died_us, redriven_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?
    .execute(params![
        letter.id.as_bytes(),
        body.as_bytes(),
        stream_id,
        letter.received.as_micros(),
        letter.key.as_ref().map(IdempotencyKey::as_str),
        &letter.body[..],
        letter.cause.code(),
        letter.cause.class(),
        letter.cause.detail(),
        letter.attempts,
        letter.died.as_micros(),
        letter.redriven.map(|moment| moment.as_micros()),
    ])
    .map(drop)
}

fn delete_letter(tx: &Transaction<'_>, id: DocumentId, body: &BodyHash) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM dead_letters WHERE id = ?1 AND body_sha256 = ?2")?
        .execute(params![id.as_bytes(), body.as_bytes()])
        .map(drop)
}

fn move_cursor(tx: &Transaction<'_>, cursor: &Cursor) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "INSERT INTO cursors (log, segment, offset) VALUES (?1, ?2, ?3)
         ON CONFLICT (log) DO UPDATE SET segment = excluded.segment, offset = excluded.offset
         WHERE (excluded.segment, excluded.offset) > (segment, offset)",
    )?
    .execute(params![cursor.log, signed(cursor.segment)?, signed(cursor.offset)?])
    .map(drop)
}
