//! A conversation by HTTP/1: one connection from its first request to its end.
//!
//! Bytes are read into one buffer. A head is judged and taken out of it in one pass
//! ([`head`]), the body by its length or in chunks ([`framing`]); an answer is written from its
//! status, its headers and its body ([`encode`], [`outbox`]). Requests are answered one after
//! another, in their order; what cannot be trusted ends the conversation, since nothing after it
//! can be.
//!
//! ```text
//! Head ─▶ Answering ─▶ (Discarding) ─▶ Sending ─▶ Head
//!   │                                     └──────▶ Closing ─▶ (Lingering) ─▶ end
//!   └─ refused: Sending the refusal, then Closing
//! ```
//!
//! The odd cases, and what becomes of them here. `400` stands for an answer and the end of the
//! conversation.
//!
//! | case | here | RFC 9110, 9112 | others |
//! | --- | --- | --- | --- |
//! | bare LF ends a line | 400 | may be taken for a line end | hyper, nginx, HAProxy take it in heads |
//! | CRLF before a request line | up to 8 are read past | at least one should be | hyper and nginx: any number |
//! | whitespace before a colon, a folded line | 400 | 400 | as here |
//! | a control character in a line | 400 | CR, LF, NUL: 400 | hyper lets some by in targets |
//! | bytes from 0x80 in a value | taken | opaque | as here |
//! | no `Host` in HTTP/1.1, two, or one that is not a host | 400 | 400 | hyper takes all three |
//! | no `Host` in HTTP/1.0 | taken | allowed | as here |
//! | `Content-Length` twice or as a list, of equal values too | 400 | may be merged | hyper merges |
//! | `Content-Length` beside `Transfer-Encoding` | 400 | may be refused | hyper drops the length |
//! | a coding other than `chunked` alone; any in HTTP/1.0 | 400 | 400 or 501 | hyper takes `gzip, chunked` |
//! | a target that is neither a path, `*` nor an `http` URL; `CONNECT` | 400 | 400 | |
//! | a head of more than 32 KiB or 100 lines | 431 | 431 | nginx: 414 or 400 |
//! | a chunk extension | ignored, 16 KiB a body; a control character in it: 400 | ignored | hyper: as here, without the check; HAProxy, nginx: unbounded |
//! | whitespace after a chunk's size | 400 unless an extension follows | before an extension only | nginx, HAProxy, hyper take it |
//! | a chunk's line that ends in a bare LF | 400 | 400 (erratum 7633) | nginx until 1.29, Go until 1.24 took it |
//! | a trailer | dropped, 16 KiB and 100 lines; `Host`, `Content-Length`, `Transfer-Encoding`: 400 | may be dropped | nginx and hyper drop any |
//! | `Expect: 100-continue` | `100` once the body is asked for, and none if it came by itself or in HTTP/1.0 | as here | |
//! | another expectation | ignored | 417 allowed | as here |
//! | `Upgrade` | ignored | allowed | |
//! | the client ends its side | what it has asked is answered | allowed | HAProxy and nginx may abort |
//! | HTTP/1.0 with `keep-alive` | kept, and said so | allowed | as here |

mod encode;
mod framing;
mod head;
mod outbox;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{Method, Request, Response};
use http_body::Body as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::encode::{AnswerBody, ConnectionOption};
use self::framing::Framing;
use self::head::{Head, HeadFault, HeadLimits, HeadScan};
use self::outbox::Outbox;
use crate::body::{Body, BodyError};
use crate::client::Client;
use crate::connection::Opened;
use crate::deadline::{Pace, Stall};
use crate::member::Member;
use crate::peer::{Peer, Refusal};
use crate::pipe::{Demand, Pipe};
use crate::service::Service;

/// Room that is made in the buffer before a head is read, in bytes.
const HEAD_ROOM_BYTES: usize = 4 << 10;
/// Room that is made before more of a body is read, in bytes.
const BODY_ROOM_BYTES: usize = 128 << 10;
/// The largest rest of a body that is read and dropped so that a connection can be used again, in
/// bytes.
const DISCARD_BYTES_MAX: u64 = 64 << 10;
/// The most bytes that are read and dropped of what a refused client still sends.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// Requests that are answered before others get their turn, where they are there at once.
const REQUESTS_PER_TURN: u32 = 32;

