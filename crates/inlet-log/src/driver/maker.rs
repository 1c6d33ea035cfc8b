//! A thread that makes the next segment before it is needed.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::driver::Running;
use crate::driver::thread::unparks_this_thread;

/// How long it waits after the first failure to make a segment.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// How long it waits at most; each failure doubles the wait.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Starts the thread. Where the system has none left, no segment is made ahead, and appends say
/// so once the active one is full.
pub(crate) fn start(running: Running) {
    let thread = std::thread::Builder::new().name("inlet-log-make".to_owned());
    if let Err(error) = thread.spawn(move || make_segments(&running)) {
        tracing::error!(%error, "no thread to make segments: the log will take no more soon");
    }
}

fn make_segments(running: &Running) {
    let shared = running.shared();
    let waker = unparks_this_thread();
    let mut cx = Context::from_waker(&waker);
    let mut wait = RETRY_MIN;
    loop {
        match shared.with(|committer, _| committer.poll_wanted(&mut cx)) {
            Poll::Pending => {
                std::thread::park();
                continue;
            }
            Poll::Ready(false) => return,
            Poll::Ready(true) => {}
        }
        // Another process may have drained for us; that makes room in the queue's limit too.
        if let Err(error) = shared.notice_released() {
            tracing::warn!(%error, "drained segments are not noticed");
        }
        match shared.make_segment() {
            None => {}
            Some(Ok(())) => wait = RETRY_MIN,
            // It stopped half-way because the log is being closed.
            Some(Err(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Some(Err(error)) => {
                tracing::warn!(%error, dir = %shared.dir.display(), "the next segment can't be made");
                shared.with(|committer, _| committer.wait_for_room(&waker));
                std::thread::park_timeout(wait);
                wait = RETRY_MAX.min(wait * 2);
            }
        }
    }
}
