//! The disk as the log needs it: few calls, all blocking, all fallible.
//!
//! [`RealDisk`] is the machine's file system. Tests put a simulated disk in its place, which loses
//! unsynced bytes and fails on demand.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

mod file_system;
mod real;

pub use file_system::{FileSystem, Keeps};
pub use real::RealDisk;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading.
    Read,
    /// For reading and writing through the page cache.
    Write,
    /// For writing past the page cache (`O_DIRECT`): buffers, offsets and lengths are multiples
    /// of 4096 bytes.
    Direct,
}

/// A place where files lie in directories.
///
/// Contract:
/// 1. Bytes written to a file survive a crash once [`DiskFile::sync`] returned `Ok`; before that
///    each sector of 512 bytes is the old or the new one, in any mixture.
/// 2. A name that was made, changed or removed survives a crash once [`Disk::sync_dir`] of its
///    directory returned `Ok`; before that it may or may not.
/// 3. A rename replaces the target in one step.
/// 4. After a failed sync nothing is known of what was written before it.
pub trait Disk: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, durably. It may exist already.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes an empty file; one of that name is emptied. With [`Access::Direct`] it fails where
    /// the file system can't do that.
    fn create(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a regular file that exists. Anything else of that name, a directory or a pipe, is
    /// [`io::ErrorKind::IsADirectory`].
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in the same directory.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory in which there is nothing, durably.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the writer's lock on a directory: the file `LOCK` in it, for as long as the value
    /// lives. It ends with the process, however that ends.
    fn lock(&self, dir: &Path) -> Result<DirLock, LockError>;
    /// A number that can't be guessed and does not come again.
    fn random(&self) -> io::Result<u64>;
    /// The file system that holds a directory, and which syncs it keeps.
    fn file_system(&self, dir: &Path) -> io::Result<FileSystem>;
    /// Bytes that this process may still write to the file system of a directory, where the
    /// system can tell; a quota may leave less.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. All calls take an offset, so one handle serves many at a time.
pub trait DiskFile: fmt::Debug + Send + Sync + 'static {
    /// Reads at an offset and says how many bytes came; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at an offset and says how many bytes went; it may be fewer than given.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Says that these bytes will be read soon, so that the disk may fetch them meanwhile.
    fn will_read(&self, offset: u64, bytes: u64) {
        // Only a hint: without it the bytes are read when they are asked for.
        let _unused: (u64, u64) = (offset, bytes);
    }
    /// Makes what was written durable, and the file's length.
    fn sync(&self) -> io::Result<()>;
    /// Reserves room for that many bytes from the start, as far as the file system can.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Cuts the file to that many bytes.
    fn truncate(&self, bytes: u64) -> io::Result<()>;
    /// The file's length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Returns true if `path` still leads to this file: it was not removed, renamed or replaced,
    /// and no file system was mounted over it or taken away.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// The descriptor, where the file has one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// The writer's lock on a directory, for as long as it lives.
pub struct DirLock(#[allow(dead_code, reason = "held for its drop")] Box<dyn Any + Send + Sync>);

impl DirLock {
    /// A lock that ends when `guard` is dropped.
    pub fn new(guard: impl Any + Send + Sync) -> Self {
        Self(Box::new(guard))
    }
}

impl fmt::Debug for DirLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DirLock")
    }
}

/// Why a directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another writer has it.
    #[error("another process has it{}", pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The process that has it, where it could be read.
        pid: Option<u32>,
    },
    /// The lock file could not be made or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads until the buffer is full or the file ends; says how many bytes came.
pub(crate) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes all of the bytes; a short write is written on from where it ended.
pub(crate) fn write_full(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], offset + done as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => done += written,
        }
    }
    Ok(())
}

/// Whether an error says that the disk, or the share of it we may use, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
