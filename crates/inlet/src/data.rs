//! The data directory: what lies where, its format, and who uses it.
//!
//! ```text
//! FORMAT          the version of this layout
//! LOCK            held by the process that runs everything here
//! instance        the id of the instance that this directory belongs to
//! run.json        where that instance listens, while it runs, and a token for this machine; its
//!                 owner has it locked, so that what a killed process left is told apart
//! token           the text of the first token; only its owner can read it
//! token.lock      locked while the first token is made
//! tls/            cert.pem and key.pem, self-signed
//! secrets/        tokens (hashed) and keys
//! log/INSTANCE/   the queue of that instance
//! log.known/      the identities of these queues, so that one that is taken away is missed
//! log.losses      the documents that no queue here can deliver any more
//! store/          the documents
//! bucket/         summaries and backups
//! used/           engines that were open once, by setting: a hash of the URL
//! tokens.json     hashes of the tokens that secrets elsewhere had last; only its owner can read it
//! run/            of a running `up` with instances: the socket it is spoken to by, the token for
//!                 this machine, and a copy of the settings in force
//! ```

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::owner;
use crate::report::Hinted;

/// The layout this binary writes and reads.
const FORMAT: u32 = 1;
/// The file that says so, which the owner of the directory made.
const FORMAT_FILE: &str = "FORMAT";
/// Where a running instance is noted.
const RUNNING: &str = "run.json";
/// How long another process may take to make the first token, which is kept with the secrets.
const TOKEN_LOCK_WITHIN: Duration = Duration::from_secs(60);

/// A data directory that this binary may use.
#[derive(Debug, Clone)]
pub(crate) struct DataDirectory {
    path: PathBuf,
}

/// Where a running instance listens.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    pub(crate) instance: String,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) plain: Option<SocketAddr>,
    /// What the command line on this machine proves itself by: who may read the file may
    /// administer what runs here. It is good for as long as the process runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The certificate chain of `https`, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
}

/// Never the token.
impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, instance, https, http, plain, .. } = self;
        f.debug_struct("Running")
            .field("pid", pid)
            .field("instance", instance)
            .field("https", https)
            .field("http", http)
            .field("plain", plain)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// This process, which listens nowhere.
    pub(crate) fn nowhere(instance: &str) -> Self {
        Self {
            pid: std::process::id(),
            instance: instance.to_owned(),
            https: None,
            http: None,
            plain: None,
            token: None,
            certificate: None,
        }
    }
}

