//! The socket as hyper sees it: requests that are whole and well-formed, one after another.
//!
//! For HTTP/1 a head is passed on only once it is whole and good. What is not good is replaced by
//! a request that is, so that its answer takes the usual way and comes after those of the
//! requests before it. For HTTP/2 bytes pass as they are.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::state::{ConnectionState, Refusal};
use crate::strict::{Fault, REFUSED_REQUEST, Scanner};

/// How much is read and dropped of what a refused client still sends, in bytes.
const LINGER_BYTES_MAX: usize = 16 << 20;

/// A stream of a client, in plain text or not.
pub(crate) trait ClientStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Has the system drop what the client has not taken when the socket is closed.
    fn reset_on_close(&self);
}

impl ClientStream for TcpStream {
    fn reset_on_close(&self) {
        // Where this fails, the system keeps what was sent a while longer, and that is all.
        self.set_zero_linger().unwrap_or_default();
    }
}

impl ClientStream for Box<TlsStream<TcpStream>> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

/// A client's stream, its framing checked and its stalls noted.
pub(crate) struct GuardedIo<S: ClientStream> {
    stream: S,
    connection: Arc<ConnectionState>,
    /// `None` for HTTP/2.
    scanner: Option<Scanner>,
    /// Bytes that were read and not passed on: first `good` that may be, then a part of a head.
    held: Vec<u8>,
    good: usize,
    ended: Ended,
    lingered_bytes: usize,
}

/// Whether more is read for hyper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    /// The replacement of what was refused is being passed on; so many bytes of it were.
    Refusing(usize),
    Yes,
}

impl<S: ClientStream> GuardedIo<S> {
    /// A stream of HTTP/1 of which `begun` was read already.
    pub(crate) fn http1(stream: S, connection: Arc<ConnectionState>, begun: &[u8]) -> Self {
        let mut guarded = Self::http2(stream, connection, begun);
        guarded.scanner = Some(Scanner::default());
        guarded.good = 0;
        guarded
    }

    /// A stream of HTTP/2 of which `begun` was read already.
    pub(crate) fn http2(stream: S, connection: Arc<ConnectionState>, begun: &[u8]) -> Self {
        Self {
            stream,
            connection,
            scanner: None,
            held: begun.to_vec(),
            good: begun.len(),
            ended: Ended::No,
            lingered_bytes: 0,
        }
    }

    /// Takes back what was passed on and not used.
    pub(crate) fn give_back(&mut self, unused: &[u8]) {
        if !unused.is_empty() {
            self.held.splice(..0, unused.iter().copied());
            self.good += unused.len();
        }
    }

    /// Ready once there is something to pass on: a head that is whole, what stands in for one
    /// that is refused, or the end.
    pub(crate) fn poll_awakened(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.good == 0 && self.ended == Ended::No && !self.connection.is_refused() {
            if ready!(self.poll_read_more(cx)).is_err() {
                self.ended = Ended::Yes;
            }
        }
        Poll::Ready(())
    }

    /// Looks at all that is held.
    fn scan_held(&mut self) {
        let Some(scanner) = &mut self.scanner else {
            self.good = self.held.len();
            return;
        };
        let scanned = scanner.scan(&self.held);
        self.good = scanned.good;
        self.settle(scanned.fault);
    }

    /// Draws the consequence of a scan.
    fn settle(&mut self, fault: Option<Fault>) {
        let in_head = self.scanner.as_ref().is_some_and(Scanner::in_head);
        self.connection.note_partial_head(in_head && fault.is_none());
        match fault {
            None => {}
            Some(Fault::Head(reason)) => {
                self.connection.refuse(Refusal::Malformed(reason));
                self.held.truncate(self.good);
                self.ended = Ended::Refusing(0);
            }
            Some(Fault::Body(reason)) => {
                self.connection.note_body_fault(reason);
                self.held.truncate(self.good);
                self.ended = Ended::Yes;
            }
        }
    }

