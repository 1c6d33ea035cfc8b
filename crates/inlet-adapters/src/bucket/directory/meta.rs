//! The metadata of objects, and which of it fits the object that is there.
//!
//! ```json
//! {"format": 1, "objects": [
//!   {"bytes": 2, "modified_us": 1795219200000000, "content_type": "application/json",
//!    "sha256": "44136fa3…"}]}
//! ```
//!
//! The newest object comes first; the second, if there is one, is the one it replaced, which may
//! still be in its place after a crash.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use inlet_core::document::{Timestamp, hex};
use inlet_core::failure::Failure;
use inlet_core::ports::{BucketKey, ObjectMeta};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::layout::{self, Layout};
use super::upload::{misfit, write_small};
use crate::files;

/// How often an object that is replaced while it is opened is opened again.
const ATTEMPTS_MAX: usize = 64;
const FORMAT: u32 = 1;

/// What is told of the objects of one key.
#[derive(Debug)]
pub(super) struct Sidecar {
    pub(super) objects: Vec<Told>,
}

#[derive(Serialize, Deserialize)]
struct SidecarFile<T> {
    format: u32,
    objects: T,
}

/// What is told of one object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) bytes: u64,
    pub(super) modified_us: i64,
    pub(super) content_type: String,
    pub(super) sha256: String,
}

impl Told {
    pub(super) fn meta(&self, key: &BucketKey) -> ObjectMeta {
        ObjectMeta {
            key: key.clone(),
            bytes: self.bytes,
            content_type: self.content_type.clone(),
            sha256: self.sha256.clone(),
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
    fn read(layout: &Layout, key: &BucketKey) -> io::Result<Option<Self>> {
        let bytes = match fs::read(layout.metadata(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let file: SidecarFile<Vec<Told>> =
            serde_json::from_slice(&bytes).map_err(io::Error::other)?;
        if file.format > FORMAT {
            let newer = format!("it has format {}, this binary knows {FORMAT}", file.format);
            return Err(io::Error::other(newer));
        }
        Ok(Some(Self { objects: file.objects }))
    }

    /// What is told of the object in `file`.
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
                // The checksum of an object that was put in parts does not follow from its bytes.
                let in_parts = |told: &&&Told| told.sha256.contains('-');
                let found = same_size.iter().find(|told| told.sha256 == sha256);
                Ok(found.or_else(|| same_size.iter().find(in_parts)).copied())
            }
        }
    }
}

/// Opens the object with that key, with what is told of it.
pub(super) fn open(
    layout: &Layout,
    key: &BucketKey,
) -> Result<Option<(File, ObjectMeta)>, Failure> {
    let path = layout.object(key);
    let failed = |error| files::failure(error, "open the object", &path);
    let mut known = false;
    for _ in 0..ATTEMPTS_MAX {
        let Some(mut file) = open_file(&path).map_err(failed)? else { return Ok(None) };
        let sidecar = Sidecar::read(layout, key)
            .map_err(|error| files::failure(error, "read", &layout.metadata(key)))?;
        known = sidecar.is_some();
        if let Some(sidecar) = sidecar
            && let Some(told) = sidecar.fitting(&mut file).map_err(failed)?
        {
            let meta = told.meta(key);
            return Ok(Some((file, meta)));
        }
    }
    if known {
        return Err(misfit(&path));
    }
    tracing::warn!(path = %path.display(), "a file without metadata is no object; it is left alone");
    Ok(None)
}

/// What is told of the object that is there; for one who holds the lock.
pub(super) fn current(layout: &Layout, key: &BucketKey) -> Result<Option<Told>, Failure> {
    let path = layout.object(key);
    let failed = |error| files::failure(error, "open the object", &path);
    let Some(mut file) = open_file(&path).map_err(failed)? else { return Ok(None) };
    let Some(sidecar) = Sidecar::read(layout, key).map_err(failed)? else { return Ok(None) };
    Ok(sidecar.fitting(&mut file).map_err(failed)?.cloned())
}

/// Deletes the object, then what is told of it, then the directories that are empty now.
pub(super) fn delete(layout: &Layout, key: &BucketKey) -> Result<(), Failure> {
    let (path, metadata) = (layout.object(key), layout.metadata(key));
    let failed = |error| files::failure(error, "delete the object", &path);
    if !is_there(&path).map_err(failed)? && !is_there(&metadata).map_err(failed)? {
        return Ok(());
    }
    let _lock = layout.lock(key)?;
    for file in [&path, &metadata] {
        match fs::remove_file(file) {
            Ok(()) => files::sync_directory(layout::parent(file)).map_err(failed)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    layout.prune(key);
    Ok(())
}

/// When a file was modified, in microseconds since the epoch.
pub(super) fn modified_us(there: &Metadata) -> i64 {
    there.mtime().saturating_mul(1_000_000).saturating_add(there.mtime_nsec() / 1_000)
}

fn open_file(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The checksum of a file's bytes. The file is at its beginning afterwards as well.
fn sha256(file: &mut File) -> io::Result<String> {
    use std::io::Seek;
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
