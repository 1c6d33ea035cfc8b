//! Secrets in a directory, one file a name.
//!
//! A file has the mode 0600 and the directory 0700. What others could read (a copy made under
//! another umask, a volume whose group is set at each mount) is closed to them again when it is
//! read, and a warning says so; where that is refused, the secret is refused too. A value is
//! written beside its place, synced, and renamed into it, by one process at a time: the one that
//! has locked `.lock`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{SECRET_BYTES_MAX, Secrets, Swapped};
use tokio::task;

use crate::files;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Names can't begin with a dot, so what is being written is never taken for a secret.
const UNFINISHED: &str = ".unfinished-";
/// The file that is locked while a secret is changed.
const LOCK: &str = ".lock";
/// How long another process may be in the middle of a change, which takes a few syncs.
const LOCK_WITHIN: Duration = Duration::from_secs(10);
/// How often the lock is tried meanwhile.
const LOCK_EVERY: Duration = Duration::from_millis(5);

/// [`Secrets`] in a directory.
#[derive(Debug, Clone)]
pub struct FileSecrets {
    directory: Arc<Path>,
}

impl FileSecrets {
    /// Opens the secrets in `directory`, or makes it where there is none, and removes what
    /// crashed changes left behind. Blocks, for milliseconds; for the start of a process.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, Failure> {
        let directory: PathBuf = directory.into();
        let failed = |error| files::failure(error, "open the secrets in", &directory);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        close_to_others(&directory, &File::open(&directory).map_err(failed)?, 0o700)?;
        clear(&directory).map_err(failed)?;
        Ok(Self { directory: Arc::from(directory) })
    }

    /// The secrets in `directory`, which is not made: as long as it is not there, it has none.
    pub fn unmade(directory: impl Into<PathBuf>) -> Self {
        Self { directory: Arc::from(directory.into()) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        attempted: &'static str,
        name: &str,
        work: impl FnOnce(&Path, &Path) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(Failure::new(
                FailureKind::Refused,
                "use the name of a secret",
                format!("{name:?}"),
            ));
        }
        let (directory, path) = (Arc::clone(&self.directory), self.directory.join(name));
        let subject = path.display().to_string();
        let working = task::spawn_blocking(move || work(&directory, &path));
        working.await.map_err(|error| {
            Failure::new(FailureKind::Unavailable, attempted, subject).because(error)
        })?
    }
}

#[async_trait]
impl Secrets for FileSecrets {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.blocking("read the secret", name, |_, path| read(path)).await
    }

    async fn swap(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swapped, Failure> {
        let (expected, value) = (expected.map(<[u8]>::to_vec), fitting(name, value)?);
        self.blocking("keep the secret", name, move |directory, path| {
            let failed = |error| files::failure(error, "keep the secret", path);
            let _lock = lock(directory)?;
            let there = read(path)?;
            if there != expected {
                return Ok(Swapped::Other(there));
            }
            if there.as_ref() != Some(&value) {
                let unfinished = Unfinished::write(directory, &value).map_err(failed)?;
                unfinished.replace(path).map_err(failed)?;
                files::sync_directory(directory).map_err(failed)?;
            }
            Ok(Swapped::Done)
        })
        .await
    }
}

/// Waits until no other process changes a secret. The lock ends with the file that is returned.
fn lock(directory: &Path) -> Result<File, Failure> {
    let path = directory.join(LOCK);
    let failed = |error| files::failure(error, "lock the secrets by", &path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path).map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WITHIN => {
                std::thread::sleep(LOCK_EVERY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(failed(io::ErrorKind::WouldBlock.into())
                    .hint("another process holds it; find it with `fuser` or `lsof`"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
}

/// A value on its way to its place. Dropped, it is removed.
struct Unfinished {
    path: PathBuf,
    placed: bool,
}

impl Unfinished {
    fn write(directory: &Path, value: &[u8]) -> io::Result<Self> {
        let random = files::random_path(directory)?;
        let name = random.file_name().unwrap_or_default().to_string_lossy();
        let path = directory.join(format!("{UNFINISHED}{name}"));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let unfinished = Self { path, placed: false };
        file.write_all(value)?;
        file.sync_all()?;
        Ok(unfinished)
    }

    fn replace(mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.placed = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.placed
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(%path, %error, "an unfinished secret stays until the next start");
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let failed = |error| files::failure(error, "read the secret", path);
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    close_to_others(path, &file, 0o600)?;
    let mut value = Vec::new();
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut value).map_err(failed)?;
    if value.len() > SECRET_BYTES_MAX {
        let path = path.display().to_string();
        return Err(Failure::new(FailureKind::Damaged, "read more than 64 KiB from", path));
    }
    Ok(Some(value))
}

/// Takes group and others what they may do, and says so; fails where that is refused.
fn close_to_others(path: &Path, file: &File, mode: u32) -> Result<(), Failure> {
    let failed = |error| files::failure(error, "read the permissions of", path);
    if file.metadata().map_err(failed)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    let told = path.display();
    file.set_permissions(Permissions::from_mode(mode)).map_err(|error| {
        Failure::new(FailureKind::Refused, "use what others can read,", told.to_string())
            .because(error)
            .hint("make it yours alone: chmod -R go= on the directory of the secrets")
    })?;
    tracing::warn!(path = %told, "others could read this; it was closed to them");
    Ok(())
}

/// Removes what crashed changes left; nothing where another process is in the middle of one.
fn clear(directory: &Path) -> io::Result<()> {
    let mut left = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            left.push(entry.path());
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let lock = match File::open(directory.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    match lock.as_ref().map(File::try_lock) {
        None | Some(Ok(())) => {}
        Some(Err(TryLockError::WouldBlock)) => return Ok(()),
        Some(Err(TryLockError::Error(error))) => return Err(error),
    }
    left.iter().try_for_each(|path| match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    })
}

fn fitting(name: &str, value: &[u8]) -> Result<Vec<u8>, Failure> {
    if value.len() <= SECRET_BYTES_MAX {
        return Ok(value.to_vec());
    }
    Err(Failure::new(FailureKind::Refused, "keep more than 64 KiB under", name))
}
