//! A store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use inlet_core::calendar::{Day, Week};
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{BodyHash, Document, StoredDocument, StreamName, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::persist::plan::{Item, KnownIds, LetterWrite, Plan};
use inlet_core::ports::{
    Cursor, EraseMark, Erasure, Found, Known, KnownLetter, Page, PageQuery, Store, StoreId,
    StreamFigures, Tallies, TallyKind, TallyRow, TallyWeek, Written, ZoneTally,
};

/// A [`Store`] in memory, with switches for what only an engine can do: refuse a document, and
/// be away.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    away: bool,
    identity: Option<StoreId>,
    refused: Option<String>,
    items_max: Option<usize>,
    disturbances: u32,
    position: u64,
    documents: BTreeMap<u64, StoredDocument>,
    position_of: HashMap<DocumentId, u64>,
    dead: BTreeMap<u64, DeadLetter>,
    erased: HashMap<DocumentId, EraseMark>,
    erasures: u64,
    cursors: BTreeMap<String, Cursor>,
    tallies: BTreeMap<(Day, StreamName, TallyKind), (u64, u64)>,
    zones: BTreeMap<(Day, String), (u64, u64)>,
    weeks: BTreeMap<Week, TallyWeek>,
    streams: BTreeMap<StreamName, StreamFigures>,
}

impl MemoryStore {
    /// From now on a document whose body contains `marker` is refused.
    pub fn refuse(&self, marker: Option<&str>) {
        self.state().refused = marker.map(str::to_owned);
    }

    /// From now on one plan has at most so many items.
    pub fn take_at_most(&self, items: usize) {
        self.state().items_max = Some(items);
    }

    /// The next so many plans find another state than they rest on.
    pub fn disturb(&self, times: u32) {
        self.state().disturbances = times;
    }

    /// Whether writers find the engine away.
    pub fn set_away(&self, away: bool) {
        self.state().away = away;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> Result<MutexGuard<'_, State>, Failure> {
        let state = self.state();
        if state.away {
            return Err(Failure::new(FailureKind::Unavailable, "write to", "the store in memory"));
        }
        Ok(state)
    }
}

impl State {
    fn week(&mut self, week: Week) -> &mut TallyWeek {
        let none = TallyWeek { week, revision: 0, summarized: None };
        self.weeks.entry(week).or_insert(none)
    }

    fn known(&self, id: DocumentId) -> Known {
        let stored = self.position_of.get(&id).map(|position| &self.documents[position].document);
        let letters = self.dead.values().filter(|letter| letter.id == id);
        Known {
            stored: stored.map(Document::body_hash),
            letters: letters
                .map(|letter| KnownLetter {
                    body: BodyHash::of(&letter.body),
                    attempts: letter.attempts,
                })
                .collect(),
            erased: self.erased.get(&id).copied(),
            version: 0,
        }
    }

    fn count_stream(&mut self, document: &Document) {
        let stream = &document.stream;
        let figures = self.streams.entry(stream.clone()).or_insert_with(|| StreamFigures {
            stream: stream.clone(),
            documents: 0,
            bytes: 0,
            first: None,
            last: None,
        });
        let received = document.received;
        figures.documents += 1;
        figures.bytes += document.body.len() as u64;
        figures.first = Some(figures.first.map_or(received, |first| first.min(received)));
        figures.last = Some(figures.last.map_or(received, |last| last.max(received)));
    }

    /// The place of the dead letter with that id and body.
    fn letter_at(&self, id: DocumentId, body: &BodyHash) -> Option<u64> {
        let is_it = |letter: &DeadLetter| letter.id == id && BodyHash::of(&letter.body) == *body;
        self.dead.iter().find(|(_, letter)| is_it(letter)).map(|(position, _)| *position)
    }

    fn write_letter(&mut self, write: &LetterWrite) {
        match write {
            LetterWrite::New { letter, .. } => {
                self.position += 1;
                self.dead.insert(self.position, letter.clone());
            }
            LetterWrite::Again { id, body, cause, attempts } => {
                let at = self.letter_at(*id, body);
                if let Some(letter) = at.and_then(|at| self.dead.get_mut(&at)) {
                    letter.cause = cause.clone();
                    letter.attempts = *attempts;
                }
            }
            LetterWrite::Gone { id, body } => {
                if let Some(at) = self.letter_at(*id, body) {
                    self.dead.remove(&at);
                }
            }
        }
    }

    fn insert(&mut self, mut document: Document, stored: Timestamp) {
        let mark = self.erased.get(&document.id);
        document.generation = Some(mark.map_or(0, |mark| mark.generation));
        self.count_stream(&document);
        self.position += 1;
        self.position_of.insert(document.id, self.position);
        self.documents.insert(self.position, StoredDocument { document, stored });
    }

