//! An object on its way in.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use inlet_core::document::Timestamp;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, ObjectMeta, Precondition};

use super::PIECE_BYTES;
use super::direct::Direct;
use super::layout::{self, Layout};
use super::meta::{self, Sidecar, Told};
use crate::files;

/// How many slices are handed to the system at once.
const SLICES_MAX: usize = 64;
/// How much is written before the disk is set to work on it, in bytes.
const FLUSH_BYTES: u64 = 8 << 20;
/// How often a moment is looked for that tells an object from the one before it.
const MOMENTS_MAX: i64 = 64;

/// A file that is written and not yet an object. Dropped, it is removed.
#[derive(Debug)]
pub(super) struct Upload {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Where it is large enough to be written past the page cache.
    direct: Option<Direct>,
    /// Up to where the disk was set to work.
    flushed: u64,
    flushing: Option<JoinHandle<io::Result<()>>>,
    committed: bool,
    /// Held so that no other process takes the file for a crashed put's.
    _in_use: File,
}

impl Upload {
    pub(super) fn begin(layout: &Layout) -> Result<Self, Failure> {
        layout.check_place()?;
        let failed = |error| files::failure(error, "begin an object in", layout.tmp());
        let in_use = layout.use_tmp().map_err(failed)?;
        let path = files::random_path(layout.tmp()).map_err(failed)?;
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        Ok(Self {
            file,
            path,
            bytes: 0,
            direct: None,
            flushed: 0,
            flushing: None,
            committed: false,
            _in_use: in_use,
        })
    }

    /// Writes the pieces behind what is there.
    pub(super) fn write(mut self, pieces: &[Bytes]) -> Result<Self, Failure> {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if self.bytes == 0 && bytes >= PIECE_BYTES as u64 {
            self.direct = Direct::open(&self.path);
        }
        self.bytes += bytes;
        self.write_pieces(pieces).map_err(|error| files::failure(error, "write", &self.path))?;
        Ok(self)
    }

    fn write_pieces(&mut self, pieces: &[Bytes]) -> io::Result<()> {
        let Some(mut direct) = self.direct.take() else {
            for some in pieces.chunks(SLICES_MAX) {
                let mut slices: Vec<_> = some.iter().map(|piece| IoSlice::new(piece)).collect();
                write_all(&mut self.file, &mut slices)?;
            }
            return self.flush_behind();
        };
        for (number, piece) in pieces.iter().enumerate() {
            if let Some(rest) = direct.write(piece)? {
                self.file.write_all(direct.rest())?;
                self.file.write_all(rest)?;
                return self.write_pieces(&pieces[number + 1..]);
            }
        }
        self.direct = Some(direct);
        Ok(())
    }

    /// Writes what fills no buffer.
    fn write_rest(&mut self) -> io::Result<()> {
        match self.direct.take() {
            Some(direct) => self.file.write_all_at(direct.rest(), direct.at()),
            None => Ok(()),
        }
    }

    /// Sets the disk to work on what is written, while more of it comes: what is to be synced at
    /// the end would otherwise wait in memory until then.
    fn flush_behind(&mut self) -> io::Result<()> {
        let is_busy = self.flushing.as_ref().is_some_and(|flushing| !flushing.is_finished());
        if self.bytes - self.flushed < FLUSH_BYTES || is_busy {
            return Ok(());
        }
        self.flushed_well()?;
        self.flushed = self.bytes;
        let file = self.file.try_clone()?;
        self.flushing = Some(thread::spawn(move || file.sync_data()));
        Ok(())
    }

    /// Waits for the flush under way, if there is one. Its error counts: the system tells of a
    /// failed write once, and the sync at the end would not hear of it again.
    fn flushed_well(&mut self) -> io::Result<()> {
        match self.flushing.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(flushed)) => flushed,
            Some(Err(_)) => Err(io::Error::other("the flush panicked")),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flushed_well()?;
        self.file.sync_all()
    }

    /// Copies the `bytes` of a part behind what is there.
    pub(super) fn copy(mut self, part: &mut File, bytes: u64) -> Result<Self, Failure> {
        let copied = io::copy(part, &mut self.file)
            .map_err(|error| files::failure(error, "write", &self.path))?;
        if copied != bytes {
            return Err(misfit(&self.path));
        }
        self.bytes += bytes;
        Ok(self)
    }

    /// The size of what was written, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives it, synced, the name `path`; that it lasts is left to the caller.
    pub(super) fn place(mut self, path: &Path) -> io::Result<()> {
        self.write_rest()?;
        self.sync()?;
        fs::rename(&self.path, path)?;
        self.committed = true;
        Ok(())
    }

    /// Makes it the object with that key, in place of the one that is there, if that is as
    /// `precondition` has it.
    pub(super) fn commit(
        mut self,
        layout: &Layout,
        key: &BucketKey,
        content_type: String,
        sha256: String,
        now: Timestamp,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        let path = layout.root().join(key.as_str());
        let failed = |error| files::failure(error, "put the object", &path);
        let _lock = layout.lock(key)?;
        let before = meta::current(layout, key)?;
        if !precondition.holds(before.as_ref().map(|told| told.meta(key)).as_ref()) {
            layout.prune(key);
            return Ok(None);
        }
        self.write_rest().map_err(failed)?;
        let modified = self.stamp(now, before.as_ref()).map_err(failed)?;
        self.sync().map_err(failed)?;
        let told =
            Told { bytes: self.bytes, modified_us: modified.as_micros(), content_type, sha256 };
        let meta = told.meta(key);
        Sidecar { objects: std::iter::once(told).chain(before).collect() }
            .write(layout, key)
            .map_err(failed)?;
        // Where the directory can't be synced, the file is in its place all the same.
        let placed = layout.place(&self.path, key);
        self.committed = placed.is_ok() || !self.path.exists();
        placed.map_err(failed)?;
        Ok(Some(meta))
    }

    /// Gives the file a modification time that tells it from the object that is there: `now`, or
    /// a little later. It is read back, for a file system may keep less of it.
    fn stamp(&self, now: Timestamp, before: Option<&Told>) -> io::Result<Timestamp> {
        for later in 0..MOMENTS_MAX {
            // First by microseconds; where the file system keeps no such, by seconds.
            let shift = if later < 4 { later } else { later * 1_000_000 };
            let moment = now.as_micros().saturating_add(shift);
            self.file.set_modified(system_time(moment))?;
            let kept = meta::modified_us(&self.file.metadata()?);
            if before.is_none_or(|told| (told.bytes, told.modified_us) != (self.bytes, kept)) {
                return Ok(Timestamp::from_micros(kept));
            }
        }
        Err(io::Error::other("the file system keeps no modification times"))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.committed
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "an unfinished object stays until the next start");
        }
    }
}

/// Writes a small file whole under a name in the same file system, synced.
pub(super) fn write_small(layout: &Layout, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = files::random_path(layout.tmp())?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        files::sync_directory(layout::parent(path))
    })();
    if written.is_err() && unfinished.exists() {
        fs::remove_file(&unfinished)?;
    }
    written
}

fn write_all(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn system_time(micros: i64) -> SystemTime {
    let distance = Duration::from_micros(micros.unsigned_abs());
    let moved = if micros < 0 {
        UNIX_EPOCH.checked_sub(distance)
    } else {
        UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(UNIX_EPOCH)
}

/// The failure of an object whose metadata does not fit it.
pub(super) fn misfit(path: &Path) -> Failure {
    Failure::new(FailureKind::Damaged, "find the metadata that fits", path.display().to_string())
        .hint("the file was changed outside of Inlet; put it again")
}
