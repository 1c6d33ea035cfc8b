//! Full backups, and restoring from them.
//!
//! A backup is two objects. `backups/2026-W47.ndjson.zst` holds every document and every dead
//! letter; `backups/2026-W47.json` is its manifest ([`BackupManifest`]) and is put last, once the
//! object was read back whole: where a manifest and an object agree, the backup is whole. No
//! bucket's own checksum is relied on, for not every service keeps one.
//!
//! Each backup is full, so the newest alone is enough; older ones are pruned once a newer one is
//! verified ([`prune_backups`]).
//!
//! # The format, version 1
//!
//! The object is one zstd frame (RFC 8878) with a content checksum, of NDJSON: one JSON object a
//! line, each ended by a line feed, in UTF-8. The member `kind` says what a line is:
//!
//! | kind | where | members |
//! | --- | --- | --- |
//! | `inlet-backup` | first | `format`: the version, 1; `made` |
//! | `dead_letter` | then, oldest first | `id`, `stream`, `key`, `received`, `generation`, `cause` (its code), `detail`, `attempts`, `died`, `redriven`, and the body |
//! | `document` | then, oldest first | `id`, `stream`, `key`, `received`, `generation`, `stored`, and the body |
//! | `end` | last | `documents`, `dead_letters`: how many lines of each there were |
//!
//! Moments are RFC 3339 in UTC with microseconds. `key` and `redriven` are left out where there
//! is none. By `generation` a restore into the same store tells what was erased since. The
//! body is `body`, a JSON string of exactly the document's bytes; where these are not UTF-8, as
//! those of a dead letter need not be, it is `body_hex`, their hexadecimal digits.
//! Members may be added without a new version; a reader skips those it does not know.
//!
//! It holds the documents that were stored when it began with them, and none that came later: it
//! ends, however fast they come.
//!
//! Dead letters come before documents, because a dead letter that is redriven while the backup
//! is made becomes a document behind the place where documents are read: in this order it is in
//! the backup at least once, and restoring the document takes the dead letter away again.
//!
//! # What a backup does not hold
//!
//! The tallies (restoring counts the documents anew), which ids were erased, the cursors of the
//! logs, and what still waits in the queue. The moment a document was `stored` is noted, and
//! becomes the moment of the restore: that is when the new store took it.

mod line;
mod place;
mod prune;
mod read;
mod restore;
mod write;

use serde::{Deserialize, Serialize};

pub use self::place::{BackupPlace, find_backups};
pub use self::prune::prune_backups;
pub(crate) use self::read::read_manifest;
use self::read::{Lines, digest};
use self::restore::{Restore, refuse_unless_empty};
use self::write::BackupStream;
use crate::calendar::Calendar;
use crate::document::{Timestamp, hex};
use crate::failure::{Failure, FailureKind};
use crate::ports::{Bucket, BucketKey, FixedBytes, Store};
use crate::summary::text;

/// The version of the format that is written, and the newest that is read.
pub const BACKUP_FORMAT: u32 = 1;

/// The facts about a backup; its serialized form is the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupManifest {
    /// The version of the format.
    pub format: u32,
    /// The key of the object.
    pub object: String,
    /// When the backup was begun.
    #[serde(with = "text")]
    pub made: Timestamp,
    /// How many documents it holds.
    pub documents: u64,
    /// How many dead letters it holds.
    pub dead_letters: u64,
    /// The bytes of all bodies.
    pub body_bytes: u64,
    /// The size of the object, in bytes.
    pub bytes: u64,
    /// The SHA-256 of the object, in hexadecimal digits.
    pub sha256: String,
}

/// What a restore may find in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreInto {
    /// Nothing: a store that has or had anything is refused.
    Empty,
    /// Anything: documents that are there stay as they are. To go on with a restore that was
    /// interrupted, and to bring back what was lost.
    Any,
}

/// What a restore did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// Documents that were put.
    pub stored: u64,
    /// Documents that were there already, with the same bytes.
    pub duplicates: u64,
    /// Documents whose id was there already with other bytes, or that the store refuses: they
    /// are dead letters now.
    pub dead: u64,
    /// Documents that had been erased since the backup, and stay so.
    pub erased: u64,
    /// Dead letters that were put.
    pub dead_letters: u64,
    /// Dead letters that were not, because they are there already or their document is stored.
    pub dead_letters_known: u64,
}

/// What is wrong with a backup, or with where it is to go. Nothing has been put then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackupFault {
    /// There is no manifest: no backup, or one that was not finished.
    #[error("there is no manifest `{0}`")]
    ManifestMissing(String),
    /// The manifest can't be read as one.
    #[error("the manifest is not one of a backup: {0}")]
    ManifestInvalid(String),
    /// The backup is of a newer format.
    #[error("its format is {found}, newer than {known}")]
    FormatNewer {
        /// The backup's format.
        found: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The object is not there.
    #[error("there is no object `{0}`, though a manifest names it")]
    ObjectMissing(String),
    /// The object is shorter or longer than the manifest says.
    #[error("the object has {found} bytes, the manifest says {expected}")]
    SizeDiffers {
        /// What the manifest says.
        expected: u64,
        /// What the object has.
        found: u64,
    },
    /// The object's bytes are not those that were written.
    #[error("the object's SHA-256 is {found}, the manifest says {expected}")]
    ChecksumDiffers {
        /// What the manifest says.
        expected: String,
        /// What the object has.
        found: String,
    },
    /// The object is not compressed as a backup is, or ends before its frame does.
    #[error("the object can't be decompressed: {0}")]
    CompressionInvalid(String),
    /// A line is not what it must be there.
    #[error("line {line}: {reason}")]
    LineInvalid {
        /// Its number, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// There are more or fewer documents or dead letters than there should be.
    #[error(
        "it holds {documents} documents and {dead_letters} dead letters, which is not what its \
         manifest or its last line says"
    )]
    CountsDiffer {
        /// Documents found.
        documents: u64,
        /// Dead letters found.
        dead_letters: u64,
    },
    /// The store is not empty.
    #[error("the store is not empty")]
    StoreNotEmpty,
}

