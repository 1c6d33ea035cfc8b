//! Notes of what was begun, in the user's state directory, so that a command that broke off is gone
//! on with when it is run again.
//! Source: <https://specifications.freedesktop.org/basedir-spec/latest/>.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use inlet_core::document::hex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::report;

/// A note of one undertaking.
#[derive(Debug)]
pub(crate) struct Note {
    path: PathBuf,
}

impl Note {
    /// The note of `subject` among those of a command; `None` where the user has no directory.
    pub(crate) fn of(command: &str, subject: &str) -> Option<Self> {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let state = state.filter(|path| path.is_absolute()).or_else(home)?;
        let name = format!("{}.json", &hex(&Sha256::digest(subject))[..32]);
        Some(Self { path: state.join("inlet").join(command).join(name) })
    }

    /// The noted value, if it can be read.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&fs::read(&self.path).ok()?).ok()
    }

    /// Notes it in the place of what was noted before. Where that is not possible it is said, and
    /// nothing is gone on with.
    pub(crate) fn write(&self, noted: &impl Serialize) {
        if let Err(error) = self.try_write(noted) {
            let path = self.path.display();
            report::say(format_args!("cannot be resumed after an interruption: {path}: {error}"));
        }
    }

    fn try_write(&self, noted: &impl Serialize) -> io::Result<()> {
        if let Some(directory) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let fresh = self.path.with_extension(format!("new-{}", std::process::id()));
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(noted)?)?;
        fs::rename(&fresh, &self.path)
    }

    /// Removes the note: there is nothing left to go on with.
    pub(crate) fn remove(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                report::say(format_args!("could not remove {}: {error}", self.path.display()));
            }
            _ => {}
        }
    }
}
