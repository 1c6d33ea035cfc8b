//! What a connection's parts know of each other: the guard around its socket, its service, and
//! the sweeper that watches it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use http::Method;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ServerOptions;
use crate::deadline::{Deadlines, Standing};
use crate::strict::REFUSED_METHOD;

use Ordering::Relaxed;

/// Why a request is refused before anything of it is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its head is not well-formed, for this reason.
    Malformed(&'static str),
    /// Its head took longer than [`Deadlines::head`].
    Late,
}

/// Who is at the other end, and which door it came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The port of HTTPS, where the door only redirects.
    pub(crate) redirects_to: Option<u16>,
}

/// What the sweeper or the shutdown decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No new request; close when the present ones are answered.
    Drain,
    /// Answer that the head took too long.
    RefuseLate,
    /// Give back what it does not need while the client is silent.
    Rest,
    /// Close at once.
    Close,
    /// Close at once, and drop what the client has not taken.
    Reset,
}

const NONE: u8 = 0;
const DRAIN: u8 = 1;
const CLOSE: u8 = 2;
const RESET: u8 = 3;

/// What the connections of a lane share.
#[derive(Debug)]
pub(crate) struct LaneState {
    options: Arc<ServerOptions>,
    begun: Instant,
    clock_ms: AtomicU64,
    draining: AtomicBool,
    open: AtomicUsize,
    emptied: Notify,
    connections: Mutex<Vec<Weak<ConnectionState>>>,
}

impl LaneState {
    pub(crate) fn new(options: Arc<ServerOptions>) -> Self {
        Self {
            options,
            begun: Instant::now(),
            clock_ms: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            emptied: Notify::new(),
            connections: Mutex::default(),
        }
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.options.deadlines
    }

    /// Sets the coarse clock, and tells what it shows: milliseconds, never 0.
    pub(crate) fn advance_clock(&self) -> u64 {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.clock_ms.store(now_ms, Relaxed);
        now_ms
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock_ms.load(Relaxed)
    }

    /// Calls `look` on every connection, and forgets those that are closed.
    pub(crate) fn for_each(&self, look: impl Fn(&ConnectionState)) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.retain(|connection| {
            connection.upgrade().inspect(|connection| look(connection)).is_some()
        });
    }

    /// Tells every connection, also those yet to come, to finish: at once, or, where its first
    /// request is still awaited, when that has come or [`Deadlines::first_request`] is over. A
    /// client that just connected is about to ask, and would find its connection closed.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Relaxed);
        self.drain_due(self.advance_clock());
    }

    /// Tells the connections to finish whose time to do so has come, where the lane drains.
    pub(crate) fn drain_due(&self, now_ms: u64) {
        if !self.draining.load(Relaxed) {
            return;
        }
        let first_request = self.deadlines().first_request;
        self.for_each(|connection| {
            if !connection.is_about_to_ask(now_ms, first_request) {
                connection.pass(Verdict::Drain);
            }
        });
    }

    /// Closes every connection.
    pub(crate) fn close(&self) {
        self.for_each(|connection| connection.pass(Verdict::Close));
    }

    /// Returns once no connection is open.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// One connection as its parts and its sweeper see it. Moments are milliseconds of the lane's
/// coarse clock; 0 where there is none.
#[derive(Debug)]
pub struct ConnectionState {
    lane: Arc<LaneState>,
    peer: Peer,
    busy: AtomicU32,
    served: AtomicBool,
    http2: AtomicBool,
    secure: AtomicBool,
    resting: AtomicBool,
    quiet_since_ms: AtomicU64,
    head_since_ms: AtomicU64,
    blocked_since_ms: AtomicU64,
    behind_ms: AtomicU64,
    owed: AtomicU32,
    owed_since_ms: AtomicU64,
    linger_since_ms: AtomicU64,
    verdict: AtomicU8,
    /// Why the last request is answered without being looked at.
    refusal: OnceLock<Refusal>,
    /// What is wrong in the framing of a body that was being read.
    body_fault: OnceLock<&'static str>,
    waker: OnceLock<Waker>,
}

/// A connection while a request of it is being answered, until the last of the answer is sent:
/// [`Busy::answer`] takes it along.
#[derive(Debug)]
pub struct Busy(Arc<ConnectionState>);

impl Busy {
    /// Notes that a request is being answered, until what this returns is dropped.
    pub(crate) fn begin(connection: Arc<ConnectionState>) -> Self {
        connection.busy.fetch_add(1, Relaxed);
        if connection.lane.draining.load(Relaxed) {
            connection.pass(Verdict::Drain);
        }
        Self(connection)
    }
}

