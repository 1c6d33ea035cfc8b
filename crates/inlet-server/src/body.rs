//! Bodies that come too slowly, for those who stream them.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::deadline::Deadlines;

/// How many frames without a byte a body may have. HTTP/2 lets a client send them for ever.
const EMPTY_FRAMES_MAX: u32 = 100;

/// Why a body breaks off.
#[derive(Debug, thiserror::Error)]
pub enum PacedBodyError {
    /// It came too slowly.
    #[error("the body came too slowly")]
    Late,
    /// It had too many frames without a byte.
    #[error("the body has too many empty frames")]
    EmptyFrames,
    /// The client broke off, or its framing was wrong.
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
}

/// A client's body that breaks off once the client is late with it.
///
/// A client may be waited for so long in all: [`Deadlines::body_grace`], and a second more for
/// each [`Deadlines::body_bytes_per_s_min`] that have come; at a stretch never longer than
/// [`Deadlines::body_grace`], however much has come. Only the time counts in which more was asked
/// for and not there, so that one is not late whose body is taken slowly.
#[derive(Debug)]
pub struct PacedBody<B> {
    body: B,
    grace: Duration,
    bytes_per_s_min: u64,
    bytes: u64,
    empty_frames: u32,
    /// How long it was waited for, up to the wait that is under way.
    waited: Duration,
    waiting_since: Option<Instant>,
    /// Made when the body is first waited for: nearly always it is there with its head. It goes
    /// off at the deadline, or before it, and is then set anew.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<B> PacedBody<B> {
    /// `body`, with these deadlines.
    pub fn new(body: B, deadlines: &Deadlines) -> Self {
        Self {
            body,
            grace: deadlines.body_grace,
            bytes_per_s_min: u64::from(deadlines.body_bytes_per_s_min.max(1)),
            bytes: 0,
            empty_frames: 0,
            waited: Duration::ZERO,
            waiting_since: None,
            sleep: None,
        }
    }

    /// Ready once it was waited for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let earned = Duration::from_secs(self.bytes / self.bytes_per_s_min);
        let left = (self.grace + earned).saturating_sub(self.waited);
        let deadline = since + left.min(self.grace);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

impl<B: Body<Data = Bytes, Error = hyper::Error> + Unpin> Body for PacedBody<B> {
    type Data = Bytes;
    type Error = PacedBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, PacedBodyError>>> {
        let this = &mut *self;
        let Poll::Ready(next) = Pin::new(&mut this.body).poll_frame(cx) else {
            ready!(this.poll_late(cx));
            return Poll::Ready(Some(Err(PacedBodyError::Late)));
        };
        if let Some(since) = this.waiting_since.take() {
            this.waited += since.elapsed();
        }
        Poll::Ready(match next {
            None => None,
            Some(Err(error)) => Some(Err(PacedBodyError::Broken(error))),
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                this.bytes += bytes as u64;
                this.empty_frames += u32::from(frame.is_data() && bytes == 0);
                match this.empty_frames > EMPTY_FRAMES_MAX {
                    true => Some(Err(PacedBodyError::EmptyFrames)),
                    false => Some(Ok(frame)),
                }
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
