//! Summaries that are due are written. An event that comes twice writes nothing twice.

use std::sync::Arc;

use inlet_adapters::aws::Aws;
use inlet_core::backup;
use inlet_core::ports::{Bucket, Clock, Store, SystemClock};
use inlet_core::schedule::Schedule;
use inlet_core::summary::{Due, summaries_due, summarize_week};
use serde_json::{Value, json};

use crate::database::Database;
use crate::engines::{self, Opened};
use crate::settings::Settings;

/// What writes.
pub(crate) struct Writer {
    store: Arc<dyn Store>,
    bucket: Arc<dyn Bucket>,
    schedule: Schedule,
    database: Option<Database>,
}

/// Opens what writing needs.
pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Writer> {
    let aws = Aws::from_environment().await;
    let bucket = engines::bucket_or_absent(settings, &aws).await?;
    let secrets = engines::secrets(settings, &aws).await?;
    let Opened { store, database } =
        engines::store(settings, &aws, &bucket, secrets.as_ref()).await?;
    Ok(Writer { store, bucket, schedule: settings.schedule()?, database })
}

impl Writer {
    /// Writes each summary that is due, with its backup, and says which.
    pub(crate) async fn write_due(&self) -> anyhow::Result<Value> {
        if let Some(database) = &self.database {
            database.refresh().await;
        }
        let (store, bucket) = (&*self.store, &*self.bucket);
        let now = SystemClock.now();
        let mut written = Vec::new();
        for Due { week, .. } in summaries_due(store, bucket, &self.schedule, now).await? {
            summarize_week(store, bucket, now, self.schedule.calendar(), week).await?;
            backup::write_backup(store, bucket, now, &backup::backup_prefix(week)).await?;
            tracing::info!(%week, "a summary and a backup are written");
            written.push(week.to_string());
        }
        Ok(json!({ "written": written }))
    }
}
