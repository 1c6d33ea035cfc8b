//! Writing past the page cache (`O_DIRECT`). A large file is seldom read as soon as it is there,
//! and in the cache it would drive out what is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// What memory, offset and length of a direct write are multiples of, in bytes: the block of most
/// disks. Where one wants more it refuses, and the file is written as any other.
const BLOCK_BYTES: usize = 4 << 10;
/// How much is written at a time, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// A file that is written from its beginning, a full buffer at a time.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
    memory: Vec<u8>,
    /// Where in `memory` the buffer begins.
    begin: usize,
    filled: usize,
    /// Where in the file the buffer belongs.
    at: u64,
}

impl Direct {
    /// For the file at `path`, which is empty. `None` where its file system has no such writes.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let flags = i32::try_from(OFlags::DIRECT.bits()).ok()?;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path).ok()?;
        let memory = vec![0; BUFFER_BYTES + BLOCK_BYTES];
        let begin = memory.as_ptr().align_offset(BLOCK_BYTES);
        (begin <= BLOCK_BYTES).then_some(Self { file, memory, begin, filled: 0, at: 0 })
    }

    /// Writes as much of `bytes` as makes full buffers, and keeps the rest. Gives what it could
    /// not take where the disk refuses direct writes: nothing is written then, and what was taken
    /// is in [`Direct::rest`].
    pub(super) fn write<'a>(&mut self, mut bytes: &'a [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            let room = &mut self.memory[self.begin..][..BUFFER_BYTES][self.filled..];
            let (some, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..some.len()].copy_from_slice(some);
            self.filled += some.len();
            if self.filled < BUFFER_BYTES {
                return Ok(None);
            }
            match self.file.write_all_at(self.rest(), self.at) {
                Err(error) if self.at == 0 && error.kind() == io::ErrorKind::InvalidInput => {
                    return Ok(Some(rest));
                }
                written => written?,
            }
            self.at += BUFFER_BYTES as u64;
            self.filled = 0;
            bytes = rest;
        }
    }

    /// What is not written yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.memory[self.begin..][..self.filled]
    }

    /// Where in the file that belongs.
    pub(super) fn at(&self) -> u64 {
        self.at
    }
}
