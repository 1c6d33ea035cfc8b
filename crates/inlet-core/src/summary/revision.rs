//! Revisions: the difference between a summary and the one it replaces.

use std::collections::BTreeMap;

use super::{CHANGED_STREAMS_MAX, CHANGES_MAX, Figures, StreamChange, Summary, SummaryChange};

/// The counts of which a change tells the differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Counts {
    documents: u64,
    bytes: u64,
    dead_letters: u64,
}

impl Counts {
    fn of(figures: &Figures) -> Self {
        let dead_letters = figures.dead_letters.iter().map(|dead| dead.documents);
        Self {
            documents: figures.documents,
            bytes: figures.bytes,
            dead_letters: dead_letters.fold(0, u64::saturating_add),
        }
    }
}

impl Summary {
    /// This summary as it follows the one that was `before`: the same revision where no figure
    /// differs, and otherwise the next one.
    pub(super) fn revising(mut self, before: Option<Self>) -> Self {
        let Some(before) = before else { return self };
        self.revision = before.revision;
        let is_same = before.total == self.total
            && before.streams == self.streams
            && before.zones == self.zones;
        let change = (!is_same).then(|| self.change_from(&before));
        self.changes = before.changes;
        if let Some(change) = change {
            self.revision = change.revision;
            self.changes.push(change);
            let too_many = self.changes.len().saturating_sub(CHANGES_MAX);
            self.changes.drain(..too_many);
        }
        self
    }

    fn change_from(&self, before: &Self) -> SummaryChange {
        let mut streams: BTreeMap<&str, (Counts, Counts)> = BTreeMap::new();
        for stream in &before.streams {
            streams.entry(&stream.stream).or_default().0 = Counts::of(&stream.figures);
        }
        for stream in &self.streams {
            streams.entry(&stream.stream).or_default().1 = Counts::of(&stream.figures);
        }
        let changed = streams.into_iter().filter(|(_, (before, now))| before != now);
        let streams = changed.take(CHANGED_STREAMS_MAX).map(|(stream, (before, now))| {
            let stream = stream.to_owned();
            let (documents, bytes, dead_letters) = difference(before, now);
            StreamChange { stream, documents, bytes, dead_letters }
        });
        let (documents, bytes, dead_letters) =
            difference(Counts::of(&before.total), Counts::of(&self.total));
        SummaryChange {
            revision: before.revision.saturating_add(1),
            made: self.made,
            documents,
            bytes,
            dead_letters,
            streams: streams.collect(),
        }
    }
}

fn difference(before: Counts, now: Counts) -> (i64, i64, i64) {
    let less = |before: u64, now: u64| {
        let difference = i128::from(now) - i128::from(before);
        i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
    };
    (
        less(before.documents, now.documents),
        less(before.bytes, now.bytes),
        less(before.dead_letters, now.dead_letters),
    )
}