/// The outcome of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By either side, or by an error of the stream.
    Closed,
    /// At a deadline.
    TimedOut,
}

/// A conversation; `F` is the future of the service's answer.
pub(crate) struct Conversation<S, A: Service, F> {
    client: Client<S>,
    service: Arc<A>,
    member: Member,
    peer: Peer,
    limits: HeadLimits,
    input: BytesMut,
    scan: HeadScan,
    output: Outbox,
    /// True if the stream may hold bytes that it took and has not sent.
    has_unflushed: bool,
    /// The parts of the request that its answer needs.
    asked: Asked,
    upload: Option<Upload>,
    phase: Phase<A::Body>,
    /// The storage of the service's future while it runs; made once and used again.
    answering: Option<Pin<Box<Option<F>>>>,
    /// True if the present request is the last.
    is_last: bool,
    /// True if the client may still be sending what nobody will read.
    has_unread: bool,
    has_served: bool,
    /// True while nothing is set aside for the next request, because the client is silent.
    is_resting: bool,
    quiet_since: Instant,
    head_since: Option<Instant>,
    stall: Stall,
    timer: Pin<Box<Sleep>>,
}

/// The parts of a request that its answer depends on.
#[derive(Debug, Clone, Copy, Default)]
struct Asked {
    is_head: bool,
    is_http10: bool,
}

/// A body that has not come whole.
#[derive(Debug)]
struct Upload {
    framing: Framing,
    pipe: Arc<Pipe>,
    pace: Pace,
    /// True if the client waits to be told to send it.
    expects_continue: bool,
}

enum Phase<B> {
    /// Waiting for a head, or for the rest of one.
    Head,
    /// The service has the request.
    Answering,
    /// Waiting for the small rest of a body that nobody reads, with the answer at hand.
    Discarding {
        answer: Response<B>,
        since: Instant,
    },
    Sending(Answer<B>),
    /// The bytes that wait are sent, and then our side of the stream is ended.
    Closing,
    /// Reading and dropping what still comes.
    Lingering {
        since: Instant,
        bytes: usize,
    },
}

/// An answer whose head is written.
struct Answer<B> {
    body: B,
    framing: AnswerBody,
    sent: u64,
}

/// The outcome of a step.
enum Step {
    /// There is more to do at once.
    Again,
    /// Someone is to wake us.
    Wait,
    End(End),
}

/// A deadline that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    Rest,
    Silence,
    Head,
    Body,
    Discard,
    Write,
    Linger,
}

impl<S, A: Service, F> Conversation<S, A, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Response<A::Body>> + Send + 'static,
{
    /// A conversation on a connection, of which `begun` was read already.
    pub(crate) fn new(opened: Opened<Client<S>>, begun: BytesMut, service: Arc<A>) -> Self {
        let Opened { stream: client, peer, member } = opened;
        let options = member.lane().options();
        let limits =
            HeadLimits { bytes_max: options.head_bytes_max, lines_max: options.head_lines_max };
        let now = Instant::now();
        let first_byte = now + member.deadlines().first_byte;
        Self {
            client,
            service,
            limits,
            peer,
            is_resting: begun.is_empty(),
            input: begun,
            scan: HeadScan::default(),
            output: Outbox::default(),
            has_unflushed: false,
            asked: Asked::default(),
            upload: None,
            phase: Phase::Head,
            answering: None,
            is_last: false,
            has_unread: false,
            has_served: false,
            quiet_since: now,
            head_since: None,
            stall: Stall::default(),
            timer: Box::pin(tokio::time::sleep_until(first_byte)),
            member,
        }
    }

