//! The two objects of a backup, and looking for backups.

use crate::calendar::Week;
use crate::failure::{Failure, FailureKind};
use crate::ports::{Bucket, BucketKey};
use crate::summary::list_weeks;

/// The prefix of the keys of all weekly backups, in a bucket of Inlet.
const PREFIX: &str = "backups/";

/// The place of a backup in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPlace {
    /// The key of the manifest.
    pub manifest: BucketKey,
    /// The key of the object, in which the documents are.
    pub object: BucketKey,
}

impl BackupPlace {
    /// The place of the backup of `week` in a bucket of Inlet: `backups/2026-W47.json` and
    /// `.ndjson.zst`.
    pub fn of_week(week: Week) -> Self {
        Self::under(PREFIX, week).expect("a week's text is fit for a key")
    }

    /// The place of the backup of `week` whose keys begin with `prefix`, as in a folder that its
    /// two files were copied to.
    pub fn under(prefix: &str, week: Week) -> Result<Self, Failure> {
        let key = |form: &str| {
            BucketKey::new(format!("{prefix}{week}.{form}")).map_err(|error| {
                Failure::new(FailureKind::Refused, "name backup", prefix).because(error)
            })
        };
        Ok(Self { manifest: key("json")?, object: key("ndjson.zst")? })
    }
}

/// The weeks that have a backup with a manifest under `prefix`, newest first; in a bucket of Inlet
/// where `None`.
pub async fn find_backups(bucket: &dyn Bucket, prefix: Option<&str>) -> Result<Vec<Week>, Failure> {
    list_weeks(bucket, prefix.unwrap_or(PREFIX)).await
}
