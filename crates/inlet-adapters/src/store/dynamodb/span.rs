//! The order of the documents.
//!
//! Documents are put in an order by *lanes*. A lane is a sequence of spans, one a transaction,
//! numbered without a gap: a transaction that adds span `n` says that it saw `n - 1` last, and is
//! refused if another was faster. So whoever read up to `n` has seen all there will ever be up to
//! there. Writers go each to a lane of its own as long as there are enough; a reader goes through
//! all of them side by side, by the time of their spans, and its cursor has a place in each.
//!
//! ```text
//! lanes / LANE             next (the number of the next span), at_us, the bounds of the
//!                          moments of reception in the last chapter, and the weeks whose tallies
//!                          changed last, each with the span that changed them
//! s#LANE / N               span n: who is in it, of all streams
//! s#LANE#STREAM / N        the same for one stream
//! c#LANE / CHAPTER         the bounds of the moments of reception in 256 spans, so that a range
//!                          of time is found without reading all
//! ```

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_dynamodb::types::{AttributeValue, Put, builders::PutBuilder};
use inlet_core::calendar::Week;
use inlet_core::document::{Document, StreamName, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;

use super::attributes::{
    Item, binary, find_binary, find_number, find_text, key, must, number, text,
};

/// How many lanes there are. Written into no item; raising it later is safe, lowering is not.
pub(super) const LANES: u8 = 16;
/// The partition of the lanes.
pub(super) const LANES_KEY: &str = "lanes";
/// How many weeks a lane's item names; with these it stays well below a kilobyte, which is a unit
/// of writing.
const WEEKS_MAX: usize = 16;
/// How many spans a chapter has.
pub(super) const CHAPTER_SPANS: u64 = 256;
/// What an entry takes: id, moment of reception, bytes of the body, number of the stream.
const ENTRY_BYTES: usize = 16 + 8 + 4 + 2;

/// A document in a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: DocumentId,
    pub(super) stream: StreamName,
    pub(super) received: Timestamp,
    pub(super) bytes: u32,
}

impl Entry {
    pub(super) fn of(document: &Document) -> Self {
        Self {
            id: document.id,
            stream: document.stream.clone(),
            received: document.received,
            bytes: u32::try_from(document.body.len()).unwrap_or(u32::MAX),
        }
    }
}

/// One transaction's documents, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) n: u64,
    /// When it was written, by the writer's clock, in microseconds; in a lane it only grows.
    pub(super) at_us: i64,
    pub(super) entries: Vec<Entry>,
}

/// The moments of reception between which all of a span or chapter are, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) first_us: i64,
    pub(super) last_us: i64,
}

impl Bounds {
    pub(super) fn of(entries: &[Entry]) -> Option<Self> {
        let moments = || entries.iter().map(|entry| entry.received.as_micros());
        Some(Self { first_us: moments().min()?, last_us: moments().max()? })
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            first_us: self.first_us.min(other.first_us),
            last_us: self.last_us.max(other.last_us),
        }
    }

    /// Whether any moment from `from` and before `to` can be in it.
    pub(super) fn meets(self, from: Option<Timestamp>, to: Option<Timestamp>) -> bool {
        from.is_none_or(|from| self.last_us >= from.as_micros())
            && to.is_none_or(|to| self.first_us < to.as_micros())
    }

    fn write(self, item: &mut Item) {
        item.insert("first_us".to_owned(), number(self.first_us));
        item.insert("last_us".to_owned(), number(self.last_us));
    }

    fn read(item: &Item) -> Option<Self> {
        Some(Self {
            first_us: find_number(item, "first_us")?,
            last_us: find_number(item, "last_us")?,
        })
    }
}

/// A lane's item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Head {
    /// The number of the next span.
    pub(super) next: u64,
    pub(super) at_us: i64,
    /// Of the chapter that the last span is in.
    pub(super) chapter: Option<Bounds>,
    /// The weeks whose tallies changed in this lane, and the number of the span after the one
    /// that changed them last. Of more than [`WEEKS_MAX`] those changed longest ago have items
    /// of their own.
    pub(super) weeks: BTreeMap<Week, u64>,
}

impl Head {
    pub(super) fn key(lane: u8) -> Item {
        key(LANES_KEY, format!("{lane:02}"))
    }

    pub(super) fn read(item: &Item) -> Result<(u8, Self), Failure> {
        let lane = find_text(item, "sk").and_then(|lane| lane.parse().ok());
        let head = Self {
            next: must(find_number(item, "next"), item, "next")?,
            at_us: must(find_number(item, "at_us"), item, "at_us")?,
            chapter: Bounds::read(item),
            weeks: must(read_weeks(item), item, "weeks")?,
        };
        Ok((must(lane, item, "sk")?, head))
    }

