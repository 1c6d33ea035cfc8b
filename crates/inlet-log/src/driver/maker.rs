//! A thread that makes the next segment before it is needed.

use std::io;
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use crate::committer::Wanted;
use crate::driver::Running;
use crate::driver::thread::unparks_this_thread;
use crate::log::Shared;

/// The wait after the first failure to make a segment.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait; each failure doubles it. Room that comes by itself is found this late.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// The interval at which a failure that goes on is logged.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Starts the thread. Where the system has none left, the log is poisoned: it could take no more
/// once the active segment is full.
pub(crate) fn start(running: Running) {
    let thread = thread::Builder::new().name("inlet-log-make".to_owned());
    if let Err(error) = thread.spawn(move || make_segments(&running)) {
        tracing::error!(%error, "no thread to make segments");
    }
}

fn make_segments(running: &Running) {
    let shared = running.shared();
    let waker = unparks_this_thread();
    let mut cx = Context::from_waker(&waker);
    let mut backoff = Backoff::default();
    loop {
        let wanted = match shared.with(|committer, _| committer.poll_wanted(&mut cx)) {
            Poll::Pending => {
                thread::park();
                continue;
            }
            Poll::Ready(Wanted::End) => return,
            Poll::Ready(wanted) => wanted,
        };
        // Whatever unparks this thread, it tries again only when that can help.
        if let Some(left) = backoff.left()
            && !shared.with(|committer, _| committer.take_room_came())
        {
            thread::park_timeout(left);
            continue;
        }
        // Another process may have drained for us; that makes room in the queue's limit too.
        if let Err(error) = shared.notice_released() {
            tracing::debug!(%error, "drained segments are not noticed");
        }
        let made = match wanted {
            Wanted::Segment => shared.make_segment(),
            Wanted::Room | Wanted::End => shared.make_roomier(),
        };
        match made {
            None if wanted == Wanted::Room => backoff.look_later(),
            None => {}
            Some(Ok(())) => backoff.succeeded(shared),
            // It stopped half-way because the log is being closed.
            Some(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Some(Err(error)) => backoff.failed(shared, &error),
        }
    }
}

/// The time of the next attempt, and of the last warning.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
    not_before: Option<Instant>,
    /// The time at which a failure was logged last.
    warned: Option<Instant>,
    /// True once the present failure was logged.
    told: bool,
}

impl Backoff {
    /// The time until the next attempt; nothing once it has come.
    fn left(&self) -> Option<Duration> {
        let left = self.not_before?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    fn look_later(&mut self) {
        self.not_before = Some(Instant::now() + RETRY_MAX);
    }

    fn succeeded(&mut self, shared: &Shared) {
        if std::mem::take(&mut self.told) {
            tracing::info!(dir = %shared.dir.display(), "segments are made again");
        }
        (self.failures, self.not_before) = (0, None);
    }

    fn failed(&mut self, shared: &Shared, error: &io::Error) {
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now.duration_since(warned) >= WARN_EVERY) {
            (self.warned, self.told) = (Some(now), true);
            let dir = shared.dir.display();
            tracing::warn!(%error, %dir, "the next segment can't be made; trying again");
        }
        let wait = RETRY_MIN.saturating_mul(1 << self.failures.min(10)).min(RETRY_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
    }
}
