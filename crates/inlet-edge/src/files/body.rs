//! A file as a body, read piece by piece off the runtime.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::body::EdgeBodyError;

/// How much is read at a time, in bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// What is left of a file.
pub(crate) struct FileBody {
    state: State,
    left: u64,
}

enum State {
    Waiting(File),
    Reading(JoinHandle<io::Result<(File, Bytes)>>),
    Over,
}

impl FileBody {
    /// The first `length` bytes of `file`.
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { state: State::Waiting(file), left: length }
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn is_over(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, EdgeBodyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        loop {
            match std::mem::replace(&mut self.state, State::Over) {
                State::Waiting(file) => {
                    let length = self.left.min(PIECE_BYTES);
                    self.state = State::Reading(spawn_blocking(move || read_piece(file, length)));
                }
                State::Reading(mut reading) => {
                    let polled = Pin::new(&mut reading).poll(cx);
                    if polled.is_pending() {
                        self.state = State::Reading(reading);
                    }
                    let read = ready!(polled).map_err(io::Error::other).and_then(|read| read);
                    return Poll::Ready(Some(match read {
                        Ok((file, bytes)) => {
                            self.left -= bytes.len() as u64;
                            self.state = State::Waiting(file);
                            Ok(bytes)
                        }
                        Err(error) => Err(EdgeBodyError::File(error)),
                    }));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

fn read_piece(mut file: File, length: u64) -> io::Result<(File, Bytes)> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    (&mut file).take(length).read_to_end(&mut bytes)?;
    // A file that was cut off must not look like one that ends here.
    if bytes.is_empty() {
        Err(io::ErrorKind::UnexpectedEof.into())
    } else {
        Ok((file, bytes.into()))
    }
}
