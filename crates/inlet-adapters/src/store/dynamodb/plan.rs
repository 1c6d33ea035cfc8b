//! What a batch, or a part of one, comes to: worked out in memory from what is known of its ids,
//! before anything is written. What turns out to be known wrongly is learned from the answer that
//! refuses the transaction, and planned again.

use std::collections::{BTreeMap, HashMap};

use inlet_core::dead_letter::{Cause, DeadLetter};
use inlet_core::document::Document;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Batch, Outcome};
use inlet_core::tally::TallySheet;

use super::letter::Letter;
use super::record::{Body, Record, Stored};
use super::span::Entry;

/// A document on its way into the table.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) document: Document,
    pub(super) sha256: [u8; 32],
    pub(super) body: Body,
    /// How often DynamoDB refused it, and what it said once that was often enough.
    pub(super) attempts: u32,
    pub(super) refused: Option<String>,
}

/// What is to be put: a document, or what is dead already.
#[derive(Debug, Clone)]
pub(super) enum Work {
    Document(Prepared),
    Letter(Letter),
}

impl Work {
    pub(super) fn body(&self) -> &Body {
        match self {
            Self::Document(prepared) => &prepared.body,
            Self::Letter(letter) => &letter.body,
        }
    }
}

/// Names a letter: the document's id and the checksum of its body.
pub(super) type LetterId = (DocumentId, [u8; 32]);

/// What was read of the table; nothing is known to be in the way of any other id.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) records: HashMap<DocumentId, Record>,
    pub(super) letters: HashMap<LetterId, Option<Letter>>,
}

/// What is to be written of a letter.
#[derive(Debug)]
pub(super) enum LetterWrite {
    /// It is new.
    New(Letter),
    /// It died again: its cause and attempts change.
    Again(Letter),
    /// Its document was stored.
    Gone(Letter),
}

/// What is to be written, and what then became of each document.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) outcomes: Vec<Outcome>,
    /// The records that change, with the revision they have.
    pub(super) records: Vec<(DocumentId, u64, Record)>,
    pub(super) letters: Vec<LetterWrite>,
    pub(super) entries: Vec<Entry>,
    pub(super) sheet: TallySheet,
    /// Bodies in the bucket that nothing points to once it is written.
    pub(super) unused: Vec<String>,
}

/// A plan, or the letters that have to be looked up for it.
pub(super) enum Planned {
    Ready(Plan),
    Missing(Vec<LetterId>),
}

/// Plans `work`, to be the span `place` (lane and number).
pub(super) fn plan(batch: &Batch, work: &[Work], known: &Known, place: (u8, u64)) -> Planned {
    let mut planner = Planner {
        batch,
        known,
        place,
        records: BTreeMap::new(),
        letters: BTreeMap::new(),
        missing: Vec::new(),
        plan: Plan {
            outcomes: Vec::with_capacity(work.len()),
            records: Vec::new(),
            letters: Vec::new(),
            entries: Vec::new(),
            sheet: TallySheet::new(batch.calendar.clone()),
            unused: Vec::new(),
        },
    };
    for work in work {
        match work {
            Work::Document(prepared) => {
                let outcome = planner.document(prepared);
                planner.plan.outcomes.push(outcome);
            }
            Work::Letter(letter) => planner.letter(letter),
        }
    }
    planner.finish()
}

struct Planner<'a> {
    batch: &'a Batch,
    known: &'a Known,
    place: (u8, u64),
    records: BTreeMap<DocumentId, Record>,
    /// The letters that are touched: as they are, and as they will be.
    letters: BTreeMap<LetterId, (Option<Letter>, Option<Letter>)>,
    missing: Vec<LetterId>,
    plan: Plan,
}

