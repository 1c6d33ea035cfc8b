//! The simulated disk as a disk of the log, and a log driven by hand on it.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use inlet_log::{
    Access, AppendError, DirLock, Disk, DiskFile, FileSystem, Keeps, LockError, Log, LogOptions,
    OpenError, Position, Reader, Recovery, Sync,
};
use inlet_testkit::simulated_disk::{FileId, SimulatedDisk};

/// The directory of the log under test.
pub(crate) const DIR: &str = "/data/log";

/// A simulated disk that logs can hold.
#[derive(Clone)]
pub(crate) struct Simulated {
    disk: Arc<Mutex<SimulatedDisk>>,
    locks: Arc<Mutex<BTreeSet<PathBuf>>>,
    before_sync: Arc<Mutex<Option<Hook>>>,
}

type Hook = Box<dyn FnOnce() + Send>;

impl Simulated {
    pub(crate) fn new(seed: u64) -> Self {
        Self::of(SimulatedDisk::new(seed))
    }

    pub(crate) fn of(disk: SimulatedDisk) -> Self {
        let (disk, locks) = (Arc::new(Mutex::new(disk)), Arc::default());
        Self { disk, locks, before_sync: Arc::default() }
    }

    pub(crate) fn disk(&self) -> MutexGuard<'_, SimulatedDisk> {
        self.disk.lock().unwrap()
    }

    /// Has something happen once, when a file is about to be synced.
    pub(crate) fn before_sync(&self, hook: impl FnOnce() + Send + 'static) {
        *self.before_sync.lock().unwrap() = Some(Box::new(hook));
    }

    /// Another disk in the same state.
    pub(crate) fn copy(&self) -> Self {
        Self::of(self.disk().clone())
    }

    pub(crate) fn arc(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    pub(crate) fn open(&self, options: &LogOptions) -> Result<(Log, Recovery), OpenError> {
        Log::open(self.arc(), Path::new(DIR), options)
    }

    /// All payloads that can be read, as another process reads them.
    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        let mut reader = Reader::open(self.arc(), Path::new(DIR), Position::START).unwrap();
        let mut payloads = Vec::new();
        loop {
            let batch = reader.next_batch(7, 1 << 20, None).unwrap();
            if batch.records.is_empty() {
                return payloads;
            }
            payloads.extend(batch.records.into_iter().map(|record| record.payload.to_vec()));
        }
    }

    /// The files of the log's segments, oldest first.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let names = self.disk().list(Path::new(DIR)).unwrap();
        let segments = names.into_iter().filter(|name| name.ends_with(".seg"));
        segments.map(|name| Path::new(DIR).join(name)).collect()
    }
}

/// Options for a log of a few kilobytes, driven by hand.
pub(crate) fn small() -> LogOptions {
    LogOptions {
        group_bytes_max: 8 << 10,
        segment_bytes: 32 << 10,
        first_segment_bytes: 16 << 10,
        queue_bytes_max: 1 << 20,
        appends_waiting_max: 8,
        sync: Sync::Thread,
        ..LogOptions::default()
    }
}

/// Polls a future once, for no one.
pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Drives a log by hand until a future is done.
pub(crate) fn finish<F: Future>(log: &Log, future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..100 {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(output) = polled {
            return output;
        }
        log.write_group();
        log.make_segment();
    }
    panic!("the future is not done though the log was driven");
}

/// Appends one record by hand.
pub(crate) fn append(log: &Log, payload: &[u8]) -> Result<Position, AppendError> {
    finish(log, log.append(&[payload]))
}

/// A payload that tells which it is, and how it goes on.
pub(crate) fn payload(number: usize, bytes: usize) -> Vec<u8> {
    let mut payload = format!("record {number} ").into_bytes();
    let rest = (0..bytes).map(|at| b'a' + u8::try_from((number + at) % 26).unwrap());
    payload.extend(rest);
    payload
}

impl fmt::Debug for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Simulated")
    }
}

struct SimulatedFile {
    on: Simulated,
    file: FileId,
}

impl Simulated {
    fn file(&self, file: FileId) -> Arc<dyn DiskFile> {
        Arc::new(SimulatedFile { on: self.clone(), file })
    }
}

impl fmt::Debug for SimulatedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedFile({})", self.file)
    }
}

impl Disk for Simulated {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().create_dir(dir);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk().list(dir)
    }

    fn create(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        assert_ne!(access, Access::Direct, "no descriptor, no direct writes");
        let file = self.disk().create(path)?;
        Ok(self.file(file))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk().open(path)?;
        Ok(self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk().remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk().sync_dir(dir)
    }

    fn lock(&self, dir: &Path) -> Result<DirLock, LockError> {
        struct Unlock(Arc<Mutex<BTreeSet<PathBuf>>>, PathBuf);
        impl Drop for Unlock {
            fn drop(&mut self) {
                self.0.lock().unwrap().remove(&self.1);
            }
        }
        if !self.locks.lock().unwrap().insert(dir.to_owned()) {
            return Err(LockError::Held { pid: None });
        }
        Ok(DirLock::new(Unlock(Arc::clone(&self.locks), dir.to_owned())))
    }

    fn random(&self) -> io::Result<u64> {
        Ok(self.disk().random())
    }

    fn file_system(&self, _: &Path) -> io::Result<FileSystem> {
        Ok(FileSystem { name: "simulated".into(), keeps: Keeps::Syncs })
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.disk().free_bytes())
    }
}

impl DiskFile for SimulatedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.on.disk().read_at(self.file, buffer, offset))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.on.disk().write_at(self.file, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let hook = self.on.before_sync.lock().unwrap().take();
        hook.into_iter().for_each(|hook| hook());
        self.on.disk().sync(self.file)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.on.disk().allocate(self.file, bytes)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.on.disk().truncate(self.file, bytes)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.on.disk().bytes(self.file))
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.on.disk().open(path).is_ok_and(|file| file == self.file))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}
