//! The stream of a client, in plain text or not.

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A stream, and the way to have the system drop what the client has not taken of it.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    reset: fn(&S),
}

impl<S> Client<S> {
    /// A stream that is closed like any other when its client is given up.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, reset: |_| {} }
    }

    /// Has the system drop what the client has not taken, once the stream is closed.
    pub(crate) fn reset(&self) {
        (self.reset)(&self.stream);
    }
}

impl From<TcpStream> for Client<TcpStream> {
    fn from(stream: TcpStream) -> Self {
        Self { stream, reset }
    }
}

impl From<TlsStream<TcpStream>> for Client<Box<TlsStream<TcpStream>>> {
    fn from(stream: TlsStream<TcpStream>) -> Self {
        Self { stream: Box::new(stream), reset: |stream| reset(stream.get_ref().0) }
    }
}

fn reset(stream: &TcpStream) {
    // If this fails, the system keeps what was sent a while longer, and that is all.
    stream.set_zero_linger().unwrap_or_default();
}
