//! The metadata of objects, and the part of it that fits the object that is there.
//!
//! ```json
//! {"format": 1, "objects": [
//!   {"bytes": 2, "modified_us": 1795219200000000, "content_type": "application/json",
//!    "sha256": "44136fa3…"}]}
//! ```
//!
//! The newest object comes first; the second, if there is one, is the one it replaced, which may
//! still be in its place after a crash.
//!
//! A file without metadata is an object all the same, put by hand or by a copy that left the
//! metadata behind: its type follows from its name, and its checksum is not known.

use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inlet_core::document::{Timestamp, hex};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::media_type;
use inlet_core::ports::{BucketKey, ObjectMeta};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::{Layout, found};
use super::upload::{misfit, write_small};
use crate::files;

/// How often an object that is replaced while it is opened is opened again.
const ATTEMPTS_MAX: usize = 64;
const FORMAT: u32 = 1;

/// The metadata of the objects of one key.
#[derive(Debug)]
pub(super) struct Sidecar {
    pub(super) objects: Vec<Told>,
}

#[derive(Serialize, Deserialize)]
struct SidecarFile<T> {
    format: u32,
    objects: T,
}

/// The metadata of one object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) bytes: u64,
    pub(super) modified_us: i64,
    pub(super) content_type: String,
    pub(super) sha256: String,
}

impl Told {
    /// What a file without metadata tells by itself.
    fn guessed(key: &BucketKey, there: &Metadata) -> Self {
        Self {
            bytes: there.len(),
            modified_us: modified_us(there),
            content_type: media_type::of_name(key.as_str()).to_owned(),
            sha256: String::new(),
        }
    }

    pub(super) fn meta(&self, key: &BucketKey) -> ObjectMeta {
        // Version 0.1.0 noted of an object in parts the checksum of its parts' checksums.
        let sha256 = if self.sha256.contains('-') { "" } else { &self.sha256 };
        ObjectMeta {
            key: key.clone(),
            bytes: self.bytes,
            content_type: self.content_type.clone(),
            sha256: sha256.to_owned(),
            modified: Timestamp::from_micros(self.modified_us),
        }
    }
}

impl Sidecar {
    /// Writes it, synced.
    pub(super) fn write(&self, layout: &Layout, key: &BucketKey) -> io::Result<()> {
        let file = SidecarFile { format: FORMAT, objects: &self.objects };
        let bytes = serde_json::to_vec(&file).map_err(io::Error::other)?;
        write_small(layout, &layout.metadata(key), &bytes)
    }

    /// Reads it; `None` where there is none.
    fn read(layout: &Layout, key: &BucketKey) -> Result<Option<Self>, Failure> {
        let path = layout.metadata(key);
        found(Self::read_at(&path)).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => {
                Failure::new(FailureKind::Damaged, "read the metadata", path.display().to_string())
                    .because(error)
                    .hint("put the object again")
            }
            _ => files::failure(error, "read", &path),
        })
    }

    /// Reads the one at `path`.
    pub(super) fn read_at(path: &Path) -> io::Result<Self> {
        let file: SidecarFile<Vec<Told>> = serde_json::from_slice(&fs::read(path)?)
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if file.format > FORMAT {
            let newer = format!("it has format {}, this binary knows {FORMAT}", file.format);
            return Err(io::Error::other(newer));
        }
        Ok(Self { objects: file.objects })
    }

    /// The metadata of the object in `file`.
    fn fitting(&self, file: &mut File) -> io::Result<Option<&Told>> {
        let there = file.metadata()?;
        let modified = modified_us(&there);
        let same_size: Vec<&Told> =
            self.objects.iter().filter(|told| told.bytes == there.len()).collect();
        if let Some(told) = same_size.iter().find(|told| told.modified_us == modified) {
            return Ok(Some(told));
        }
        match same_size[..] {
            [] => Ok(None),
            [only] => Ok(Some(only)),
            _ => {
                let sha256 = sha256(file)?;
                // Not every checksum that was noted is that of the bytes.
                let is_unsure = |told: &&&Told| told.sha256.len() != sha256.len();
                let found = same_size.iter().find(|told| told.sha256 == sha256);
                Ok(found.or_else(|| same_size.iter().find(is_unsure)).copied())
            }
        }
    }
}

