//! The plan of a batch: what is to be written, worked out from the batch and from what is known of
//! its ids. It is pure; a store writes it as it is, or says why it can't be written as it is.
//!
//! The rules, in the order in which they apply to a document:
//!
//! 1. Its id was erased, and its generation is an earlier one: nothing is written
//!    ([`Outcome::Erased`]).
//! 2. Its id is stored with the same body: nothing is written ([`Outcome::Duplicate`]). With
//!    another body it becomes a dead letter with [`Cause::KeyConflict`]; what is stored stays.
//! 3. The engine refuses it: it becomes a dead letter with [`Cause::Refused`].
//! 4. Otherwise it is stored.
//!
//! A document that is stored, or was, takes the dead letter with the same id and body away. A dead
//! letter that the batch brings is written unless its id was erased (1) or its very document is
//! stored (2). One that is there already stays where it is and keeps the moment of its first
//! death; its attempts add up, unless the queue counts them.
//!
//! Documents of one batch see each other as if they came one batch after the other.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use crate::dead_letter::{Cause, DeadLetter};
use crate::document::{BodyHash, Document};
use crate::id::DocumentId;
use crate::ports::{Batch, Cursor, Known, Outcome};
use crate::tally::TallySheet;

/// The states of ids. Nothing is known of an id that is not in it.
pub type KnownIds = HashMap<DocumentId, Known>;

/// One item of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Item<'a> {
    /// A document to be stored.
    Document(&'a Document),
    /// A dead letter to be kept.
    Letter(&'a DeadLetter),
}

impl Item<'_> {
    /// The id of the document or letter.
    pub fn id(&self) -> DocumentId {
        match self {
            Self::Document(document) => document.id,
            Self::Letter(letter) => letter.id,
        }
    }
}

/// What is to be written of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LetterWrite {
    /// It is new.
    New {
        /// The letter.
        letter: DeadLetter,
        /// The hash of its body.
        body: BodyHash,
    },
    /// It died again: its cause and the number of its attempts change.
    Again {
        /// Its id.
        id: DocumentId,
        /// The hash of its body.
        body: BodyHash,
        /// The cause of its last death.
        cause: Cause,
        /// The number of attempts in all.
        attempts: u32,
    },
    /// Its document is stored: it goes.
    Gone {
        /// Its id.
        id: DocumentId,
        /// The hash of its body.
        body: BodyHash,
    },
}

impl LetterWrite {
    /// The letter's id.
    pub fn id(&self) -> DocumentId {
        match self {
            Self::New { letter, .. } => letter.id,
            Self::Again { id, .. } | Self::Gone { id, .. } => *id,
        }
    }
}

/// What is to be written of a batch, or of a part of one, in one transaction.
///
/// Items are counted from 0 through the documents of the batch and on through its dead letters.
#[derive(Debug)]
pub struct Plan {
    /// The batch.
    pub batch: Arc<Batch>,
    /// The items that are planned.
    pub items: Range<usize>,
    /// The states that the plan rests on. It holds only while they are those of the store.
    pub known: KnownIds,
    /// The documents to insert, in order, by their place among those of the batch.
    pub inserts: Vec<usize>,
    /// What to write of dead letters; new ones in the order in which they died.
    pub letters: Vec<LetterWrite>,
    /// What then became of each item that is planned, in order.
    pub outcomes: Vec<Outcome>,
}

