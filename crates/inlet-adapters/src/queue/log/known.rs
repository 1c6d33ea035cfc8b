//! The logs that were ever made here, noted outside of the directory that holds them.
//!
//! A file `INSTANCE` with the log's identity for each. It is written before the log takes its
//! first document and goes before the log is removed, so a log without its directory was taken
//! away by somebody, with whatever had not been stored.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use inlet_core::failure::Failure;
use inlet_log::{Log, LogId, RealDisk};

use crate::files;

/// The notes in one directory.
#[derive(Debug, Clone)]
pub(super) struct Known(PathBuf);

/// A log that is noted and not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingLog {
    /// The instance whose log it is.
    pub instance: String,
    /// The log's identity, as noted.
    pub id: String,
    /// The directory in which it should be.
    pub dir: PathBuf,
}

impl Known {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// Notes the log of an instance, durably.
    pub(super) fn note(&self, instance: &str, id: LogId) -> Result<(), Failure> {
        let path = self.0.join(instance);
        let text = format!("{id}\n");
        if fs::read_to_string(&path).is_ok_and(|known| known == text) {
            return Ok(());
        }
        let written = fs::create_dir_all(&self.0).and_then(|()| {
            let fresh = files::random_path(&self.0)?;
            let mut file = File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            files::sync_directory(&self.0)
        });
        written.map_err(|error| files::failure(error, "note the log in", &path))
    }

    /// Forgets the log of an instance, which is to be removed or is gone for good.
    pub(super) fn forget(&self, instance: &str) -> Result<(), Failure> {
        let path = self.0.join(instance);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            removed => removed.and_then(|()| files::sync_directory(&self.0)),
        };
        removed.map_err(|error| files::failure(error, "forget the log in", &path))
    }

    /// The logs that are noted and not in `root`.
    pub(super) fn missing(&self, root: &Path) -> Result<Vec<MissingLog>, Failure> {
        let listing = |error| files::failure(error, "look at the known logs in", &self.0);
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(listing)?,
        };
        let mut missing = Vec::new();
        for entry in entries {
            let path = entry.map_err(listing)?.path();
            let Some(instance) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // A note that was cut off leaves a file with no line in it, or a name that no log has.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let Ok(id) = text.trim_end().parse::<LogId>() else { continue };
            let dir = root.join(instance);
            // One that can't be read, or is another, is told by whoever opens it.
            if let Ok(None) = Log::read_id(&RealDisk, &dir)
                && !has_segments(&dir)
            {
                missing.push(MissingLog { instance: instance.to_owned(), id: id.to_string(), dir });
            }
        }
        missing.sort_by(|one, other| one.instance.cmp(&other.instance));
        Ok(missing)
    }
}

fn has_segments(dir: &Path) -> bool {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    names.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".seg"))
}