/// Opens the object with that key, with its metadata.
pub(super) fn open(
    layout: &Layout,
    key: &BucketKey,
) -> Result<Option<(File, ObjectMeta)>, Failure> {
    let mut path = layout.root().join(key.as_str());
    let mut without = 0;
    for _ in 0..ATTEMPTS_MAX {
        let failed = |error| files::failure(error, "open the object", &path);
        let Some((mut file, place)) = layout.open_object(key).map_err(failed)? else {
            return Ok(None);
        };
        let failed = |error| files::failure(error, "open the object", &place);
        let told = match Sidecar::read(layout, key)? {
            Some(sidecar) => sidecar.fitting(&mut file).map_err(failed)?.cloned(),
            // Once it may have been deleted and put again in between.
            None if without == 0 => {
                without += 1;
                None
            }
            None => Some(Told::guessed(key, &file.metadata().map_err(failed)?)),
        };
        if let Some(told) = told {
            return Ok(Some((file, told.meta(key))));
        }
        path = place;
    }
    Err(misfit(&path))
}

/// The same for a list, which one object whose metadata does not fit must not end.
pub(super) fn look(layout: &Layout, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
    match open(layout, key) {
        Ok(opened) => Ok(opened.map(|(_, meta)| meta)),
        Err(failure) if failure.kind() == FailureKind::Damaged => {
            tracing::warn!(%failure, "an object is listed without its metadata");
            let there = layout.open_object(key).and_then(|opened| match opened {
                Some((file, _)) => file.metadata().map(Some),
                None => Ok(None),
            });
            let there = there.map_err(|error| files::failure(error, "list", layout.root()))?;
            Ok(there.map(|there| Told::guessed(key, &there).meta(key)))
        }
        Err(failure) => Err(failure),
    }
}

/// The metadata of the object that is there; for one who holds the lock.
pub(super) fn current(layout: &Layout, key: &BucketKey) -> Result<Option<Told>, Failure> {
    let failed = |error| files::failure(error, "open the object", layout.root());
    let Some((mut file, _)) = layout.open_object(key).map_err(failed)? else { return Ok(None) };
    let fitting = match Sidecar::read(layout, key) {
        Ok(Some(sidecar)) => sidecar.fitting(&mut file).map_err(failed)?.cloned(),
        Ok(None) => None,
        // What is put now takes its place.
        Err(failure) if failure.kind() == FailureKind::Damaged => None,
        Err(failure) => return Err(failure),
    };
    let there = file.metadata().map_err(failed)?;
    Ok(Some(fitting.unwrap_or_else(|| Told::guessed(key, &there))))
}

/// Deletes the object, then its metadata, then the directories that are empty now.
pub(super) fn delete(layout: &Layout, key: &BucketKey) -> Result<(), Failure> {
    let metadata = layout.metadata(key);
    let failed = |error| files::failure(error, "delete the object", &metadata);
    let has_metadata = found(fs::symlink_metadata(&metadata)).map_err(failed)?.is_some();
    if !has_metadata && layout.open_object(key).map_err(failed)?.is_none() {
        return Ok(());
    }
    let _lock = layout.lock(key)?;
    layout
        .remove(key)
        .map_err(|error| files::failure(error, "delete an object in", layout.root()))?;
    if found(fs::remove_file(&metadata)).map_err(failed)?.is_some() {
        files::sync_directory(super::layout::parent(&metadata)).map_err(failed)?;
    }
    layout.prune(key);
    Ok(())
}

/// When a file was modified, in microseconds since the epoch.
pub(super) fn modified_us(there: &Metadata) -> i64 {
    there.mtime().saturating_mul(1_000_000).saturating_add(there.mtime_nsec() / 1_000)
}

/// The checksum of a file's bytes. The file is at its beginning afterwards as well.
fn sha256(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; super::PIECE_BYTES];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => hash.update(&piece[..read]),
        }
    }
    file.rewind()?;
    Ok(hex(&hash.finalize()))
}