    /// Passes on what is held and good.
    fn pass_held(&mut self, out: &mut ReadBuf<'_>) {
        let bytes = self.good.min(out.remaining());
        out.put_slice(&self.held[..bytes]);
        self.held.drain(..bytes);
        self.good -= bytes;
        if self.held.is_empty() {
            // A connection that is idle holds nothing.
            self.held = Vec::new();
        }
    }

    /// Reads straight into `out`, where nothing is held. Whether anything was read.
    fn poll_read_through(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, out))?;
        let Some(scanner) = &mut self.scanner else {
            if out.filled().len() > before {
                self.connection.note_begun();
            }
            return Poll::Ready(Ok(false));
        };
        let read = &out.filled()[before..];
        if read.is_empty() {
            self.ended = Ended::Yes;
            return Poll::Ready(Ok(false));
        }
        let scanned = scanner.scan(read);
        if scanned.good < read.len() && scanned.fault.is_none() {
            self.held.extend_from_slice(&read[scanned.good..]);
        }
        out.set_filled(before + scanned.good);
        self.settle(scanned.fault);
        Poll::Ready(Ok(true))
    }

    /// Reads more of a head of which a part is held.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = [0; 4096];
        let mut read = ReadBuf::new(&mut room);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            self.ended = Ended::Yes;
            self.held.clear();
        } else {
            self.held.extend_from_slice(read.filled());
            self.scan_held();
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client may still be sending what nobody will read.
    fn has_unread(&self) -> bool {
        let Some(scanner) = &self.scanner else { return false };
        scanner.in_body() || self.connection.is_refused() || self.connection.body_fault().is_some()
    }
}

impl<S: ClientStream> AsyncRead for GuardedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = out.filled().len();
        loop {
            if this.good > 0 {
                this.pass_held(out);
                return Poll::Ready(Ok(()));
            }
            match this.ended {
                Ended::Yes => return Poll::Ready(Ok(())),
                Ended::Refusing(passed) => {
                    let rest = &REFUSED_REQUEST[passed..];
                    let bytes = rest.len().min(out.remaining());
                    out.put_slice(&rest[..bytes]);
                    let passed = passed + bytes;
                    this.ended = match passed == REFUSED_REQUEST.len() {
                        true => Ended::Yes,
                        false => Ended::Refusing(passed),
                    };
                    return Poll::Ready(Ok(()));
                }
                // The sweeper found that the head takes too long.
                Ended::No if this.connection.is_refused() => {
                    this.held.clear();
                    this.connection.note_partial_head(false);
                    this.ended = Ended::Refusing(0);
                }
                Ended::No if this.held.is_empty() => {
                    let read_some = ready!(this.poll_read_through(cx, out))?;
                    if !read_some || out.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ended::No => {
                    if this.scanner.as_ref().is_some_and(|scanner| !scanner.in_head()) {
                        // What was read before the first poll was not looked at yet.
                        this.scan_held();
                        if this.good > 0 || this.ended != Ended::No {
                            continue;
                        }
                    }
                    ready!(this.poll_read_more(cx))?;
                }
            }
        }
    }
}

impl<S: ClientStream> AsyncWrite for GuardedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.connection.note_write(taken(&written));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.connection.note_write(taken(&written));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.connection.note_write(flushed.is_ready().then_some(0));
        flushed
    }

    /// Says that nothing more comes from us and, where the client may still be sending, reads on
    /// for a while: closed with bytes unread, the socket would take our last answer with it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        if !self.has_unread() {
            return Poll::Ready(Ok(()));
        }
        if self.lingered_bytes == 0 {
            self.connection.note_linger();
        }
        let mut room = [0; 4096];
        while self.lingered_bytes < LINGER_BYTES_MAX {
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                break;
            }
            self.lingered_bytes += read.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}

/// How many bytes were taken, `None` where it is to be tried again. An error is the end of it all.
fn taken(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
        Poll::Pending => None,
    }
}

impl<S: ClientStream> Drop for GuardedIo<S> {
    fn drop(&mut self) {
        if self.connection.is_reset() {
            self.stream.reset_on_close();
        }
    }
}