    /// The head behind one more span, which changes the tallies of `weeks`; and the weeks for
    /// which there is no room in it.
    pub(super) fn after(&self, span: &Span, changed: &BTreeSet<Week>) -> (Self, Vec<(Week, u64)>) {
        let begins = self.next.is_multiple_of(CHAPTER_SPANS);
        let before = self.chapter.filter(|_| !begins);
        let bounds = Bounds::of(&span.entries);
        let chapter = match (before, bounds) {
            (Some(before), Some(bounds)) => Some(before.and(bounds)),
            (before, bounds) => before.or(bounds),
        };
        let next = self.next + 1;
        let mut weeks = self.weeks.clone();
        weeks.extend(changed.iter().map(|week| (*week, next)));
        let mut evicted = Vec::new();
        while weeks.len() > WEEKS_MAX
            && let Some((week, n)) = weeks.iter().map(|(week, n)| (*week, *n)).min_by_key(|it| it.1)
        {
            weeks.remove(&week);
            evicted.push((week, n));
        }
        (Self { next, at_us: span.at_us, chapter, weeks }, evicted)
    }

    /// Puts this in the place of `before`, and of nothing else.
    pub(super) fn put(&self, lane: u8, before: &Self) -> PutBuilder {
        let mut item = Self::key(lane);
        item.insert("next".to_owned(), number(self.next));
        item.insert("at_us".to_owned(), number(self.at_us));
        if let Some(chapter) = self.chapter {
            chapter.write(&mut item);
        }
        let weeks = self.weeks.iter().map(|(week, n)| (week.to_string(), number(n)));
        item.insert("weeks".to_owned(), AttributeValue::M(weeks.collect()));
        let put = Put::builder().set_item(Some(item));
        if before.next == 0 {
            return put.condition_expression("attribute_not_exists(pk)");
        }
        // `next` is a word of DynamoDB's own.
        put.condition_expression("#next = :before")
            .expression_attribute_names("#next", "next")
            .expression_attribute_values(":before", number(before.next))
    }
}

impl Span {
    /// The partition of a lane's spans, of one stream or of all.
    pub(super) fn partition(lane: u8, stream: Option<&StreamName>) -> String {
        match stream {
            None => format!("s#{lane:02}"),
            Some(stream) => format!("s#{lane:02}#{stream}"),
        }
    }

    /// The sort key of span `n`.
    pub(super) fn sort_key(n: u64) -> String {
        format!("{n:016}")
    }

    /// The part of it that is of that stream.
    pub(super) fn of_stream(&self, stream: &StreamName) -> Self {
        let entries = self.entries.iter().filter(|entry| entry.stream == *stream).cloned();
        Self { entries: entries.collect(), ..*self }
    }

    pub(super) fn write(&self, partition: String) -> Item {
        let mut item = key(partition, Self::sort_key(self.n));
        let (mut names, mut packed): (Vec<&StreamName>, Vec<u8>) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let known = names.iter().position(|name| **name == entry.stream);
            let stream = known.unwrap_or_else(|| {
                names.push(&entry.stream);
                names.len() - 1
            });
            let stream = u16::try_from(stream).expect("a transaction has 100 actions at most");
            packed.extend_from_slice(entry.id.as_bytes());
            packed.extend_from_slice(&entry.received.as_micros().to_be_bytes());
            packed.extend_from_slice(&entry.bytes.to_be_bytes());
            packed.extend_from_slice(&stream.to_be_bytes());
        }
        let names: Vec<_> = names.iter().map(|name| text(name.as_str())).collect();
        item.insert("at_us".to_owned(), number(self.at_us));
        item.insert("streams".to_owned(), AttributeValue::L(names));
        item.insert("entries".to_owned(), binary(packed));
        item
    }

    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        let n = find_text(item, "sk").and_then(|n| n.parse().ok());
        let names = item.get("streams").and_then(|names| names.as_l().ok());
        let names = must(names, item, "streams")?;
        let names: Option<Vec<StreamName>> =
            names.iter().map(|name| StreamName::new(name.as_s().ok()?).ok()).collect();
        let names = must(names, item, "streams")?;
        let packed = must(find_binary(item, "entries"), item, "entries")?;
        let entries: Option<Vec<Entry>> =
            packed.chunks(ENTRY_BYTES).map(|entry| read_entry(entry, &names)).collect();
        Ok(Self {
            n: must(n, item, "sk")?,
            at_us: must(find_number(item, "at_us"), item, "at_us")?,
            entries: must(entries, item, "entries")?,
        })
    }
}

/// The weeks of a lane's item; none where an older version wrote it.
fn read_weeks(item: &Item) -> Option<BTreeMap<Week, u64>> {
    let Some(weeks) = item.get("weeks") else { return Some(BTreeMap::new()) };
    let read = |(week, n): (&String, &AttributeValue)| {
        Some((week.parse().ok()?, n.as_n().ok()?.parse().ok()?))
    };
    weeks.as_m().ok()?.iter().map(read).collect()
}

