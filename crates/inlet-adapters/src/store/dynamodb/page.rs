//! Pages of documents: the spans of all lanes side by side, and the documents they name.

use std::collections::{HashMap, VecDeque};

use inlet_core::document::{StoredDocument, StreamName, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::{DocumentId, IdPrefix};
use inlet_core::ports::{Page, PageQuery};

use super::DynamoStore;
use super::attributes::find_text;
use super::lane::chapter_of;
use super::record::{Record, Stored};
use super::span::{
    self, CHAPTER_SPANS, Entry, Head, LANES_KEY, Places, Span, chapter_partition, read_chapter,
};
use super::table::Range;

/// The most bytes of bodies on a page; one document is given even where it alone is larger.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// How many documents are fetched at once.
const FETCH_MAX: usize = 100;
/// How many spans one call reads at most.
const SPANS_MAX: usize = 200;
/// The most documents that are looked at for an id that begins so.
const IDS_SEEN_MAX: usize = 20_000;
/// The largest difference between the clock that made an id and the one that noted the reception,
/// in microseconds.
const CLOCKS_DIFFER_US: i64 = 60_000_000;

/// A document that a span names: where it is, and where a reader stands behind it.
struct Candidate {
    lane: u8,
    n: u64,
    index: usize,
    entry: Entry,
}

/// The page that `query` asks for.
pub(super) async fn page(
    store: &DynamoStore,
    query: &PageQuery,
) -> Result<Page<StoredDocument>, Failure> {
    let mut places = match &query.after {
        Some(after) => Places::read(after)?,
        None => Places::default(),
    };
    let mut readers = Readers::open(store, query, &places).await?;
    let mut items: Vec<StoredDocument> = Vec::new();
    let (mut bytes, limit) = (0, query.limit.max(1));
    loop {
        // One more than the page holds, to know whether there is more.
        let wanted = (limit + 1 - items.len()).min(FETCH_MAX);
        let candidates = readers.next(wanted, PAGE_BYTES_MAX.saturating_sub(bytes)).await?;
        if candidates.is_empty() {
            break;
        }
        for (candidate, stored) in fetch(store, candidates).await? {
            let full = items.len() == limit || bytes >= PAGE_BYTES_MAX;
            if full && stored.is_some() {
                let next = Some(places.write());
                return Ok(Page { items, next, more: true });
            }
            places.set(candidate.lane, (candidate.n, candidate.index + 1));
            if let Some(stored) = stored {
                bytes += stored.document.body.len();
                items.push(stored);
            }
        }
    }
    readers.all_read(&mut places);
    let next = places.write();
    let next = if next.is_empty() { query.after.clone() } else { Some(next) };
    let next = if items.is_empty() && query.after.is_none() { None } else { next };
    Ok(Page { items, next, more: false })
}

/// The cursor behind which the newest documents of a stream are: the newest of all lanes are among
/// the newest of each.
pub(super) async fn cursor_of_last(
    store: &DynamoStore,
    stream: Option<&StreamName>,
    count: usize,
) -> Result<Option<String>, Failure> {
    let heads = store.heads().await?;
    if count == 0 {
        return Ok(span::cursor(&heads));
    }
    let mut newest = Vec::new();
    for (lane, head) in &heads {
        let (mut end, mut found) = (head.next, 0);
        while end > 0 && found < count {
            let range = Range {
                partition: Span::partition(*lane, stream),
                from: Some(Span::sort_key(0)),
                to: Some(Span::sort_key(end - 1)),
                limit: i32::try_from(count.clamp(8, SPANS_MAX)).ok(),
                is_reversed: true,
            };
            let (items, more) = store.table.query(&range).await?;
            for item in &items {
                let Span { n, at_us, entries } = Span::read(item)?;
                newest.extend((0..entries.len()).map(|index| (at_us, *lane, n, index)));
                (end, found) = (n, found + entries.len());
            }
            if !more {
                break;
            }
        }
    }
    if newest.len() <= count {
        return Ok(None);
    }
    newest.sort_unstable();
    let mut places = Places::default();
    for (lane, head) in &heads {
        places.set(*lane, (head.next, 0));
    }
    // From the newest to the oldest, so that the oldest of a lane says where it begins.
    for (_, lane, n, index) in newest.into_iter().rev().take(count) {
        places.set(lane, (n, index));
    }
    Ok(Some(places.write()))
}

/// Ids of documents without a key that begin so: they were received when their id says, but for
/// clocks that differ.
pub(super) async fn ids(
    store: &DynamoStore,
    prefix: &IdPrefix,
    limit: usize,
) -> Result<Vec<DocumentId>, Failure> {
    let (from, to) = prefix.received();
    let query = PageQuery {
        from: Some(Timestamp::from_micros(from.as_micros().saturating_sub(CLOCKS_DIFFER_US))),
        to: Some(Timestamp::from_micros(to.as_micros().saturating_add(CLOCKS_DIFFER_US))),
        ..PageQuery::default()
    };
    let mut readers = Readers::open(store, &query, &Places::default()).await?;
    let (mut found, mut seen) = (Vec::new(), 0);
    loop {
        let candidates = readers.next(FETCH_MAX, usize::MAX).await?;
        if candidates.is_empty() {
            break;
        }
        seen += candidates.len();
        if seen > IDS_SEEN_MAX {
            return Err(Failure::new(FailureKind::Refused, "find ids in", "the table")
                .because("too many documents were received at that time")
                .hint("give more digits of the id"));
        }
        let begin_so = candidates.into_iter().filter(|it| prefix.is_of(&it.entry.id)).collect();
        for (candidate, stored) in fetch(store, begin_so).await? {
            if stored.is_some() {
                found.push(candidate.entry.id);
            }
        }
    }
    found.sort_unstable();
    found.truncate(limit);
    Ok(found)
}

/// The documents of the candidates, in order; none for one that is no longer there, or has
/// another place by now.
async fn fetch(
    store: &DynamoStore,
    candidates: Vec<Candidate>,
) -> Result<Vec<(Candidate, Option<StoredDocument>)>, Failure> {
    let mut ids: Vec<DocumentId> = candidates.iter().map(|it| it.entry.id).collect();
    ids.sort_unstable();
    ids.dedup();
    let keys = ids.into_iter().map(Record::key).collect();
    let mut found: HashMap<DocumentId, (u64, Stored)> = HashMap::new();
    for item in store.table.get_many(keys).await? {
        let id = find_text(&item, "pk").and_then(|pk| pk.strip_prefix("d#")?.parse().ok());
        let record = Record::read(&item)?;
        let generation = record.generation();
        if let (Some(id), Some(stored)) = (id, record.stored) {
            found.insert(id, (generation, stored));
        }
    }
    let mut fetched = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let id = candidate.entry.id;
        let here =
            |(_, stored): &&(u64, Stored)| stored.lane == candidate.lane && stored.n == candidate.n;
        let document = match found.get(&id).filter(here) {
            None => None,
            Some((generation, stored)) => store.document(id, *generation, stored.clone()).await?,
        };
        fetched.push((candidate, document));
    }
    Ok(fetched)
}