impl DataDirectory {
    /// Opens the directory to change what is in it, as its owner, or makes it where there is none.
    /// To be called while the process has one thread.
    ///
    /// # Errors
    /// Where it can't be made or used, or files made by this process would not be its owner's.
    pub(crate) fn open_or_create(path: &Path) -> anyhow::Result<Self> {
        owner::act_as_owner(path, &path.join(FORMAT_FILE))?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| unusable("make the data directory", path, &error))?;
        let format = path.join(FORMAT_FILE);
        if !format.exists() {
            match write_new(&format, format!("{FORMAT}\n").as_bytes(), 0o644) {
                // Another process of this directory was first.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(unusable("write to the data directory", path, &error));
                }
                _ => {}
            }
        }
        Self::open(path)
    }

    /// Opens a directory that is there already to change what is in it, as its owner. To be called
    /// while the process has one thread.
    ///
    /// # Errors
    /// As [`DataDirectory::open_or_create`], and where it is not there.
    pub(crate) fn open_to_change(path: &Path) -> anyhow::Result<Self> {
        owner::act_as_owner(path, &path.join(FORMAT_FILE))?;
        Self::open(path)
    }

    /// The name of a directory that need not be there, because everything is kept elsewhere.
    pub(crate) fn unused(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Opens a directory that is there already, to read from it.
    ///
    /// # Errors
    /// Where it is none, or this binary can't use it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let format = path.join(FORMAT_FILE);
        let text = fs::read_to_string(&format).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::Error::new(Hinted::new(
                format!("{} is no data directory of Inlet", path.display()),
                "`inlet up` makes one; --data names another",
            )),
            _ => unusable("read the data directory", path, &error),
        })?;
        match text.trim().parse::<u32>() {
            Ok(FORMAT) => {}
            Ok(newer) if newer > FORMAT => {
                return Err(Hinted::new(
                    format!(
                        "the data directory {} has format {newer}, this binary knows {FORMAT}",
                        path.display()
                    ),
                    "run the newer binary that wrote it; nothing was changed",
                )
                .into());
            }
            _ => {
                return Err(Hinted::new(
                    format!("{} does not hold a format version", format.display()),
                    "restore that file; it holds the line `1`",
                )
                .into());
            }
        }
        let path = path
            .canonicalize()
            .with_context(|| format!("could not resolve the data directory {}", path.display()))?;
        Ok(Self { path })
    }

    /// The path, absolute.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of something in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Takes the directory for one process alone, for as long as the lock lives.
    pub(crate) fn lock(&self) -> anyhow::Result<DirectoryLock> {
        let path = self.join("LOCK");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| unusable("open the lock of", &self.path, &error))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            let holder = match file.read_to_string(&mut pid) {
                Ok(_) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                _ => "another process".to_owned(),
            };
            return Err(Hinted::new(
                format!("{holder} uses the data directory {}", self.path.display()),
                "stop it first, or name another directory with --data",
            )
            .into());
        }
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(|error| unusable("write the lock of", &self.path, &error))?;
        Ok(DirectoryLock { _file: file })
    }

    /// The instance's id: the one given, or the one made when the directory was first used.
    pub(crate) fn instance(&self, given: Option<&str>) -> anyhow::Result<String> {
        if let Some(given) = given {
            return Ok(given.to_owned());
        }
        let path = self.join("instance");
        if let Ok(known) = fs::read_to_string(&path) {
            return Ok(known.trim().to_owned());
        }
        let mut random = [0u8; 6];
        getrandom::fill(&mut random).context("could not get randomness from the system")?;
        let made = format!("i-{}", inlet_core::document::hex(&random));
        match write_new(&path, made.as_bytes(), 0o644) {
            Ok(()) => Ok(made),
            // Another process of this directory was first.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(fs::read_to_string(&path)
                    .with_context(|| format!("could not read {}", path.display()))?
                    .trim()
                    .to_owned())
            }
            Err(error) => Err(unusable("write to the data directory", &self.path, &error)),
        }
    }

    /// Keeps the text of the first token where only its owner can read it.
    pub(crate) fn keep_token(&self, text: &str) -> anyhow::Result<()> {
        self.keep_private(&self.join("token"), &format!("{text}\n"))
    }

    /// Writes a file that only its owner can read.
    pub(crate) fn keep_private(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        write(path, text.as_bytes(), 0o600).map_err(|error| unusable("write", path, &error))
    }

    /// Removes the text of the first token, if it is this one.
    pub(crate) fn forget_token(&self, text: &str) -> anyhow::Result<()> {
        let path = self.join("token");
        if self.token().as_deref() != Some(text) {
            return Ok(());
        }
        fs::remove_file(&path).map_err(|error| unusable("remove", &path, &error))
    }

    /// Where an `up` keeps the token for this machine while it runs, for its instances.
    pub(crate) fn local_token_path(&self) -> PathBuf {
        self.join(crate::control::DIRECTORY).join("token")
    }

    /// The token for this machine of the `up` whose instance this process is.
    pub(crate) fn local_token(&self) -> anyhow::Result<String> {
        let path = self.local_token_path();
        fs::read_to_string(&path).map_err(|error| unusable("read", &path, &error))
    }

    /// Waits until no other process makes the first token. The lock ends with what is returned.
    pub(crate) async fn lock_token(&self) -> anyhow::Result<File> {
        let path = self.join("token.lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|error| unusable("open", &path, &error))?;
        let begun = Instant::now();
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if begun.elapsed() > TOKEN_LOCK_WITHIN {
                let message = format!("another process holds {}", path.display());
                return Err(Hinted::new(message, "find it with `fuser` or `lsof`").into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(file)
    }

    /// The text of the first token, while its file is there; it may have been revoked since.
    pub(crate) fn token(&self) -> Option<String> {
        let text = fs::read_to_string(self.join("token")).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Returns true if the engine at `url` was open once for this `setting`.
    pub(crate) fn has_used(&self, setting: &str, url: &str) -> bool {
        let noted = fs::read_to_string(self.join("used").join(setting));
        noted.is_ok_and(|noted| noted == hash_of(url))
    }

    /// Notes that the engine at `url` was open for this `setting`. Blocks.
    pub(crate) fn note_used(&self, setting: &str, url: &str) -> anyhow::Result<()> {
        if self.has_used(setting, url) {
            return Ok(());
        }
        let directory = self.join("used");
        fs::create_dir_all(&directory).map_err(|error| unusable("make", &directory, &error))?;
        self.replace_own(&format!("used/{setting}"), hash_of(url).as_bytes())
    }

    /// Replaces a file of the directory as a whole; only its owner can read it. Blocks.
    pub(crate) fn replace_own(&self, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let path = self.join(name);
        let fresh = path.with_extension(format!("new-{}", std::process::id()));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|error| unusable("write", &path, &error))
    }

    /// Notes where this process listens; gone again when the guard is dropped.
    pub(crate) fn announce(&self, running: &Running) -> anyhow::Result<Announced> {
        let path = self.join(RUNNING);
        let fresh = self.join(&format!("{RUNNING}.{}", std::process::id()));
        let failed = |error: io::Error| unusable("write", &path, &error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&fresh).map_err(failed)?;
        // Before it has its name: whoever finds it by that finds it locked.
        flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| failed(error.into()))?;
        serde_json::to_writer(&mut file, running)?;
        fs::rename(&fresh, &path).map_err(failed)?;
        Ok(Announced { path, file })
    }

    /// Where the running instance listens, if one runs here.
    ///
    /// # Errors
    /// Where that is noted and can't be read, as by a user who is not the owner.
    pub(crate) fn running(&self) -> anyhow::Result<Option<Running>> {
        let path = self.join(RUNNING);
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(|error| unusable("read", &path, &error))?,
        };
        // Nobody holds what a killed process left.
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|error| unusable("read", &path, &error))?;
        let running = serde_json::from_slice(&text)
            .map_err(|_| Hinted::new(format!("{} is not readable", path.display()), ""))?;
        Ok(Some(running))
    }
}

