//! The loop that keeps the weeks: it writes the summaries and the backup that are due.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use inlet_core::calendar::Week;
use inlet_core::failure::Failure;
use inlet_core::health::{Health, Part};
use inlet_core::ports::{Bucket, Clock, Store};
use inlet_core::schedule::Schedule;
use inlet_core::summary::{Summary, read_summary};
use inlet_core::weekly::Weekly;

use super::stop::Stop;

/// How often the clock is looked at, at least: it may jump, and a laptop may sleep.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The pause after the first failure; it doubles with each that follows.
const RETRY_MIN: Duration = Duration::from_secs(5);
/// The longest pause after a failure.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The engines and rules of summaries and backups.
#[derive(Clone)]
pub(crate) struct Summarizer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) schedule: Schedule,
    pub(crate) backups_max: Option<NonZeroUsize>,
}

/// The parts of the process that this loop is, on the board.
pub(crate) struct Parts {
    summary: Part,
    backup: Part,
}

impl Parts {
    /// Registers them.
    pub(crate) fn new(health: &Health) -> Self {
        Self { summary: health.part("summary"), backup: health.part("backup") }
    }
}

/// Keeps the weeks until it is time to stop.
pub(crate) async fn run(summarizer: Summarizer, parts: Arc<Parts>, stop: Stop) {
    let mut keeper = Keeper { summarizer, parts, unpruned: None };
    let mut retry = RETRY_MIN;
    loop {
        let is_done = tokio::select! {
            _ = stop.wait() => return,
            is_done = keeper.look(&stop) => is_done,
        };
        let pause = if is_done { keeper.summarizer.until_next() } else { retry };
        retry = if is_done { RETRY_MIN } else { (retry * 2).min(RETRY_MAX) };
        tokio::select! {
            _ = stop.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Keeper {
    summarizer: Summarizer,
    parts: Arc<Parts>,
    /// The week whose backup was verified while those that are too many could not be deleted.
    unpruned: Option<Week>,
}

impl Keeper {
    /// Writes what is due, the summaries and the backup apart; returns whether nothing failed.
    async fn look(&mut self, stop: &Stop) -> bool {
        let summaries = self.summaries(stop).await;
        let backup = self.backup().await;
        report(&self.parts.summary, &summaries) & report(&self.parts.backup, &backup)
    }

    async fn summaries(&self, stop: &Stop) -> Result<(), Failure> {
        let weekly = self.summarizer.weekly();
        let now = self.summarizer.clock.now();
        let written = weekly.write_summaries(now, || stop.is_now()).await?;
        if !written.is_empty() {
            self.parts.summary.succeeded(now);
        } else if self.parts.summary.last_success().is_none()
            && let Some(week) = weekly.schedule.weeks_complete(now).last()
            && let Some(summary) = read_summary(weekly.bucket, *week).await?
        {
            self.parts.summary.succeeded(summary.made);
        }
        Ok(())
    }

    async fn backup(&mut self) -> Result<(), Failure> {
        let weekly = self.summarizer.weekly();
        let now = self.summarizer.clock.now();
        let Some(latest) = weekly.latest_backup(now).await? else { return Ok(()) };
        let pruned = if latest.is_due {
            let (manifest, pruned) = weekly.write_backup(now, latest.week).await?;
            self.parts.backup.succeeded(manifest.made);
            self.unpruned = Some(latest.week);
            pruned
        } else {
            if let Some(made) = latest.made {
                self.parts.backup.succeeded(made);
            }
            match self.unpruned {
                Some(week) => weekly.prune(week).await,
                None => Ok(()),
            }
        };
        pruned?;
        self.unpruned = None;
        Ok(())
    }
}

fn report(part: &Part, outcome: &Result<(), Failure>) -> bool {
    match outcome {
        Ok(()) => part.works(),
        Err(failure) => part.degraded(failure),
    }
    outcome.is_ok()
}

impl Summarizer {
    /// Writes the summary of `week` and, with `with_backup`, a full backup beside it.
    pub(crate) async fn write(&self, week: Week, with_backup: bool) -> Result<Summary, Failure> {
        let (weekly, now) = (self.weekly(), self.clock.now());
        let summary = weekly.write_summary(now, week).await;
        if with_backup {
            let (_, pruned) = weekly.write_backup(now, week).await?;
            if let Err(failure) = pruned {
                let (failure, hint) = (failure.chain(), failure.hint_text().map(str::to_owned));
                tracing::warn!(failure, hint, "backups that are too many could not be deleted");
            }
        }
        summary
    }

    fn weekly(&self) -> Weekly<'_> {
        Weekly {
            store: &*self.store,
            bucket: &*self.bucket,
            schedule: &self.schedule,
            backups_max: self.backups_max,
        }
    }

    fn until_next(&self) -> Duration {
        let now = self.clock.now();
        let micros = self.schedule.next(now).as_micros().saturating_sub(now.as_micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
            .clamp(Duration::from_secs(1), LOOK_EVERY)
    }
}
