//! Figures of streams and counts of days. Each lane has its own, which only the writer of the
//! lane's next span may change, in the transaction of that span; a reader adds them up.
//!
//! ```text
//! streams / STREAM#LANE     documents, bytes, first_us, last_us
//! streams / STREAM#erased   documents and bytes that were erased
//! y#DAY / STREAM#LANE       counts: what the day's tallies are, as JSON
//! weeks / WEEK#LANE         n: as in the lane's item, for weeks that it has no room for
//! weeks / WEEK#summarized   n: the revision of which a summary was written
//! ```
//!
//! The revision of a week is the sum of what its lanes say: each of these only grows.

use std::collections::BTreeMap;

use inlet_core::calendar::{Day, Week};
use inlet_core::document::{StreamName, Timestamp};
use inlet_core::failure::Failure;
use inlet_core::ports::{StreamFigures, TallyKind, TallyRow, TallyWeek, ZoneTally};
use serde::{Deserialize, Serialize};

use super::attributes::{Item, find_number, find_text, key, must, number, text};
use super::span::{Entry, Head};

/// The partition of the figures.
pub(super) const STREAMS_KEY: &str = "streams";
/// The partition of the weeks.
pub(super) const WEEKS_KEY: &str = "weeks";
/// In the place of a lane: up to where the week is summarized.
const SUMMARIZED: &str = "summarized";
/// In the place of a lane: what was erased.
pub(super) const ERASED: &str = "erased";
/// How many fields (a path with a type) are counted a lane, stream and day under their own names.
/// What comes beyond is counted under [`OTHER_FIELDS`], so that documents whose names are data
/// can't make the tallies grow with them.
const FIELDS_MAX: usize = 512;
/// The path that stands for all fields beyond [`FIELDS_MAX`].
const OTHER_FIELDS: &str = "…";

/// A stream's figures in one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Figures {
    documents: i64,
    bytes: i64,
    first_us: Option<i64>,
    last_us: Option<i64>,
}

impl Figures {
    pub(super) fn key(stream: &StreamName, lane: u8) -> Item {
        key(STREAMS_KEY, format!("{stream}#{lane:02}"))
    }

    pub(super) fn erased_key(stream: &StreamName) -> Item {
        key(STREAMS_KEY, format!("{stream}#{ERASED}"))
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        let received = entry.received.as_micros();
        self.documents += 1;
        self.bytes += i64::from(entry.bytes);
        self.first_us = Some(self.first_us.map_or(received, |first| first.min(received)));
        self.last_us = Some(self.last_us.map_or(received, |last| last.max(received)));
    }

    pub(super) fn write(&self, stream: &StreamName, lane: u8) -> Item {
        let mut item = Self::key(stream, lane);
        let mut set = |name: &str, value: i64| drop(item.insert(name.to_owned(), number(value)));
        set("documents", self.documents);
        set("bytes", self.bytes);
        if let (Some(first_us), Some(last_us)) = (self.first_us, self.last_us) {
            set("first_us", first_us);
            set("last_us", last_us);
        }
        item
    }

    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        Ok(Self {
            documents: must(find_number(item, "documents"), item, "documents")?,
            bytes: must(find_number(item, "bytes"), item, "bytes")?,
            first_us: find_number(item, "first_us"),
            last_us: find_number(item, "last_us"),
        })
    }

    fn and(self, other: &Self) -> Self {
        Self {
            documents: self.documents + other.documents,
            bytes: self.bytes + other.bytes,
            first_us: earlier(self.first_us, other.first_us),
            last_us: self.last_us.max(other.last_us),
        }
    }
}

fn earlier(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The figures of all streams, from those of their lanes.
pub(super) fn add_up(items: &[Item]) -> Result<Vec<StreamFigures>, Failure> {
    let mut streams: BTreeMap<StreamName, Figures> = BTreeMap::new();
    for item in items {
        let sum = streams.entry(stream_of(item)?).or_default();
        *sum = std::mem::take(sum).and(&Figures::read(item)?);
    }
    let figures = |(stream, figures): (StreamName, Figures)| StreamFigures {
        stream,
        documents: u64::try_from(figures.documents).unwrap_or(0),
        bytes: u64::try_from(figures.bytes).unwrap_or(0),
        first: figures.first_us.map(Timestamp::from_micros),
        last: figures.last_us.map(Timestamp::from_micros),
    };
    Ok(streams.into_iter().map(figures).collect())
}

/// What was counted of a stream on a day, in one lane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tallies {
    /// Documents and bytes.
    stored: (u64, u64),
    /// The same of dead letters, by the code of their cause.
    dead: BTreeMap<String, (u64, u64)>,
    /// Documents that have a field, by its path and type.
    fields: BTreeMap<String, BTreeMap<String, u64>>,
    /// Documents and bytes by the zone under whose days they were counted.
    #[serde(default)]
    zones: BTreeMap<String, (u64, u64)>,
}

impl Tallies {
    pub(super) fn partition(day: Day) -> String {
        format!("y#{day}")
    }

    pub(super) fn key(day: Day, stream: &StreamName, lane: u8) -> Item {
        key(Self::partition(day), format!("{stream}#{lane:02}"))
    }

