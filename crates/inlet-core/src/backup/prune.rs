//! Deleting backups that newer ones stand in for.

use super::{BackupFault, BackupManifest, BackupPlace, find_backups, read_manifest};
use crate::calendar::Week;
use crate::failure::Failure;
use crate::ports::Bucket;

/// Deletes all backups but that of `verified` and the newest others, so that `keep` (at least 1)
/// are left. Call it once the backup of `verified` was verified. Gives the weeks whose backups it
/// deleted, newest first.
///
/// Only what is a backup of Inlet by its manifest, with an object of the size that the manifest
/// has, is counted and deleted; anything else is left alone, also a backup in a newer format. An
/// object goes before its manifest, so that what was interrupted is found again.
pub async fn prune_backups(
    bucket: &dyn Bucket,
    keep: usize,
    verified: Week,
) -> Result<Vec<Week>, Failure> {
    let mut backups = Vec::new();
    for week in find_backups(bucket, None).await? {
        let place = BackupPlace::of_week(week);
        if week != verified
            && let Some(manifest) = own(bucket, &place).await?
        {
            backups.push((manifest.made, week, place));
        }
    }
    backups.sort_unstable_by_key(|(made, week, _)| std::cmp::Reverse((*made, *week)));
    let mut pruned = Vec::new();
    for (_, week, place) in backups.into_iter().skip(keep.saturating_sub(1)) {
        bucket.delete(&place.object).await?;
        bucket.delete(&place.manifest).await?;
        pruned.push(week);
    }
    Ok(pruned)
}

/// The manifest of the backup at `place`, if it is one that this version would have written there.
async fn own(bucket: &dyn Bucket, place: &BackupPlace) -> Result<Option<BackupManifest>, Failure> {
    let manifest = match read_manifest(bucket, &place.manifest).await {
        Ok(manifest) => manifest,
        // Deleted meanwhile, foreign, or of a newer format.
        Err(failure) if BackupFault::of(&failure).is_some() => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let object = bucket.head(&place.object).await?;
    // Gone where a deletion was interrupted.
    let fits = object.is_none_or(|object| object.bytes == manifest.bytes);
    Ok(Some(manifest).filter(|manifest| fits && manifest.object == place.object.as_str()))
}
