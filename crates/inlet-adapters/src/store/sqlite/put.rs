//! What a batch does: documents, dead letters, figures, tallies and cursor, in one transaction.
//!
//! This is where throughput is made or lost. A document that is new costs one insert; whether it
//! is there already is learned from the insert itself, and only then is the body that is there
//! read. Erasures and dead letters are asked for a document at a time only where the answer can
//! be yes: where something was erased after the document was received, and where there is any
//! dead letter at all.

use bytes::Bytes;
use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::{Document, IdempotencyKey};
use inlet_core::ports::{Batch, Cursor, Outcome};
use inlet_core::tally::TallySheet;
use rusqlite::{CachedStatement, OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::failure::is_refusal;
use super::spans::LastSpan;
use super::streams::{FiguresSheet, StreamIds};
use super::tallies::{self, signed};

const INSERT: &str = "INSERT INTO documents
    (position, id, stream_id, received_us, stored_us, key, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (id) DO NOTHING";

/// Puts the batch; the outcomes are in the order of its documents.
pub(super) fn put_batch(
    tx: &Transaction<'_>,
    streams: &mut StreamIds,
    batch: &Batch,
) -> rusqlite::Result<Vec<Outcome>> {
    let mut put = Put {
        tx,
        streams,
        batch,
        insert: tx.prepare_cached(INSERT)?,
        span: LastSpan::read(tx)?,
        figures: FiguresSheet::default(),
        sheet: TallySheet::new(batch.calendar.clone()),
        erased_last_us: erased_last_us(tx)?,
        letters: any_letters(tx)?,
    };
    let mut outcomes = Vec::with_capacity(batch.documents.len());
    for document in &batch.documents {
        outcomes.push(put.document(document)?);
    }
    for letter in &batch.dead {
        if !put.is_erased(letter.id.as_bytes(), letter.received.as_micros())? {
            put.bury(letter)?;
        }
    }
    put.span.write(tx)?;
    put.figures.write(tx)?;
    tallies::add(tx, put.streams, &put.sheet)?;
    if let Some(cursor) = &batch.cursor {
        move_cursor(tx, cursor)?;
    }
    Ok(outcomes)
}

struct Put<'a> {
    tx: &'a Transaction<'a>,
    streams: &'a mut StreamIds,
    batch: &'a Batch,
    insert: CachedStatement<'a>,
    span: LastSpan,
    figures: FiguresSheet,
    sheet: TallySheet,
    /// When something was erased last; `None` where nothing ever was.
    erased_last_us: Option<i64>,
    /// Whether there may be dead letters.
    letters: bool,
}

impl Put<'_> {
    fn document(&mut self, document: &Document) -> rusqlite::Result<Outcome> {
        if self.is_erased(document.id.as_bytes(), document.received.as_micros())? {
            return Ok(Outcome::Erased);
        }
        let stream_id = self.streams.id(self.tx, &document.stream)?;
        match self.insert_patiently(document, stream_id) {
            Ok(true) => {
                let bytes = signed(document.body.len() as u64)?;
                self.span.stored(document.received);
                self.figures.stored(stream_id, document.received, bytes);
                self.sheet.stored(&document.stream, document.received, &document.body);
                self.take_letter_away(document)?;
                Ok(Outcome::Stored)
            }
            Ok(false) => self.not_inserted(document),
            Err(error) if is_refusal(&error) => self.refused(document, error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// Inserts the document; false where the id is taken. One that is refused is tried as often
    /// as the batch says, each time from where the transaction stood before it.
    fn insert_patiently(&mut self, document: &Document, stream_id: i64) -> rusqlite::Result<bool> {
        let mut result = self.insert(document, stream_id);
        for _ in 1..self.batch.attempts_max {
            if !result.as_ref().is_err_and(is_refusal) {
                break;
            }
            self.tx.execute_batch("SAVEPOINT attempt")?;
            result = self.insert(document, stream_id);
            let undo = if result.is_err() { "ROLLBACK TO attempt;" } else { "" };
            self.tx.execute_batch(&format!("{undo} RELEASE attempt"))?;
        }
        result
    }

    fn insert(&mut self, document: &Document, stream_id: i64) -> rusqlite::Result<bool> {
        let inserted = self.insert.execute(params![
            self.span.next(),
            document.id.as_bytes(),
            stream_id,
            document.received.as_micros(),
            self.batch.now.as_micros(),
            document.key.as_ref().map(IdempotencyKey::as_str),
            &document.body[..],
        ])?;
        Ok(inserted > 0)
    }

    fn not_inserted(&mut self, document: &Document) -> rusqlite::Result<Outcome> {
        let same: Option<bool> = self
            .tx
            .prepare_cached("SELECT body = ?2 FROM documents WHERE id = ?1")?
            .query_row(params![document.id.as_bytes(), &document.body[..]], |row| row.get(0))
            .optional()?;
        match same {
            Some(true) => {
                self.take_letter_away(document)?;
                Ok(Outcome::Duplicate)
            }
            Some(false) => {
                self.bury(&letter(document, Cause::KeyConflict, 1, self.batch))?;
                Ok(Outcome::Dead(Cause::KeyConflict))
            }
            None => self.refused(document, "the row was not inserted".to_owned()),
        }
    }

    fn refused(&mut self, document: &Document, detail: String) -> rusqlite::Result<Outcome> {
        let cause = Cause::Refused(detail);
        self.bury(&letter(document, cause.clone(), self.batch.attempts_max, self.batch))?;
        Ok(Outcome::Dead(cause))
    }

    fn is_erased(&self, id: &[u8; 16], received_us: i64) -> rusqlite::Result<bool> {
        if self.erased_last_us.is_none_or(|erased_us| received_us > erased_us) {
            return Ok(false);
        }
        self.tx
            .prepare_cached("SELECT 1 FROM erased WHERE id = ?1 AND erased_us >= ?2")?
            .exists(params![id, received_us])
    }

    fn take_letter_away(&self, document: &Document) -> rusqlite::Result<()> {
        if !self.letters {
            return Ok(());
        }
        self.tx
            .prepare_cached("DELETE FROM dead_letters WHERE id = ?1 AND body = ?2")?
            .execute(params![document.id.as_bytes(), &document.body[..]])
            .map(drop)
    }

    /// Keeps a dead letter. One that died before keeps its place and its first death; its
    /// attempts add up, where they are not counted by the queue.
    fn bury(&mut self, letter: &DeadLetter) -> rusqlite::Result<()> {
        self.letters = true;
        let stream_id = self.streams.id(self.tx, &letter.stream)?;
        let sha256: [u8; 32] = Sha256::digest(&letter.body).into();
        let counted_by_queue = matches!(letter.cause, Cause::Undecodable(_));
        let died_before = self
            .tx
            .prepare_cached(
                "UPDATE dead_letters SET cause = ?3, class = ?4, detail = ?5,
                     attempts = iif(?7, max(attempts, ?6), attempts + ?6)
                 WHERE id = ?1 AND body_sha256 = ?2",
            )?
            .execute(params![
                letter.id.as_bytes(),
                sha256,
                letter.cause.code(),
                letter.cause.class(),
                letter.cause.detail(),
                letter.attempts,
                counted_by_queue,
            ])?;
        if died_before > 0 {
            return Ok(());
        }
        self.tx
            .prepare_cached(
                "INSERT INTO dead_letters (id, body_sha256, stream_id, received_us, key, body,
                     cause, class, detail, attempts, died_us, redriven_us)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
            )?
            .execute(params![
                letter.id.as_bytes(),
                sha256,
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
            ])?;
        self.sheet.dead(&letter.stream, letter.received, letter.cause.code(), letter.body.len());
        Ok(())
    }
}

fn letter(document: &Document, cause: Cause, attempts: u32, batch: &Batch) -> DeadLetter {
    DeadLetter {
        id: document.id,
        stream: document.stream.clone(),
        key: document.key.clone(),
        received: document.received,
        body: Bytes::clone(&document.body),
        cause,
        attempts,
        died: batch.now,
        redriven: None,
    }
}

fn erased_last_us(tx: &Transaction<'_>) -> rusqlite::Result<Option<i64>> {
    tx.prepare_cached("SELECT max(erased_us) FROM erased")?.query_row([], |row| row.get(0))
}

fn any_letters(tx: &Transaction<'_>) -> rusqlite::Result<bool> {
    tx.prepare_cached("SELECT 1 FROM dead_letters LIMIT 1")?.exists([])
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