impl Plan {
    /// The items that are planned.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.items.clone().map(|index| self.batch.item(index))
    }

    /// The documents to insert, in order.
    pub fn inserts(&self) -> impl ExactSizeIterator<Item = &Document> {
        self.inserts.iter().map(|index| &self.batch.documents[*index])
    }

    /// How far the log is stored once the plan is written: known with the last part of a batch.
    pub fn cursor(&self) -> Option<&Cursor> {
        self.batch.cursor.as_ref().filter(|_| self.items.end == self.batch.len())
    }

    /// The state that the plan rests on for `id`.
    pub fn known(&self, id: DocumentId) -> Option<&Known> {
        self.known.get(&id)
    }

    /// Counts what is inserted and what is dead for the first time. It reads every body, and is
    /// left to the store so that it can be done beside the writing.
    pub fn tallies(&self) -> TallySheet {
        let mut sheet = TallySheet::new(self.batch.calendar.clone());
        for document in self.inserts() {
            sheet.stored(&document.stream, document.received, &document.body);
        }
        for letter in &self.letters {
            if let LetterWrite::New { letter, .. } = letter {
                let code = letter.cause.code();
                sheet.dead(&letter.stream, letter.received, code, letter.body.len());
            }
        }
        sheet
    }
}

/// Plans the items `items` of `batch`. `known` has the states of their ids, as far as they are
/// known; `refused` the items that the engine refuses, with its reasons.
pub fn plan(
    batch: &Arc<Batch>,
    items: Range<usize>,
    known: &KnownIds,
    refused: &HashMap<usize, String>,
) -> Plan {
    let mut planner = Planner {
        batch,
        known,
        inserted: HashMap::with_capacity(items.len()),
        inserts: Vec::with_capacity(items.len()),
        letters: Letters::default(),
    };
    let outcomes = items
        .clone()
        .map(|index| match batch.item(index) {
            Item::Document(document) => planner.document(index, document, refused.get(&index)),
            Item::Letter(letter) => planner.letter(letter),
        })
        .collect();
    let Planner { inserts, letters, .. } = planner;
    let letters = letters.writes();
    let rests_on = |index| {
        let id = batch.item(index).id();
        known.get(&id).map(|known| (id, known.clone()))
    };
    let known = if known.is_empty() {
        KnownIds::new()
    } else {
        items.clone().filter_map(rests_on).collect()
    };
    Plan { batch: Arc::clone(batch), items, known, inserts, letters, outcomes }
}

struct Planner<'a> {
    batch: &'a Batch,
    known: &'a KnownIds,
    /// The documents that are inserted, by id, with their place in the batch.
    inserted: HashMap<DocumentId, usize>,
    inserts: Vec<usize>,
    letters: Letters,
}

/// What is stored under an id, against a body that comes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stored {
    Nothing,
    Same,
    Other,
}

impl Planner<'_> {
    fn document(&mut self, index: usize, document: &Document, refused: Option<&String>) -> Outcome {
        let Document { id, generation, received, .. } = document;
        if self.known(*id).is_some_and(|known| known.erases(*generation, *received)) {
            return Outcome::Erased;
        }
        match (self.stored(document.id, &document.body), refused) {
            (Stored::Same, _) => {
                self.take_letter_away(document);
                Outcome::Duplicate
            }
            (Stored::Other, _) => self.dies(document, Cause::KeyConflict, 1),
            (Stored::Nothing, Some(reason)) => {
                self.dies(document, Cause::Refused(reason.clone()), self.batch.attempts_max)
            }
            (Stored::Nothing, None) => {
                self.inserted.insert(document.id, index);
                self.inserts.push(index);
                self.take_letter_away(document);
                Outcome::Stored
            }
        }
    }

    fn letter(&mut self, letter: &DeadLetter) -> Outcome {
        let DeadLetter { id, generation, received, .. } = letter;
        if self.known(*id).is_some_and(|known| known.erases(*generation, *received)) {
            return Outcome::Erased;
        }
        if self.stored(letter.id, &letter.body) == Stored::Same {
            return Outcome::Duplicate;
        }
        self.write_letter(letter.clone());
        Outcome::Dead(letter.cause.clone())
    }

    fn dies(&mut self, document: &Document, cause: Cause, attempts: u32) -> Outcome {
        let letter = DeadLetter::of(document, cause.clone(), attempts, self.batch.now);
        self.write_letter(letter);
        Outcome::Dead(cause)
    }

    fn write_letter(&mut self, letter: DeadLetter) {
        let body = BodyHash::of(&letter.body);
        let before = self.known(letter.id).and_then(|known| known.attempts_of(&body));
        self.letters.dies(letter, body, before);
    }

    fn take_letter_away(&mut self, document: &Document) {
        let known = self.known(document.id);
        let has_letters = known.is_some_and(|known| !known.letters.is_empty());
        if !has_letters && !self.letters.ids.contains(&document.id) {
            return;
        }
        let body = document.body_hash();
        let before = known.and_then(|known| known.attempts_of(&body));
        self.letters.goes(document.id, body, before);
    }

    fn stored(&self, id: DocumentId, body: &[u8]) -> Stored {
        let is_same = match self.inserted.get(&id) {
            Some(index) => self.batch.documents[*index].body == body,
            None => match self.known(id).and_then(|known| known.stored) {
                Some(stored) => stored == BodyHash::of(body),
                None => return Stored::Nothing,
            },
        };
        if is_same { Stored::Same } else { Stored::Other }
    }

    fn known(&self, id: DocumentId) -> Option<&Known> {
        // Nearly always nothing is known of any id.
        if self.known.is_empty() { None } else { self.known.get(&id) }
    }
}

