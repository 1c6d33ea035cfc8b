//! The counts that a batch adds to its days, so that a summary need not read documents.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::calendar::{Calendar, Day, Week};
use crate::document::{StreamName, Timestamp};
use crate::fields::FieldCounts;
use crate::ports::{TallyKind, TallyRow, ZoneTally};

/// Counts the documents of one batch by day and stream. In the transaction that stores the
/// documents, a store adds [`TallySheet::rows`] and [`TallySheet::zones`] to what it has, and
/// raises the revision of [`TallySheet::weeks`].
#[derive(Debug)]
pub struct TallySheet {
    calendar: Calendar,
    day_now: Option<(Day, Timestamp, Timestamp)>,
    counts: HashMap<(Day, StreamName), Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    documents: u64,
    bytes: u64,
    dead: HashMap<&'static str, (u64, u64)>,
    fields: FieldCounts,
}

impl TallySheet {
    /// An empty sheet.
    pub fn new(calendar: Calendar) -> Self {
        Self { calendar, day_now: None, counts: HashMap::new() }
    }

    /// Counts a document that was stored now for the first time.
    pub fn stored(&mut self, stream: &StreamName, received: Timestamp, body: &[u8]) {
        let counts = self.counts(stream, received);
        counts.documents += 1;
        counts.bytes += body.len() as u64;
        counts.fields.count(body);
    }

    /// Counts a document that became a dead letter now, by the code of its cause.
    pub fn dead(
        &mut self,
        stream: &StreamName,
        received: Timestamp,
        code: &'static str,
        bytes: usize,
    ) {
        let counts = self.counts(stream, received).dead.entry(code).or_default();
        counts.0 += 1;
        counts.1 += bytes as u64;
    }

    /// What is to be added, one row a day, stream and kind, in a fixed order.
    pub fn rows(&self) -> Vec<TallyRow> {
        let mut rows = Vec::new();
        for ((day, stream), counts) in &self.counts {
            let mut row = |kind, documents, bytes| {
                rows.push(TallyRow { day: *day, stream: stream.clone(), kind, documents, bytes });
            };
            if counts.documents > 0 {
                row(TallyKind::Stored, counts.documents, counts.bytes);
            }
            for (code, (documents, bytes)) in &counts.dead {
                row(TallyKind::Dead((*code).to_owned()), *documents, *bytes);
            }
            for (path, kind, documents) in counts.fields.iter() {
                row(TallyKind::Field(path.to_owned(), kind.as_str().to_owned()), documents, 0);
            }
        }
        rows.sort_by(|a, b| (a.day, &a.stream, &a.kind).cmp(&(b.day, &b.stream, &b.kind)));
        rows
    }

    /// The IANA name of the zone whose days it counts by.
    pub fn zone(&self) -> &str {
        self.calendar.zone_name()
    }

    /// The documents that were stored, by day, under the sheet's zone.
    pub fn zones(&self) -> Vec<ZoneTally> {
        let mut days: BTreeMap<Day, (u64, u64)> = BTreeMap::new();
        for ((day, _), counts) in self.counts.iter().filter(|(_, counts)| counts.documents > 0) {
            let sum = days.entry(*day).or_default();
            *sum = (sum.0 + counts.documents, sum.1 + counts.bytes);
        }
        let zone = self.zone();
        days.into_iter()
            .map(|(day, (documents, bytes))| ZoneTally {
                day,
                zone: zone.to_owned(),
                documents,
                bytes,
            })
            .collect()
    }

    /// The weeks whose tallies change.
    pub fn weeks(&self) -> BTreeSet<Week> {
        self.counts.keys().map(|(day, _)| Week::of(*day)).collect()
    }

    fn counts(&mut self, stream: &StreamName, received: Timestamp) -> &mut Counts {
        // Nearly all documents of a batch are of one day, so the calendar is asked once.
        let day = match self.day_now {
            Some((day, begins, ends)) if begins <= received && received < ends => day,
            _ => {
                let day = self.calendar.day(received);
                let (begins, ends) = self.calendar.bounds(day);
                self.day_now = Some((day, begins, ends));
                day
            }
        };
        self.counts.entry((day, stream.clone())).or_default()
    }
}