    /// Goes on with it. `begin` has the service answer a request.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        begin: &impl Fn(Request<Body>) -> F,
    ) -> Poll<End> {
        self.member.watch(cx);
        let mut requests_left = REQUESTS_PER_TURN;
        loop {
            if self.member.is_closed() {
                return Poll::Ready(End::TimedOut);
            }
            let step = match self.phase {
                Phase::Head if requests_left == 0 => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Phase::Head => {
                    requests_left -= 1;
                    self.read_head(cx, begin)
                }
                Phase::Answering => self.answer(cx),
                Phase::Discarding { .. } => self.discard(cx),
                Phase::Sending(_) => self.send(cx),
                Phase::Closing => self.close(cx),
                Phase::Lingering { .. } => self.linger(cx),
            };
            match step {
                Ok(Step::Again) => continue,
                Ok(Step::End(end)) => return Poll::Ready(end),
                Ok(Step::Wait) => {}
                // The stream is gone, and with it whoever would be told.
                Err(_) => return Poll::Ready(End::Closed),
            }
            let late = ready!(self.poll_late(cx));
            if let Some(end) = self.take_late(late, cx) {
                return Poll::Ready(end);
            }
        }
    }

    // ---- requests ----

    /// Reads until a head is whole, and begins its request.
    fn read_head(
        &mut self,
        cx: &mut Context<'_>,
        begin: &impl Fn(Request<Body>) -> F,
    ) -> io::Result<Step> {
        if !self.output.has_room() && self.poll_flush(cx)?.is_pending() {
            return Ok(Step::Wait);
        }
        loop {
            match self.scan.scan(&self.input, self.limits) {
                Ok(Some(head)) => match self.take_request(head, cx) {
                    Ok(request) => {
                        let answering = self.answering.get_or_insert_with(|| Box::pin(None));
                        answering.set(Some(begin(request)));
                        self.phase = Phase::Answering;
                        return Ok(Step::Again);
                    }
                    Err(fault) => return Ok(self.refuse(refusal(fault))),
                },
                Ok(None) => {}
                Err(fault) => return Ok(self.refuse(refusal(fault))),
            }
            if self.scan.has_begun() && self.head_since.is_none() {
                self.head_since = Some(Instant::now());
            }
            // Answers that were held back for company go out before we wait.
            if self.poll_flush(cx)?.is_pending() {
                return Ok(Step::Wait);
            }
            let read = match self.is_resting {
                true => self.poll_first_read(cx)?,
                false => {
                    if self.input.capacity() - self.input.len() < HEAD_ROOM_BYTES / 2 {
                        self.input.reserve(HEAD_ROOM_BYTES);
                    }
                    self.poll_read(cx)?
                }
            };
            match read {
                Poll::Ready(0) => return Ok(self.begin_close()),
                Poll::Ready(_) => {}
                // A connection that is to finish has nothing to finish.
                Poll::Pending if self.member.draining_since().is_some() && self.is_idle() => {
                    return Ok(self.begin_close());
                }
                Poll::Pending => return Ok(Step::Wait),
            }
        }
    }

    /// Takes the request whose head is whole, with its body as far as it has come.
    fn take_request(
        &mut self,
        head: Head,
        cx: &mut Context<'_>,
    ) -> Result<Request<Body>, HeadFault> {
        let bytes = self.input.split_to(head.bytes).freeze();
        let parts = self.scan.parts(&bytes)?;
        self.scan.reset();
        self.head_since = None;
        self.stall = Stall::default();
        self.asked = Asked { is_head: parts.method == Method::HEAD, is_http10: head.is_http10 };
        self.is_last = !head.keeps_alive;
        let mut framing = Framing::new(head.body);
        let taken = match framing.take(&mut self.input) {
            Ok(taken) if taken.is_over => {
                return Ok(Request::from_parts(parts, Body::whole(taken.data)));
            }
            taken => taken,
        };
        let pipe = Arc::new(Pipe::new(framing.left()));
        let mut pace = Pace::new(self.member.deadlines());
        match taken {
            Ok(taken) => {
                pace.came(taken.data.len());
                let expects_continue = head.expects_continue && taken.data.is_empty();
                // The length is that of what is not in the pipe yet.
                let left = framing.left().map(|left| left + taken.data.len() as u64);
                let pipe = Arc::new(Pipe::new(left));
                pipe.push(taken.data, false, cx);
                self.upload =
                    Some(Upload { framing, pipe: Arc::clone(&pipe), pace, expects_continue });
                return Ok(Request::from_parts(parts, Body::http1(pipe)));
            }
            Err(reason) => {
                self.break_off();
                pipe.fail(BodyError::Malformed(reason), cx);
            }
        }
        Ok(Request::from_parts(parts, Body::http1(pipe)))
    }

    /// Answers what is no request, as the last thing of this conversation.
    fn refuse(&mut self, refusal: Refusal) -> Step {
        let answer = self.service.refuse(refusal, self.peer);
        self.asked = Asked::default();
        self.head_since = None;
        self.break_off();
        self.begin_answer(answer);
        Step::Again
    }

    /// Nothing that comes can be trusted any more.
    fn break_off(&mut self) {
        self.is_last = true;
        self.has_unread = true;
        self.upload = None;
        self.input.clear();
    }

    // ---- bodies ----

    /// Gives the reader of a body what it waits for, and tells whether that was anything.
    fn feed(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_fed = false;
        loop {
            let Some(upload) = &mut self.upload else { return Ok(has_fed) };
            match upload.pipe.demand(cx) {
                Demand::More => {}
                Demand::None | Demand::Abandoned => return Ok(has_fed),
            }
            let taken = match upload.framing.take(&mut self.input) {
                Ok(taken) => taken,
                Err(reason) => {
                    upload.pipe.fail(BodyError::Malformed(reason), cx);
                    self.break_off();
                    return Ok(true);
                }
            };
            if taken.is_over || !taken.data.is_empty() {
                upload.pace.came(taken.data.len());
                upload.pipe.push(taken.data, taken.is_over, cx);
                if taken.is_over {
                    self.upload = None;
                }
                has_fed = true;
                continue;
            }
            // Once the answer has begun it is too late to ask for the body.
            if upload.expects_continue && matches!(self.phase, Phase::Answering) {
                upload.expects_continue = false;
                self.output.buffer().extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.flush(cx)?;
            }
            self.reserve_for_body();
            match self.poll_read(cx)? {
                Poll::Ready(0) => {
                    self.fail_upload(BodyError::Incomplete, cx);
                    return Ok(true);
                }
                Poll::Ready(_) => {}
                Poll::Pending => {
                    if let Some(upload) = &mut self.upload {
                        upload.pace.wait();
                    }
                    if self.input.is_empty() {
                        // A body that is waited for takes no memory here.
                        self.input = BytesMut::new();
                    }
                    return Ok(has_fed);
                }
            }
        }
    }

    fn fail_upload(&mut self, error: BodyError, cx: &mut Context<'_>) {
        if let Some(upload) = self.upload.take() {
            upload.pipe.fail(error, cx);
        }
        self.break_off();
    }

    fn reserve_for_body(&mut self) {
        let left = self.upload.as_ref().and_then(|upload| upload.framing.left());
        let left = left.and_then(|left| usize::try_from(left).ok()).unwrap_or(BODY_ROOM_BYTES);
        let room = self.input.capacity() - self.input.len();
        if room < left.min(BODY_ROOM_BYTES / 4) {
            self.input.reserve(left.clamp(HEAD_ROOM_BYTES, BODY_ROOM_BYTES));
        }
    }

    // ---- answers ----

    /// Has the service go on, and the body come that it reads.
    fn answer(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        self.feed(cx)?;
        loop {
            let answering = self.answering.as_mut();
            let Some(future) = answering.and_then(|future| future.as_mut().as_pin_mut()) else {
                return Ok(Step::End(End::Closed));
            };
            if let Poll::Ready(answer) = future.poll(cx) {
                if let Some(answering) = &mut self.answering {
                    answering.set(None);
                }
                self.answered(answer);
                return Ok(Step::Again);
            }
            // It may have asked for more just now.
            if !self.feed(cx)? {
                self.flush(cx)?;
                return Ok(Step::Wait);
            }
        }
    }

    /// Takes the service's answer, and sees to a body that nobody reads.
    fn answered(&mut self, answer: Response<A::Body>) {
        let unread = self.upload.as_ref().filter(|upload| upload.pipe.is_abandoned());
        let is_small = |upload: &Upload| {
            let left = upload.framing.left();
            !upload.expects_continue && left.is_some_and(|left| left <= DISCARD_BYTES_MAX)
        };
        match unread {
            None => self.begin_answer(answer),
            Some(upload) if is_small(upload) && !self.must_close() => {
                self.phase = Phase::Discarding { answer, since: Instant::now() };
            }
            Some(_) => {
                self.is_last = true;
                self.begin_answer(answer);
            }
        }
    }

    /// Reads and drops the rest of a small body, so that the connection can be used again.
    fn discard(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        loop {
            let Some(upload) = &mut self.upload else { return Ok(self.end_discard()) };
            match upload.framing.take(&mut self.input) {
                Ok(taken) if taken.is_over => {
                    self.upload = None;
                    return Ok(self.end_discard());
                }
                Ok(_) => {}
                Err(_) => {
                    self.break_off();
                    return Ok(self.end_discard());
                }
            }
            self.reserve_for_body();
            match self.poll_read(cx)? {
                Poll::Ready(0) => {
                    self.break_off();
                    return Ok(self.end_discard());
                }
                Poll::Ready(_) => {}
                Poll::Pending => return Ok(Step::Wait),
            }
        }
    }

    /// Sends the answer that waited.
    fn end_discard(&mut self) -> Step {
        if let Phase::Discarding { answer, .. } = std::mem::replace(&mut self.phase, Phase::Closing)
        {
            self.is_last |= self.upload.is_some();
            self.begin_answer(answer);
        }
        Step::Again
    }

    fn must_close(&self) -> bool {
        self.is_last || self.member.draining_since().is_some()
    }

    /// Writes the head of an answer.
    fn begin_answer(&mut self, answer: Response<A::Body>) {
        let (head, body) = answer.into_parts();
        if head.headers.contains_key(CONNECTION) && encode::says_close(&head) {
            self.is_last = true;
        }
        self.is_last = self.must_close();
        let framing = self.framing_of(&head, &body);
        self.is_last |= framing == AnswerBody::UntilClose;
        let connection = match (self.is_last, self.asked.is_http10) {
            (true, _) => ConnectionOption::Close,
            (false, true) => ConnectionOption::KeepAlive,
            (false, false) => ConnectionOption::Unsaid,
        };
        let is_http10 = self.asked.is_http10;
        encode::write_head(self.output.buffer(), &head, is_http10, framing, connection);
        self.phase = Phase::Sending(Answer { body, framing, sent: 0 });
    }

    fn framing_of(&self, head: &http::response::Parts, body: &A::Body) -> AnswerBody {
        if !encode::may_have_body(head.status) {
            return AnswerBody::None;
        }
        let announced = encode::announced_length(&head.headers);
        let exact = body.size_hint().exact();
        if self.asked.is_head {
            return match announced.or(exact) {
                Some(bytes) => AnswerBody::Length { bytes, is_sent: false },
                None => AnswerBody::None,
            };
        }
        match exact.or(announced) {
            Some(bytes) => AnswerBody::Length { bytes, is_sent: true },
            None if self.asked.is_http10 => AnswerBody::UntilClose,
            None => AnswerBody::Chunked,
        }
    }

    /// Sends the body of an answer, while that of its request may still come.
    fn send(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        self.feed(cx)?;
        loop {
            if !self.output.has_room() && self.poll_flush(cx)?.is_pending() {
                return Ok(Step::Wait);
            }
            let Phase::Sending(answer) = &mut self.phase else { return Ok(Step::Again) };
            match answer.poll_next(&mut self.output, cx) {
                Poll::Ready(Next::More) => {}
                Poll::Ready(Next::Over) => return Ok(self.end_answer()),
                Poll::Ready(Next::Broken) => {
                    // The client is to see the connection end before the answer does.
                    if answer.framing == AnswerBody::UntilClose {
                        self.client.reset();
                    }
                    self.is_last = true;
                    return Ok(self.end_answer());
                }
                Poll::Pending => {
                    self.flush(cx)?;
                    // It may have asked for more of the request just now.
                    if !self.feed(cx)? {
                        return Ok(Step::Wait);
                    }
                }
            }
        }
    }

    /// Goes on to the next request, or to the end.
    fn end_answer(&mut self) -> Step {
        // A body that has still not come whole can't be told from a request.
        if self.upload.take().is_some() {
            self.has_unread = true;
            self.is_last = true;
        }
        self.has_served = true;
        if self.must_close() {
            return self.begin_close();
        }
        self.quiet_since = Instant::now();
        self.phase = Phase::Head;
        Step::Again
    }

    // ---- the end ----

    fn begin_close(&mut self) -> Step {
        // Bytes that were sent after the last request will not be looked at.
        self.has_unread |= !self.input.is_empty();
        self.phase = Phase::Closing;
        Step::Again
    }

    fn close(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        if self.poll_flush(cx)?.is_pending() {
            return Ok(Step::Wait);
        }
        match Pin::new(&mut self.client.stream).poll_shutdown(cx)? {
            Poll::Pending => {
                self.stall.blocked(|| self.client.acknowledged());
                Ok(Step::Wait)
            }
            Poll::Ready(()) if self.has_unread => {
                self.stall = Stall::default();
                self.phase = Phase::Lingering { since: Instant::now(), bytes: 0 };
                Ok(Step::Again)
            }
            Poll::Ready(()) => Ok(Step::End(End::Closed)),
        }
    }

    /// Reads and drops what still comes: closed with bytes unread, the socket would take our last
    /// answer with it.
    fn linger(&mut self, cx: &mut Context<'_>) -> io::Result<Step> {
        loop {
            self.input.clear();
            self.input.reserve(HEAD_ROOM_BYTES);
            let Poll::Ready(read) = self.poll_read(cx)? else { return Ok(Step::Wait) };
            let Phase::Lingering { bytes, .. } = &mut self.phase else { return Ok(Step::Again) };
            *bytes += read;
            if read == 0 || *bytes > LINGER_BYTES_MAX {
                return Ok(Step::End(End::Closed));
            }
        }
    }

    // ---- the stream ----

    fn poll_read(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<usize>> {
        let read = pin!(self.client.stream.read_buf(&mut self.input)).poll(cx);
        match read {
            Poll::Ready(read) => read.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    /// Reads what ends a silence, for which nothing was set aside.
    fn poll_first_read(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<usize>> {
        let mut room = [0; HEAD_ROOM_BYTES];
        let mut read = ReadBuf::new(&mut room);
        if Pin::new(&mut self.client.stream).poll_read(cx, &mut read)?.is_pending() {
            return Ok(Poll::Pending);
        }
        self.is_resting = false;
        self.input.reserve(HEAD_ROOM_BYTES.max(read.filled().len()));
        self.input.extend_from_slice(read.filled());
        Ok(Poll::Ready(read.filled().len()))
    }

    /// Sends what the client takes of what waits.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.poll_flush(cx).map(|_| ())
    }

    /// Sends all that waits, here and in the stream: TLS takes bytes that its socket does not.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        if self.output.is_empty() && !self.has_unflushed {
            return Ok(Poll::Ready(()));
        }
        while !self.output.is_empty() {
            match self.output.poll_send(&mut self.client.stream, cx)? {
                Poll::Ready(bytes) => {
                    self.has_unflushed = true;
                    let acknowledged = || self.client.acknowledged();
                    self.stall.sent(bytes, acknowledged, self.member.deadlines());
                }
                Poll::Pending => {
                    self.stall.blocked(|| self.client.acknowledged());
                    return Ok(Poll::Pending);
                }
            }
        }
        match Pin::new(&mut self.client.stream).poll_flush(cx)? {
            Poll::Ready(()) => {
                self.has_unflushed = false;
                let acknowledged = || self.client.acknowledged();
                self.stall.sent(0, acknowledged, self.member.deadlines());
                Ok(Poll::Ready(()))
            }
            Poll::Pending => {
                self.stall.blocked(|| self.client.acknowledged());
                Ok(Poll::Pending)
            }
        }
    }

    // ---- deadlines ----

    /// Returns true if no part of a request is here.
    fn is_idle(&self) -> bool {
        self.has_served && !self.scan.has_begun()
    }

    fn deadline(&self) -> Option<(Instant, Late)> {
        let deadlines = self.member.deadlines();
        let stalled = self.stall.deadline(deadlines).map(|at| (at, Late::Write));
        let own = match &self.phase {
            Phase::Head if stalled.is_some() => None,
            Phase::Head => Some(self.head_deadline()),
            Phase::Answering | Phase::Sending(_) => {
                let upload = self.upload.as_ref();
                upload.and_then(|upload| upload.pace.deadline()).map(|at| (at, Late::Body))
            }
            Phase::Discarding { since, .. } => Some((*since + deadlines.discard, Late::Discard)),
            Phase::Closing => None,
            Phase::Lingering { since, .. } => Some((*since + deadlines.linger, Late::Linger)),
        };
        [stalled, own].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn head_deadline(&self) -> (Instant, Late) {
        let deadlines = self.member.deadlines();
        let usual = match self.head_since {
            Some(since) => (since + deadlines.head, Late::Head),
            None if !self.has_served => (self.quiet_since + deadlines.first_byte, Late::Silence),
            None if !self.is_resting => (self.quiet_since + deadlines.rest, Late::Rest),
            None => (self.quiet_since + deadlines.idle, Late::Silence),
        };
        // A client that just connected, or has sent a part of a head, is about to ask.
        let drained = self.member.draining_since().map(|since| since + deadlines.first_request);
        match drained {
            Some(at) if at < usual.0 => (at, Late::Silence),
            _ => usual,
        }
    }

    /// Ready once a deadline is over. The timer goes off at the deadline or before it, and is then
    /// set anew, so that it need not be set for each request.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Late> {
        loop {
            let deadline = self.deadline();
            if let Some((at, _)) = deadline
                && at < self.timer.deadline()
            {
                self.timer.as_mut().reset(at);
            }
            ready!(self.timer.as_mut().poll(cx));
            match deadline {
                Some((at, late)) if at <= Instant::now() => return Poll::Ready(late),
                Some((at, _)) => self.timer.as_mut().reset(at),
                // Nothing is waited for; whatever comes next sets it.
                None => return Poll::Pending,
            }
        }
    }

    /// Draws the consequence of a deadline; the end, where that is the one.
    fn take_late(&mut self, late: Late, cx: &mut Context<'_>) -> Option<End> {
        match late {
            Late::Rest => {
                self.input = BytesMut::new();
                self.scan = HeadScan::default();
                self.output.shrink();
                self.answering = None;
                self.is_resting = true;
            }
            Late::Silence => return Some(End::TimedOut),
            Late::Head => {
                self.refuse(Refusal::Late);
            }
            Late::Body => self.fail_upload(BodyError::Late, cx),
            Late::Discard => {
                self.end_discard();
            }
            Late::Write => {
                self.client.reset();
                return Some(End::TimedOut);
            }
            // The client has had its time to read the answer.
            Late::Linger => return Some(End::Closed),
        }
        None
    }
}

