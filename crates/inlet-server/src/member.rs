//! A connection as its lane knows it: counted, and woken when the lane is to finish or to close.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Waker};

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::deadline::Deadlines;
use crate::server::ServerOptions;

/// The state that the connections of a lane share.
#[derive(Debug)]
pub(crate) struct LaneState {
    options: Arc<ServerOptions>,
    draining_since: OnceLock<Instant>,
    stage: AtomicU8,
    /// Whom to wake, for each connection that is open.
    members: Mutex<Slab<Option<Waker>>>,
    emptied: Notify,
}

const OPEN: u8 = 0;
const DRAINING: u8 = 1;
const CLOSED: u8 = 2;

/// One open connection of a lane; dropped with it.
#[derive(Debug)]
pub(crate) struct Member {
    lane: Arc<LaneState>,
    key: usize,
    is_watching: bool,
}

impl LaneState {
    pub(crate) fn new(options: Arc<ServerOptions>) -> Self {
        Self {
            options,
            draining_since: OnceLock::new(),
            stage: AtomicU8::new(OPEN),
            members: Mutex::default(),
            emptied: Notify::new(),
        }
    }

    pub(crate) fn options(&self) -> &ServerOptions {
        &self.options
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.options.deadlines
    }

    /// Takes a connection in.
    pub(crate) fn join(self: &Arc<Self>) -> Member {
        let key = self.members().insert(None);
        Member { lane: Arc::clone(self), key, is_watching: false }
    }

    /// Tells every connection, also those yet to come, to finish what it has.
    pub(crate) fn drain(&self) {
        self.draining_since.get_or_init(Instant::now);
        self.stage.fetch_max(DRAINING, Relaxed);
        self.wake_all();
    }

    /// Tells every connection to close at once.
    pub(crate) fn close(&self) {
        self.stage.fetch_max(CLOSED, Relaxed);
        self.wake_all();
    }

    /// Returns once no connection is open.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.members().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.members().iter().filter_map(|(_, waker)| waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    fn members(&self) -> MutexGuard<'_, Slab<Option<Waker>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    pub(crate) fn lane(&self) -> &LaneState {
        &self.lane
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        self.lane.deadlines()
    }

    /// Remembers whom to wake. A task's waker never changes, so the first one is good for all.
    pub(crate) fn watch(&mut self, cx: &Context<'_>) {
        if !self.is_watching {
            self.is_watching = true;
            if let Some(waker) = self.lane.members().get_mut(self.key) {
                *waker = Some(cx.waker().clone());
            }
        }
    }

    /// Since when the connection is to finish what it has, if it is.
    pub(crate) fn draining_since(&self) -> Option<Instant> {
        // The stage is looked at first, since that is what every request asks.
        (self.lane.stage.load(Relaxed) >= DRAINING)
            .then(|| self.lane.draining_since.get().copied())
            .flatten()
    }

    /// Returns true if the connection is to close at once.
    pub(crate) fn is_closed(&self) -> bool {
        self.lane.stage.load(Relaxed) == CLOSED
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut members = self.lane.members();
        members.try_remove(self.key);
        if members.is_empty() {
            drop(members);
            self.lane.emptied.notify_waiters();
        }
    }
}
