//! The bodies of answers.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::access::Record;
use crate::backend::Lease;
use crate::clock::now;
use crate::files::FileBody;
use crate::pool::Connection;

/// Any error of a body that comes from elsewhere.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an answer breaks off: the client sees its connection closed before the end.
#[derive(Debug, thiserror::Error)]
pub enum EdgeBodyError {
    /// The backend broke off.
    #[error("the backend broke off its answer")]
    Backend(#[source] hyper::Error),
    /// The backend went silent.
    #[error("the backend was silent for {0:?} in its answer")]
    Silent(Duration),
    /// A file could not be read on.
    #[error("a file could not be read on")]
    File(#[source] std::io::Error),
}

/// The body of an answer of the edge.
pub struct EdgeBody {
    source: Source,
    record: Option<Box<Record>>,
}

enum Source {
    Kept(Bytes),
    Backend(Box<BackendBody>),
    File(Box<FileBody>),
}

/// An answer's body as the backend sends it. When it is read whole the connection is kept for the
/// next request; when it is dropped before, the connection is closed with it.
pub(crate) struct BackendBody {
    incoming: Incoming,
    lease: Option<(Connection, Lease)>,
    silence: Duration,
    /// Whether something came since the deadline was set.
    is_moving: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl From<Bytes> for EdgeBody {
    fn from(bytes: Bytes) -> Self {
        Self { source: Source::Kept(bytes), record: None }
    }
}

impl EdgeBody {
    pub(crate) fn backend(body: BackendBody) -> Self {
        Self { source: Source::Backend(Box::new(body)), record: None }
    }

    pub(crate) fn file(body: FileBody) -> Self {
        Self { source: Source::File(Box::new(body)), record: None }
    }

    /// Has `record` written when the body is over, or dropped.
    pub(crate) fn recorded(self, record: Box<Record>) -> Self {
        Self { record: Some(record), ..self }
    }
}

impl BackendBody {
    /// `silence` is how long the backend may be silent while it owes more; at most twice as long
    /// passes before that is noticed.
    pub(crate) fn new(
        incoming: Incoming,
        connection: Connection,
        lease: Lease,
        silence: Duration,
    ) -> Self {
        let mut body = Self {
            incoming,
            lease: Some((connection, lease)),
            silence,
            is_moving: false,
            deadline: None,
        };
        if body.incoming.is_end_stream() {
            body.keep_connection();
        }
        body
    }

    fn keep_connection(&mut self) {
        if let Some((connection, lease)) = self.lease.take() {
            lease.backend().pool.put(connection, now());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, EdgeBodyError>>> {
        loop {
            match Pin::new(&mut self.incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.is_moving = true;
                    if self.incoming.is_end_stream() {
                        self.keep_connection();
                    }
                    // Trailers are not passed on, as in the other direction.
                    if frame.is_data() {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.lease = None;
                    return Poll::Ready(Some(Err(EdgeBodyError::Backend(error))));
                }
                Poll::Ready(None) => {
                    self.keep_connection();
                    return Poll::Ready(None);
                }
                Poll::Pending => break,
            }
        }
        let silence = self.silence;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(silence)));
        // The timer is not set anew for each frame, but when it goes off although there were some.
        while deadline.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.is_moving) {
                self.lease = None;
                return Poll::Ready(Some(Err(EdgeBodyError::Silent(silence))));
            }
            deadline.as_mut().reset(tokio::time::Instant::now() + silence);
        }
        Poll::Pending
    }
}

impl Body for EdgeBody {
    type Data = Bytes;
    type Error = EdgeBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EdgeBodyError>>> {
        let body = self.get_mut();
        let polled = match &mut body.source {
            Source::Kept(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Kept(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Source::Backend(backend) => backend.poll(cx),
            Source::File(file) => file.poll(cx).map(|next| next.map(|data| data.map(Frame::data))),
        };
        if let Some(record) = &mut body.record {
            match &polled {
                Poll::Ready(Some(Ok(frame))) => {
                    record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                Poll::Ready(Some(Err(_))) => record.is_broken = true,
                _ => {}
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Kept(bytes) => bytes.is_empty(),
            Source::Backend(backend) => backend.incoming.is_end_stream(),
            Source::File(file) => file.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Kept(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Backend(backend) => backend.incoming.size_hint(),
            Source::File(file) => SizeHint::with_exact(file.left()),
        }
    }
}