/// The outcome of polling the body of an answer.
enum Next {
    More,
    Over,
    Broken,
}

impl<B> Answer<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// Puts the next piece of the body into `output`, which has room.
    fn poll_next(&mut self, output: &mut Outbox, cx: &mut Context<'_>) -> Poll<Next> {
        let length = match self.framing {
            AnswerBody::None | AnswerBody::Length { is_sent: false, .. } => {
                return Poll::Ready(Next::Over);
            }
            AnswerBody::Length { bytes, .. } if self.sent == bytes => {
                return Poll::Ready(Next::Over);
            }
            AnswerBody::Length { bytes, .. } => Some(bytes),
            AnswerBody::Chunked | AnswerBody::UntilClose => None,
        };
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Next::Broken),
            None if length.is_some() => return Poll::Ready(Next::Broken),
            None => {
                if self.framing == AnswerBody::Chunked {
                    output.buffer().extend_from_slice(b"0\r\n\r\n");
                }
                return Poll::Ready(Next::Over);
            }
        };
        let Ok(data) = frame.into_data() else { return Poll::Ready(Next::More) };
        if data.is_empty() {
            return Poll::Ready(Next::More);
        }
        self.sent += data.len() as u64;
        if length.is_some_and(|length| self.sent > length) {
            return Poll::Ready(Next::Broken);
        }
        if self.framing == AnswerBody::Chunked {
            encode::write_chunk_size(output.buffer(), data.len());
            output.push(data, b"\r\n");
        } else {
            output.push(data, b"");
        }
        Poll::Ready(Next::More)
    }
}

fn refusal(fault: HeadFault) -> Refusal {
    match fault {
        HeadFault::Malformed(reason) => Refusal::Malformed(reason),
        HeadFault::TooLarge => Refusal::HeadTooLarge,
    }
}
