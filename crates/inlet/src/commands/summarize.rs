//! `inlet summarize`: the summary of a week, now.

use std::sync::Arc;

use inlet_core::calendar::Week;
use inlet_core::ports::{Clock, SystemClock};
use inlet_core::summary::html_key;

use crate::cli::SummarizeArgs;
use crate::config::Settings;
use crate::report::{self, Hinted};
use crate::wire::{self, Engines};

/// Writes the summary, and says where.
pub(crate) fn run(settings: Settings, args: &SummarizeArgs) -> anyhow::Result<()> {
    let asked = args.week.as_deref().map(week).transpose()?;
    let data = wire::directory_to_change(&settings)?;
    let runtime = wire::runtime()?;
    let engines = runtime.block_on(Engines::open(&settings, &data))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let summarizer = wire::summarizer(&settings, &engines, &clock)?;
    let last_over = || Week::of(settings.calendar.day(clock.now())).before();
    let week = asked.unwrap_or_else(last_over);
    let summary = runtime.block_on(async {
        let summary = summarizer.write(week, !args.no_backup).await;
        engines.close().await;
        summary
    })?;
    if args.json.json {
        return report::data(serde_json::to_string(&summary)?);
    }
    let documents = summary.total.documents;
    report::say(format_args!("{week}: {documents} documents in {} streams", summary.streams.len()));
    report::data(html_key(week))
}

/// The week that was named.
pub(super) fn week(text: &str) -> anyhow::Result<Week> {
    text.parse()
        .map_err(|error| Hinted::usage(format!("{text:?} is no week"), format!("{error}")).into())
}
