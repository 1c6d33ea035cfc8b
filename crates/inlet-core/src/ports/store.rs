//! The store port.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use rand::RngExt;

use crate::calendar::{Calendar, Day, Week};
use crate::dead_letter::{Cause, DeadLetter, DeadLetterFilter};
use crate::document::{BodyHash, Document, StoredDocument, StreamName, Timestamp};
use crate::failure::Failure;
use crate::id::{DocumentId, IdPrefix};
use crate::persist::plan::{Item, KnownIds, Plan};

/// The identity of a store: 16 random bytes, made once with the store and kept in it.
///
/// A log records the identity of the store that it released segments into, so that another store
/// in the same place is noticed. The text form is 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StoreId([u8; 16]);

impl StoreId {
    /// A new identity, for a store that is being made.
    pub fn random() -> Self {
        Self(rand::rng().random())
    }

    /// The identity with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::document::hex(&self.0))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({self})")
    }
}

/// A text that is no store identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a store's identity is 32 lower-case hex digits")]
pub struct StoreIdError;

impl FromStr for StoreId {
    type Err = StoreIdError;

    fn from_str(text: &str) -> Result<Self, StoreIdError> {
        let lower = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 32 || !text.as_bytes().iter().all(lower) {
            return Err(StoreIdError);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| StoreIdError)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// How far a log was stored. A store keeps one a log and never moves it backwards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Which log.
    pub log: String,
    /// The number of the segment.
    pub segment: u64,
    /// The offset in the segment, in bytes, behind the last record that was stored.
    pub offset: u64,
}

/// Documents and dead letters that are stored together.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The documents to store.
    pub documents: Vec<Document>,
    /// What is dead already, because it could not even be read as a document.
    pub dead: Vec<DeadLetter>,
    /// How far its log is stored once this batch is.
    pub cursor: Option<Cursor>,
    /// When this is done, by the caller's clock.
    pub now: Timestamp,
    /// Which day a moment belongs to.
    pub calendar: Calendar,
    /// How often a document that is refused is tried before it is dead. At least 1.
    pub attempts_max: u32,
}

impl Batch {
    /// The number of items: documents and dead letters.
    pub fn len(&self) -> usize {
        self.documents.len() + self.dead.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item with that number. Documents come first, then dead letters.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn item(&self, index: usize) -> Item<'_> {
        match self.documents.get(index) {
            Some(document) => Item::Document(document),
            None => Item::Letter(&self.dead[index - self.documents.len()]),
        }
    }
}

/// What became of one item of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the store.
    Stored,
    /// It was in the store already, with the same bytes.
    Duplicate,
    /// It is among the dead letters, for this cause.
    Dead(Cause),
    /// It was erased after it was accepted, and stays erased.
    Erased,
}

/// Where an id was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// In the store.
    Stored {
        /// The stream.
        stream: StreamName,
        /// When it was accepted.
        received: Timestamp,
        /// When it was stored.
        stored: Timestamp,
        /// The size of its body, in bytes.
        bytes: u64,
        /// The MD5 of its body.
        md5: [u8; 16],
        /// The number of dead letters of the id: of other bodies, sent under the same key.
        letters: u64,
    },
    /// Among the dead letters.
    Dead(Box<DeadLetter>),
    /// It was erased.
    Erased,
}

/// The state of one id in a store, without any body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Known {
    /// The hash of the stored document's body; `None` where no document is stored.
    pub stored: Option<BodyHash>,
    /// The dead letters of the id, in no order.
    pub letters: Vec<KnownLetter>,
    /// The mark of its last erasure; `None` where it was never erased.
    pub erased: Option<EraseMark>,
    /// The store's own number for this state; 0 where it keeps none.
    pub version: u64,
}

/// What came of a [`Store::write`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// Everything is there.
    Done,
    /// Nothing is: these ids have other states than the plan rests on. Each of them is here with
    /// the state it has.
    Changed(KnownIds),
    /// Nothing is: the engine refuses these items as often as they are to be tried, with these
    /// reasons. There may be more.
    Refused(HashMap<usize, String>),
    /// Nothing is: one transaction takes so many of the items at most. At least 1, and fewer than
    /// were planned.
    TooLarge(usize),
}

impl Known {
    /// Whether the store has nothing under the id.
    pub fn is_nothing(&self) -> bool {
        self.stored.is_none() && self.letters.is_empty() && self.erased.is_none()
    }

