//! An object on its way out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{ByteRange, ByteStream};
use tokio::task::{self, JoinHandle};

use super::PIECE_BYTES;
use crate::files;

/// The bytes of a file from `at` to `end`. The next piece is read while the one before is sent.
#[derive(Debug)]
pub(super) struct FileBody {
    file: Arc<File>,
    path: PathBuf,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    /// The bytes of `range`, as far as they are among the file's `bytes`, or all.
    pub(super) fn new(file: File, path: PathBuf, bytes: u64, range: Option<ByteRange>) -> Self {
        let (at, end) = match range {
            None => (0, bytes),
            Some(range) => (range.first.min(bytes), range.last.saturating_add(1).min(bytes)),
        };
        let mut body = Self { file: Arc::new(file), path, at, end: end.max(at), reading: None };
        body.read_ahead();
        body
    }

    fn read_ahead(&mut self) {
        let left = self.end - self.at;
        if left == 0 {
            return;
        }
        let length = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        let (file, at) = (Arc::clone(&self.file), self.at);
        self.at += length as u64;
        self.reading = Some(task::spawn_blocking(move || {
            let mut piece = vec![0; length];
            file.read_exact_at(&mut piece, at)?;
            Ok(Bytes::from(piece))
        }));
    }
}

#[async_trait]
impl ByteStream for FileBody {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let read = self.reading.as_mut()?.await;
        self.reading = None;
        Some(match read {
            Ok(Ok(piece)) => {
                self.read_ahead();
                Ok(piece)
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(super::upload::misfit(&self.path))
            }
            Ok(Err(error)) => Err(files::failure(error, "read the object", &self.path)),
            Err(error) => {
                let path = self.path.display().to_string();
                Err(Failure::new(FailureKind::Unavailable, "read the object", path).because(error))
            }
        })
    }
}