impl std::ops::Deref for Busy {
    type Target = ConnectionState;

    fn deref(&self) -> &ConnectionState {
        &self.0
    }
}

impl ConnectionState {
    /// A connection that was just opened, known to its lane's sweeper.
    pub(crate) fn open(lane: &Arc<LaneState>, peer: Peer) -> Arc<Self> {
        let connection = Arc::new(Self {
            lane: Arc::clone(lane),
            peer,
            busy: AtomicU32::new(0),
            served: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            secure: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            quiet_since_ms: AtomicU64::new(lane.now_ms()),
            head_since_ms: AtomicU64::new(0),
            blocked_since_ms: AtomicU64::new(0),
            behind_ms: AtomicU64::new(0),
            owed: AtomicU32::new(0),
            owed_since_ms: AtomicU64::new(0),
            linger_since_ms: AtomicU64::new(0),
            verdict: AtomicU8::new(NONE),
            refusal: OnceLock::new(),
            body_fault: OnceLock::new(),
            waker: OnceLock::new(),
        });
        lane.open.fetch_add(1, Ordering::AcqRel);
        let weak = Arc::downgrade(&connection);
        lane.connections.lock().unwrap_or_else(PoisonError::into_inner).push(weak);
        connection
    }

    /// The address of the client, or of the proxy that it came through.
    pub fn address(&self) -> IpAddr {
        self.peer.address
    }

    /// The port of HTTPS, where the client came to a door that only redirects there.
    pub fn redirects_to(&self) -> Option<u16> {
        self.peer.redirects_to
    }

    /// The deadlines of the server.
    pub fn deadlines(&self) -> &Deadlines {
        self.lane.deadlines()
    }

    /// Why a request of this method is refused unseen, if it is the one put in place of what was
    /// not well-formed or came too late.
    pub fn refusal_of(&self, method: &Method) -> Option<Refusal> {
        if method.as_str() != REFUSED_METHOD {
            return None;
        }
        self.refusal.get().copied()
    }

