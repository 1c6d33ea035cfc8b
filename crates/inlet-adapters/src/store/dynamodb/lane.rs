//! The lane that a writer writes to, and what it remembers of it.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use inlet_core::calendar::Day;
use inlet_core::document::StreamName;
use inlet_core::failure::Failure;
use inlet_core::tally::TallySheet;

use super::attributes::Item;
use super::ledger::{self, Figures, Tallies};
use super::span::{Entry, Head, LANES, Span, chapter_item};
use super::table::{Table, partition_of};

/// How many figures and tallies are remembered; beyond it all are read anew.
const REMEMBERED_MAX: usize = 4_096;

/// A lane as its writer last saw it. It may be out of date: then the next transaction is refused,
/// and all of it is forgotten.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) number: u8,
    head: Option<Head>,
    figures: HashMap<StreamName, Figures>,
    tallies: HashMap<(Day, StreamName), Tallies>,
}

/// What a transaction makes of the lane.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) before: Head,
    pub(super) head: Head,
    pub(super) items: Vec<Item>,
    figures: BTreeMap<StreamName, Figures>,
    tallies: BTreeMap<(Day, StreamName), Tallies>,
}

impl Lane {
    /// One of the lanes, at random.
    pub(super) fn choose() -> Self {
        Self { number: random(), head: None, figures: HashMap::new(), tallies: HashMap::new() }
    }

    /// Takes another lane: somebody else writes to this one.
    pub(super) fn hop(&mut self) {
        let apart = 1 + random() % (LANES - 1);
        *self = Self { number: (self.number + apart) % LANES, ..Self::choose() };
    }

    /// Forgets what may no longer be so.
    pub(super) fn forget(&mut self) {
        *self = Self { number: self.number, ..Self::choose() };
    }

    /// The number of the next span.
    pub(super) async fn next(&mut self, table: &Table) -> Result<u64, Failure> {
        if let Some(head) = &self.head {
            return Ok(head.next);
        }
        let head = match table.get(Head::key(self.number)).await? {
            Some(item) => Head::read(&item)?.1,
            None => Head::default(),
        };
        // What was remembered may be older than this head.
        self.figures.clear();
        self.tallies.clear();
        let next = head.next;
        self.head = Some(head);
        Ok(next)
    }

    /// What these tallies and entries make of the lane; `None` where they leave it as it is.
    pub(super) async fn step(
        &mut self,
        table: &Table,
        sheet: &TallySheet,
        entries: &[Entry],
    ) -> Result<Option<Step>, Failure> {
        let rows = sheet.rows();
        if rows.is_empty() && entries.is_empty() {
            return Ok(None);
        }
        self.next(table).await?;
        let before = self.head.clone().unwrap_or_default();
        let at_us = now_us().max(before.at_us.saturating_add(1));
        let span = Span { n: before.next, at_us, entries: entries.to_vec() };
        let days: Vec<(Day, StreamName)> =
            rows.iter().map(|row| (row.day, row.stream.clone())).collect();
        let streams: Vec<StreamName> =
            span.entries.iter().map(|entry| entry.stream.clone()).collect();
        self.remember(table, &days, &streams).await?;
        let mut tallies: BTreeMap<(Day, StreamName), Tallies> = BTreeMap::new();
        let zone = sheet.zone();
        for row in &rows {
            let day = (row.day, row.stream.clone());
            let known = self.tallies.get(&day).cloned().unwrap_or_default();
            tallies.entry(day).or_insert(known).add(row, zone);
        }
        let mut figures: BTreeMap<StreamName, Figures> = BTreeMap::new();
        for entry in &span.entries {
            let known = self.figures.get(&entry.stream).cloned().unwrap_or_default();
            figures.entry(entry.stream.clone()).or_insert(known).add(entry);
        }
        let (head, evicted) = before.after(&span, &sheet.weeks());
        let lane = self.number;
        let mut items = vec![span.write(Span::partition(lane, None))];
        items
            .extend(head.chapter.map(|bounds| chapter_item(lane, chapter_of(before.next), bounds)));
        items.extend(evicted.into_iter().map(|(week, n)| ledger::week_item(week, lane, n)));
        for (stream, figures) in &figures {
            items.push(span.of_stream(stream).write(Span::partition(lane, Some(stream))));
            items.push(figures.write(stream, lane));
        }
        for ((day, stream), tallies) in &tallies {
            items.push(tallies.write(*day, stream, lane));
        }
        Ok(Some(Step { before, head, items, figures, tallies }))
    }

    /// Notes that the step was made.
    pub(super) fn made(&mut self, step: Step) {
        self.head = Some(step.head);
        self.figures.extend(step.figures);
        self.tallies.extend(step.tallies);
    }

    /// Reads what is not remembered of these.
    async fn remember(
        &mut self,
        table: &Table,
        days: &[(Day, StreamName)],
        streams: &[StreamName],
    ) -> Result<(), Failure> {
        if self.figures.len() + self.tallies.len() > REMEMBERED_MAX {
            self.figures.clear();
            self.tallies.clear();
        }
        let mut wanted: HashMap<(String, String), Wanted> = HashMap::new();
        for (day, stream) in days {
            if !self.tallies.contains_key(&(*day, stream.clone())) {
                let key = Tallies::key(*day, stream, self.number);
                wanted.insert(parts(&key), Wanted::Tallies(*day, stream.clone()));
            }
        }
        for stream in streams {
            if !self.figures.contains_key(stream) {
                let key = Figures::key(stream, self.number);
                wanted.insert(parts(&key), Wanted::Figures(stream.clone()));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let keys = wanted.keys().map(|(pk, sk)| super::attributes::key(pk, sk)).collect();
        let mut found: HashMap<(String, String), Item> =
            table.get_many(keys).await?.into_iter().map(|item| (parts(&item), item)).collect();
        for (key, wanted) in wanted {
            let item = found.remove(&key);
            match wanted {
                Wanted::Tallies(day, stream) => {
                    let tallies = item.map(|item| Tallies::read(&item)).transpose()?;
                    self.tallies.insert((day, stream), tallies.unwrap_or_default());
                }
                Wanted::Figures(stream) => {
                    let figures = item.map(|item| Figures::read(&item)).transpose()?;
                    self.figures.insert(stream, figures.unwrap_or_default());
                }
            }
        }
        Ok(())
    }
}

enum Wanted {
    Tallies(Day, StreamName),
    Figures(StreamName),
}

fn parts(key: &Item) -> (String, String) {
    let sk = super::attributes::find_text(key, "sk").unwrap_or_default();
    (partition_of(key).to_owned(), sk.to_owned())
}

/// The chapter that span is in.
pub(super) fn chapter_of(n: u64) -> u64 {
    n / super::span::CHAPTER_SPANS
}

fn random() -> u8 {
    let mut random = [0];
    // Without a random number writers only meet more often.
    getrandom::fill(&mut random).map_or(0, |()| random[0] % LANES)
}

/// The order of spans is by this clock and not by the batch's: it is that of the writer, and in a
/// lane it never goes backwards.
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
