//! Summaries in the bucket: their keys, putting, listing and reading them.

use bytes::Bytes;

use super::{SUMMARY_FORMAT, Summary, page};
use crate::calendar::Week;
use crate::failure::{Failure, FailureKind};
use crate::ports::{Bucket, BucketKey, FixedBytes, Object};

/// What the keys of all summaries begin with.
const PREFIX: &str = "summaries/";
/// How many keys are asked for at once.
const KEYS_PAGE: usize = 1_000;
/// The largest summary that is read, in bytes; one of 1,000 streams with 256 fields each is
/// smaller.
const SUMMARY_BYTES_MAX: u64 = 256 << 20;

/// The key of a week's summary as JSON.
pub fn json_key(week: Week) -> BucketKey {
    key(week, "json")
}

/// The key of a week's summary as a page.
pub fn html_key(week: Week) -> BucketKey {
    key(week, "html")
}

fn key(week: Week, form: &str) -> BucketKey {
    BucketKey::new(format!("{PREFIX}{week}.{form}")).expect("a week's text is fit for a key")
}

/// Puts both forms. The JSON comes last, so that where it is the page is too.
pub(super) async fn put(bucket: &dyn Bucket, summary: &Summary) -> Result<(), Failure> {
    let mut json = serde_json::to_vec_pretty(summary).map_err(|error| {
        Failure::new(FailureKind::Refused, "write summary", summary.week.to_string()).because(error)
    })?;
    json.push(b'\n');
    let html = FixedBytes::new(page(summary));
    for (key, content_type, mut body) in [
        (html_key(summary.week), "text/html; charset=utf-8", html),
        (json_key(summary.week), "application/json", FixedBytes::new(json)),
    ] {
        bucket.put(&key, content_type, &mut body).await?;
    }
    Ok(())
}

/// The weeks that have a summary, newest first.
pub async fn list_summaries(bucket: &dyn Bucket) -> Result<Vec<Week>, Failure> {
    list_weeks(bucket, PREFIX).await
}

/// The weeks for which there is an object `PREFIX2026-W47.json`, newest first.
pub(crate) async fn list_weeks(bucket: &dyn Bucket, prefix: &str) -> Result<Vec<Week>, Failure> {
    let mut weeks = Vec::new();
    let mut after: Option<BucketKey> = None;
    loop {
        // Weeks begin with their year: at the root of a folder nothing else is walked through.
        let objects = bucket.list(&format!("{prefix}2"), after.as_ref(), KEYS_PAGE).await?;
        weeks.extend(objects.iter().filter_map(|object| week_of(prefix, &object.key)));
        match objects.last() {
            Some(last) if objects.len() == KEYS_PAGE => after = Some(last.key.clone()),
            _ => break,
        }
    }
    weeks.sort_unstable_by(|a, b| b.cmp(a));
    Ok(weeks)
}

fn week_of(prefix: &str, key: &BucketKey) -> Option<Week> {
    key.as_str().strip_prefix(prefix)?.strip_suffix(".json")?.parse().ok()
}

/// The summary of `week`; `None` where there is none.
///
/// What can't be read as a summary is [`Damaged`](FailureKind::Damaged); one of a newer format
/// is [`Refused`](FailureKind::Refused).
pub async fn read_summary(bucket: &dyn Bucket, week: Week) -> Result<Option<Summary>, Failure> {
    let key = json_key(week);
    let Some(object) = bucket.get(&key, None).await? else { return Ok(None) };
    let failure = |kind| Failure::new(kind, "read summary", key.as_str());
    if object.meta.bytes > SUMMARY_BYTES_MAX {
        return Err(failure(FailureKind::Damaged).because("it is larger than any summary"));
    }
    let bytes = read_whole(object).await?;
    /// The one member that tells whether the others can be understood.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let damaged = |error| {
        failure(FailureKind::Damaged)
            .because(error)
            .hint("make it again with `inlet summarize --week`")
    };
    let version: Version = serde_json::from_slice(&bytes).map_err(damaged)?;
    if version.format > SUMMARY_FORMAT {
        return Err(failure(FailureKind::Refused)
            .because(format!("its format is {}, newer than {SUMMARY_FORMAT}", version.format))
            .hint("read it with the version of Inlet that made it, or a newer one"));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// The page of `week`, to be streamed; `None` where there is none.
pub async fn read_summary_page(bucket: &dyn Bucket, week: Week) -> Result<Option<Object>, Failure> {
    bucket.get(&html_key(week), None).await
}

/// The summary of `week`; `None` where there is none, or where what there is can't be read.
pub(super) async fn read_if_possible(
    bucket: &dyn Bucket,
    week: Week,
) -> Result<Option<Summary>, Failure> {
    match read_summary(bucket, week).await {
        Err(failure) if failure.kind() == FailureKind::Damaged => {
            tracing::warn!(%week, %failure, "a summary can't be read and is made again");
            Ok(None)
        }
        read => read,
    }
}

async fn read_whole(mut object: Object) -> Result<Bytes, Failure> {
    let mut whole = Vec::new();
    while let Some(piece) = object.body.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole.into())
}
