//! The stream of a client, in plain text or not.

use std::os::fd::AsFd;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::send_queue;

/// A stream, and the way to have the system drop what the client has not taken of it.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    reset: fn(&S),
    acknowledged: fn(&S) -> Option<u64>,
}

impl<S> Client<S> {
    /// A stream that is closed like any other when its client is given up.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, reset: |_| {}, acknowledged: |_| None }
    }

    /// Has the system drop what the client has not taken, once the stream is closed.
    pub(crate) fn reset(&self) {
        (self.reset)(&self.stream);
    }

    /// The bytes that the client has acknowledged so far; `None` if that is not known.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        (self.acknowledged)(&self.stream)
    }
}

impl From<TcpStream> for Client<TcpStream> {
    fn from(stream: TcpStream) -> Self {
        Self { stream, reset, acknowledged: |stream| send_queue::acknowledged(stream.as_fd()) }
    }
}

impl From<TlsStream<TcpStream>> for Client<Box<TlsStream<TcpStream>>> {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self {
            stream: Box::new(stream),
            reset: |stream| reset(stream.get_ref().0),
            acknowledged: |stream| send_queue::acknowledged(stream.get_ref().0.as_fd()),
        }
    }
}

fn reset(stream: &TcpStream) {
    // If this fails, the system keeps what was sent a while longer, and that is all.
    stream.set_zero_linger().unwrap_or_default();
}