impl BackupFault {
    /// The fault that is the cause of `failure`; `None` where it has another.
    pub fn of(failure: &Failure) -> Option<&Self> {
        std::error::Error::source(failure)?.downcast_ref()
    }
}

/// Writes all documents and dead letters of `store` to the object of `place`, reads it back, and
/// then puts the manifest; what was there is replaced.
///
/// The memory held does not grow with the store. Everything that is in the store when it begins
/// is in the backup; what is stored or erased meanwhile may or may not be.
///
/// # Errors
///
/// Those of the store and of the bucket. [`FailureKind::Damaged`] where the object, read back, is
/// not what was written; no manifest is put then.
pub async fn write_backup(
    store: &dyn Store,
    bucket: &dyn Bucket,
    now: Timestamp,
    place: &BackupPlace,
) -> Result<BackupManifest, Failure> {
    let mut stream = BackupStream::new(store, now, place.object.as_str())?;
    bucket.put(&place.object, "application/zstd", &mut stream).await?;
    let manifest = stream.manifest(&place.object);
    verify_object(bucket, &place.object, &manifest).await.map_err(|failure| {
        if failure.kind() != FailureKind::Damaged {
            return failure;
        }
        Failure::new(FailureKind::Damaged, "write backup", place.object.as_str())
            .because(failure)
            .hint("the bucket did not keep the bytes it was given; check the disk it is on")
    })?;
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|error| {
        Failure::new(FailureKind::Refused, "write backup", place.manifest.as_str()).because(error)
    })?;
    json.push(b'\n');
    bucket.put(&place.manifest, "application/json", &mut FixedBytes::new(json)).await?;
    Ok(manifest)
}

/// Puts everything from the backup at `place` into `store`: ids, streams, keys, moments of receipt
/// and bodies as they were.
///
/// The whole backup is read and checked before anything is put; a backup that is cut, damaged,
/// foreign or of a newer format is refused with a [`BackupFault`] as the failure's source. Run
/// again with [`RestoreInto::Any`], a restore that was interrupted goes on and puts nothing
/// twice.
pub async fn restore(
    bucket: &dyn Bucket,
    place: &BackupPlace,
    store: &dyn Store,
    calendar: &Calendar,
    now: Timestamp,
    into: RestoreInto,
) -> Result<RestoreReport, Failure> {
    if into == RestoreInto::Empty {
        refuse_unless_empty(store, place.object.as_str()).await?;
    }
    let manifest = verify_backup(bucket, place).await?;
    let mut restore = Restore::new(store, calendar, now, into);
    let mut lines = Lines::open(bucket, &place.object, &manifest).await?;
    while let Some(item) = lines.next_item().await? {
        restore.put(item).await?;
    }
    restore.finish().await
}

/// Reads the whole backup at `place` and checks it against its manifest, which it gives: size,
/// checksum, every line, and the counts.
pub async fn verify_backup(
    bucket: &dyn Bucket,
    place: &BackupPlace,
) -> Result<BackupManifest, Failure> {
    let manifest = read_manifest(bucket, &place.manifest).await?;
    verify_object(bucket, &place.object, &manifest).await?;
    Ok(manifest)
}

async fn verify_object(
    bucket: &dyn Bucket,
    object: &BucketKey,
    manifest: &BackupManifest,
) -> Result<(), Failure> {
    let (bytes, sha256) = digest(bucket, object).await?;
    if bytes != manifest.bytes {
        let fault = BackupFault::SizeDiffers { expected: manifest.bytes, found: bytes };
        return Err(refused(object, fault));
    }
    let sha256 = hex(&sha256);
    if sha256 != manifest.sha256 {
        let expected = manifest.sha256.clone();
        return Err(refused(object, BackupFault::ChecksumDiffers { expected, found: sha256 }));
    }
    let mut lines = Lines::open(bucket, object, manifest).await?;
    while lines.next_item().await?.is_some() {}
    Ok(())
}

/// The failure for a backup that is not restored, and why.
fn refused(object: &BucketKey, fault: BackupFault) -> Failure {
    let (kind, hint) = match fault {
        BackupFault::FormatNewer { .. } => {
            (FailureKind::Refused, "restore with the version of Inlet that made it, or a newer one")
        }
        BackupFault::ManifestMissing(_) => (
            FailureKind::Refused,
            "a backup without a manifest was not finished; restore from another one",
        ),
        _ => (FailureKind::Damaged, "nothing was put; restore from another backup"),
    };
    Failure::new(kind, "restore backup", object.as_str()).because(fault).hint(hint)
}
