//! Connections by HTTP/2: hyper's, within our deadlines.
//!
//! A client of HTTP/2 can shut the windows of its streams and leave the socket open. So it is
//! noted of each answer whether a piece of it waits to be asked for, and for how long.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::body::Body;
use crate::client::Client;
use crate::clock;
use crate::connection::Opened;
use crate::deadline::{Deadlines, Stall};
use crate::peer::Refusal;
use crate::service::Service;

const STREAMS_MAX: u32 = 128;
/// Streams that a client opened and reset before we took them (CVE-2023-44487).
const PENDING_RESETS_MAX: usize = 20;
const LOCAL_RESETS_MAX: usize = 256;
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const SEND_BYTES_MAX: usize = 256 << 10;
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval at which the notes of streams are looked at while requests are under way.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves a connection, of which `begun` was read already.
pub(crate) async fn serve<S, A>(opened: Opened<Client<S>>, begun: BytesMut, service: Arc<A>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Service,
{
    let Opened { stream: client, peer, mut member } = opened;
    let deadlines = Arc::new(member.deadlines().clone());
    let activity = Activity::new(Arc::clone(&deadlines));
    let options = member.lane().options();
    let head_bytes_max = u32::try_from(options.head_bytes_max).unwrap_or(u32::MAX);
    let head_lines_max = options.head_lines_max;
    let answering = Arc::clone(&service);
    let noted = Arc::clone(&activity);
    let answer = service_fn(move |request: Request<Incoming>| {
        let busy = Busy::begin(&noted);
        let service = Arc::clone(&answering);
        let request = request.map(|body| Body::http2(body, &noted.deadlines));
        async move {
            let answer = match request.headers().len() > head_lines_max {
                true => service.refuse(Refusal::HeadTooLarge, peer),
                false => service.answer(request, peer).await,
            };
            Ok::<_, Infallible>(busy.answer(answer))
        }
    });
    let io = TokioIo::new(Watched { client, begun, activity: Arc::clone(&activity) });
    let serving = http2::Builder::new(TokioExecutor::new())
        .auto_date_header(clock::has_a_date())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_RESETS_MAX)
        .max_header_list_size(head_bytes_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, answer);
    let mut serving = pin!(serving);
    let mut timer = pin!(tokio::time::sleep_until(activity.state().quiet_since));
    let mut is_draining = false;
    let is_timed_out = poll_fn(|cx| {
        member.watch(cx);
        loop {
            if member.is_closed() {
                return Poll::Ready(true);
            }
            let drains = member.draining_since().is_some_and(|since| {
                activity.has_begun() || since + deadlines.first_request <= Instant::now()
            });
            if drains && !std::mem::replace(&mut is_draining, true) {
                serving.as_mut().graceful_shutdown();
            }
            if serving.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            let first_request =
                member.draining_since().map(|since| since + deadlines.first_request);
            let told = if is_draining { Told::Yes } else { Told::No { first_request } };
            match activity.poll_late(timer.as_mut(), told, cx) {
                Poll::Pending => return Poll::Pending,
                // It is told first, so that it sends nothing that would be lost.
                Poll::Ready(Late::Idle) => {
                    is_draining = true;
                    serving.as_mut().graceful_shutdown();
                }
                Poll::Ready(Late::FirstRequest) => {}
                Poll::Ready(late) => {
                    activity.state().is_reset = late == Late::Write;
                    return Poll::Ready(true);
                }
            }
        }
    })
    .await;
    if is_timed_out {
        service.counters().timed_out();
    }
}

/// A deadline that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// Nothing came after the handshake.
    Silence,
    /// No request is under way, and none was for long.
    Idle,
    /// It was told that it is idle, and did not end.
    IdleStill,
    /// The client does not take the bytes that are sent.
    Write,
    /// A first request was waited for long enough.
    FirstRequest,
}

/// The state of the notice to the client to begin no more requests.
#[derive(Debug, Clone, Copy)]
enum Told {
    Yes,
    /// It is to be told then at the latest, where the lane is to finish.
    No {
        first_request: Option<Instant>,
    },
}

/// The activity of a connection.
#[derive(Debug)]
struct Activity {
    deadlines: Arc<Deadlines>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests that are being answered, until the last of their answers is sent.
    busy: u32,
    has_begun: bool,
    quiet_since: Instant,
    stall: Stall,
    /// Answers with a piece that waits to be asked for.
    owed: u32,
    /// The time at which the last of them made progress.
    owed_since: Instant,
    is_reset: bool,
}