    /// Returns true if a document of that generation, accepted at `received`, is erased by now.
    pub fn erases(&self, generation: Option<u64>, received: Timestamp) -> bool {
        self.erased.is_some_and(|mark| mark.erases(generation, received))
    }

    /// The number of attempts of the dead letter with that body.
    pub fn attempts_of(&self, body: &BodyHash) -> Option<u32> {
        self.letters.iter().find(|letter| letter.body == *body).map(|letter| letter.attempts)
    }
}

/// A dead letter, as far as another delivery of the same body depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownLetter {
    /// The hash of its body.
    pub body: BodyHash,
    /// The number of attempts so far.
    pub attempts: u32,
}

/// The mark that an erasure leaves under an id.
///
/// Erasures are counted by the store, one after the other, and a document carries the count that
/// the instance which accepted it knew ([`Document::generation`]). That tells a delivery from
/// before the erasure, which stays erased, from a document that was sent anew under the same key;
/// clocks tell neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EraseMark {
    /// The number of the erasure, from 1; 0 for one of a version that did not count.
    pub generation: u64,
    /// The moment of the erasure, by the clock of the instance that erased. It decides only where
    /// erasures were not counted.
    pub at: Timestamp,
}

impl EraseMark {
    /// Returns true if a document of that generation, accepted at `received`, is erased by it. The
    /// moment decides only where one of both did not count.
    pub fn erases(&self, generation: Option<u64>, received: Timestamp) -> bool {
        match (self.generation, generation) {
            (0, Some(known)) => known == 0 && received <= self.at,
            (counted, Some(known)) => known < counted,
            (_, None) => received <= self.at,
        }
    }

    /// The generation of a document that is accepted in knowledge of the mark.
    pub fn generation_after(&self) -> u64 {
        self.generation.max(1)
    }
}

/// The outcome of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// True if there was a document or a dead letter.
    pub was_there: bool,
    /// The number of the erasure.
    pub generation: u64,
}

/// Which documents are asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageQuery {
    /// Of which stream; all where `None`.
    pub stream: Option<StreamName>,
    /// Received at this moment or later.
    pub from: Option<Timestamp>,
    /// Received before this moment.
    pub to: Option<Timestamp>,
    /// How many at most. At least 1.
    pub limit: usize,
    /// Where the page before ended: its [`Page::next`], as it was.
    pub after: Option<String>,
    /// None of those that came behind this cursor, which
    /// [`cursor_of_last`](Store::cursor_of_last) gave for none: what comes while pages are read is
    /// left out, so that reading ends.
    pub until: Option<String>,
}

/// A page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, oldest first.
    pub items: Vec<T>,
    /// Where the next page begins. Given even at the end, so that what comes later can be asked
    /// for; `None` only where nothing was ever found.
    pub next: Option<String>,
    /// Whether there was more when the page was made.
    pub more: bool,
}

/// Figures of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamFigures {
    /// Its name.
    pub stream: StreamName,
    /// How many documents were stored in it, less those erased.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
    /// When its first document was received.
    pub first: Option<Timestamp>,
    /// When its last document was received.
    pub last: Option<Timestamp>,
}

/// What a tally counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TallyKind {
    /// Documents stored, and their bytes.
    Stored,
    /// Documents that became dead letters, by the code of their cause.
    Dead(String),
    /// Documents that have a field of a type: `path` and the name of the type.
    Field(String, String),
}

/// One count of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TallyRow {
    /// The day.
    pub day: Day,
    /// The stream.
    pub stream: StreamName,
    /// What is counted.
    pub kind: TallyKind,
    /// How many documents.
    pub documents: u64,
    /// How many bytes of documents; 0 for fields.
    pub bytes: u64,
}

/// The documents of one day that were counted under one time zone's days.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ZoneTally {
    /// The day.
    pub day: Day,
    /// The IANA name of the zone.
    pub zone: String,
    /// How many documents were stored.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Tallies as of one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tallies {
    /// The counts, in no order.
    pub rows: Vec<TallyRow>,
    /// The zones under whose days documents were counted, in no order. Documents that an older
    /// version counted are in none.
    pub zones: Vec<ZoneTally>,
    /// The [page cursor](Page::next) up to which documents are counted; `None` for an empty store.
    pub cursor: Option<String>,
}

/// How far the tallies of a week are summarized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TallyWeek {
    /// The week.
    pub week: Week,
    /// A number that grows with every change of the week's tallies; 0 before the first.
    pub revision: u64,
    /// The number that [`Store::mark_summarized`] noted last.
    pub summarized: Option<u64>,
}

