//! The documents that the logs here can no longer deliver.
//!
//! A line of JSON for each loss, in one file that is only ever appended to: the ids that were read
//! from the bytes that were set aside, and between which documents the loss lies. A repair writes
//! it, and an open that sets aside what may have been acknowledged.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use inlet_core::document::Timestamp;
use inlet_core::envelope;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;
use inlet_core::ports::{Clock, Damaged, SystemClock};
use inlet_log::Torn;
use serde::{Deserialize, Serialize};

use crate::files;

/// The most bytes of the file that are looked at: the newest.
const BYTES_MAX: u64 = 64 << 20;
/// The longest time beyond its neighbours in the log at which a document that lay between them may
/// have been accepted, in microseconds: several are accepted at once.
const AROUND_US: i64 = 1_000_000;
/// The reach of a loss on a side where it has no neighbour, in microseconds.
const OPEN_US: i64 = 86_400_000_000;

/// One loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossNote {
    /// The instance whose log it was in.
    pub instance: String,
    /// The time at which it was found, in microseconds since the epoch.
    pub found_us: i64,
    /// A description of the event, for people.
    pub what: String,
    /// The number of documents that are gone, where that is known.
    pub documents: Option<u64>,
    /// The ids that were read from what was set aside.
    pub ids: Vec<String>,
    /// The last document before the loss: its id, and when it was accepted, in microseconds.
    pub after: Option<(String, i64)>,
    /// The first document after it.
    pub before: Option<(String, i64)>,
    /// True if documents are known to be gone, rather than possibly.
    pub certain: bool,
}

/// Notes what an open set aside at the end of a log that was not closed: documents may have been
/// acknowledged in it. Blocks.
pub(super) fn note_torn(losses: &Path, instance: &str, torn: &Torn) -> Result<(), Failure> {
    let bytes = fs::read(&torn.kept)
        .map_err(|error| files::failure(error, "read what was set aside in", &torn.kept))?;
    let ids = envelope::find_ids(&bytes);
    // Certainly never acknowledged, or nothing that anybody could ask for.
    if torn.hole || ids.is_empty() {
        return Ok(());
    }
    let note = LossNote {
        instance: instance.to_owned(),
        found_us: SystemClock.now().as_micros(),
        what: format!("the end of the log was set aside in {}", torn.kept.display()),
        documents: Some(ids.len() as u64),
        ids: ids.iter().map(ToString::to_string).collect(),
        after: None,
        before: None,
        certain: false,
    };
    LossFile::new(losses).add(&[note])
}

/// The file with the losses, and what of it was read.
#[derive(Debug)]
pub(super) struct LossFile {
    path: PathBuf,
    read: Mutex<Option<(SystemTime, u64, Vec<LossNote>)>>,
}

impl LossFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Mutex::new(None) }
    }

    /// Adds losses, durably. Blocks.
    pub(super) fn add(&self, losses: &[LossNote]) -> Result<(), Failure> {
        if losses.is_empty() {
            return Ok(());
        }
        let mut lines = Vec::new();
        for loss in losses {
            let encoded = serde_json::to_writer(&mut lines, loss);
            encoded.map_err(|error| self.failure(error.into(), "write to"))?;
            lines.push(b'\n');
        }
        let is_new = !self.path.exists();
        let added =
            OpenOptions::new().create(true).append(true).open(&self.path).and_then(|mut file| {
                // One write: another process may add to it.
                file.write_all(&lines)?;
                file.sync_all()
            });
        let synced = added.and_then(|()| match self.path.parent() {
            Some(directory) if is_new => files::sync_directory(directory),
            _ => Ok(()),
        });
        synced.map_err(|error| self.failure(error, "write to"))
    }

    /// The known damage to a document. Blocks.
    pub(super) fn find(&self, id: DocumentId) -> Result<Option<Damaged>, Failure> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(|error| self.failure(error, "look at"))?,
        };
        let state = metadata.modified().map(|modified| (modified, metadata.len()));
        let state = state.map_err(|error| self.failure(error, "look at"))?;
        if read.as_ref().is_none_or(|(modified, bytes, _)| (*modified, *bytes) != state) {
            *read = Some((state.0, state.1, self.load(state.1)?));
        }
        let losses = read.as_ref().map_or(&[][..], |(.., losses)| losses);
        let found = |loss: &LossNote, certain| Damaged {
            found: Timestamp::from_micros(loss.found_us),
            certain,
        };
        let text = id.to_string();
        let named = losses.iter().find(|loss| loss.ids.contains(&text));
        if let Some(loss) = named {
            return Ok(Some(found(loss, loss.certain)));
        }
        let near = losses.iter().find(|loss| loss.may_hold(id));
        Ok(near.map(|loss| found(loss, false)))
    }

    fn load(&self, bytes: u64) -> Result<Vec<LossNote>, Failure> {
        use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
        let reading = |error| self.failure(error, "read");
        let mut file = fs::File::open(&self.path).map_err(reading)?;
        file.seek(SeekFrom::Start(bytes.saturating_sub(BYTES_MAX))).map_err(reading)?;
        let mut losses = Vec::new();
        for line in BufReader::new(file.take(BYTES_MAX)).lines() {
            // A line that was cut off, in front or by a crash, tells nothing.
            losses.extend(serde_json::from_str::<LossNote>(&line.map_err(reading)?).ok());
        }
        Ok(losses)
    }

    fn failure(&self, error: io::Error, attempted: &'static str) -> Failure {
        match error.kind() {
            io::ErrorKind::InvalidData => {
                let path = self.path.display().to_string();
                Failure::new(FailureKind::Damaged, attempted, path).because(error)
            }
            _ => files::failure(error, attempted, &self.path),
        }
    }
}

impl LossNote {
    /// Returns true if a document with that id, which says when it was accepted, may be one of
    /// these.
    fn may_hold(&self, id: DocumentId) -> bool {
        if self.documents == Some(self.ids.len() as u64) {
            return false;
        }
        let Some(accepted) = id.accepted() else { return false };
        let accepted = accepted.as_micros();
        let after = self.after.as_ref().map(|(_, at)| at.saturating_sub(AROUND_US));
        let before = self.before.as_ref().map(|(_, at)| at.saturating_add(AROUND_US));
        let (from, to) = match (after, before) {
            (Some(from), Some(to)) => (from, to),
            (Some(from), None) => (from, self.found_us),
            (None, Some(to)) => (to.saturating_sub(OPEN_US), to),
            (None, None) => (self.found_us.saturating_sub(OPEN_US), self.found_us),
        };
        (from..=to).contains(&accepted)
    }
}
