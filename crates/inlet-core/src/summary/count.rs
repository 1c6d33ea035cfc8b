//! Counting: from the tallies of two weeks to a summary.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{
    Change, DayFigures, DeadLetters, FIELDS_MAX, FieldSummary, FieldTypeCount, Figures, Growth,
    SUMMARY_FORMAT, StreamSummary, Summary, ZoneFigures, first_revision,
};
use crate::calendar::{Calendar, Week};
use crate::document::{StreamName, Timestamp};
use crate::ports::{Tallies, TallyKind, TallyRow, ZoneTally};

/// What is added up for one stream, or for all.
#[derive(Default)]
struct Sum {
    days: [Count; 7],
    before: Count,
    dead: BTreeMap<String, Count>,
    fields: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Default, Clone, Copy)]
struct Count {
    documents: u64,
    bytes: u64,
}

impl Count {
    /// Saturates: a count at its end is better than a summary that can't be made.
    fn add(&mut self, documents: u64, bytes: u64) {
        self.documents = self.documents.saturating_add(documents);
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The first revision of the summary of `week`, from the tallies of its days and those of the
/// week before, in any order. Rows of other days are passed over.
pub(super) fn summary(
    tallies: Tallies,
    now: Timestamp,
    calendar: &Calendar,
    week: Week,
) -> Summary {
    let mut total = Sum::default();
    let mut streams: BTreeMap<StreamName, Sum> = BTreeMap::new();
    for row in tallies.rows {
        let day = week.days().iter().position(|day| *day == row.day);
        if day.is_none() && Week::of(row.day) != week.before() {
            continue;
        }
        let of_stream = streams.entry(row.stream.clone()).or_default();
        for sum in [&mut total, of_stream] {
            sum.add(&row, day);
        }
    }
    let total = total.figures(week);
    let mut streams: Vec<StreamSummary> = streams
        .into_iter()
        .filter(|(_, sum)| sum.is_worth_a_line())
        .map(|(stream, sum)| sum.of_stream(&stream, week, total.documents))
        .collect();
    streams.sort_by(|a, b| {
        let rank = |of: &StreamSummary| Reverse((of.figures.documents, of.figures.bytes));
        rank(a).cmp(&rank(b)).then_with(|| a.stream.cmp(&b.stream))
    });
    let to = calendar.bounds(week.last_day()).1;
    Summary {
        format: SUMMARY_FORMAT,
        week,
        zone: calendar.zone_name().to_owned(),
        made: now,
        from: calendar.bounds(week.first_day()).0,
        to,
        complete: now >= to,
        revision: first_revision(),
        changes: Vec::new(),
        cursor: tallies.cursor,
        counted: 0,
        zones: zones(tallies.zones, calendar, week),
        total,
        streams,
    }
}

/// The zones of the week's documents, where there are others than that of `calendar`; those that
/// were counted first come first.
fn zones(tallies: Vec<ZoneTally>, calendar: &Calendar, week: Week) -> Vec<ZoneFigures> {
    let mut zones: BTreeMap<String, ZoneFigures> = BTreeMap::new();
    for tally in tallies.into_iter().filter(|tally| Week::of(tally.day) == week) {
        let ZoneTally { day, zone, documents, bytes } = tally;
        let none = ZoneFigures { zone: zone.clone(), from: day, to: day, documents: 0, bytes: 0 };
        let figures = zones.entry(zone).or_insert(none);
        (figures.from, figures.to) = (figures.from.min(day), figures.to.max(day));
        figures.documents = figures.documents.saturating_add(documents);
        figures.bytes = figures.bytes.saturating_add(bytes);
    }
    if zones.keys().all(|zone| zone == calendar.zone_name()) {
        return Vec::new();
    }
    let mut zones: Vec<ZoneFigures> = zones.into_values().collect();
    zones.sort_by_key(|figures| (figures.from, figures.to));
    zones
}

impl Sum {
    /// Adds a row of the `day`-th day of the week, or of the week before where that is `None`.
    fn add(&mut self, row: &TallyRow, day: Option<usize>) {
        match (&row.kind, day) {
            (TallyKind::Stored, Some(day)) => self.days[day].add(row.documents, row.bytes),
            (TallyKind::Stored, None) => self.before.add(row.documents, row.bytes),
            (TallyKind::Dead(cause), Some(_)) => {
                self.dead.entry(cause.clone()).or_default().add(row.documents, row.bytes);
            }
            (TallyKind::Field(path, kind), Some(_)) => {
                let types = self.fields.entry(path.clone()).or_default();
                let documents = types.entry(kind.clone()).or_default();
                *documents = documents.saturating_add(row.documents);
            }
            (TallyKind::Dead(_) | TallyKind::Field(..), None) => {}
        }
    }

    fn is_worth_a_line(&self) -> bool {
        self.week().documents > 0 || self.before.documents > 0 || !self.dead.is_empty()
    }

    fn week(&self) -> Count {
        let mut week = Count::default();
        for day in &self.days {
            week.add(day.documents, day.bytes);
        }
        week
    }

    fn figures(self, week: Week) -> Figures {
        let sum = self.week();
        let mut dead_letters: Vec<DeadLetters> = self
            .dead
            .into_iter()
            .map(|(cause, Count { documents, bytes })| DeadLetters { cause, documents, bytes })
            .collect();
        dead_letters.sort_by_key(|dead| Reverse(dead.documents));
        Figures {
            documents: sum.documents,
            bytes: sum.bytes,
            days: week
                .days()
                .into_iter()
                .zip(self.days)
                .map(|(day, Count { documents, bytes })| DayFigures { day, documents, bytes })
                .collect(),
            growth: Growth {
                documents: change(self.before.documents, sum.documents),
                bytes: change(self.before.bytes, sum.bytes),
            },
            dead_letters,
        }
    }

    fn of_stream(mut self, stream: &StreamName, week: Week, total: u64) -> StreamSummary {
        let (fields, fields_left_out) =
            fields(std::mem::take(&mut self.fields), self.week().documents);
        let figures = self.figures(week);
        StreamSummary {
            stream: stream.as_str().to_owned(),
            share: percent(figures.documents, total),
            figures,
            fields,
            fields_left_out,
        }
    }
}

/// The most frequent fields, and how many there are besides.
fn fields(
    counted: BTreeMap<String, BTreeMap<String, u64>>,
    documents_in_all: u64,
) -> (Vec<FieldSummary>, u64) {
    let mut fields: Vec<FieldSummary> = counted
        .into_iter()
        .map(|(path, types)| {
            let mut types: Vec<FieldTypeCount> = types
                .into_iter()
                .map(|(kind, documents)| FieldTypeCount {
                    kind,
                    documents,
                    share: percent(documents, documents_in_all),
                })
                .collect();
            types.sort_by_key(|of| Reverse(of.documents));
            FieldSummary { path, types }
        })
        .collect();
    // Stable: paths that are equally frequent stay in the order of their names.
    fields.sort_by_key(|field| Reverse(field.types.iter().map(|of| of.documents).max()));
    let left_out = fields.len().saturating_sub(FIELDS_MAX);
    fields.truncate(FIELDS_MAX);
    (fields, left_out as u64)
}

fn change(before: u64, now: u64) -> Change {
    let difference = i128::from(now) - i128::from(before);
    let difference =
        i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX });
    let percent = (before > 0).then(|| tenths(difference as f64 / before as f64 * 100.0));
    Change { before, difference, percent }
}

/// `part` of `whole` in per cent to one decimal; 0 where there is no whole.
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { tenths(part as f64 / whole as f64 * 100.0) }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
