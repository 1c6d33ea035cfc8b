//! Bytes on their way to the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// A piece of at least so many bytes is sent from where it lies; a smaller one is copied.
const SHARED_BYTES_MIN: usize = 8 << 10;
/// Nothing more is put in while so many bytes wait.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// The bytes to be sent: first the buffer, then the piece, then what ends it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
    /// So much of the buffer is sent.
    sent: usize,
    piece: Bytes,
    tail: &'static [u8],
}

impl Outbox {
    pub(super) fn is_empty(&self) -> bool {
        self.sent == self.buffer.len() && self.piece.is_empty() && self.tail.is_empty()
    }

    /// Returns true if more may be put in before something is sent.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.tail.is_empty() && self.buffer.len() < WAITING_BYTES_MAX
    }

    /// The buffer, for what is copied; only where there is room.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.piece.is_empty() && self.tail.is_empty());
        &mut self.buffer
    }

    /// Puts in a piece and what ends it; only where there is room.
    pub(super) fn push(&mut self, piece: Bytes, tail: &'static [u8]) {
        if piece.len() < SHARED_BYTES_MIN {
            self.buffer().extend_from_slice(&piece);
            self.buffer.extend_from_slice(tail);
        } else {
            debug_assert!(self.piece.is_empty() && self.tail.is_empty());
            (self.piece, self.tail) = (piece, tail);
        }
    }

    /// Gives back what it holds.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// Sends some of what waits, and tells how many bytes that was.
    pub(super) fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let buffered = &self.buffer[self.sent..];
        let stream = Pin::new(stream);
        let sent = ready!(if self.piece.is_empty() && self.tail.is_empty() {
            stream.poll_write(cx, buffered)
        } else {
            let slices =
                [IoSlice::new(buffered), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
            stream.poll_write_vectored(cx, &slices)
        })?;
        if sent == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        let of_buffer = sent.min(buffered.len());
        let of_piece = (sent - of_buffer).min(self.piece.len());
        self.sent += of_buffer;
        self.piece.advance(of_piece);
        self.tail = &self.tail[sent - of_buffer - of_piece..];
        if self.sent == self.buffer.len() {
            self.buffer.clear();
            self.sent = 0;
        }
        Poll::Ready(Ok(sent))
    }
}