impl Planner<'_> {
    fn document(&mut self, prepared: &Prepared) -> Outcome {
        let Prepared { document, sha256, body, .. } = prepared;
        let record = self.record(document.id);
        if record.erases(document.received) {
            self.not_used(body);
            return Outcome::Erased;
        }
        match (&record.stored, &prepared.refused) {
            (Some(stored), _) if stored.sha256 == *sha256 => {
                self.not_used(body);
                self.take_letter_away((document.id, *sha256));
                Outcome::Duplicate
            }
            (Some(_), _) => self.dead(prepared, Cause::KeyConflict, 1),
            (None, Some(detail)) => {
                let cause = Cause::Refused(detail.clone());
                self.dead(prepared, cause, self.batch.attempts_max)
            }
            (None, None) => {
                self.store(prepared);
                self.take_letter_away((document.id, *sha256));
                Outcome::Stored
            }
        }
    }

    fn store(&mut self, prepared: &Prepared) {
        let Prepared { document, sha256, body, .. } = prepared;
        let (lane, n) = self.place;
        let stored = Stored {
            stream: document.stream.clone(),
            key: document.key.clone(),
            received: document.received,
            stored: self.batch.now,
            bytes: document.body.len() as u64,
            sha256: *sha256,
            body: body.clone(),
            lane,
            n,
        };
        self.record(document.id).stored = Some(stored);
        self.plan.sheet.stored(&document.stream, document.received, &document.body);
        self.plan.entries.push(Entry {
            id: document.id,
            stream: document.stream.clone(),
            received: document.received,
            bytes: u32::try_from(document.body.len()).unwrap_or(u32::MAX),
        });
    }

    fn dead(&mut self, prepared: &Prepared, cause: Cause, attempts: u32) -> Outcome {
        let document = &prepared.document;
        let letter = DeadLetter {
            id: document.id,
            stream: document.stream.clone(),
            key: document.key.clone(),
            received: document.received,
            body: document.body.clone(),
            cause: cause.clone(),
            attempts,
            died: self.batch.now,
            redriven: None,
        };
        let (sha256, body) = (prepared.sha256, prepared.body.clone());
        self.bury(Letter { letter, sha256, body });
        Outcome::Dead(cause)
    }

    fn letter(&mut self, letter: &Letter) {
        let record = self.record(letter.letter.id);
        let stored = record.stored.as_ref().is_some_and(|it| it.sha256 == letter.sha256);
        // What is stored with these very bytes is in its place, and is not kept twice.
        if stored || record.erases(letter.letter.received) {
            self.not_used(&letter.body);
        } else {
            self.bury(letter.clone());
        }
    }

    /// Keeps a dead letter. One that died before keeps its place and its first death; its
    /// attempts add up, where they are not counted by the queue.
    fn bury(&mut self, letter: Letter) {
        let id = (letter.letter.id, letter.sha256);
        if let Some(before) = self.find_letter(id) {
            let mut again = before;
            let attempts = letter.letter.attempts;
            again.letter.attempts = match letter.letter.cause {
                Cause::Undecodable(_) => again.letter.attempts.max(attempts),
                _ => again.letter.attempts.saturating_add(attempts),
            };
            again.letter.cause = letter.letter.cause;
            self.not_used(&letter.body);
            self.set_letter(id, Some(again));
            return;
        }
        let dead = &letter.letter;
        self.plan.sheet.dead(&dead.stream, dead.received, dead.cause.code(), dead.body.len());
        self.record(id.0).letters += 1;
        self.set_letter(id, Some(letter));
    }

    fn take_letter_away(&mut self, id: LetterId) {
        if let Some(letter) = self.find_letter(id) {
            self.not_used(&letter.body);
            let record = self.record(id.0);
            record.letters = record.letters.saturating_sub(1);
            self.set_letter(id, None);
        }
    }

    fn record(&mut self, id: DocumentId) -> &mut Record {
        let known = self.known.records.get(&id);
        self.records.entry(id).or_insert_with(|| known.cloned().unwrap_or_default())
    }

    /// The letter as it will be by now.
    fn find_letter(&mut self, id: LetterId) -> Option<Letter> {
        if let Some((_, now)) = self.letters.get(&id) {
            return now.clone();
        }
        if self.record(id.0).letters == 0 {
            return None;
        }
        match self.known.letters.get(&id) {
            Some(letter) => letter.clone(),
            None => {
                self.missing.push(id);
                None
            }
        }
    }

    fn set_letter(&mut self, id: LetterId, now: Option<Letter>) {
        let before = self.known.letters.get(&id).cloned().flatten();
        self.letters.entry(id).or_insert((before, None)).1 = now;
    }

    fn not_used(&mut self, body: &Body) {
        self.plan.unused.extend(body.overflow().map(str::to_owned));
    }

    fn finish(mut self) -> Planned {
        if !self.missing.is_empty() {
            return Planned::Missing(self.missing);
        }
        let mut plan = self.plan;
        for (id, record) in std::mem::take(&mut self.records) {
            let before = self.known.records.get(&id).cloned().unwrap_or_default();
            if record != before {
                plan.records.push((id, before.rev, record));
            }
        }
        plan.letters = self.letters.into_values().filter_map(letter_write).collect();
        Planned::Ready(plan)
    }
}

fn letter_write(letter: (Option<Letter>, Option<Letter>)) -> Option<LetterWrite> {
    match letter {
        (None, Some(now)) => Some(LetterWrite::New(now)),
        (Some(_), Some(now)) => Some(LetterWrite::Again(now)),
        (Some(before), None) => Some(LetterWrite::Gone(before)),
        (None, None) => None,
    }
}
