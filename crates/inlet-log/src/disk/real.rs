//! The machine's file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::num::NonZero;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::disk::{Access, DirLock, Disk, DiskFile, LockError};

/// The name of the lock file in a log's directory.
const LOCK: &str = "LOCK";

/// The machine's file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// An open file of the machine.
#[derive(Debug)]
struct RealFile(File);

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
}

/// The directory above; the current one above a bare name.
fn parent(dir: &Path) -> &Path {
    dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn open(path: &Path, access: Access, options: &mut OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
    options.read(true).write(access != Access::Read);
    if access == Access::Direct {
        let direct = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        options.custom_flags(direct);
    }
    Ok(Arc::new(RealFile(options.open(path)?)))
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn will_read(&self, offset: u64, bytes: u64) {
        let advised = fadvise(&self.0, offset, NonZero::new(bytes), Advice::WillNeed);
        if let Err(error) = advised {
            tracing::trace!(%error, "the system takes no advice on what will be read");
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            allocated => Ok(allocated?),
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.0.as_fd())
    }
}
