//! Answers, before the headers that all of them carry are added.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use inlet_core::budget::Share;
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{ByteStream, Object};
use serde::Serialize;

/// An answer.
pub(crate) type Answer = Response<Content>;

/// The body of an answer.
pub enum Content {
    /// It is at hand, because nothing that is read whole is larger than the limits allow.
    Whole(Full<Bytes>),
    /// It is read while it is sent.
    Object(ObjectBody),
}

/// The bytes of an object from the bucket, as they are read. One that is shorter or longer than
/// it was announced breaks off.
pub struct ObjectBody {
    reading: Reading,
    left: u64,
}

type ReadPiece = (Box<dyn ByteStream>, Option<Result<Bytes, Failure>>);
type Reading = Pin<Box<dyn Future<Output = ReadPiece> + Send>>;

fn read(mut stream: Box<dyn ByteStream>) -> Reading {
    Box::pin(async move {
        let piece = stream.next().await;
        (stream, piece)
    })
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl Body for Content {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Object(body) => {
                body.poll_piece(cx).map(|piece| piece.map(|p| p.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Object(body) => body.left == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Object(body) => SizeHint::with_exact(body.left),
        }
    }
}

impl ObjectBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let (stream, piece) = ready!(self.reading.as_mut().poll(cx));
        let announced = |piece: &Bytes| piece.len() as u64 <= self.left;
        Poll::Ready(Some(match piece {
            Some(Ok(piece)) if announced(&piece) => {
                self.left -= piece.len() as u64;
                // The next piece is asked for only once this one is on its way.
                self.reading = read(stream);
                Ok(piece)
            }
            Some(Err(failure)) => {
                tracing::error!(error = failure.chain(), "an object broke off");
                Err(failure)
            }
            _ => Err(Failure::new(FailureKind::Damaged, "give", "an object")
                .because("it has not the size that it should have")),
        }))
    }
}

/// What a handler comes to: an answer, a refusal or a failure.
pub(crate) type Handled = Result<Answer, Error>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
pub(crate) const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
pub(crate) const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");

const CONTENT_SECURITY_POLICY: HeaderName = HeaderName::from_static("content-security-policy");
const X_CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const REFERRER_POLICY: HeaderName = HeaderName::from_static("referrer-policy");

/// What our own pages may load: style and script from here, nothing from elsewhere, nothing
/// inline.
const OWN_PAGES_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What a summary's page may load: it brings its style within it, and has no script.
pub(crate) const STORED_PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; sandbox",
);

/// An answer of that status, type and body.
pub(crate) fn answer(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(Content::Whole(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// The same with a body whose memory is a share of the budget, until the client has taken it.
pub(crate) fn held(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
    share: Share,
) -> Answer {
    answer(status, content_type, Bytes::from_owner(Held { bytes: body.into(), _share: share }))
}

/// Bytes with their share of the budget.
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) _share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Content::default());
    *answer.status_mut() = status;
    answer
}

/// `bytes` of an object, as they are read.
pub(crate) fn object(object: Object, bytes: u64) -> Answer {
    Response::new(Content::Object(ObjectBody { reading: read(object.body), left: bytes }))
}

/// `value` as JSON, which no cache may keep.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("what we describe has text for names");
    let mut answer = answer(status, JSON, body);
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A page of ours.
pub(crate) fn page(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = answer(status, HTML, body);
    guard_page(&mut answer, OWN_PAGES_POLICY);
    answer
}

/// Adds the headers that keep a page from loading or being loaded elsewhere.
pub(crate) fn guard_page(answer: &mut Answer, policy: HeaderValue) {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Something built in that a browser may keep for an hour.
pub(crate) fn asset(content_type: HeaderValue, body: &'static str) -> Answer {
    let mut answer = answer(StatusCode::OK, content_type, body);
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