    pub(super) fn add(&mut self, row: &TallyRow, zone: &str) {
        match &row.kind {
            TallyKind::Stored => {
                add(&mut self.stored, row);
                add(self.zones.entry(zone.to_owned()).or_default(), row);
            }
            TallyKind::Dead(code) => add(self.dead.entry(code.clone()).or_default(), row),
            TallyKind::Field(path, of_type) => {
                let known = self.fields.get(path).is_some_and(|types| types.contains_key(of_type));
                let full = self.fields.values().map(BTreeMap::len).sum::<usize>() >= FIELDS_MAX;
                let path = if full && !known { OTHER_FIELDS } else { path };
                let types = self.fields.entry(path.to_owned()).or_default();
                *types.entry(of_type.clone()).or_default() += row.documents;
            }
        }
    }

    pub(super) fn write(&self, day: Day, stream: &StreamName, lane: u8) -> Item {
        let mut item = Self::key(day, stream, lane);
        let counts = serde_json::to_string(self).expect("counts are text and numbers");
        item.insert("counts".to_owned(), text(counts));
        item
    }

    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        let counts = must(find_text(item, "counts"), item, "counts")?;
        must(serde_json::from_str(counts).ok(), item, "counts")
    }

    fn rows(self, day: Day, stream: &StreamName) -> Vec<TallyRow> {
        let row = |kind, documents, bytes| TallyRow {
            day,
            stream: stream.clone(),
            kind,
            documents,
            bytes,
        };
        let mut rows = Vec::new();
        if self.stored.0 > 0 {
            rows.push(row(TallyKind::Stored, self.stored.0, self.stored.1));
        }
        for (code, (documents, bytes)) in self.dead {
            rows.push(row(TallyKind::Dead(code), documents, bytes));
        }
        for (path, types) in self.fields {
            for (of_type, documents) in types {
                rows.push(row(TallyKind::Field(path.clone(), of_type), documents, 0));
            }
        }
        rows
    }
}

fn add(counts: &mut (u64, u64), row: &TallyRow) {
    counts.0 += row.documents;
    counts.1 += row.bytes;
}

/// Adds the tallies of a day, from those of its lanes, to `sum`.
pub(super) fn add_up_day(
    day: Day,
    items: &[Item],
    sum: &mut inlet_core::ports::Tallies,
) -> Result<(), Failure> {
    let mut zones: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut streams: BTreeMap<StreamName, BTreeMap<TallyKind, TallyRow>> = BTreeMap::new();
    for item in items {
        let stream = stream_of(item)?;
        let tallies = Tallies::read(item)?;
        for (zone, (documents, bytes)) in &tallies.zones {
            let sum = zones.entry(zone.clone()).or_default();
            *sum = (sum.0 + documents, sum.1 + bytes);
        }
        let rows = tallies.rows(day, &stream);
        let sums = streams.entry(stream).or_default();
        for row in rows {
            match sums.get_mut(&row.kind) {
                None => drop(sums.insert(row.kind.clone(), row)),
                Some(sum) => {
                    sum.documents += row.documents;
                    sum.bytes += row.bytes;
                }
            }
        }
    }
    sum.rows.extend(streams.into_values().flat_map(BTreeMap::into_values));
    sum.zones.extend(zones.into_iter().map(|(zone, (documents, bytes))| ZoneTally {
        day,
        zone,
        documents,
        bytes,
    }));
    Ok(())
}

/// The item of a week that a lane's item has no room for.
pub(super) fn week_item(week: Week, lane: u8, n: u64) -> Item {
    let mut item = key(WEEKS_KEY, format!("{week}#{lane:02}"));
    item.insert("n".to_owned(), number(n));
    item
}

/// The note that a summary of `week` was written from tallies of this revision.
pub(super) fn summarized_item(week: Week, revision: u64) -> Item {
    let mut item = key(WEEKS_KEY, format!("{week}#{SUMMARIZED}"));
    item.insert("n".to_owned(), number(revision));
    item
}

/// All weeks, from those in the lanes' items and those that have items of their own.
pub(super) fn add_up_weeks(
    heads: &[(u8, Head)],
    items: &[Item],
) -> Result<Vec<TallyWeek>, Failure> {
    let mut lanes: BTreeMap<Week, BTreeMap<String, u64>> = BTreeMap::new();
    for item in items {
        let (week, lane) = must(find_text(item, "sk").and_then(week_and_lane), item, "sk")?;
        let n = must(find_number(item, "n"), item, "n")?;
        lanes.entry(week).or_default().insert(lane.to_owned(), n);
    }
    for (lane, head) in heads {
        for (week, n) in &head.weeks {
            // A week may have an item from before it came into the lane's own again.
            lanes.entry(*week).or_default().insert(format!("{lane:02}"), *n);
        }
    }
    let week = |(week, mut lanes): (Week, BTreeMap<String, u64>)| {
        let summarized = lanes.remove(SUMMARIZED);
        TallyWeek { week, revision: lanes.into_values().sum(), summarized }
    };
    Ok(lanes.into_iter().map(week).collect())
}

fn week_and_lane(sk: &str) -> Option<(Week, &str)> {
    let (week, lane) = sk.split_once('#')?;
    Some((week.parse().ok()?, lane))
}

fn stream_of(item: &Item) -> Result<StreamName, Failure> {
    let name = find_text(item, "sk").and_then(|sk| sk.split_once('#')).map(|(name, _)| name);
    must(name.and_then(|name| StreamName::new(name).ok()), item, "sk")
}
