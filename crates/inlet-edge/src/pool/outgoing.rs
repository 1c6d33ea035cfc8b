//! The body of a request on its way to a backend.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use inlet_server::BodyError;

use crate::body::BoxError;

/// A client's body, whatever its type.
pub(crate) type ClientBody = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// What is sent as a request's body.
pub(crate) enum Outgoing {
    /// Nothing, or what was read of the client and kept.
    Kept(Bytes),
    /// What the client sends, as it comes.
    Streamed(ClientBody, Arc<Upload>),
}

/// What went wrong with the client's side of a body that is streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UploadFault {
    /// It is larger than allowed.
    TooLarge,
    /// It broke off.
    Incomplete,
    /// It came too slowly.
    Late,
}

impl UploadFault {
    /// Why a body can't be read on.
    pub(crate) fn of(error: &BoxError) -> Self {
        match error.downcast_ref() {
            Some(BodyError::Late) => Self::Late,
            _ => Self::Incomplete,
        }
    }
}

/// How a body that is streamed comes along.
#[derive(Debug)]
pub(crate) struct Upload {
    bytes_max: u64,
    bytes: AtomicU64,
    fault: AtomicU8,
    is_over: AtomicBool,
}

impl Upload {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            bytes: AtomicU64::new(0),
            fault: AtomicU8::new(0),
            is_over: AtomicBool::new(false),
        }
    }

    /// How much of it came from the client, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether the client has sent all of it.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// What went wrong with it, if anything.
    pub(crate) fn fault(&self) -> Option<UploadFault> {
        match self.fault.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(UploadFault::TooLarge),
            2 => Some(UploadFault::Late),
            _ => Some(UploadFault::Incomplete),
        }
    }

    fn fail(&self, fault: UploadFault) {
        let code = match fault {
            UploadFault::TooLarge => 1,
            UploadFault::Late => 2,
            UploadFault::Incomplete => 3,
        };
        self.fault.store(code, Ordering::Relaxed);
    }
}

/// Breaks off a request whose body can't be sent whole, so that the backend sees no end of it.
#[derive(Debug, thiserror::Error)]
#[error("the client's body can't be sent whole")]
pub(crate) struct UploadError;

impl Body for Outgoing {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Self::Kept(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Kept(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Streamed(body, upload) => loop {
                return match body.as_mut().poll_frame(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => {
                        upload.is_over.store(true, Ordering::Relaxed);
                        Poll::Ready(None)
                    }
                    Poll::Ready(Some(Err(error))) => {
                        upload.fail(UploadFault::of(&error));
                        Poll::Ready(Some(Err(UploadError)))
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        // Trailers are not passed on: behind a proxy they are a way to smuggle
                        // headers past the checks of the head.
                        let Ok(data) = frame.into_data() else { continue };
                        let length = data.len() as u64;
                        let before = upload.bytes.fetch_add(length, Ordering::Relaxed);
                        if before + length > upload.bytes_max {
                            upload.fail(UploadFault::TooLarge);
                            return Poll::Ready(Some(Err(UploadError)));
                        }
                        upload.is_over.store(body.is_end_stream(), Ordering::Relaxed);
                        Poll::Ready(Some(Ok(Frame::data(data))))
                    }
                };
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Kept(bytes) => bytes.is_empty(),
            Self::Streamed(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Kept(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(body, _) => body.size_hint(),
        }
    }
}
