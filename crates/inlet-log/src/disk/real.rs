//! The machine's file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::disk::{Access, DirLock, Disk, DiskFile, FileSystem, LockError, file_system};

/// The name of the lock file in a log's directory.
const LOCK: &str = "LOCK";

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// An open file of the machine, and its identity.
#[derive(Debug)]
struct RealFile {
    file: File,
    device: u64,
    inode: u64,
}

impl Disk for RealDisk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = parent(dir);
        self.create_dir(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
            made => made?,
        }
        self.sync_dir(parent)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name()));
        // A name that is not text is none of ours.
        names.filter_map(|name| name.map(|name| name.into_string().ok()).transpose()).collect()
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        open(path, access, OpenOptions::new().create(true).truncate(true))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        open(path, access, &mut OpenOptions::new())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)?;
        self.sync_dir(parent(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn lock(&self, dir: &Path) -> Result<DirLock, LockError> {
        let path = dir.join(LOCK);
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.take(32).read_to_string(&mut text).ok();
                return Err(LockError::Held { pid: pid.and_then(|_| text.trim().parse().ok()) });
            }
            Err(fs::TryLockError::Error(error)) => return Err(error.into()),
        }
        // The number is a service to people: on a full disk the lock holds without it.
        let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        if let Err(error) = named {
            tracing::debug!(%error, dir = %dir.display(), "LOCK does not name this process");
        }
        Ok(DirLock::new(file))
    }

    fn random(&self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        let filled = getrandom(&mut bytes, GetRandomFlags::empty())?;
        if filled == bytes.len() { Ok(u64::from_le_bytes(bytes)) } else { self.random() }
    }

    fn file_system(&self, dir: &Path) -> io::Result<FileSystem> {
        file_system::of(dir)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The directory above; the current one above a bare name.
fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open(path: &Path, access: Access, options: &mut OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
    // Opening a pipe waits for its other end, without this flag.
    let mut flags = OFlags::NONBLOCK;
    if access == Access::Direct {
        flags |= OFlags::DIRECT;
    }
    options.read(true).write(access != Access::Read);
    options.custom_flags(i32::try_from(flags.bits()).map_err(io::Error::other)?);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        // A socket, or a pipe without another end.
        Some(code) if code == rustix::io::Errno::NXIO.raw_os_error() => no_file(),
        _ => error,
    })?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(no_file());
    }
    Ok(Arc::new(RealFile { device: metadata.dev(), inode: metadata.ino(), file }))
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::IsADirectory, "it is not a regular file")
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        let advised = fadvise(&self.file, offset, NonZero::new(bytes), Advice::WillNeed);
        if let Err(error) = advised {
            tracing::trace!(%error, "the system takes no advice on what will be read");
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            allocated => Ok(allocated?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        match fs::metadata(path) {
            Ok(there) => Ok((there.dev(), there.ino()) == (self.device, self.inode)),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(false),
                _ => Err(error),
            },
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
