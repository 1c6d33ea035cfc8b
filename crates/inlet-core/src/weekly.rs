//! The steps of a week: its summary, and its backup.
//!
//! A week is done when its summary is there and a backup is there that was made after its end and
//! read back. The two are looked at and written apart: a failure of one never keeps the other from
//! being written, and each is due until it is there.
//!
//! A backup is full, so of several weeks that are due at once only the latest gets one.

use std::num::NonZeroUsize;

use crate::backup::{
    BackupFault, BackupManifest, BackupPlace, prune_backups, read_manifest, write_backup,
};
use crate::calendar::Week;
use crate::document::Timestamp;
use crate::failure::Failure;
use crate::ports::{Bucket, Store};
use crate::schedule::{Made, Schedule};
use crate::summary::{Due, Summary, summaries_due, summarize_week};

/// The engines and rules that the steps share.
#[derive(Clone, Copy)]
pub struct Weekly<'a> {
    /// Read for both.
    pub store: &'a dyn Store,
    /// Gets both.
    pub bucket: &'a dyn Bucket,
    /// The times at which they are due.
    pub schedule: &'a Schedule,
    /// The most backups that are kept; `None` for all.
    pub backups_max: Option<NonZeroUsize>,
}

/// The backup of the latest week that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestBackup {
    /// The week.
    pub week: Week,
    /// The time at which it was begun, where it is there.
    pub made: Option<Timestamp>,
    /// True if it is to be written now.
    pub is_due: bool,
}

impl Weekly<'_> {
    /// Writes the summaries that are due at `now`, oldest first, until `stops` says so. A week
    /// whose summary can't be written does not keep the others from being written; the failure of
    /// the first such week is given.
    pub async fn write_summaries(
        &self,
        now: Timestamp,
        mut stops: impl FnMut() -> bool,
    ) -> Result<Vec<Week>, Failure> {
        let (mut written, mut failed) = (Vec::new(), None);
        for Due { week, .. } in summaries_due(self.store, self.bucket, self.schedule, now).await? {
            if stops() {
                break;
            }
            match self.write_summary(now, week).await {
                Ok(_) => written.push(week),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        failed.map_or(Ok(written), Err)
    }

    /// Writes the summary of `week`.
    pub async fn write_summary(&self, now: Timestamp, week: Week) -> Result<Summary, Failure> {
        let calendar = self.schedule.calendar();
        let summary = summarize_week(self.store, self.bucket, now, calendar, week).await?;
        tracing::info!(%week, documents = summary.total.documents, "a summary was written");
        Ok(summary)
    }

    /// The backup of the latest week whose summary has been due by `now`; `None` where no document
    /// was received before the end of any such week.
    pub async fn latest_backup(&self, now: Timestamp) -> Result<Option<LatestBackup>, Failure> {
        let streams = self.store.streams().await?;
        let first = streams.into_iter().filter_map(|figures| figures.first).min();
        let Some(week) = self.schedule.due(&[], first, now).last().copied() else {
            return Ok(None);
        };
        let made = self.made(&BackupPlace::of_week(week), now).await?;
        let known: Vec<Made> = made.iter().map(|made| Made { week, made: *made }).collect();
        let is_due = self.schedule.due(&known, first, now).contains(&week);
        Ok(Some(LatestBackup { week, made, is_due }))
    }

    /// Writes the backup of `week`, reads it back, and then deletes those that are too many. A
    /// failure of the deletion alone is given beside the manifest.
    pub async fn write_backup(
        &self,
        now: Timestamp,
        week: Week,
    ) -> Result<(BackupManifest, Result<(), Failure>), Failure> {
        let place = BackupPlace::of_week(week);
        let manifest = write_backup(self.store, self.bucket, now, &place).await?;
        let (documents, bytes) = (manifest.documents, manifest.bytes);
        tracing::info!(%week, documents, bytes, "a backup was written and read back");
        Ok((manifest, self.prune(week).await))
    }

    /// Deletes the backups that are too many beside that of `verified`.
    pub async fn prune(&self, verified: Week) -> Result<(), Failure> {
        let Some(keep) = self.backups_max else { return Ok(()) };
        for week in prune_backups(self.bucket, keep.get(), verified).await? {
            tracing::info!(%week, kept = keep, "a backup was deleted: newer ones are there");
        }
        Ok(())
    }

    /// The time at which the backup at `place` was begun; `None` where it is not there, or its
    /// object is not the one that its manifest names. One in a newer format is taken for one made
    /// now: a newer version made it, and it is not for this one to replace.
    async fn made(
        &self,
        place: &BackupPlace,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Failure> {
        let manifest = match read_manifest(self.bucket, &place.manifest).await {
            Ok(manifest) => manifest,
            Err(failure) => {
                return match BackupFault::of(&failure) {
                    Some(BackupFault::ManifestMissing(_)) => Ok(None),
                    Some(BackupFault::FormatNewer { .. }) => Ok(Some(now)),
                    Some(fault) => {
                        let manifest = place.manifest.as_str();
                        tracing::warn!(manifest, %fault, "a backup is made again");
                        Ok(None)
                    }
                    None => Err(failure),
                };
            }
        };
        let Some(object) = self.bucket.head(&place.object).await? else { return Ok(None) };
        let has_sum = object.sha256.is_empty() || object.sha256 == manifest.sha256;
        Ok((object.bytes == manifest.bytes && has_sum).then_some(manifest.made))
    }
}
