//! What drives a log: one that writes groups, and a thread that makes segments ahead.
//!
//! There are two writers of groups over the same state machine. `uring` is a task on the runtime
//! that serves: it hands a group to the kernel and is told by the kernel when it is durable, so
//! no other thread is woken for a batch; the waiters of a whole group are woken in one go on the
//! thread they run on. `thread` is the plain one, for everywhere else (`durability.rs`).

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use crate::disk::Disk;
use crate::durability::Method;
use crate::error::{DriveError, Poison};
use crate::log::{Log, Shared};

mod maker;
mod thread;
#[cfg(target_os = "linux")]
mod uring;

impl Log {
    /// Drives the log until it is closed or poisoned. The future is to be spawned on the runtime
    /// that serves, the first of them where there are several; with `io_uring` it writes the
    /// groups itself, otherwise it waits for the thread that does, which this call starts. When
    /// it has ended, nothing drives the log any more.
    ///
    /// Where it is dropped before it ends and writes groups itself, the log is poisoned.
    ///
    /// # Errors
    ///
    /// [`DriveError`], at its end: a write or a sync failed, or the log is driven already.
    pub fn drive(&self) -> impl Future<Output = Result<(), DriveError>> + Send + 'static + use<> {
        let shared = Arc::clone(self.shared());
        let started = start(&shared);
        async move {
            match started? {
                Writer::Thread(ended) => {
                    // An error says that the thread is gone, which is what is waited for.
                    ended.await.unwrap_or_default();
                }
                #[cfg(target_os = "linux")]
                Writer::Uring(running) => uring::run(&shared, running).await,
            }
            shared.drivers.ended().await;
            let poison = shared.with(|committer, _| committer.poison().cloned());
            poison.map_or(Ok(()), |poison| Err(poison.into()))
        }
    }
}

enum Writer {
    Thread(tokio::sync::oneshot::Receiver<()>),
    #[cfg(target_os = "linux")]
    Uring(Running),
}

fn start(shared: &Arc<Shared>) -> Result<Writer, DriveError> {
    let Some((writer, maker)) = Drivers::start(shared) else {
        return Err(DriveError::Twice { dir: Arc::clone(&shared.dir) });
    };
    maker::start(maker);
    #[cfg(target_os = "linux")]
    if shared.durability.method == Method::IoUring {
        return Ok(Writer::Uring(writer));
    }
    Ok(Writer::Thread(thread::start(writer)))
}

/// Returns true if the system supports `io_uring` writes in this directory. It says nothing about
/// what the file system keeps.
pub(crate) fn can_uring(disk: &dyn Disk, dir: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        uring::probe(disk, dir)
            .inspect_err(|error| {
                tracing::debug!(%error, dir = %dir.display(), "no io_uring here, a thread writes");
            })
            .is_ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _: (&dyn Disk, &Path) = (disk, dir);
        false
    }
}

/// How many drive a log, and who waits for them to end.
#[derive(Debug, Default)]
pub(crate) struct Drivers(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    started: bool,
    running: usize,
    waiting: Vec<Waker>,
}

/// A driver that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    shared: Arc<Shared>,
    writes: bool,
}

impl Running {
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Running {
    /// A driver that ends before the log does leaves appends that nobody would ever answer.
    fn drop(&mut self) {
        self.shared.with(|committer, wake| {
            let early = if self.writes { !committer.is_ended() } else { committer.is_open() };
            if early {
                let source = std::io::Error::other("what drives the log ended before the log did");
                let (attempted, path) = ("go on writing to", self.shared.path());
                committer.set_poison(Poison { attempted, path, source }, wake);
            }
        });
        let mut count = self.shared.drivers.count();
        count.running -= 1;
        if count.running == 0 {
            let waiting = std::mem::take(&mut count.waiting);
            drop(count);
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drivers {
    fn start(shared: &Arc<Shared>) -> Option<(Running, Running)> {
        let mut count = shared.drivers.count();
        if std::mem::replace(&mut count.started, true) {
            return None;
        }
        count.running = 2;
        let running = |writes| Running { shared: Arc::clone(shared), writes };
        Some((running(true), running(false)))
    }

    /// Waits until none runs.
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|cx| {
            let mut count = self.count();
            if count.running == 0 {
                return Poll::Ready(());
            }
            if !count.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                count.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().expect("counting does not panic")
    }
}
