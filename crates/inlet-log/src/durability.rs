//! The method that groups are made durable by, and what is known of the file system under it.
//!
//! A direct write with `RWF_DSYNC` over `io_uring` is durable when it completes only on file
//! systems that see to it: on FUSE the kernel sends no FSYNC for an asynchronous one, and nothing
//! says so. A probe can't tell either, since what is lost is lost only with the power. So that
//! method is for file systems in a table (`disk/file_system.rs`), and `fdatasync` on a thread is
//! for all others. Where not even that is known to keep anything, there is a warning to give.

use std::fmt;
use std::io;
use std::path::Path;

use crate::disk::{Disk, FileSystem, Keeps};
use crate::driver;
use crate::log::Sync;

/// The method that groups are made durable by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `io_uring` with direct writes that are synced each (`RWF_DSYNC`).
    IoUring,
    /// A thread that writes through the page cache and calls `fdatasync`.
    Thread,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IoUring => "io_uring",
            Self::Thread => "thread",
        })
    }
}

/// The method in force and the file system it writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durability {
    /// The method.
    pub method: Method,
    /// The file system of the log's directory.
    pub file_system: FileSystem,
}

impl Durability {
    /// Finds the method for a log in `dir`, which must exist. Tries `io_uring` with a file that is
    /// removed again. Blocks.
    ///
    /// # Errors
    ///
    /// The file system can't be asked.
    pub fn probe(disk: &dyn Disk, dir: &Path, sync: Sync) -> io::Result<Self> {
        let file_system = disk.file_system(dir)?;
        let may = sync == Sync::Auto && file_system.keeps == Keeps::DirectWrites;
        let method = match may && driver::can_uring(disk, dir) {
            true => Method::IoUring,
            false => Method::Thread,
        };
        Ok(Self { method, file_system })
    }

    /// The reason why an acknowledged record may not survive a loss of power, where there is one.
    pub fn warning(&self) -> Option<String> {
        match self.file_system.keeps {
            Keeps::DirectWrites | Keeps::Syncs => None,
            Keeps::Nothing(why) => {
                Some(format!("its file system, {}, {why}", self.file_system.name))
            }
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.method, self.file_system.name)
    }
}
