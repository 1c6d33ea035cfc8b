//! Reading a request's body: to a limit in bytes, within the memory that all bodies share, and at
//! no less than a least rate.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use inlet_core::budget::Share;
use inlet_core::error::Error;
use inlet_core::failure::Failure;
use inlet_core::rejection::Rejection;
use inlet_server::ConnectionState;
use tokio::time::{Instant, Sleep};

use crate::call::content_length;

/// How many frames without a byte a body may have. HTTP/2 lets a client send them for ever.
const EMPTY_FRAMES_MAX: u32 = 100;

/// How much may be set aside at once on the word of a `Content-Length`, in bytes.
const TRUSTED_BYTES_MAX: usize = 64 << 10;

/// How much of a body that nobody reads is read and let go, in bytes.
const DISCARDED_BYTES_MAX: usize = 64 << 10;
/// How long such a body is waited for.
const DISCARD_WAIT: Duration = Duration::from_secs(1);

/// The body of a request.
pub(crate) enum RequestBody<'a> {
    /// It comes over a connection; whoever reads it takes it.
    Coming(&'a mut Option<Incoming>, &'a ConnectionState),
    /// It came whole, with the request.
    Whole(Bytes),
}

impl RequestBody<'_> {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Coming(body, _) => body.as_ref().is_none_or(Incoming::is_end_stream),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }
}

/// Reads the whole body, whose memory is taken from the budget of `share` as it comes.
///
/// A body that comes in one piece is not copied, and one that is there already needs no timer.
///
/// # Errors
/// [`Rejection::BodyTooLarge`] as soon as more than `bytes_max` have come,
/// [`Rejection::BodyTimeout`] where it comes too slowly, [`Rejection::BodyIncomplete`] where the
/// client goes away, [`Rejection::RequestMalformed`] where its framing is wrong, and a failure
/// where the budget has no more.
pub(crate) async fn read(
    body: RequestBody<'_>,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Error> {
    match body {
        RequestBody::Coming(body, connection) => match body.take() {
            Some(body) => coming(body, bytes_max, connection, share).await,
            None => Ok(Bytes::new()),
        },
        RequestBody::Whole(bytes) if bytes.len() > bytes_max => {
            Err(Rejection::BodyTooLarge { limit_bytes: bytes_max }.into())
        }
        RequestBody::Whole(bytes) => {
            share.grow(bytes.len())?;
            Ok(bytes)
        }
    }
}

/// Reads what nobody read of a request that is refused, and lets go of it: else the connection
/// could not be used again, and the client, who does not know that, might send its next request
/// into it. Tells whether all has come: it is not waited for long, nor where it is large.
pub(crate) async fn discarded(
    body: Incoming,
    head: &Parts,
    connection: &ConnectionState,
    mut share: Share,
) -> bool {
    let is_small =
        content_length(&head.headers).is_some_and(|length| length <= DISCARDED_BYTES_MAX as u64);
    // Who asks whether to send it is told by the answer not to.
    if !is_small || head.headers.contains_key(EXPECT) {
        return false;
    }
    let reading = coming(body, DISCARDED_BYTES_MAX, connection, &mut share);
    tokio::time::timeout(DISCARD_WAIT, reading).await.is_ok_and(|read| read.is_ok())
}

async fn coming(
    mut body: Incoming,
    bytes_max: usize,
    connection: &ConnectionState,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let announced = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
    let announced = announced.unwrap_or(bytes_max).min(bytes_max);
    let mut gathered = Gathered::default();
    let mut timer = None;
    let mut empty_frames = 0;
    while !body.is_end_stream() {
        let frame = match next_frame(&mut body, &mut timer, gathered.len(), connection).await? {
            None => break,
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                let fault = connection.body_fault();
                let fault = fault.map_or(Rejection::BodyIncomplete, Rejection::RequestMalformed);
                return Err(fault.into());
            }
        };
        // What is no data is trailers, which say nothing to us.
        let Ok(data) = frame.into_data() else { continue };
        if data.is_empty() {
            empty_frames += 1;
            if empty_frames > EMPTY_FRAMES_MAX {
                let fault = "the body has too many empty frames";
                return Err(Rejection::RequestMalformed(fault).into());
            }
        }
        if data.len() > bytes_max - gathered.len() {
            return Err(Rejection::BodyTooLarge { limit_bytes: bytes_max }.into());
        }
        gathered.push(data, announced, share)?;
    }
    Ok(gathered.into_bytes())
}

/// The next frame, or an error once the body is late.
async fn next_frame(
    body: &mut Incoming,
    timer: &mut Option<BodyTimer>,
    bytes_so_far: usize,
    connection: &ConnectionState,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Rejection> {
    let mut frame = body.frame();
    // Nearly always the body is there with the head: then no timer is made.
    let ready = std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match Pin::new(&mut frame).poll(cx) {
            std::task::Poll::Ready(frame) => Some(frame),
            std::task::Poll::Pending => None,
        })
    });
    if let Some(frame) = ready.await {
        return Ok(frame);
    }
    let timer = timer.get_or_insert_with(|| BodyTimer::new(connection));
    timer.allow(bytes_so_far);
    tokio::select! {
        biased;
        frame = frame => Ok(frame),
        () = timer.sleep.as_mut() => Err(Rejection::BodyTimeout),
    }
}

/// When a body is late: a time of grace, and a second more for so many bytes that have come.
struct BodyTimer {
    begun: Instant,
    grace: Duration,
    bytes_per_s_min: u32,
    sleep: Pin<Box<Sleep>>,
}

impl BodyTimer {
    fn new(connection: &ConnectionState) -> Self {
        let deadlines = connection.deadlines();
        let begun = Instant::now();
        Self {
            begun,
            grace: deadlines.body_grace,
            bytes_per_s_min: deadlines.body_bytes_per_s_min.max(1),
            sleep: Box::pin(tokio::time::sleep_until(begun + deadlines.body_grace)),
        }
    }

    fn allow(&mut self, bytes: usize) {
        let earned_s = bytes as u64 / u64::from(self.bytes_per_s_min);
        let deadline = self.begun + self.grace + Duration::from_secs(earned_s);
        if deadline != self.sleep.deadline() {
            self.sleep.as_mut().reset(deadline);
        }
    }
}

/// The pieces of a body that have come.
#[derive(Default)]
enum Gathered {
    #[default]
    Nothing,
    One(Bytes),
    Many(Vec<u8>),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    /// Adds a piece of a body of at most `announced` bytes. What is allocated for it is taken from
    /// the share first.
    fn push(&mut self, data: Bytes, announced: usize, share: &mut Share) -> Result<(), Failure> {
        *self = match std::mem::take(self) {
            Self::Nothing => {
                share.grow(data.len())?;
                Self::One(data)
            }
            Self::One(first) => {
                let needed = first.len() + data.len();
                let room = needed.max(announced.min(TRUSTED_BYTES_MAX));
                share.grow(room)?;
                let mut all = Vec::with_capacity(room);
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                share.shrink_to(share.bytes() - first.len());
                Self::Many(all)
            }
            Self::Many(mut all) => {
                let needed = all.len() + data.len();
                if needed > all.capacity() {
                    let room = needed.max((all.capacity() * 2).min(announced));
                    share.grow(room - all.capacity())?;
                    all.reserve_exact(room - all.len());
                }
                all.extend_from_slice(&data);
                Self::Many(all)
            }
        };
        Ok(())
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.into(),
        }
    }
}
