//! Which weeks need a summary now.

use std::collections::BTreeMap;

use super::bucket::{self, read_if_possible};
use super::{Figures, Summary, counted};
use crate::calendar::Week;
use crate::document::Timestamp;
use crate::failure::Failure;
use crate::ports::{Bucket, Store, TallyWeek};
use crate::schedule::{Made, Schedule};

/// A week whose summary is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// The week.
    pub week: Week,
    /// Why it is due.
    pub reason: DueReason,
}

/// Why a summary is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DueReason {
    /// The schedule says so: the week has no summary yet, or its summary is made again by design.
    Scheduled,
    /// The tallies of the week, or of the week before that it is compared with, changed after its
    /// summary was written.
    Changed,
}

/// The weeks whose summaries are due at `now`, oldest first: those that [`Schedule::due`] names,
/// and every complete week, however old, whose tallies are not those its summary counted. A
/// summary that can't be read counts as not made.
///
/// In a store that was restored, or in which an older version counted, nothing was noted of the
/// summaries there are. One that such a store has nothing to add to is adopted: a restored store
/// lacks what was erased since, and takes nothing away.
pub async fn summaries_due(
    store: &dyn Store,
    bucket: &dyn Bucket,
    schedule: &Schedule,
    now: Timestamp,
) -> Result<Vec<Due>, Failure> {
    let first = store.streams().await?.into_iter().filter_map(|figures| figures.first).min();
    let look = Look { store, bucket, schedule, now, tallied: store.tally_weeks().await? };
    let recent = schedule.weeks_complete(now);
    let mut made = Vec::new();
    let mut due = BTreeMap::new();
    for week in &recent {
        let Some(summary) = read_if_possible(bucket, *week).await? else { continue };
        made.push(Made { week: *week, made: summary.made });
        // The schedule alone decides about a summary from before the week was over.
        if summary.complete && look.is_changed(&summary).await? {
            due.insert(*week, DueReason::Changed);
        }
    }
    for week in look.weeks_before(recent.first().copied()) {
        let is_due = match read_if_possible(bucket, week).await? {
            Some(summary) => !summary.complete || look.is_changed(&summary).await?,
            None => true,
        };
        if is_due {
            due.insert(week, DueReason::Changed);
        }
    }
    for week in schedule.due(&made, first, now) {
        due.insert(week, DueReason::Scheduled);
    }
    Ok(due.into_iter().map(|(week, reason)| Due { week, reason }).collect())
}

/// The store's number for all that a summary of `week` counts: its own tallies, and those of the
/// week before.
pub(super) fn revision(tallied: &[TallyWeek], week: Week) -> u64 {
    let before = week.before();
    let counted = tallied.iter().filter(|tally| tally.week == week || tally.week == before);
    counted.map(|tally| tally.revision).fold(0, u64::saturating_add)
}

/// What is looked at to tell which weeks changed.
struct Look<'a> {
    store: &'a dyn Store,
    bucket: &'a dyn Bucket,
    schedule: &'a Schedule,
    now: Timestamp,
    tallied: Vec<TallyWeek>,
}

impl Look<'_> {
    /// The weeks before `oldest` of which the last summary was not written from the tallies there
    /// are.
    fn weeks_before(&self, oldest: Option<Week>) -> Vec<Week> {
        self.tallied
            .iter()
            .filter(|tally| oldest.is_some_and(|oldest| tally.week < oldest))
            .filter(|tally| tally.summarized != Some(revision(&self.tallied, tally.week)))
            .map(|tally| tally.week)
            .collect()
    }

    /// Whether the tallies are others than those of `summary`.
    async fn is_changed(&self, summary: &Summary) -> Result<bool, Failure> {
        let (store, week) = (self.store, summary.week);
        let revision = revision(&self.tallied, week);
        let noted = self.tallied.iter().find(|tally| tally.week == week);
        let noted = noted.and_then(|tally| tally.summarized);
        if summary.counted == revision {
            if noted != Some(revision) && revision > 0 {
                store.mark_summarized(week, revision).await?;
            }
            return Ok(false);
        }
        if noted.is_some() {
            return Ok(true);
        }
        let counted = counted(store, self.now, self.schedule.calendar(), week).await?;
        if counted.total.has_more_than(&summary.total) {
            return Ok(true);
        }
        let adopted = Summary { counted: counted.counted, ..summary.clone() };
        bucket::put(self.bucket, &adopted).await?;
        store.mark_summarized(week, adopted.counted).await?;
        Ok(false)
    }
}

impl Figures {
    fn has_more_than(&self, other: &Self) -> bool {
        let dead = |figures: &Self| {
            let dead = figures.dead_letters.iter().map(|dead| dead.documents);
            dead.fold(0, u64::saturating_add)
        };
        self.documents > other.documents || dead(self) > dead(other)
    }
}
