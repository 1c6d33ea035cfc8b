//! Objects that are put in parts.
//!
//! ```text
//! .inlet/uploads/ID/upload.json       its key, its type, the moment it was begun
//! .inlet/uploads/ID/00002-44136fa3…   its second part, with the SHA-256 of its bytes
//! ```
//!
//! A part is written and synced like an object, and renamed into its place. To finish, the parts
//! are copied one behind the other into a new file, in the kernel where it can, which shares
//! their blocks where the file system can; so until the object is in its place nothing of the
//! upload has changed, and a crash or a full disk on the way costs only the copy. Beside the
//! copy, the parts are read: each must be as it was put, and together they give the checksum of
//! the object.
//!
//! What changes an upload holds a lock on its directory, also across processes.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use inlet_core::document::{Timestamp, hex};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, Finished, Part, PartNumber, Precondition, UploadId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::PIECE_BYTES;
use super::layout::{self, Layout};
use super::upload::{Upload, write_small};
use crate::files;

/// How long an upload may be under way, in microseconds: seven days.
const AGE_MAX_US: i64 = 7 * 24 * 3_600 * 1_000_000;
/// How often the directory of all uploads is made anew where it vanishes.
const ATTEMPTS_MAX: usize = 16;
const FORMAT: u32 = 1;
pub(super) const ABOUT: &str = "upload.json";

/// What is known of an upload.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    key: String,
    content_type: String,
    begun_us: i64,
}

/// A part that lies in the directory of its upload.
#[derive(Debug)]
struct Lying {
    part: Part,
    path: PathBuf,
    /// When it was written: the later one stands where a crash left two of a number.
    written: (i64, i64),
}

/// Begins an upload; gives its id.
pub(super) fn begin(
    layout: &Layout,
    key: &BucketKey,
    content_type: String,
    now: Timestamp,
) -> Result<UploadId, Failure> {
    let uploads = layout.uploads();
    let failed = |error| files::failure(error, "begin an upload in", &uploads);
    sweep(layout, now);
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| failed(io::Error::other(error)))?;
    let id = hex(&id);
    let directory = uploads.join(&id);
    let mut made = Err(io::ErrorKind::NotFound.into());
    for _ in 0..ATTEMPTS_MAX {
        layout::make_directories(&uploads).map_err(failed)?;
        made = fs::create_dir(&directory);
        // The end of another upload may have taken the directory of all away.
        if !made.as_ref().is_err_and(|error: &io::Error| error.kind() == io::ErrorKind::NotFound) {
            break;
        }
    }
    made.map_err(failed)?;
    let about = About {
        format: FORMAT,
        key: key.as_str().to_owned(),
        content_type,
        begun_us: now.as_micros(),
    };
    let bytes = serde_json::to_vec(&about).map_err(|error| failed(io::Error::other(error)))?;
    let written = write_small(layout, &directory.join(ABOUT), &bytes)
        .and_then(|()| files::sync_directory(&uploads));
    if let Err(error) = written {
        remove(layout, &directory);
        return Err(failed(error));
    }
    UploadId::new(id).map_err(|error| failed(io::Error::other(error)))
}