/// The readers of all lanes.
struct Readers<'a> {
    store: &'a DynamoStore,
    query: &'a PageQuery,
    lanes: Vec<Reader>,
}

/// What is read of a lane, up to where its head was.
struct Reader {
    lane: u8,
    /// The next span, and the next entry in it.
    place: (u64, usize),
    end: u64,
    spans: VecDeque<Span>,
    /// The chapters that can have what is asked for; all where time is not asked for.
    chapters: Option<VecDeque<u64>>,
}

impl<'a> Readers<'a> {
    async fn open(
        store: &'a DynamoStore,
        query: &'a PageQuery,
        places: &Places,
    ) -> Result<Self, Failure> {
        let range = Range { partition: LANES_KEY.to_owned(), ..Range::default() };
        let until = query.until.as_deref().map(Places::read).transpose()?;
        let mut lanes = Vec::new();
        for item in store.table.query_all(range).await? {
            let (lane, head): (u8, Head) = Head::read(&item)?;
            let place = places.of(lane);
            let end = until.as_ref().map_or(head.next, |until| head.next.min(until.of(lane).0));
            let mut reader = Reader { lane, place, end, spans: VecDeque::new(), chapters: None };
            if place.0 < end && (query.from.is_some() || query.to.is_some()) {
                reader.chapters = Some(chapters(store, query, &reader).await?);
            }
            lanes.push(reader);
        }
        Ok(Self { store, query, lanes })
    }

