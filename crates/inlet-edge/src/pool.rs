//! Connections to a backend, kept for the next request.
//!
//! Each runtime thread (lane) keeps its own, because a connection is driven by the thread that
//! made it: using it from another would wake two threads for each request. Which lane a thread is
//! on it learns at its first request and keeps.

mod connect;
mod outgoing;
mod wire;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use connect::BackendTlsError;
pub(crate) use connect::{Connection, Connector};
pub(crate) use outgoing::{ClientBody, Outgoing, Upload, UploadFault};

use crate::options::ConnectionOptions;
use crate::padded::Padded;

/// How many of the latest idle connections are looked at for one that is ready.
const LOOKS_MAX: usize = 4;

static LANES_SEEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LANE: usize = LANES_SEEN.fetch_add(1, Ordering::Relaxed);
}

/// The lane this thread is on: a number of its own, counted from 0.
pub(crate) fn lane() -> usize {
    LANE.with(|lane| *lane)
}

/// The idle connections to one backend.
pub(crate) struct Pool {
    lanes: Box<[Padded<Mutex<VecDeque<Idle>>>]>,
    idle_max: usize,
    idle: Duration,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(lanes: usize, options: &ConnectionOptions) -> Self {
        let lanes = (0..lanes.max(1)).map(|_| Padded::default()).collect();
        Self { lanes, idle_max: options.idle_max, idle: Duration::from_millis(options.idle_ms) }
    }

    /// A connection that is ready for a request, the one used last first, so that in quiet times
    /// the others grow old and are closed.
    pub(crate) fn take(&self, now: Instant) -> Option<Connection> {
        let mut lane = self.lane();
        let mut busy: [Option<Idle>; LOOKS_MAX] = [const { None }; LOOKS_MAX];
        let mut looks = 0;
        let mut found = None;
        while looks < LOOKS_MAX
            && let Some(idle) = lane.pop_back()
        {
            if idle.connection.is_closed() || now.duration_since(idle.since) >= self.idle {
                continue;
            }
            if idle.connection.is_ready() {
                found = Some(idle.connection.reused());
                break;
            }
            // Its last answer is being finished; it is ready a moment from now.
            busy[looks] = Some(idle);
            looks += 1;
        }
        lane.extend(busy.into_iter().flatten());
        found
    }

    /// Keeps a connection whose answer has been read whole.
    pub(crate) fn put(&self, connection: Connection, now: Instant) {
        if connection.is_closed() {
            return;
        }
        let mut lane = self.lane();
        if lane.len() >= self.idle_max {
            lane.pop_front();
        }
        lane.push_back(Idle { connection, since: now });
    }

    /// Closes what has been idle for too long, or is closed already.
    pub(crate) fn expire(&self, now: Instant) {
        for lane in self.lanes.iter() {
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            lane.retain(|idle| {
                !idle.connection.is_closed() && now.duration_since(idle.since) < self.idle
            });
        }
    }

    /// Closes all idle connections.
    pub(crate) fn clear(&self) {
        for lane in self.lanes.iter() {
            lane.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// How many are idle.
    pub(crate) fn idle(&self) -> usize {
        let lanes = self.lanes.iter();
        lanes.map(|lane| lane.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn lane(&self) -> std::sync::MutexGuard<'_, VecDeque<Idle>> {
        let lane = lane() % self.lanes.len();
        self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
