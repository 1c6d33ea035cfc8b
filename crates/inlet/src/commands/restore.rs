//! `inlet restore`: a backup, read into the store.
//!
//! `--from` is only read: a bucket's root, a folder that a backup's two files were copied to, or
//! the files themselves, in a directory or in S3.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use inlet_core::backup::{BackupFault, BackupPlace, RestoreInto, find_backups, restore};
use inlet_core::calendar::Week;
use inlet_core::failure::Failure;
use inlet_core::ports::{Bucket, BucketKey, Clock, SystemClock};
use serde_json::json;

use super::summarize::week;
use crate::cli::RestoreArgs;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::{self, Hinted};
use crate::wire::{self, Engines};

/// The endings of a backup's two files.
const MANIFEST: &str = ".json";
const OBJECT: &str = ".ndjson.zst";
/// The beginnings of a backup's keys, in the order they are looked at: in a bucket, in a folder,
/// in a data directory, and in buckets of version 0.1.0.
const PREFIXES: [&str; 5] = ["backups/", "", "bucket/backups/", "2/backups/", "bucket/2/backups/"];

/// A backup that was found.
struct Found {
    bucket: Arc<dyn Bucket>,
    place: BackupPlace,
    /// The week it was found by; `None` for files that were named.
    week: Option<Week>,
}

/// Restores, and says what.
pub(crate) fn run(settings: Settings, args: &RestoreArgs) -> anyhow::Result<()> {
    let asked = args.week.as_deref().map(week).transpose()?;
    let runtime = wire::runtime()?;
    // Before anything is made or opened: a place that is none leaves nothing behind.
    let given = match &args.from[..] {
        [] => None,
        from => Some(runtime.block_on(find(from, asked))?),
    };
    let data = DataDirectory::open_or_create(&settings.data)?;
    // Nothing may write to the store meanwhile.
    let _lock = data.lock()?;
    let engines = runtime.block_on(Engines::open(&settings, &data))?;
    let into = if args.into_nonempty { RestoreInto::Any } else { RestoreInto::Empty };
    let (found, report) = runtime.block_on(async {
        let found = match given {
            Some(found) => found,
            None => {
                in_bucket(Arc::clone(&engines.bucket), &["backups/"], "the bucket", asked).await?
            }
        };
        let (now, store) = (SystemClock.now(), &*engines.store);
        let restored =
            restore(&*found.bucket, &found.place, store, &settings.calendar, now, into).await;
        engines.close().await;
        anyhow::Ok((found, restored.map_err(hinted)?))
    })?;
    if args.json.json {
        return report::data(json!({
            "week": found.week.map(|week| week.to_string()),
            "stored": report.stored,
            "duplicates": report.duplicates,
            "dead": report.dead,
            "erased": report.erased,
            "dead_letters": report.dead_letters,
        }));
    }
    report::data(format_args!(
        "{} documents and {} dead letters restored, {} were there already",
        report.stored, report.dead_letters, report.duplicates
    ))
}

/// With the flag that allows a store that is not empty.
fn hinted(failure: Failure) -> anyhow::Error {
    let is_not_empty = matches!(BackupFault::of(&failure), Some(BackupFault::StoreNotEmpty));
    if !is_not_empty && !failure.is_retryable() {
        return failure.into();
    }
    let hint = match is_not_empty {
        true => {
            "restore into an empty store, or go on with --into-nonempty: documents that are \
                 there stay as they are"
        }
        false => "run it again with --into-nonempty: it goes on and puts nothing twice",
    };
    let message = failure.to_string();
    anyhow::Error::new(failure).context(Hinted::new(message, hint))
}

