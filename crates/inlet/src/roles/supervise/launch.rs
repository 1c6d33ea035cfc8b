//! From what children are started: the binary and the settings in force.
//!
//! Both are held on to. Whoever replaces the binary or edits `inlet.toml` changes nothing for an
//! instance that is started again after a crash; only a reload takes them up, and only if an
//! instance becomes ready with them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

use crate::cli::Given;
use crate::config::{Role, SETTINGS};
use crate::control::DIRECTORY;

/// Flags that are not passed on: each child is given its own.
const OWN: &[&str] =
    &["data", "https", "http", "plain", "instance", "threads", "idle_s", "bodies_bytes_max"];

/// What systemd tells the process it has started, which is none of its children.
const SYSTEMD: &[&str] = &[
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];

/// A binary and the settings it is started with.
#[derive(Debug)]
pub(super) struct Launch {
    binary: File,
    path: PathBuf,
    /// A copy of the file with settings, as it was when this was made.
    config: PathBuf,
    given: Given,
    data: PathBuf,
}

impl Launch {
    /// Takes the binary that lies at `path` at this moment, and the settings of this moment, of
    /// which a copy is kept in the data directory.
    pub(super) fn new(given: &Given, path: &Path, data: &Path) -> anyhow::Result<Self> {
        let binary = File::open(path)
            .with_context(|| format!("could not open the binary {}", path.display()))?;
        let text = match &given.file {
            Some(file) => fs::read(file)
                .with_context(|| format!("could not read the settings in {}", file.display()))?,
            None => Vec::new(),
        };
        let directory = data.join(DIRECTORY);
        let config = unused(&directory, &text)
            .with_context(|| format!("could not copy the settings to {}", directory.display()))?;
        let data = data.to_owned();
        Ok(Self { binary, path: path.to_owned(), config, given: given.clone(), data })
    }

    /// Whether both are started from the same binary.
    pub(super) fn has_binary_of(&self, other: &Self) -> bool {
        let identity = |launch: &Self| {
            let metadata = launch.binary.metadata().ok()?;
            Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()))
        };
        identity(self) == identity(other)
    }

    /// Starts a child that runs `role` with these settings besides those that were given to `up`.
    pub(super) fn spawn(&self, role: &str, settings: &[(&str, &str)]) -> io::Result<Child> {
        let held = format!("/proc/self/fd/{}", self.binary.as_raw_fd());
        // What is held is what was opened, even if another file lies at the path by now.
        let program =
            if Path::new(&held).exists() { PathBuf::from(held) } else { self.path.clone() };
        let mut command = Command::new(program);
        command.arg0("inlet").args([role, "--supervised", "--config"]).arg(&self.config);
        command.arg("--data").arg(&self.data);
        let honoured = Role::of_command(role);
        let is_honoured = |name: &str| {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            setting.zip(honoured).is_some_and(|(setting, role)| setting.is_honoured_by(role))
        };
        let passed = self.given.flags.iter();
        let passed = passed.filter(|(name, _)| !OWN.contains(name) && is_honoured(name));
        let passed = passed.map(|(name, value)| (*name, value.as_str()));
        for (name, value) in passed.chain(settings.iter().copied()) {
            command.arg(format!("--{}", name.replace('_', "-"))).arg(value);
        }
        for variable in SYSTEMD {
            command.env_remove(variable);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C is for `up`, which ends its children once nothing comes to them any more.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }

    /// The same words with the file that people edit, in place of the copy of it.
    pub(super) fn in_words_of_people(&self, words: &str) -> String {
        let copy = self.config.display().to_string();
        match &self.given.file {
            Some(file) => words.replace(&copy, &file.display().to_string()),
            None => words.to_owned(),
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.config) {
            tracing::debug!(path = %self.config.display(), %error, "could not be removed");
        }
    }
}

/// Writes `text` to a file with a name that no other launch has.
fn unused(directory: &Path, text: &[u8]) -> io::Result<PathBuf> {
    for number in 1..=u32::MAX {
        let path = directory.join(format!("inlet.{number}.toml"));
        let created = File::options().write(true).create_new(true).mode(0o600).open(&path);
        match created {
            Ok(mut file) => {
                file.write_all(text)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
