//! A thread that writes groups and calls `fdatasync`.

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tokio::sync::oneshot;

use crate::committer::Committer;
use crate::driver::Running;
use crate::error::Poison;
use crate::log::write_and_sync;

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The waker of the thread that calls.
pub(crate) fn unparks_this_thread() -> Waker {
    Arc::new(Unpark(std::thread::current())).into()
}

/// Starts the thread; what is given back comes when it has ended.
pub(crate) fn start(running: Running) -> oneshot::Receiver<()> {
    let (ended, end) = oneshot::channel();
    let shared = Arc::clone(&running.shared);
    let thread = std::thread::Builder::new().name("inlet-log-write".to_owned());
    let spawned = thread.spawn(move || {
        // Dropped in this order, so that whoever hears of the end finds the driver gone.
        let _ended = ended;
        write_groups(&running);
        drop(running);
    });
    if let Err(source) = spawned {
        let poison = Poison { attempted: "start a thread to write", path: shared.path(), source };
        shared.with(|committer, wake| committer.set_poison(poison, wake));
    }
    end
}

fn write_groups(running: &Running) {
    let shared = running.shared();
    let waker = unparks_this_thread();
    let mut cx = Context::from_waker(&waker);
    loop {
        match shared.with(|committer, wake| Committer::poll_write(committer, &mut cx, wake)) {
            Poll::Pending => std::thread::park(),
            Poll::Ready(None) => return,
            Poll::Ready(Some(write)) => {
                let result = write_and_sync(&write);
                shared.complete(write, result);
            }
        }
    }
}