/// Holds a data directory for one process.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

/// Removes the note of where this process listens when it is dropped.
#[derive(Debug)]
pub(crate) struct Announced {
    path: PathBuf,
    /// The note, locked for as long as this process runs.
    file: File,
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Another process on this directory may have put its own in its place.
        let identity = |about: fs::Metadata| (about.dev(), about.ino());
        let is_own = match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(there), Ok(own)) => identity(there) == identity(own),
            _ => false,
        };
        if is_own && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "could not be removed");
        }
    }
}

/// Writes a file in the place of any that is there, durably and as a whole.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    placed(path, bytes, mode, |fresh| fs::rename(fresh, path))
}

/// A URL may have a password: its hash tells as well that it is the same.
pub(crate) fn hash_of(url: &str) -> String {
    inlet_core::document::hex(&Sha256::digest(url))
}

/// Writes a file that must not be there yet, durably and as a whole.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    placed(path, bytes, mode, |fresh| {
        let linked = fs::hard_link(fresh, path);
        fs::remove_file(fresh)?;
        linked
    })
}

fn placed(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    place: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| place(&fresh))?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

fn unusable(attempted: &str, path: &Path, error: &io::Error) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "run it as the user whose it is, or as root, or name another directory with --data"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only; name another directory with --data"
        }
        io::ErrorKind::StorageFull => "make room on that disk, then start again",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "a file is in the way; name another directory with --data"
        }
        _ => "",
    };
    Hinted::new(format!("could not {attempted} {}: {error}", path.display()), hint).into()
}