    fn is_refused(&self, item: Item<'_>) -> bool {
        let Item::Document(document) = item else { return false };
        self.refused.as_ref().is_some_and(|marker| document.text().contains(marker.as_str()))
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn write(&self, plan: Arc<Plan>) -> Result<Written, Failure> {
        let mut state = self.writable()?;
        if let Some(items_max) = state.items_max.filter(|max| *max < plan.items.len()) {
            return Ok(Written::TooLarge(items_max));
        }
        if state.disturbances > 0 {
            state.disturbances -= 1;
            let ids = plan.items().map(|item| (item.id(), state.known(item.id())));
            return Ok(Written::Changed(ids.collect()));
        }
        let changed: KnownIds = plan
            .items()
            .map(|item| (item.id(), state.known(item.id())))
            .filter(|(id, now)| plan.known(*id).unwrap_or(&Known::default()) != now)
            .collect();
        if !changed.is_empty() {
            return Ok(Written::Changed(changed));
        }
        let refused: HashMap<usize, String> = plan
            .inserts
            .iter()
            .filter(|index| state.is_refused(plan.batch.item(**index)))
            .map(|index| (*index, "the store in memory was told to refuse it".to_owned()))
            .collect();
        if !refused.is_empty() {
            return Ok(Written::Refused(refused));
        }
        for document in plan.inserts() {
            state.insert(document.clone(), plan.batch.now);
        }
        for letter in &plan.letters {
            state.write_letter(letter);
        }
        let sheet = plan.tallies();
        for row in sheet.rows() {
            let count = state.tallies.entry((row.day, row.stream, row.kind)).or_default();
            count.0 += row.documents;
            count.1 += row.bytes;
        }
        for ZoneTally { day, zone, documents, bytes } in sheet.zones() {
            let count = state.zones.entry((day, zone)).or_default();
            *count = (count.0 + documents, count.1 + bytes);
        }
        for week in sheet.weeks() {
            state.week(week).revision += 1;
        }
        if let Some(cursor) = plan.cursor() {
            let kept = state.cursors.entry(cursor.log.clone()).or_insert_with(|| cursor.clone());
            if *kept < *cursor {
                *kept = cursor.clone();
            }
        }
        Ok(Written::Done)
    }

    async fn get(&self, id: DocumentId) -> Result<Option<StoredDocument>, Failure> {
        let state = self.state();
        Ok(state.position_of.get(&id).map(|position| state.documents[position].clone()))
    }

    async fn find(&self, id: DocumentId) -> Result<Option<Found>, Failure> {
        let state = self.state();
        if let Some(position) = state.position_of.get(&id) {
            let StoredDocument { document, stored } = &state.documents[position];
            return Ok(Some(Found::Stored {
                stream: document.stream.clone(),
                received: document.received,
                stored: *stored,
                bytes: document.body.len() as u64,
                md5: document.md5(),
                letters: state.dead.values().filter(|letter| letter.id == id).count() as u64,
            }));
        }
        if let Some(letter) = state.dead.values().find(|letter| letter.id == id) {
            return Ok(Some(Found::Dead(Box::new(letter.clone()))));
        }
        Ok(state.erased.contains_key(&id).then_some(Found::Erased))
    }

    async fn known(&self, ids: &[DocumentId]) -> Result<KnownIds, Failure> {
        let state = self.state();
        let known = ids.iter().map(|id| (*id, state.known(*id)));
        Ok(known.filter(|(_, known)| !known.is_nothing()).collect())
    }

    async fn page(&self, query: &PageQuery) -> Result<Page<StoredDocument>, Failure> {
        let state = self.state();
        let matches = |stored: &StoredDocument| {
            let document = &stored.document;
            query.stream.as_ref().is_none_or(|stream| *stream == document.stream)
                && query.from.is_none_or(|from| document.received >= from)
                && query.to.is_none_or(|to| document.received < to)
        };
        let bounds = (query.after.as_deref(), query.until.as_deref());
        page(&state.documents, bounds, query.limit, matches)
    }

    async fn cursor_of_last(
        &self,
        stream: Option<&StreamName>,
        count: usize,
    ) -> Result<Option<String>, Failure> {
        let state = self.state();
        let of_stream =
            |stored: &StoredDocument| stream.is_none_or(|stream| *stream == stored.document.stream);
        let documents = state.documents.iter().rev().filter(|(_, stored)| of_stream(stored));
        Ok(documents.map(|(position, _)| position.to_string()).nth(count))
    }

    async fn ids(&self, prefix: &IdPrefix, limit: usize) -> Result<Vec<DocumentId>, Failure> {
        let state = self.state();
        let mut ids: Vec<_> =
            state.position_of.keys().filter(|id| prefix.is_of(id)).copied().collect();
        ids.sort_unstable();
        ids.truncate(limit);
        Ok(ids)
    }

    async fn erase(&self, id: DocumentId, now: Timestamp) -> Result<Erasure, Failure> {
        let mut state = self.writable()?;
        state.erasures += 1;
        let generation = state.erasures;
        state.erased.insert(id, EraseMark { generation, at: now });
        let letters = state.dead.len();
        state.dead.retain(|_, letter| letter.id != id);
        let mut was_there = state.dead.len() < letters;
        if let Some(position) = state.position_of.remove(&id)
            && let Some(StoredDocument { document, .. }) = state.documents.remove(&position)
        {
            was_there = true;
            if let Some(figures) = state.streams.get_mut(&document.stream) {
                figures.documents -= 1;
                figures.bytes -= document.body.len() as u64;
            }
        }
        Ok(Erasure { was_there, generation })
    }

    async fn erasures(&self) -> Result<u64, Failure> {
        Ok(self.state().erasures)
    }

    async fn marks(&self, ids: &[DocumentId]) -> Result<HashMap<DocumentId, EraseMark>, Failure> {
        let state = self.state();
        Ok(ids.iter().filter_map(|id| Some((*id, *state.erased.get(id)?))).collect())
    }

    async fn streams(&self) -> Result<Vec<StreamFigures>, Failure> {
        Ok(self.state().streams.values().cloned().collect())
    }

    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Page<DeadLetter>, Failure> {
        page(&self.state().dead, (after, None), limit, |letter| filter.matches(letter))
    }

    async fn mark_redriven(&self, ids: &[DocumentId], now: Timestamp) -> Result<(), Failure> {
        let mut state = self.writable()?;
        for letter in state.dead.values_mut().filter(|letter| ids.contains(&letter.id)) {
            letter.redriven = Some(now);
        }
        Ok(())
    }

    async fn cursors(&self) -> Result<Vec<Cursor>, Failure> {
        Ok(self.state().cursors.values().cloned().collect())
    }

    async fn tallies(&self, first: Day, last: Day) -> Result<Tallies, Failure> {
        let state = self.state();
        let rows = state.tallies.iter().filter(|((day, ..), _)| first <= *day && *day <= last);
        let zones = state.zones.iter().filter(|((day, _), _)| first <= *day && *day <= last);
        Ok(Tallies {
            rows: rows
                .map(|((day, stream, kind), (documents, bytes))| TallyRow {
                    day: *day,
                    stream: stream.clone(),
                    kind: kind.clone(),
                    documents: *documents,
                    bytes: *bytes,
                })
                .collect(),
            zones: zones
                .map(|((day, zone), (documents, bytes))| ZoneTally {
                    day: *day,
                    zone: zone.clone(),
                    documents: *documents,
                    bytes: *bytes,
                })
                .collect(),
            cursor: (state.position > 0).then(|| state.position.to_string()),
        })
    }

    async fn tally_weeks(&self) -> Result<Vec<TallyWeek>, Failure> {
        Ok(self.state().weeks.values().copied().collect())
    }

    async fn mark_summarized(&self, week: Week, revision: u64) -> Result<(), Failure> {
        let mut state = self.writable()?;
        state.week(week).summarized = Some(revision);
        Ok(())
    }

    async fn identity(&self) -> Result<StoreId, Failure> {
        Ok(*self.state().identity.get_or_insert_with(StoreId::random))
    }

    async fn check(&self) -> Result<(), Failure> {
        self.writable().map(drop)
    }
}

fn page<T: Clone>(
    all: &BTreeMap<u64, T>,
    (after, until): (Option<&str>, Option<&str>),
    limit: usize,
    matches: impl Fn(&T) -> bool,
) -> Result<Page<T>, Failure> {
    let position = |cursor: Option<&str>, default| {
        cursor.map_or(Ok(default), str::parse::<u64>).map_err(|error| {
            Failure::new(FailureKind::Refused, "read the page's cursor", cursor.unwrap_or_default())
                .because(error)
        })
    };
    let (from, until) = (position(after, 0)?, position(until, u64::MAX)?);
    let mut found =
        all.range(from + 1..).take_while(|(at, _)| **at <= until).filter(|(_, item)| matches(item));
    let items: Vec<_> = found.by_ref().take(limit).collect();
    let next = items.last().map(|(position, _)| position.to_string());
    Ok(Page {
        next: next.or_else(|| after.map(str::to_owned)),
        more: found.next().is_some(),
        items: items.into_iter().map(|(_, item)| item.clone()).collect(),
    })
}
