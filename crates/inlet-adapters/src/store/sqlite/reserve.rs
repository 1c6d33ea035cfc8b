//! Disk that is held back for when there is no other.
//!
//! On a full disk the door is closed, but what waits in the queue must still reach the store:
//! only then are the queue's segments deleted, and that is what makes room. So a file of a few
//! megabytes lies beside the store and is given up for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

const FILE: &str = "reserve";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The reserve of one store.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
}

impl Reserve {
    /// Holds back `bytes` in `directory`, or as soon as there is room; nothing where 0.
    pub(super) fn take(directory: &Path, bytes: u64) -> Self {
        let path = directory.join(FILE);
        let held = fs::metadata(&path).is_ok_and(|there| there.len() == bytes);
        let mut reserve = Self { path, bytes, held };
        reserve.take_back();
        reserve
    }

    /// Gives the room free. Whether there was any to give.
    pub(super) fn give_up(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        held && fs::remove_file(&self.path).is_ok()
    }

    /// Takes the room again where it is not held and much more than that is free.
    pub(super) fn take_back(&mut self) {
        if self.held || self.bytes == 0 {
            return;
        }
        let free = statvfs(self.path.parent().unwrap_or(&self.path))
            .map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if !free.is_ok_and(|free| free >= self.bytes.saturating_mul(4)) {
            return;
        }
        match allocate(&self.path, self.bytes) {
            Ok(()) => self.held = true,
            Err(error) => {
                let path = self.path.display();
                tracing::warn!(%path, %error, "no room could be held back for a full disk");
                if let Err(error) = fs::remove_file(&self.path) {
                    tracing::warn!(%path, %error, "what was begun of it stays");
                }
            }
        }
    }
}

fn allocate(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => write_zeros(&mut file, bytes),
        Err(error) => Err(error.into()),
    }
}

fn write_zeros(file: &mut File, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        file.write_all(&ZEROS[..piece])?;
        left -= piece as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_given_up_once_and_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let mut reserve = Reserve::take(directory.path(), 100_000);
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
        assert!(reserve.give_up());
        assert!(!path.exists());
        assert!(!reserve.give_up());
        reserve.take_back();
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
        assert!(Reserve::take(directory.path(), 100_000).give_up());
    }

    #[test]
    fn where_there_is_no_room_none_is_held() {
        let directory = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::take(directory.path(), u64::MAX / 8);
        assert!(!reserve.give_up());
        assert!(!directory.path().join(FILE).exists());
    }
}