/// Where documents live.
///
/// Contract:
/// 1. `write` is atomic: documents, dead letters, tallies and cursor of the plan are all there
///    afterwards, durably, or none of them is.
/// 2. A plan that rests on other states than the store has, because of another writer or because
///    nothing was looked up before, is not written: `write` gives the states there are. Planned
///    again and again with these ([`put_batch`](crate::persist::put_batch)), a document is stored
///    once and counted once, however often it comes, also within one batch.
/// 3. A document that is there already with other bytes becomes a dead letter with
///    [`Cause::KeyConflict`]; the first stays.
/// 4. A document that the engine refuses is tried `attempts_max` times and named, and holds up no
///    other of the batch.
/// 5. An engine that is away, locked or full is an error for the whole plan, and refuses nothing.
/// 6. A document that is stored has no dead letter with the same bytes: storing it takes that one
///    away, and one that is put later is not kept.
/// 7. `get` gives the stored bytes and names; `page` gives documents oldest first, with a cursor
///    that neither repeats nor skips a document that was there throughout.
/// 8. After `erase` returned, the document and its dead letters are gone for good, for every
///    handle. Erasures are counted, each under the next number. What the erased id is delivered
///    with of an earlier generation, whatever the clocks said, is [`Outcome::Erased`]; of this
///    generation or a later one, it was sent anew and is stored.
/// 9. Cursors never move backwards. Tallies count a document once, however often it is delivered.
/// 10. `dead_letters` lists oldest first by filter; `mark_redriven` notes the moment on each.
/// 11. `streams` has each stream that has documents or had some, in name order.
/// 12. `identity` is made with the store and never changes: every handle gives the same one, before
///     and after a restart. Two stores that were made have two; a copy has that of its original.
/// 13. `known` gives the state of each id that the store has anything under, as of one moment a
///     call, and leaves out all others. It changes nothing and needs no right to write. A store
///     that keeps versions may give one that says nothing else.
/// 14. `tallies` says under which zones the documents were counted and up to which page cursor:
///     what `page` gives behind that cursor is not counted, what comes before it is.
///     `tally_weeks` has every week whose tallies changed, however old it is, with a number that
///     grows with each change and what was noted of it last.
/// 15. `cursor_of_last` gives a cursor behind which `page` has the newest documents of the stream,
///     as many as were asked for, or all where there are fewer; for none, what is still to come,
///     and `page` until there gives nothing of that.
/// 16. `ids` gives the ids of documents that begin so. An engine that keeps no order of ids finds
///     those that were made without a key, by their time.
/// 17. `erasures` and `marks` give what every `erase` that returned has left, whoever erased. What
///     is read carries the generation of its id's mark.
#[async_trait]
pub trait Store: Send + Sync {
    /// Writes a plan.
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure>;
    /// The document with that id.
    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure>;
    /// The place of that id, and the parts of it that are not kept there.
    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure>;
    /// The state of those of `ids` that anything is known of. One call, however many they are;
    /// an id may be named twice.
    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure>;
    /// A page of documents.
    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure>;
    /// The cursor behind which the newest `count` documents of `stream` are, of all streams where
    /// `None`; `None` where that is the beginning.
    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure>;
    /// Ids of documents that begin with `prefix`, `limit` at most, in their order. Fails as
    /// [`Refused`](crate::failure::FailureKind::Refused) where more would have to be read for them
    /// than the engine reads for a page.
    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure>;
    /// Erases the document with that id, and notes that `now`; also one that has yet to come from
    /// the queue.
    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure>;
    /// Returns the number of erasures so far.
    async fn erasures(&self) -> Result<u64, Failure>;
    /// The marks of those of `ids` that were erased. A cheap look, which reads no document.
    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure>;
    /// All streams, with their figures.
    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure>;
    /// A page of dead letters.
    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure>;
    /// Notes on these dead letters that they were sent to the queue again at `now`.
    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure>;
    /// The cursors of all logs.
    async fn cursors(&self) -> Result<Vec<Cursor>, Failure>;
    /// The tallies of the days from `first` to `last`, both included.
    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure>;
    /// The weeks that have tallies or a note, in no order.
    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure>;
    /// Notes that a summary of `week` was written from tallies of this revision.
    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure>;
    /// The identity of this store.
    async fn identity(&self) -> Result<StoreId, Failure>;
    /// Whether it answers. Asked by the readiness check.
    async fn check(&self) -> Result<(), Failure>;
}
