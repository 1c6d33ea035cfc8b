//! Summaries that are due are written. An event that comes twice writes nothing twice.

use std::num::NonZeroUsize;
use std::sync::Arc;

use inlet_adapters::aws::Aws;
use inlet_core::calendar::Week;
use inlet_core::document::Timestamp;
use inlet_core::failure::Failure;
use inlet_core::ports::{Bucket, Clock, Store, SystemClock};
use inlet_core::schedule::Schedule;
use inlet_core::weekly::Weekly;
use serde_json::{Value, json};

use crate::database::Database;
use crate::engines::{self, Opened};
use crate::settings::Settings;

/// What writes.
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    bucket: Arc<dyn Bucket>,
    schedule: Schedule,
    backups_max: Option<NonZeroUsize>,
    database: Option<Database>,
}

/// Opens what writing needs.
pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Writer> {
    let aws = Aws::from_environment().await;
    let bucket = engines::bucket_or_absent(settings, &aws).await?;
    let secrets = engines::secrets(settings, &aws).await?;
    let Opened { store, database } =
        engines::store(settings, &aws, &bucket, secrets.as_ref()).await?;
    let (schedule, backups_max) = (settings.schedule()?, NonZeroUsize::new(settings.backups_max));
    Ok(Writer { store, bucket, schedule, backups_max, database })
}

impl Writer {
    /// Writes the summaries and the backup that are due, and says which. One that fails does not
    /// keep the other from being written; the event fails, and comes again.
    pub(crate) async fn write_due(&self) -> anyhow::Result<Value> {
        if let Some(database) = &self.database {
            database.refresh().await;
        }
        let weekly = Weekly {
            store: &*self.store,
            bucket: &*self.bucket,
            schedule: &self.schedule,
            backups_max: self.backups_max,
        };
        let now = SystemClock.now();
        let summaries = weekly.write_summaries(now, || false).await;
        let backup = write_backup(&weekly, now).await;
        match (summaries, backup) {
            (Ok(written), Ok(backup)) => {
                let written: Vec<String> = written.iter().map(Week::to_string).collect();
                Ok(json!({ "written": written, "backup": backup.map(|week| week.to_string()) }))
            }
            (Err(summaries), Err(backup)) => {
                Err(anyhow::Error::new(summaries).context(format!("and {}", backup.chain())))
            }
            (Err(failure), Ok(_)) | (Ok(_), Err(failure)) => Err(failure.into()),
        }
    }
}

/// Writes the backup if it is due; gives its week.
async fn write_backup(weekly: &Weekly<'_>, now: Timestamp) -> Result<Option<Week>, Failure> {
    match weekly.latest_backup(now).await? {
        Some(latest) if latest.is_due => {
            let (_, pruned) = weekly.write_backup(now, latest.week).await?;
            pruned.map(|()| Some(latest.week))
        }
        _ => Ok(None),
    }
}