fn read_entry(packed: &[u8], streams: &[StreamName]) -> Option<Entry> {
    let (id, rest) = packed.split_first_chunk::<16>()?;
    let (received, rest) = rest.split_first_chunk::<8>()?;
    let (bytes, rest) = rest.split_first_chunk::<4>()?;
    let stream = u16::from_be_bytes(rest.try_into().ok()?);
    Some(Entry {
        id: DocumentId::from_bytes(*id),
        stream: streams.get(usize::from(stream))?.clone(),
        received: Timestamp::from_micros(i64::from_be_bytes(*received)),
        bytes: u32::from_be_bytes(*bytes),
    })
}

/// The item of a chapter.
pub(super) fn chapter_item(lane: u8, chapter: u64, bounds: Bounds) -> Item {
    let mut item = key(chapter_partition(lane), Span::sort_key(chapter));
    bounds.write(&mut item);
    item
}

pub(super) fn chapter_partition(lane: u8) -> String {
    format!("c#{lane:02}")
}

pub(super) fn read_chapter(item: &Item) -> Result<(u64, Bounds), Failure> {
    let number = find_text(item, "sk").and_then(|number| number.parse().ok());
    Ok((must(number, item, "sk")?, must(Bounds::read(item), item, "first_us")?))
}

/// A place in every lane: how far a reader has come. As text `LANE.SPAN.ENTRY`, with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places(BTreeMap<u8, (u64, usize)>);

impl Places {
    /// The next span of a lane that is to be read, and the next entry in it.
    pub(super) fn of(&self, lane: u8) -> (u64, usize) {
        self.0.get(&lane).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, lane: u8, place: (u64, usize)) {
        self.0.insert(lane, place);
    }

    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let place = |part: &str| {
            let mut numbers = part.split('.');
            let lane: u8 = numbers.next()?.parse().ok()?;
            let place = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
            (numbers.next().is_none() && lane < LANES).then_some((lane, place))
        };
        let places: Option<_> = text.split(',').map(place).collect();
        places.map(Self).ok_or_else(|| {
            Failure::new(FailureKind::Refused, "use that cursor on", "the table")
                .hint("give the cursor of the page before as it was")
        })
    }

    pub(super) fn write(&self) -> String {
        let parts: Vec<String> =
            self.0.iter().map(|(lane, (n, entry))| format!("{lane}.{n}.{entry}")).collect();
        parts.join(",")
    }
}

/// The cursor of a reader that has seen all there is up to these heads; `None` where nothing is.
pub(super) fn cursor(heads: &[(u8, Head)]) -> Option<String> {
    let mut places = Places::default();
    for (lane, head) in heads {
        places.set(*lane, (head.next, 0));
    }
    Some(places.write()).filter(|cursor| !cursor.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_survives_its_item() {
        let entry = |n: u8, stream: &str| Entry {
            id: DocumentId::from_bytes([n; 16]),
            stream: StreamName::new(stream).unwrap(),
            received: Timestamp::from_micros(-i64::from(n)),
            bytes: 7,
        };
        let entries = vec![entry(1, "a"), entry(2, "b"), entry(3, "a")];
        let span = Span { n: 12, at_us: 5, entries };
        let item = span.write(Span::partition(3, None));
        assert_eq!(Span::read(&item).unwrap(), span);
        let of_a = span.of_stream(&StreamName::new("a").unwrap());
        assert_eq!(of_a.entries.len(), 2);
    }

    #[test]
    fn a_head_names_the_weeks_that_changed_last_and_gives_the_others_away() {
        let mut head = Head::default();
        let mut evicted = Vec::new();
        let mut week: Week = "2026-W01".parse().unwrap();
        for n in 0..18 {
            let span = Span { n, at_us: 1, entries: Vec::new() };
            let changed = BTreeSet::from([week]);
            let (after, away) = head.after(&span, &changed);
            (head, week) = (after, week.after());
            evicted.extend(away);
        }
        assert_eq!(head.weeks.len(), 16);
        let evicted: Vec<_> = evicted.iter().map(|(week, n)| (week.to_string(), *n)).collect();
        assert_eq!(evicted, [("2026-W01".to_owned(), 1), ("2026-W02".to_owned(), 2)]);
        let mut item = Head::key(3);
        item.extend(head.put(3, &Head::default()).get_item().clone().unwrap());
        assert_eq!(Head::read(&item).unwrap(), (3, head));
    }

    #[test]
    fn a_cursor_survives_its_text_and_any_other_is_refused() {
        let mut places = Places::default();
        places.set(3, (17, 2));
        places.set(11, (0, 0));
        assert_eq!(places.write(), "3.17.2,11.0.0");
        assert_eq!(Places::read(&places.write()).unwrap(), places);
        for text in ["", "x", "1.2", "1.2.3.4", "99.1.1", "-1.0.0"] {
            assert_eq!(Places::read(text).unwrap_err().kind(), FailureKind::Refused, "{text}");
        }
    }
}
