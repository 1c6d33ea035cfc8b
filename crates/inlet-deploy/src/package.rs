//! What is deployed: a zip for functions, an image for containers, and a list of what is in them.
//!
//! Everything is reproducible: entries in one order, owned by root, with the first moment that
//! their format knows as their time, so that the same executable gives the same digest on any
//! machine and a deployment that changes nothing uploads nothing.

mod elf;
mod function;
mod image;
mod registry;
mod sbom;

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

pub use elf::{Architecture, Executable};
pub use function::{FUNCTION_GLIBC_MAX, function_zip};
pub use image::{Blob, Image};
pub use registry::{Credentials, Registry};
pub use sbom::sbom;

/// Why something could not be packaged or pushed.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is no executable for Linux.
    #[error("{} is no 64-bit ELF executable: {why}", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A shared library that an executable needs is not on this machine.
    #[error("{} needs {library}, which is not on this machine", path.display())]
    LibraryMissing {
        /// The executable.
        path: PathBuf,
        /// The library's name.
        library: String,
    },
    /// An executable needs a newer C library than a function's machine has.
    #[error(
        "{} needs glibc {}.{}; the machine of a function has {}.{}",
        path.display(), needed.0, needed.1, FUNCTION_GLIBC_MAX.0, FUNCTION_GLIBC_MAX.1
    )]
    GlibcTooNew {
        /// The executable.
        path: PathBuf,
        /// What it needs.
        needed: (u32, u32),
    },
    /// An archive could not be written.
    #[error("could not pack {what}")]
    Pack {
        /// Which.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// The registry refused or did not answer.
    #[error("could not push to {repository}: {attempted}: {why}")]
    Push {
        /// The repository, `HOST/NAME`.
        repository: String,
        /// What was tried.
        attempted: String,
        /// What came back.
        why: String,
    },
    /// The lock file is not what Cargo wrote.
    #[error("the list of crates can't be read: {0}")]
    Lock(String),
}

impl PackageError {
    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::GlibcTooNew { .. } => Some(
                "build it statically: `scripts/function` does, where the static C library is there",
            ),
            Self::LibraryMissing { .. } => Some("package it on the machine that built it"),
            Self::Push { .. } => Some("is the registry there, and may you push to it?"),
            _ => None,
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, PackageError> {
    std::fs::read(path).map_err(|source| PackageError::Read { path: path.into(), source })
}

/// `sha256:` and the hexadecimal digits, as registries name content.
fn digest(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