    /// The next candidates, at most `count` or so many that their bodies reach `bytes_max`.
    async fn next(&mut self, count: usize, bytes_max: usize) -> Result<Vec<Candidate>, Failure> {
        let mut candidates = Vec::new();
        let mut bytes = 0;
        while candidates.len() < count {
            for reader in &mut self.lanes {
                reader.fill(self.store, self.query, count).await?;
            }
            let first = self
                .lanes
                .iter_mut()
                .filter_map(|reader| Some((reader.spans.front()?.at_us, reader)))
                .min_by_key(|(at_us, reader)| (*at_us, reader.lane));
            let Some((_, reader)) = first else { break };
            if reader.take(self.query, count, bytes_max, &mut bytes, &mut candidates) {
                break;
            }
        }
        Ok(candidates)
    }

    /// Sets the places behind all there was.
    fn all_read(&self, places: &mut Places) {
        for reader in &self.lanes {
            if reader.end > 0 && places.of(reader.lane) < (reader.end, 0) {
                places.set(reader.lane, (reader.end, 0));
            }
        }
    }
}

impl Reader {
    /// Reads the next spans, where none is left and there may be any.
    async fn fill(
        &mut self,
        store: &DynamoStore,
        query: &PageQuery,
        count: usize,
    ) -> Result<(), Failure> {
        while self.spans.is_empty() && self.place.0 < self.end {
            let mut last = self.end - 1;
            if let Some(chapters) = &mut self.chapters {
                while chapters.front().is_some_and(|chapter| *chapter < chapter_of(self.place.0)) {
                    chapters.pop_front();
                }
                let Some(chapter) = chapters.front() else {
                    self.place = (self.end, 0);
                    return Ok(());
                };
                let first = chapter * CHAPTER_SPANS;
                if first > self.place.0 {
                    self.place = (first, 0);
                    if first >= self.end {
                        return Ok(());
                    }
                }
                last = last.min(first + CHAPTER_SPANS - 1);
            }
            let range = Range {
                partition: Span::partition(self.lane, query.stream.as_ref()),
                from: Some(Span::sort_key(self.place.0)),
                to: Some(Span::sort_key(last)),
                limit: i32::try_from(count.clamp(8, SPANS_MAX)).ok(),
                is_reversed: false,
            };
            let (items, more) = store.table.query(&range).await?;
            for item in &items {
                self.spans.push_back(Span::read(item)?);
            }
            if self.spans.is_empty() && !more {
                self.place = (last + 1, 0);
            }
        }
        Ok(())
    }

    /// Takes what the first span has for the query. Whether that is enough.
    fn take(
        &mut self,
        query: &PageQuery,
        count: usize,
        bytes_max: usize,
        bytes: &mut usize,
        candidates: &mut Vec<Candidate>,
    ) -> bool {
        let Some(span) = self.spans.front() else { return false };
        let begin = if span.n == self.place.0 { self.place.1 } else { 0 };
        for (index, entry) in span.entries.iter().enumerate().skip(begin) {
            let received = entry.received;
            let asked_for = query.from.is_none_or(|from| received >= from)
                && query.to.is_none_or(|to| received < to);
            if asked_for {
                let (lane, n) = (self.lane, span.n);
                candidates.push(Candidate { lane, n, index, entry: entry.clone() });
                *bytes += usize::try_from(entry.bytes).unwrap_or(usize::MAX);
                if candidates.len() >= count || *bytes > bytes_max {
                    self.place = (span.n, index + 1);
                    return true;
                }
            }
        }
        self.place = (span.n + 1, 0);
        self.spans.pop_front();
        false
    }
}

/// The chapters of a lane from where its reader is that can have what is asked for.
async fn chapters(
    store: &DynamoStore,
    query: &PageQuery,
    reader: &Reader,
) -> Result<VecDeque<u64>, Failure> {
    let range = Range {
        partition: chapter_partition(reader.lane),
        from: Some(Span::sort_key(chapter_of(reader.place.0))),
        ..Range::default()
    };
    let mut chapters = VecDeque::new();
    for item in store.table.query_all(range).await? {
        let (chapter, bounds) = read_chapter(&item)?;
        if bounds.meets(query.from, query.to) {
            chapters.push_back(chapter);
        }
    }
    Ok(chapters)
}