/// The letters that the plan touches.
#[derive(Default)]
struct Letters {
    touched: Vec<Touched>,
    at: HashMap<(DocumentId, BodyHash), usize>,
    ids: HashSet<DocumentId>,
}

struct Touched {
    id: DocumentId,
    body: BodyHash,
    /// Whether it is there before the plan is written.
    was_there: bool,
    now: Now,
}

/// A letter as it is once the plan is written.
enum Now {
    Gone,
    New(DeadLetter),
    Again { cause: Cause, attempts: u32 },
}

impl Letters {
    /// Keeps a letter that had so many attempts `before`, if it was there.
    fn dies(&mut self, letter: DeadLetter, body: BodyHash, before: Option<u32>) {
        let added_up = |before: u32, letter: &DeadLetter| match letter.cause {
            Cause::Undecodable(_) => before.max(letter.attempts),
            Cause::KeyConflict | Cause::Refused(_) => before.saturating_add(letter.attempts),
        };
        let touched = self.touch(letter.id, body, before);
        touched.now = match (std::mem::replace(&mut touched.now, Now::Gone), before) {
            (Now::New(new), _) => {
                let attempts = added_up(new.attempts, &letter);
                Now::New(DeadLetter { cause: letter.cause, attempts, ..new })
            }
            (Now::Again { attempts, .. }, _) => {
                Now::Again { attempts: added_up(attempts, &letter), cause: letter.cause }
            }
            (Now::Gone, Some(before)) => {
                Now::Again { attempts: added_up(before, &letter), cause: letter.cause }
            }
            (Now::Gone, None) => Now::New(letter),
        };
    }

    /// Takes a letter away that had so many attempts `before`, if it was there.
    fn goes(&mut self, id: DocumentId, body: BodyHash, before: Option<u32>) {
        if before.is_some() || self.at.contains_key(&(id, body)) {
            self.touch(id, body, before).now = Now::Gone;
        }
    }

    fn touch(&mut self, id: DocumentId, body: BodyHash, before: Option<u32>) -> &mut Touched {
        let at = *self.at.entry((id, body)).or_insert_with(|| {
            self.ids.insert(id);
            let was_there = before.is_some();
            self.touched.push(Touched { id, body, was_there, now: Now::Gone });
            self.touched.len() - 1
        });
        &mut self.touched[at]
    }

    fn writes(self) -> Vec<LetterWrite> {
        let write = |touched: Touched| {
            let Touched { id, body, was_there, now } = touched;
            match (now, was_there) {
                (Now::New(letter), _) => Some(LetterWrite::New { letter, body }),
                (Now::Again { cause, attempts }, _) => {
                    Some(LetterWrite::Again { id, body, cause, attempts })
                }
                (Now::Gone, true) => Some(LetterWrite::Gone { id, body }),
                (Now::Gone, false) => None,
            }
        };
        self.touched.into_iter().filter_map(write).collect()
    }
}