/// Looks for the backup of a week in the place, or the newest; or takes the files that are named.
async fn find(from: &[String], asked: Option<Week>) -> anyhow::Result<Found> {
    if let [url] = from
        && url.starts_with("s3:")
    {
        return in_s3(url, asked).await;
    }
    let paths: Vec<PathBuf> = from
        .iter()
        .map(|text| {
            let path = Path::new(text.strip_prefix("file:").unwrap_or(text));
            path.canonicalize().map_err(|error| {
                let hint = "--from takes a directory, the two files of a backup, or s3://BUCKET";
                anyhow::Error::new(error)
                    .context(Hinted::new(format!("there is no backup at {text}"), hint))
            })
        })
        .collect::<Result<_, _>>()?;
    match &paths[..] {
        [directory] if directory.is_dir() => {
            let bucket = wire::bucket_to_read(directory)?;
            in_bucket(bucket, &PREFIXES, &directory.display().to_string(), asked).await
        }
        files => {
            if asked.is_some() {
                let message = "--week chooses among backups, and --from names one";
                return Err(Hinted::usage(message, "leave --week out").into());
            }
            named(files)
        }
    }
}

/// A backup in S3: at a bucket's root, in a folder, or the manifest or the object by name.
async fn in_s3(url: &str, asked: Option<Week>) -> anyhow::Result<Found> {
    let url = url.trim_end_matches('/');
    let file = url.rsplit_once('/').filter(|(_, name)| pair(name).is_some());
    let Some((folder, name)) = file else {
        return in_bucket(wire::s3_to_read(url).await?, &PREFIXES[..2], url, asked).await;
    };
    let (manifest, object) = pair(name).unwrap_or_default();
    let key =
        |name: String| BucketKey::new(name).map_err(|error| anyhow::anyhow!("{url}: {error}"));
    let place = BackupPlace { manifest: key(manifest)?, object: key(object)? };
    Ok(Found { bucket: wire::s3_to_read(folder).await?, place, week: None })
}

/// The backup whose manifest and object these files are; one of them may be left out, if it lies
/// beside the other.
fn named(files: &[PathBuf]) -> anyhow::Result<Found> {
    let text = |path: &Path| path.display().to_string();
    let is_object = |path: &&PathBuf| text(path).ends_with(".zst");
    let (objects, manifests): (Vec<_>, Vec<_>) = files.iter().partition(is_object);
    let (manifest, object) = match (&manifests[..], &objects[..]) {
        ([manifest], [object]) => (text(manifest), text(object)),
        ([only], []) | ([], [only]) => match pair(&text(only)) {
            Some(pair) => pair,
            None => {
                let hint = "name its manifest (.json) and its object (.ndjson.zst)";
                let message = format!("{} is no file of a backup", only.display());
                return Err(Hinted::new(message, hint).into());
            }
        },
        _ => {
            let hint = "--from MANIFEST.json OBJECT.ndjson.zst";
            return Err(
                Hinted::usage("--from names more than the files of one backup", hint).into()
            );
        }
    };
    let key = |path: String| {
        BucketKey::new(path.trim_start_matches('/'))
            .map_err(|error| anyhow::anyhow!("{path} can't be read as a backup: {error}"))
    };
    let place = BackupPlace { manifest: key(manifest)?, object: key(object)? };
    Ok(Found { bucket: wire::bucket_to_read(Path::new("/"))?, place, week: None })
}

/// The names of both files of a backup, by the name of one.
fn pair(name: &str) -> Option<(String, String)> {
    let stem = name.strip_suffix(OBJECT).or_else(|| name.strip_suffix(MANIFEST))?;
    Some((format!("{stem}{MANIFEST}"), format!("{stem}{OBJECT}")))
}

/// The backup of the week that was asked for, or the newest, under the first prefix that has any.
async fn in_bucket(
    bucket: Arc<dyn Bucket>,
    prefixes: &[&str],
    place: &str,
    asked: Option<Week>,
) -> anyhow::Result<Found> {
    for prefix in prefixes {
        let weeks = find_backups(&*bucket, Some(prefix)).await?;
        let Some(newest) = weeks.first().copied() else { continue };
        let week = asked.unwrap_or(newest);
        if !weeks.contains(&week) {
            let there: Vec<String> = weeks.iter().take(8).map(Week::to_string).collect();
            let message = format!("there is no backup of {week} in {place}");
            return Err(Hinted::new(message, format!("there is {}", there.join(", "))).into());
        }
        let place = BackupPlace::under(prefix, week)?;
        return Ok(Found { bucket, place, week: Some(week) });
    }
    let hint = "`inlet summarize` writes one; --from names a place that has one";
    Err(Hinted::new(format!("there is no backup in {place}"), hint).into())
}