/// Whether there is such an upload.
pub(super) fn is_there(
    layout: &Layout,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<bool, Failure> {
    Ok(about(layout, key, upload)?.is_some())
}

/// Makes what was written a part of the upload.
pub(super) fn put(
    layout: &Layout,
    key: &BucketKey,
    upload: &UploadId,
    number: PartNumber,
    written: Upload,
    sha256: String,
) -> Result<Option<Part>, Failure> {
    let Some(locked) = Locked::open(layout, key, upload)? else { return Ok(None) };
    let failed = |error| files::failure(error, "put a part into", &locked.directory);
    let bytes = written.bytes();
    let path = locked.directory.join(format!("{:05}-{sha256}", number.get()));
    written.place(&path).map_err(failed)?;
    for before in lying(&locked.directory).map_err(failed)? {
        if before.part.number == number && before.path != path {
            fs::remove_file(&before.path).map_err(failed)?;
        }
    }
    files::sync_directory(&locked.directory).map_err(failed)?;
    Ok(Some(Part { number, bytes, sha256 }))
}

/// The parts, in the order of their numbers.
pub(super) fn list(
    layout: &Layout,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Option<Vec<Part>>, Failure> {
    let Some((_, directory)) = about(layout, key, upload)? else { return Ok(None) };
    match lying(&directory) {
        Ok(lying) => Ok(Some(lying.into_iter().map(|one| one.part).collect())),
        // It ended in between.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(files::failure(error, "list the parts in", &directory)),
    }
}

/// Makes an object of the parts with these numbers.
pub(super) fn finish(
    layout: &Layout,
    key: &BucketKey,
    upload: &UploadId,
    numbers: &[PartNumber],
    now: Timestamp,
    precondition: &Precondition,
) -> Result<Finished, Failure> {
    let Some(locked) = Locked::open(layout, key, upload)? else {
        return Ok(Finished::UploadUnknown);
    };
    let failed = |error| files::failure(error, "finish the upload in", &locked.directory);
    let lying = lying(&locked.directory).map_err(failed)?;
    let mut named = Vec::with_capacity(numbers.len());
    for number in numbers {
        let Ok(at) = lying.binary_search_by_key(number, |one| one.part.number) else {
            let missing = format!("part {number} of {key}");
            return Err(Failure::new(FailureKind::Refused, "finish with", missing)
                .hint("put the part, or leave its number out"));
        };
        named.push(&lying[at]);
    }
    let (copied, hashed) = thread::scope(|scope| {
        let hashing = scope.spawn(|| checksum(&named));
        (copy(layout, &named), hashing.join())
    });
    let lost = |_| failed(io::Error::other("the thread that hashes panicked"));
    let (whole, sha256) = (copied?, hashed.map_err(lost)??);
    let content_type = locked.about.content_type.clone();
    let Some(meta) = whole.commit(layout, key, content_type, sha256, now, precondition)? else {
        return Ok(Finished::PreconditionFailed);
    };
    remove(layout, &locked.directory);
    Ok(Finished::Object(meta))
}

/// A file of the bytes of these parts.
fn copy(layout: &Layout, parts: &[&Lying]) -> Result<Upload, Failure> {
    let mut whole = Upload::begin(layout)?;
    for one in parts {
        let mut part =
            File::open(&one.path).map_err(|error| files::failure(error, "read", &one.path))?;
        whole = whole.copy(&mut part, one.part.bytes)?;
    }
    Ok(whole)
}

/// The SHA-256 of the bytes of these parts, each of which must have its own.
fn checksum(parts: &[&Lying]) -> Result<String, Failure> {
    let (mut whole, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    for one in parts {
        let failed = |error| files::failure(error, "read", &one.path);
        let (mut file, mut part) = (File::open(&one.path).map_err(failed)?, Sha256::new());
        loop {
            match file.read(&mut piece).map_err(failed)? {
                0 => break,
                read => {
                    whole.update(&piece[..read]);
                    part.update(&piece[..read]);
                }
            }
        }
        if hex(&part.finalize()) != one.part.sha256 {
            let path = one.path.display().to_string();
            return Err(Failure::new(FailureKind::Damaged, "finish with the part", path)
                .because("its bytes are not those that were put")
                .hint("put the part again"));
        }
    }
    Ok(hex(&whole.finalize()))
}

/// Removes the upload, if there is such a one.
pub(super) fn abandon(layout: &Layout, key: &BucketKey, upload: &UploadId) -> Result<(), Failure> {
    if let Some(locked) = Locked::open(layout, key, upload)? {
        remove(layout, &locked.directory);
    }
    Ok(())
}

/// Removes the uploads that were begun too long ago.
pub(super) fn sweep(layout: &Layout, now: Timestamp) {
    let Ok(entries) = fs::read_dir(layout.uploads()) else { return };
    let oldest_us = now.as_micros().saturating_sub(AGE_MAX_US);
    for directory in entries.flatten().map(|entry| entry.path()) {
        // One without a word about it is being begun, or a crash came in between.
        let begun_us = match read_about(&directory) {
            Ok(Some(about)) => about.begun_us,
            Ok(None) => fs::metadata(&directory)
                .map_or(now.as_micros(), |there| there.mtime().saturating_mul(1_000_000)),
            Err(_) => continue,
        };
        if begun_us < oldest_us {
            let path = directory.display();
            tracing::info!(%path, "an upload that nobody finished in seven days is removed");
            remove(layout, &directory);
        }
    }
}

/// An upload that nobody else changes until this is dropped.
struct Locked {
    about: About,
    directory: PathBuf,
    _lock: File,
}

impl Locked {
    fn open(layout: &Layout, key: &BucketKey, upload: &UploadId) -> Result<Option<Self>, Failure> {
        let Some((_, directory)) = about(layout, key, upload)? else { return Ok(None) };
        let locked = File::open(&directory).and_then(|lock| lock.lock().map(|()| lock));
        let lock = match locked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            locked => locked.map_err(|error| files::failure(error, "lock", &directory))?,
        };
        // It may have ended while this waited for the lock.
        let Some((about, directory)) = about(layout, key, upload)? else { return Ok(None) };
        Ok(Some(Self { about, directory, _lock: lock }))
    }
}

/// What is known of the upload, and where it lies; `None` where there is no such one.
fn about(
    layout: &Layout,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Option<(About, PathBuf)>, Failure> {
    let id = upload.as_str();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let directory = layout.uploads().join(id);
    let about = read_about(&directory)
        .map_err(|error| files::failure(error, "read", &directory.join(ABOUT)))?;
    Ok(about.filter(|about| about.key == key.as_str()).map(|about| (about, directory)))
}

fn read_about(directory: &Path) -> io::Result<Option<About>> {
    let mut bytes = Vec::new();
    match File::open(directory.join(ABOUT)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?.read_to_end(&mut bytes)?,
    };
    let about: About = serde_json::from_slice(&bytes).map_err(io::Error::other)?;
    if about.format > FORMAT {
        let newer = format!("it has format {}, this binary knows {FORMAT}", about.format);
        return Err(io::Error::other(newer));
    }
    Ok(Some(about))
}

/// The parts in the directory of an upload, one a number, in order.
fn lying(directory: &Path) -> io::Result<Vec<Lying>> {
    let mut all: Vec<Lying> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((number, sha256)) = name.to_str().and_then(|name| name.split_once('-')) else {
            continue;
        };
        let Some(Ok(number)) = number.parse().ok().map(PartNumber::new) else { continue };
        let there = entry.metadata()?;
        let part = Part { number, bytes: there.len(), sha256: sha256.to_owned() };
        let written = (there.mtime(), there.mtime_nsec());
        all.push(Lying { part, path: entry.path(), written });
    }
    all.sort_by_key(|one| (one.part.number, std::cmp::Reverse(one.written)));
    all.dedup_by_key(|one| one.part.number);
    Ok(all)
}

/// Removes the directory of an upload; what can't be removed is left to the next sweep.
fn remove(layout: &Layout, directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        let path = directory.display();
        tracing::warn!(%path, %error, "an upload that has ended stays for a while");
    }
    // Where others are under way it is not empty, and stays.
    drop(fs::remove_dir(layout.uploads()));
}
