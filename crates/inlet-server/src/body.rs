//! The body of a request, as a service reads it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use crate::deadline::{Deadlines, Pace, PaceTimer};
use crate::pipe::Pipe;

/// The most frames without a byte in a body. HTTP/2 lets a client send them for ever.
const EMPTY_FRAMES_MAX: u32 = 100;

/// Why a body breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It came too slowly: see [`Deadlines::body_grace`].
    #[error("the body came too slowly")]
    Late,
    /// Its framing is wrong, for this reason.
    #[error("the body is not well-formed: {0}")]
    Malformed(&'static str),
    /// The client went away, or ended it early.
    #[error("the body broke off")]
    Incomplete,
}

/// The body of a request: data alone, without trailers, whatever the protocol.
///
/// It is read at the pace of its reader, and breaks off once the client is late with it. Dropped
/// before its end, the rest is read and dropped by the server where that is little; where it is
/// much, the connection is closed after the answer, or the stream is reset.
#[derive(Debug)]
pub struct Body(Source);

#[derive(Debug)]
enum Source {
    Whole(Bytes),
    Http1(Arc<Pipe>),
    Http2(Box<Http2Body>),
}

#[derive(Debug)]
struct Http2Body {
    incoming: Incoming,
    timer: PaceTimer,
    empty_frames: u32,
}

impl Default for Body {
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes)
    }
}

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self(Source::Whole(bytes))
    }

    pub(crate) fn http1(pipe: Arc<Pipe>) -> Self {
        Self(Source::Http1(pipe))
    }

    pub(crate) fn http2(incoming: Incoming, deadlines: &Deadlines) -> Self {
        if incoming.is_end_stream() {
            return Self::default();
        }
        let timer = PaceTimer::new(Pace::new(deadlines));
        Self(Source::Http2(Box::new(Http2Body { incoming, timer, empty_frames: 0 })))
    }

    /// The next piece, which is never empty; `None` at the end.
    ///
    /// # Errors
    /// [`BodyError`], after which there is nothing more.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match &mut self.0 {
            Source::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Source::Whole(bytes) => Poll::Ready(Some(Ok(std::mem::take(bytes)))),
            Source::Http1(pipe) => pipe.poll_read(cx),
            Source::Http2(body) => body.poll_piece(cx),
        }
    }

    /// The same, to be awaited.
    pub async fn piece(&mut self) -> Option<Result<Bytes, BodyError>> {
        std::future::poll_fn(|cx| self.poll_piece(cx)).await
    }

    /// The number of bytes still to be read, where that is known.
    pub fn left(&self) -> Option<u64> {
        match &self.0 {
            Source::Whole(bytes) => Some(bytes.len() as u64),
            Source::Http1(pipe) => pipe.left(),
            Source::Http2(body) => body.incoming.size_hint().exact(),
        }
    }
}

impl Http2Body {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            let Poll::Ready(next) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return self.timer.poll_late(cx).map(|()| Some(Err(BodyError::Late)));
            };
            let frame = match next {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(BodyError::Incomplete))),
                Some(Ok(frame)) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            self.timer.came(data.len());
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(data)));
            }
            self.empty_frames += 1;
            if self.empty_frames > EMPTY_FRAMES_MAX {
                let reason = "the body has too many empty frames";
                return Poll::Ready(Some(Err(BodyError::Malformed(reason))));
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_piece(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes) => bytes.is_empty(),
            Source::Http1(pipe) => pipe.is_over(),
            Source::Http2(body) => body.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.left().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Source::Http1(pipe) = &self.0 {
            pipe.abandon();
        }
    }
}
