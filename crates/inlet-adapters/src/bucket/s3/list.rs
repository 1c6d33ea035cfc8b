//! Lists objects. S3's list tells neither type nor checksum, so each object is looked at, several
//! at a time.

use inlet_core::failure::Failure;
use inlet_core::ports::{BucketKey, ObjectMeta};
use tokio::task::JoinSet;

use super::{S3Bucket, digest, failure};

/// How many objects are looked at at once.
const AT_ONCE: usize = 16;
/// How many keys a call gives at most.
const PAGE: i32 = 1_000;

/// The objects under `prefix` behind `after`, `limit` at most.
pub(super) async fn list(
    bucket: &S3Bucket,
    prefix: &str,
    after: Option<&BucketKey>,
    limit: usize,
) -> Result<Vec<ObjectMeta>, Failure> {
    let mut found = Vec::new();
    let mut start = after.map(|key| bucket.object(key));
    while found.len() < limit {
        let wanted = i32::try_from(limit - found.len()).map_or(PAGE, |wanted| wanted.min(PAGE));
        let place = || format!("s3://{}/{}{prefix}", bucket.name, bucket.prefix);
        let said = bucket
            .client
            .list_objects_v2()
            .bucket(&bucket.name)
            .prefix(format!("{}{prefix}", bucket.prefix))
            .set_start_after(start.take())
            .max_keys(wanted)
            .send()
            .await
            .map_err(|error| failure::failure(&error, "list", place()))?;
        let keys: Vec<String> =
            said.contents().iter().filter_map(|one| one.key().map(str::to_owned)).collect();
        start = keys.last().map(|last| digest::behind_notes(last).unwrap_or_else(|| last.clone()));
        found.extend(looked_at(bucket, &keys).await?);
        if !said.is_truncated().unwrap_or(false) {
            break;
        }
    }
    Ok(found)
}

/// What is known of each of these, in their order; what is gone meanwhile is left out, and so is
/// what others put under keys that are none of ours.
async fn looked_at(bucket: &S3Bucket, objects: &[String]) -> Result<Vec<ObjectMeta>, Failure> {
    let mut found: Vec<Option<ObjectMeta>> = vec![None; objects.len()];
    let mut looks: JoinSet<(usize, Result<Option<ObjectMeta>, Failure>)> = JoinSet::new();
    for (index, object) in objects.iter().enumerate() {
        let key = object.strip_prefix(&bucket.prefix).map(BucketKey::new);
        let Some(Ok(key)) = key else { continue };
        if looks.len() >= AT_ONCE
            && let Some(looked) = looks.join_next().await
        {
            keep(&mut found, looked)?;
        }
        let bucket = bucket.clone();
        looks.spawn(async move { (index, bucket.described(&key).await) });
    }
    while let Some(looked) = looks.join_next().await {
        keep(&mut found, looked)?;
    }
    Ok(found.into_iter().flatten().collect())
}

fn keep(
    found: &mut [Option<ObjectMeta>],
    looked: Result<(usize, Result<Option<ObjectMeta>, Failure>), tokio::task::JoinError>,
) -> Result<(), Failure> {
    let (index, meta) = looked.map_err(|error| {
        let kind = inlet_core::failure::FailureKind::Unavailable;
        Failure::new(kind, "list", "objects").because(error)
    })?;
    found[index] = meta?;
    Ok(())
}
