//! The summary loop: looks which weeks are due, and writes them.

use std::sync::Arc;
use std::time::Duration;

use inlet_core::backup;
use inlet_core::calendar::Week;
use inlet_core::failure::Failure;
use inlet_core::ports::{Bucket, Clock, Store};
use inlet_core::schedule::Schedule;
use inlet_core::summary::{Due, Summary, summaries_due, summarize_week};

use super::stop::Stop;

/// How often the clock is looked at, at least: it may jump, and a laptop may sleep.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// The pause after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// What summaries are made of, and when.
#[derive(Clone)]
pub(crate) struct Summarizer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) schedule: Schedule,
}

/// Writes summaries when they are due, until it is time to stop.
pub(crate) async fn run(summarizer: Summarizer, stop: Stop) {
    loop {
        let pause = match write_due(&summarizer, &stop).await {
            Ok(()) => summarizer.until_next(),
            Err(failure) => {
                tracing::warn!(
                    failure = %failure.chain(),
                    hint = failure.hint_text(),
                    "a summary is due and could not be written; it is tried again"
                );
                RETRY_AFTER
            }
        };
        tokio::select! {
            _ = stop.wait() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn write_due(summarizer: &Summarizer, stop: &Stop) -> Result<(), Failure> {
    let (store, bucket) = (&*summarizer.store, &*summarizer.bucket);
    let now = summarizer.clock.now();
    let due = summaries_due(store, bucket, &summarizer.schedule, now).await?;
    for Due { week, .. } in due {
        if stop.is_now() {
            return Ok(());
        }
        summarizer.write(week, true).await?;
    }
    Ok(())
}

impl Summarizer {
    /// Writes the summary of `week` and, with `with_backup`, a full backup beside it.
    pub(crate) async fn write(&self, week: Week, with_backup: bool) -> Result<Summary, Failure> {
        let (store, bucket) = (&*self.store, &*self.bucket);
        let now = self.clock.now();
        let summary = summarize_week(store, bucket, now, self.schedule.calendar(), week).await?;
        tracing::info!(%week, documents = summary.total.documents, "a summary is written");
        if with_backup {
            let prefix = backup::backup_prefix(week);
            let manifest = backup::write_backup(store, bucket, now, &prefix).await?;
            tracing::info!(%week, documents = manifest.documents, "a backup is written");
        }
        Ok(summary)
    }

    fn until_next(&self) -> Duration {
        let now = self.clock.now();
        let micros = self.schedule.next(now).as_micros().saturating_sub(now.as_micros());
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
            .clamp(Duration::from_secs(1), LOOK_EVERY)
    }
}