    /// What is wrong in the framing of the body that ended early.
    pub fn body_fault(&self) -> Option<&'static str> {
        self.body_fault.get().copied()
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refusal.get().is_some()
    }

    /// Notes why the next head is refused. The first reason stays.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.refusal.get_or_init(|| refusal);
    }

    pub(crate) fn note_body_fault(&self, fault: &'static str) {
        self.body_fault.get_or_init(|| fault);
    }

    pub(crate) fn note_http2(&self) {
        self.http2.store(true, Relaxed);
    }

    /// Notes that the first bytes of HTTP/2 came: from here on silence is that of an idle client.
    pub(crate) fn note_begun(&self) {
        if !self.served.load(Relaxed) {
            self.served.store(true, Relaxed);
        }
    }

    /// Notes that the handshake is over and the silence begins anew.
    pub(crate) fn note_secure(&self) {
        self.secure.store(true, Relaxed);
        self.quiet_since_ms.store(self.lane.now_ms(), Relaxed);
    }

    /// Whether the client speaks TLS to us. Behind a proxy that ends TLS it does not.
    pub fn is_secure(&self) -> bool {
        self.secure.load(Relaxed)
    }

    /// Notes whether a part of a head is here.
    pub(crate) fn note_partial_head(&self, partial: bool) {
        let since_ms = self.head_since_ms.load(Relaxed);
        if partial != (since_ms != 0) {
            let now_ms = if partial { self.lane.now_ms() } else { 0 };
            self.head_since_ms.store(now_ms, Relaxed);
        }
    }

    /// Notes how many bytes of what is written the client took, `None` where it took nothing.
    ///
    /// How long it took nothing adds up over an answer, and what it takes is set against that, at
    /// [`Deadlines::write_bytes_per_s_min`]. Otherwise a client that takes a byte now and then
    /// could have us hold an answer for it without end.
    pub(crate) fn note_write(&self, taken_bytes: Option<usize>) {
        let since_ms = self.blocked_since_ms.load(Relaxed);
        let Some(bytes) = taken_bytes else {
            if since_ms == 0 {
                self.blocked_since_ms.store(self.lane.now_ms(), Relaxed);
            }
            return;
        };
        let mut behind_ms = self.behind_ms.load(Relaxed);
        if since_ms == 0 && behind_ms == 0 {
            return;
        }
        if since_ms != 0 {
            let now_ms = self.lane.now_ms();
            self.blocked_since_ms.store(0, Relaxed);
            self.quiet_since_ms.store(now_ms, Relaxed);
            behind_ms += now_ms.saturating_sub(since_ms);
        }
        // A usize is at most 64 bits wide where this runs.
        let rate = u64::from(self.deadlines().write_bytes_per_s_min.max(1));
        let made_up_ms = (bytes as u64).saturating_mul(1_000) / rate;
        self.behind_ms.store(behind_ms.saturating_sub(made_up_ms), Relaxed);
    }

    /// Notes whether an answer has a piece that waits to be asked for, and whether it had before.
    /// Each such note is one of progress too: of a piece that was asked for, or of a new answer.
    pub(crate) fn note_owed(&self, was_owed: bool, is_owed: bool) {
        if is_owed {
            self.owed_since_ms.store(self.lane.now_ms(), Relaxed);
        }
        match (was_owed, is_owed) {
            (false, true) => self.owed.fetch_add(1, Relaxed),
            (true, false) => self.owed.fetch_sub(1, Relaxed),
            (false, false) | (true, true) => 0,
        };
    }

    /// Whether no request is being answered, none arrives, and nothing waits to be taken.
    pub(crate) fn is_quiet(&self) -> bool {
        self.busy.load(Relaxed) == 0
            && self.head_since_ms.load(Relaxed) == 0
            && self.blocked_since_ms.load(Relaxed) == 0
    }

    /// Whether it is so new that its first request is likely to be on its way.
    fn is_about_to_ask(&self, now_ms: u64, first_request: Duration) -> bool {
        let silent_ms = now_ms.saturating_sub(self.quiet_since_ms.load(Relaxed));
        let unasked = !self.served.load(Relaxed) && self.busy.load(Relaxed) == 0;
        unasked && u128::from(silent_ms) < first_request.as_millis()
    }

    /// Whether the sweeper found that it rests; so until [`ConnectionState::note_resting`].
    pub(crate) fn is_resting(&self) -> bool {
        self.resting.load(Relaxed)
    }

    pub(crate) fn note_resting(&self, resting: bool) {
        self.resting.store(resting, Relaxed);
    }

    pub(crate) fn note_linger(&self) {
        self.linger_since_ms.store(self.lane.now_ms(), Relaxed);
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            busy: self.busy.load(Relaxed) > 0,
            served: self.served.load(Relaxed),
            http2: self.http2.load(Relaxed),
            resting: self.resting.load(Relaxed),
            quiet_since_ms: self.quiet_since_ms.load(Relaxed),
            head_since_ms: self.head_since_ms.load(Relaxed),
            blocked_since_ms: self.blocked_since_ms.load(Relaxed),
            behind_ms: self.behind_ms.load(Relaxed),
            owed_since_ms: match self.owed.load(Relaxed) {
                0 => 0,
                _ => self.owed_since_ms.load(Relaxed),
            },
            linger_since_ms: self.linger_since_ms.load(Relaxed),
        }
    }

    /// Lets the connection's task know what was decided.
    pub(crate) fn pass(&self, verdict: Verdict) {
        match verdict {
            Verdict::Drain => self.verdict.fetch_max(DRAIN, Relaxed),
            Verdict::RefuseLate => {
                self.refuse(Refusal::Late);
                NONE
            }
            Verdict::Rest => {
                self.resting.store(true, Relaxed);
                NONE
            }
            Verdict::Close => self.verdict.fetch_max(CLOSE, Relaxed),
            Verdict::Reset => self.verdict.fetch_max(RESET, Relaxed),
        };
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Remembers whom to wake. A task's waker never changes, so the first one is good for all.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.waker.get_or_init(|| cx.waker().clone());
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.verdict.load(Relaxed) >= DRAIN
    }

    /// Whether its client is to be told, by a header, to ask nothing more here. HTTP/2 has a frame
    /// for that.
    pub(crate) fn says_close(&self) -> bool {
        self.is_draining() && !self.http2.load(Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.verdict.load(Relaxed) >= CLOSE
    }

    pub(crate) fn is_reset(&self) -> bool {
        self.verdict.load(Relaxed) == RESET
    }
}

impl Drop for ConnectionState {
    fn drop(&mut self) {
        if self.lane.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lane.emptied.notify_waiters();
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
        self.0.served.store(true, Relaxed);
        self.0.quiet_since_ms.store(self.0.lane.now_ms(), Relaxed);
    }
}
