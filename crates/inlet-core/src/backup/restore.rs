//! Putting: items of a checked backup, in batches, into a store.

use super::line::Item;
use super::{BackupFault, RestoreInto, RestoreReport};
use crate::calendar::Calendar;
use crate::dead_letter::{DeadLetter, DeadLetterFilter};
use crate::document::{BodyHash, Timestamp};
use crate::failure::{Failure, FailureKind};
use crate::persist::put_batch;
use crate::ports::{Batch, Known, Outcome, Store};

/// How many documents are restored in one transaction, and how many bytes of them.
const BATCH_DOCUMENTS_MAX: usize = 1_000;
const BATCH_BYTES_MAX: usize = 4 << 20;

/// A restore on its way.
pub(super) struct Restore<'a> {
    store: &'a dyn Store,
    batch: Batch,
    batch_bytes: usize,
    into: RestoreInto,
    report: RestoreReport,
}

impl<'a> Restore<'a> {
    /// A restore that has put nothing yet.
    pub(super) fn new(
        store: &'a dyn Store,
        calendar: &Calendar,
        now: Timestamp,
        into: RestoreInto,
    ) -> Self {
        let batch = Batch {
            documents: Vec::new(),
            dead: Vec::new(),
            cursor: None,
            now,
            calendar: calendar.clone(),
            attempts_max: 1,
        };
        Self { store, batch, batch_bytes: 0, into, report: RestoreReport::default() }
    }

    /// Takes the next item of the backup, and puts what has come together once it is enough.
    pub(super) async fn put(&mut self, item: Item) -> Result<(), Failure> {
        match item {
            Item::Document(document) => {
                // What is dead is put before any document, so that the document wins.
                if !self.batch.dead.is_empty() {
                    self.flush().await?;
                }
                self.batch_bytes += document.body.len();
                self.batch.documents.push(document);
            }
            Item::DeadLetter(letter) => {
                if self.into == RestoreInto::Any && self.knows(&letter).await? {
                    self.report.dead_letters_known += 1;
                    return Ok(());
                }
                self.batch_bytes += letter.body.len();
                self.batch.dead.push(letter);
            }
        }
        let items = self.batch.documents.len() + self.batch.dead.len();
        if items >= BATCH_DOCUMENTS_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Puts the rest, and tells what was done.
    pub(super) async fn finish(mut self) -> Result<RestoreReport, Failure> {
        self.flush().await?;
        Ok(self.report)
    }

    /// Whether the letter is there, or its document is stored. Put again it would count as
    /// having died again.
    async fn knows(&self, letter: &DeadLetter) -> Result<bool, Failure> {
        let known = self.store.known(&[letter.id]).await?;
        let body = BodyHash::of(&letter.body);
        let is_known =
            |known: &Known| known.stored == Some(body) || known.attempts_of(&body).is_some();
        Ok(known.get(&letter.id).is_some_and(is_known))
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.documents.is_empty() && self.batch.dead.is_empty() {
            return Ok(());
        }
        let batch = Batch {
            documents: std::mem::take(&mut self.batch.documents),
            dead: std::mem::take(&mut self.batch.dead),
            ..self.batch.clone()
        };
        self.batch_bytes = 0;
        let redriven: Vec<_> = batch
            .dead
            .iter()
            .filter_map(|letter| letter.redriven.map(|moment| (letter.id, moment)))
            .collect();
        let (documents, dead_letters) = (batch.documents.len(), batch.dead.len() as u64);
        let mut outcomes = put_batch(self.store, batch).await?;
        outcomes.truncate(documents);
        for (id, moment) in redriven {
            self.store.mark_redriven(&[id], moment).await?;
        }
        self.report.dead_letters += dead_letters;
        for outcome in outcomes {
            match outcome {
                Outcome::Stored => self.report.stored += 1,
                Outcome::Duplicate => self.report.duplicates += 1,
                Outcome::Dead(_) => self.report.dead += 1,
                Outcome::Erased => self.report.erased += 1,
            }
        }
        Ok(())
    }
}

/// Refuses a store that has or had anything.
pub(super) async fn refuse_unless_empty(store: &dyn Store, prefix: &str) -> Result<(), Failure> {
    let dead = store.dead_letters(&DeadLetterFilter::default(), 1, None).await?;
    if store.streams().await?.is_empty() && dead.items.is_empty() {
        return Ok(());
    }
    Err(Failure::new(FailureKind::Refused, "restore backup", prefix)
        .because(BackupFault::StoreNotEmpty)
        .hint(
            "restore into an empty store, or allow one that is not: documents that are there \
             stay as they are",
        ))
}
