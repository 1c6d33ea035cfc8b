//! `inlet restore`: a backup, read into the store.

use std::path::Path;
use std::sync::Arc;

use inlet_core::backup::{RestoreInto, backup_prefix, restore};
use inlet_core::calendar::Week;
use inlet_core::ports::{Bucket, Clock, SystemClock};
use serde_json::json;

use super::summarize::week;
use crate::cli::RestoreArgs;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::{self, Hinted};
use crate::wire::{self, Engines};

/// Restores, and says what.
pub(crate) fn run(settings: Settings, args: &RestoreArgs) -> anyhow::Result<()> {
    let asked = args.week.as_deref().map(week).transpose()?;
    let data = DataDirectory::open_or_create(&settings.data)?;
    // Nothing may write to the store meanwhile.
    let _lock = data.lock()?;
    let runtime = wire::runtime()?;
    let engines = runtime.block_on(Engines::open(&settings, &data))?;
    let bucket = match &args.from {
        Some(directory) => wire::bucket_at(directory)?,
        None => Arc::clone(&engines.bucket),
    };
    let into = if args.into_nonempty { RestoreInto::Any } else { RestoreInto::Empty };
    let report = runtime.block_on(async {
        let week = match asked {
            Some(week) => week,
            None => newest(&*bucket, args.from.as_deref()).await?,
        };
        let (prefix, now) = (backup_prefix(week), SystemClock.now());
        let calendar = &settings.calendar;
        let restored = restore(&*bucket, &prefix, &*engines.store, calendar, now, into).await;
        engines.close().await;
        anyhow::Ok(restored?)
    })?;
    if args.json.json {
        return report::data(json!({
            "stored": report.stored,
            "duplicates": report.duplicates,
            "dead_letters": report.dead_letters,
        }));
    }
    report::data(format_args!(
        "{} documents and {} dead letters restored, {} were there already",
        report.stored, report.dead_letters, report.duplicates
    ))
}

/// The week of the newest backup.
async fn newest(bucket: &dyn Bucket, directory: Option<&Path>) -> anyhow::Result<Week> {
    let mut newest = None;
    let mut after = None;
    loop {
        let page = bucket.list("backups/", after.as_ref(), 1_000).await?;
        for object in &page {
            let name = object.key.as_str().strip_prefix("backups/").unwrap_or_default();
            let week = name.strip_suffix(".json").and_then(|name| name.parse::<Week>().ok());
            newest = newest.max(week);
        }
        match page.into_iter().last() {
            Some(last) => after = Some(last.key),
            None => break,
        }
    }
    newest.ok_or_else(|| {
        let place = directory.map_or("the bucket".to_owned(), |path| path.display().to_string());
        let hint = "`inlet summarize` writes one; --from names a directory that has one";
        Hinted::new(format!("there is no backup in {place}"), hint).into()
    })
}
