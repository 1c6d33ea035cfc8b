//! Where things are in the directory, and the locks on it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::BucketKey;

use crate::files;

/// How often a directory that vanishes while it is to be used is made anew.
const ATTEMPTS_MAX: usize = 16;

/// The places in one directory.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
    tmp: PathBuf,
    meta: PathBuf,
}

impl Layout {
    /// The places in `root`, made where they are not there.
    pub(super) fn open(root: PathBuf) -> Result<Self, Failure> {
        let (tmp, meta) = (root.join("tmp"), root.join("meta"));
        let layout = Self { root, tmp, meta };
        for directory in [&layout.tmp, &layout.meta] {
            make_directories(directory)
                .map_err(|error| files::failure(error, "make the bucket", directory))?;
        }
        layout
            .clear_tmp()
            .map_err(|error| files::failure(error, "clear the bucket's", &layout.tmp))?;
        Ok(layout)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn tmp(&self) -> &Path {
        &self.tmp
    }

    /// The directory of what is put in parts; there only while there is such.
    pub(super) fn uploads(&self) -> PathBuf {
        self.root.join("uploads")
    }

    /// The file of the object with that key.
    pub(super) fn object(&self, key: &BucketKey) -> PathBuf {
        self.root.join(segments(key).to_string()).join(key.as_str())
    }

    /// The file of its metadata.
    pub(super) fn metadata(&self, key: &BucketKey) -> PathBuf {
        self.meta.join(segments(key).to_string()).join(key.as_str())
    }

    /// Says that something in `tmp` is in use, until the file is closed: by a put or by a crash.
    pub(super) fn use_tmp(&self) -> io::Result<File> {
        let directory = File::open(&self.tmp)?;
        directory.lock_shared()?;
        Ok(directory)
    }

    /// Locks the directory that the metadata of `key` is in, which is made where it is not there.
    pub(super) fn lock(&self, key: &BucketKey) -> Result<File, Failure> {
        let metadata = self.metadata(key);
        let directory = parent(&metadata);
        let failed = |error| files::failure(error, "lock", directory);
        for _ in 0..ATTEMPTS_MAX {
            make_directories(directory).map_err(failed)?;
            let file = match File::open(directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            file.lock().map_err(failed)?;
            // A delete may have removed it while this waited; then the lock is on nothing.
            let locked = file.metadata().map_err(failed)?;
            if fs::metadata(directory).is_ok_and(|there| there.ino() == locked.ino()) {
                return Ok(file);
            }
        }
        let directory = directory.display().to_string();
        Err(Failure::new(FailureKind::Unavailable, "lock (it keeps vanishing)", directory))
    }

    /// Removes the directories of a key from the innermost on, as far as they are empty.
    pub(super) fn prune(&self, key: &BucketKey) {
        for file in [self.object(key), self.metadata(key)] {
            let directories = file.ancestors().skip(1).take(segments(key));
            // One that is not empty, or was removed by another, ends it; both are as they should.
            for directory in directories {
                if fs::remove_dir(directory).is_err() {
                    break;
                }
            }
        }
    }

    /// Removes what crashed puts left; nothing where another process is in the middle of a put.
    fn clear_tmp(&self) -> io::Result<()> {
        let directory = File::open(&self.tmp)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        for entry in fs::read_dir(&self.tmp)? {
            let path = entry?.path();
            tracing::info!(path = %path.display(), "an object that was never whole is removed");
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Makes a directory and those around it, and makes their names last.
pub(super) fn make_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let around = parent(directory);
    make_directories(around)?;
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => files::sync_directory(around),
    }
}

/// The directory that a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn segments(key: &BucketKey) -> usize {
    key.as_str().split('/').count()
}