impl Activity {
    fn new(deadlines: Arc<Deadlines>) -> Arc<Self> {
        let now = Instant::now();
        let state = State {
            busy: 0,
            has_begun: false,
            quiet_since: now,
            stall: Stall::default(),
            owed: 0,
            owed_since: now,
            is_reset: false,
        };
        Arc::new(Self { deadlines, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_begun(&self) -> bool {
        self.state().has_begun
    }

    fn deadline(&self, told: Told) -> Option<(Instant, Late)> {
        let state = self.state();
        let deadlines = &self.deadlines;
        let stalled = state.stall.deadline(deadlines).map(|at| (at, Late::Write));
        let owed = (state.owed > 0).then(|| (state.owed_since + deadlines.write, Late::Write));
        let is_quiet = state.busy == 0 && stalled.is_none();
        let quiet = is_quiet.then(|| match (state.has_begun, told) {
            (false, _) => (state.quiet_since + deadlines.first_byte, Late::Silence),
            (true, Told::No { .. }) => (state.quiet_since + deadlines.idle, Late::Idle),
            (true, Told::Yes) => {
                (state.quiet_since + deadlines.idle + deadlines.write, Late::IdleStill)
            }
        });
        let drained = match told {
            Told::Yes => None,
            Told::No { first_request } => first_request.map(|at| (at, Late::FirstRequest)),
        };
        [stalled, owed, quiet, drained].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Ready once a deadline is over.
    fn poll_late(
        &self,
        mut timer: Pin<&mut Sleep>,
        told: Told,
        cx: &mut Context<'_>,
    ) -> Poll<Late> {
        loop {
            let deadline = self.deadline(told);
            if let Some((at, late)) = deadline
                && at <= Instant::now()
            {
                return Poll::Ready(late);
            }
            // The tasks of streams note what they do without waking this one.
            let is_busy = self.state().busy > 0;
            let look = is_busy.then(|| Instant::now() + self.deadlines.write.min(LOOK_EVERY));
            let Some(at) = deadline.map(|(at, _)| at).into_iter().chain(look).min() else {
                return Poll::Pending;
            };
            if timer.deadline() > at || timer.is_elapsed() {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// A request while it is being answered.
struct Busy(Arc<Activity>);

impl Busy {
    fn begin(activity: &Arc<Activity>) -> Self {
        let mut state = activity.state();
        state.busy += 1;
        state.has_begun = true;
        drop(state);
        Self(Arc::clone(activity))
    }

    /// The answer, during whose body the connection is busy still.
    fn answer<B: http_body::Body>(self, answer: Response<B>) -> Response<BusyBody<B>> {
        answer.map(|body| {
            let mut body = BusyBody { body, busy: self, is_owed: false };
            body.note_owed(!body.body.is_end_stream());
            body
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.busy -= 1;
        state.quiet_since = Instant::now();
    }
}

/// The body of an answer, with the connection that is busy until the last of it is sent.
struct BusyBody<B> {
    body: B,
    busy: Busy,
    /// True if the next piece of it is there for the asking, as far as is known: nobody asks where
    /// the client's window is shut.
    is_owed: bool,
}

impl<B> BusyBody<B> {
    fn note_owed(&mut self, is_owed: bool) {
        let mut state = self.busy.0.state();
        match (self.is_owed, is_owed) {
            (false, true) => state.owed += 1,
            (true, false) => state.owed -= 1,
            (false, false) | (true, true) => {}
        }
        if is_owed {
            state.owed_since = Instant::now();
        }
        drop(state);
        self.is_owed = is_owed;
    }
}

impl<B> Drop for BusyBody<B> {
    fn drop(&mut self) {
        self.note_owed(false);
    }
}

impl<B: http_body::Body + Unpin> http_body::Body for BusyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let has_more = matches!(frame, Poll::Ready(Some(Ok(_)))) && !self.body.is_end_stream();
        self.note_owed(has_more);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A client's stream whose stalls are noted.
struct Watched<S> {
    client: Client<S>,
    /// The bytes that were read before and not passed on.
    begun: BytesMut,
    activity: Arc<Activity>,
}

impl<S> Watched<S> {
    /// Notes how many bytes were sent, `None` where the client takes nothing.
    fn note_write(&self, sent: Option<usize>) {
        let mut state = self.activity.state();
        let acknowledged = || self.client.acknowledged();
        match sent {
            Some(bytes) => state.stall.sent(bytes, acknowledged, &self.activity.deadlines),
            None => state.stall.blocked(acknowledged),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        if !self.begun.is_empty() {
            let bytes = self.begun.len().min(out.remaining());
            out.put_slice(&self.begun[..bytes]);
            self.begun.advance(bytes);
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.client.stream).poll_read(cx, out);
        if out.filled().len() > before {
            // From here on silence is that of an idle client.
            self.activity.state().has_begun = true;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.client.stream).poll_write(cx, bytes);
        self.note_write(taken(&written));
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.client.stream).poll_write_vectored(cx, slices);
        self.note_write(taken(&written));
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.client.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.client.stream).poll_flush(cx);
        self.note_write(flushed.is_ready().then_some(0));
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client.stream).poll_shutdown(cx)
    }
}

/// The number of bytes taken, `None` where it is to be tried again. An error is the end of it all.
fn taken(written: &Poll<io::Result<usize>>) -> Option<usize> {
    match written {
        Poll::Ready(written) => Some(*written.as_ref().unwrap_or(&0)),
        Poll::Pending => None,
    }
}

impl<S> Drop for Watched<S> {
    fn drop(&mut self) {
        if self.activity.state().is_reset {
            self.client.reset();
        }
    }
}
