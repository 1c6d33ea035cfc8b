//! Where the lines of the access log go.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use inlet_edge::AccessLog;

use crate::report::Hinted;
use crate::roles::watched::Watched;

/// The name of its thread.
const THREAD: &str = "access-log";
/// The time between two looks for a file that was moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The log at `path`, with the thread that writes it; none without a path. `-` is stdout.
pub(super) fn open(path: Option<&Path>, watched: &Watched) -> anyhow::Result<Option<AccessLog>> {
    let Some(path) = path else { return Ok(None) };
    let (log, writer) = AccessLog::new();
    if path == Path::new("-") {
        // A descriptor of its own: the lock of the standard one would be held by a write that
        // hangs.
        let stdout = io::stdout().as_fd().try_clone_to_owned().context("could not open stdout")?;
        watched.blocking_thread(THREAD, move || writer.run(File::from(stdout)))?;
    } else {
        let file = RotatedFile::open(path.to_owned()).with_context(|| {
            Hinted::new(
                format!("could not write the access log {}", path.display()),
                "name a file with --access-log that this user may write, or -",
            )
        })?;
        watched.blocking_thread(THREAD, move || writer.run(file))?;
    }
    Ok(Some(log))
}

/// A file that lines are put at the end of, opened anew when another one lies at its path, or
/// none: whoever rotates logs need only move it away.
struct RotatedFile {
    path: PathBuf,
    file: File,
    looked: Instant,
}

impl RotatedFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = append(&path)?;
        Ok(Self { path, file, looked: Instant::now() })
    }

    /// Returns true if the open file still lies at the path.
    fn is_in_place(&self) -> io::Result<bool> {
        let open = self.file.metadata()?;
        Ok(std::fs::metadata(&self.path)
            .is_ok_and(|there| (there.dev(), there.ino()) == (open.dev(), open.ino())))
    }
}

impl Write for RotatedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    /// Called between whole lines.
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()?;
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            if !self.is_in_place()? {
                self.file = append(&self.path)?;
            }
        }
        Ok(())
    }
}

/// Only its owner and group may read it: it says who asked for what.
fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
