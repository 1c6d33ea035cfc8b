//! The threads and detached tasks of a process, watched: none of them ends unseen.
//!
//! Each has a name and a fate. An *essential* one is what the process is for: its end, by a
//! panic or a return, before the process is to stop ends the process with a message (G5). A
//! *restarted* one is a loop that can begin anew: it is started again after a pause, counted in
//! `inlet_thread_restarts_total{thread="NAME"}`, and the board's part `thread-NAME` is degraded
//! until it has run for a while.
//!
//! The panic's text is logged by the hook that [`log_panics`] sets; a value that a panic quotes is
//! left out of it.

use std::any::Any;
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context;
use inlet_core::health::{Health, State};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::stop::{Reason, Stop};
use crate::wire::{self, fail_point};

/// The longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest text of a panic that is told, in bytes.
const PANIC_BYTES_MAX: usize = 200;

thread_local! {
    /// The last panic of this thread, with its place in the source.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Starts threads and tasks, and acts on their ends. Clones share everything.
#[derive(Clone)]
pub(crate) struct Watched {
    stop: Stop,
    health: Health,
    /// The pause before the first restart; it doubles with each one that follows soon.
    pause_min: Duration,
    /// A loop that has run for this long works: its next restart begins with the shortest pause.
    steady: Duration,
}

/// A thread that was started.
#[derive(Debug)]
pub(crate) struct Thread {
    name: String,
    /// The panic it ended with, if it did.
    ended: oneshot::Receiver<Option<String>>,
}

impl Watched {
    /// Ends the process through `stop`, and reports to `health`.
    pub(crate) fn new(stop: Stop, health: Health) -> Self {
        let (pause_min, steady) = (Duration::from_millis(100), Duration::from_secs(10));
        Self { stop, health, pause_min, steady }
    }

    /// The same with a short time until a loop that was restarted works again.
    #[cfg(test)]
    pub(super) fn soon_steady(self) -> Self {
        Self { steady: Duration::from_millis(50), ..self }
    }

    /// Runs `body` on a thread and a runtime of its own. Its end before the stop ends the process.
    pub(crate) fn essential_thread<F: Future<Output = ()>>(
        &self,
        name: impl Into<String>,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> anyhow::Result<Thread> {
        let (watched, name) = (self.clone(), name.into());
        let named = name.clone();
        thread(name, async move || watched.essential(&named, body).await)
    }

    /// Runs the loop that `body` makes on a thread and a runtime of its own. It is started again
    /// when it ends before the stop.
    pub(crate) fn restarted_thread<F: Future<Output = ()>>(
        &self,
        name: impl Into<String>,
        body: impl FnMut() -> F + Send + 'static,
    ) -> anyhow::Result<Thread> {
        let (watched, name) = (self.clone(), name.into());
        let named = name.clone();
        thread(name, async move || watched.restarted(&named, body).await)
    }

    /// Runs `body`, which blocks, on a thread of its own. Its end before the stop ends the process.
    pub(crate) fn blocking_thread(
        &self,
        name: &'static str,
        body: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<()> {
        let watched = self.clone();
        let blocking = move || {
            let panic = catch_unwind(AssertUnwindSafe(|| {
                fail_point(name);
                body();
            }));
            watched.ended(name, panic.err().map(told));
        };
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(blocking);
        spawned.map(drop).with_context(|| format!("could not start the thread {name}"))
    }

    /// Runs `body` as a task on the present runtime. Its end before the stop ends the process.
    pub(crate) fn essential_task<F>(
        &self,
        name: &'static str,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let watched = self.clone();
        tokio::spawn(async move { drop(watched.essential(name, body).await) })
    }

    /// Runs the loop that `body` makes as a task on the present runtime. It is started again when
    /// it ends before the stop.
    pub(crate) fn restarted_task<F>(
        &self,
        name: &'static str,
        body: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let watched = self.clone();
        tokio::spawn(async move { drop(watched.restarted(name, body).await) })
    }

    /// Runs `work`, which comes to an end by itself, as a task on the present runtime. Only a panic
    /// in it ends the process.
    #[cfg(feature = "edge")]
    pub(crate) fn task(
        &self,
        name: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<()> {
        let watched = self.clone();
        tokio::spawn(async move {
            if let Err(panic) = caught(name, || work).await {
                watched.ended(name, Some(panic));
            }
        })
    }

    async fn essential<F: Future<Output = ()>>(
        &self,
        name: &str,
        body: impl FnOnce() -> F,
    ) -> Option<String> {
        let panic = caught(name, body).await.err();
        self.ended(name, panic.clone());
        panic
    }

    /// Ends the process, unless it is ending already.
    fn ended(&self, name: &str, panic: Option<String>) {
        let what = match panic {
            Some(panic) => format!("the thread {name} panicked: {panic}"),
            None => format!("the thread {name} ended before the process did"),
        };
        self.stop.now(Reason::Failed(what));
    }

    async fn restarted<F: Future<Output = ()>>(
        &self,
        name: &str,
        mut body: impl FnMut() -> F,
    ) -> Option<String> {
        let part = self.health.part(format!("thread-{name}"));
        let mut pause = self.pause_min;
        loop {
            let mut running = pin!(caught(name, &mut body));
            let early = tokio::select! {
                ended = &mut running => Some(ended),
                () = sleep(self.steady) => None,
            };
            let ended = match early {
                Some(ended) => ended,
                None => {
                    pause = self.pause_min;
                    part.works();
                    running.await
                }
            };
            if self.stop.is_now() {
                return ended.err();
            }
            let why = ended.err().unwrap_or_else(|| "it ended".to_owned());
            self.health.restarted(name);
            let hint = "this is a bug: please report it with the lines above";
            part.fails_as(State::Degraded, "panicked", &why, Some(hint));
            tokio::select! {
                _ = self.stop.wait() => return None,
                () = sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }
}

impl Thread {
    /// Waits until the thread has ended, `until` at the latest.
    ///
    /// # Errors
    /// Where it panicked, or has not ended by then.
    pub(crate) async fn join(self, until: Instant) -> anyhow::Result<()> {
        let Self { name, ended } = self;
        match timeout_at(until, ended).await {
            Ok(Ok(None)) => Ok(()),
            Ok(Ok(Some(panic))) => anyhow::bail!("the thread {name} panicked: {panic}"),
            Ok(Err(_)) => anyhow::bail!("the thread {name} panicked; its lines are above"),
            Err(_) => anyhow::bail!("the thread {name} did not end in time"),
        }
    }
}

fn thread<F: Future<Output = Option<String>>>(
    name: String,
    body: impl FnOnce() -> F + Send + 'static,
) -> anyhow::Result<Thread> {
    let runtime = wire::runtime()?;
    let (end, ended) = oneshot::channel();
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(move || {
        let panic = runtime.block_on(body());
        // A blocking call that hangs must not keep the thread.
        runtime.shutdown_background();
        // Nobody waits for it while the process is ended by another.
        drop(end.send(panic));
    });
    spawned.with_context(|| format!("could not start the thread {name}"))?;
    Ok(Thread { name, ended })
}

/// Runs what `body` makes; an error is the panic's text.
async fn caught<F: Future<Output = ()>>(
    name: &str,
    body: impl FnOnce() -> F,
) -> Result<(), String> {
    let mut running = pin!(async {
        fail_point(name);
        body().await;
    });
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(told(panic))),
    })
    .await
}

/// Logs each panic with its thread and place, in place of the line that Rust prints.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = format!("{} ({place})", text_of(panic.payload()));
        let current = std::thread::current();
        let thread = current.name().unwrap_or("unnamed");
        tracing::error!(thread, panic = text, "a panic");
        LAST_PANIC.with(|last| last.replace(text));
    }));
}

/// The panic that was caught just now on this thread, as the hook has seen it.
fn told(payload: Box<dyn Any + Send>) -> String {
    let seen = LAST_PANIC.with(|last| last.take());
    if seen.is_empty() { text_of(&*payload) } else { seen }
}

/// The first line of a panic's text, up to a text that it quotes: that may be a document's.
fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "a value that is no text",
    };
    let text = text.lines().next().unwrap_or_default();
    let text = text.split(" of `").next().unwrap_or_default();
    text.chars().take(PANIC_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use std::sync::Arc;

    use inlet_core::ports::SystemClock;

    use super::*;

    fn watched() -> (Watched, Stop, Health) {
        let (stop, health) = (Stop::new(), Health::new(Arc::new(SystemClock)));
        (Watched::new(stop.clone(), health.clone()), stop, health)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    async fn reason(stop: &Stop) -> String {
        match stop.wait().await {
            Reason::Failed(why) => why,
            Reason::Asked => panic!("it was not asked to stop"),
        }
    }

    #[tokio::test]
    async fn an_essential_thread_that_panics_ends_the_process_with_its_name_and_why() {
        let (watched, stop, _) = watched();
        let thread = watched.essential_thread("serve-0", || async { panic!("no more") }).unwrap();
        let why = reason(&stop).await;
        assert!(why.starts_with("the thread serve-0 panicked: no more"), "{why}");
        let joined = thread.join(soon()).await.unwrap_err().to_string();
        assert!(joined.contains("serve-0") && joined.contains("no more"), "{joined}");
    }

    #[tokio::test]
    async fn an_essential_thread_task_or_blocking_thread_that_ends_early_ends_the_process() {
        let (watched, stop, _) = watched();
        watched.essential_thread("serve-0", || async {}).unwrap();
        assert_eq!(reason(&stop).await, "the thread serve-0 ended before the process did");
        let (watched, stop, _) = super::tests::watched();
        watched.essential_task("log", || async {});
        assert_eq!(reason(&stop).await, "the thread log ended before the process did");
        let (watched, stop, _) = super::tests::watched();
        watched.blocking_thread("parent", || panic!("no more")).unwrap();
        let why = reason(&stop).await;
        assert!(why.starts_with("the thread parent panicked: no more"), "{why}");
    }

    #[tokio::test]
    async fn an_end_after_the_stop_is_no_failure() {
        let (watched, stop, health) = watched();
        let stopped = stop.clone();
        let essential = watched
            .essential_thread("serve-0", move || async move { drop(stopped.wait().await) })
            .unwrap();
        let stopped = stop.clone();
        let restarted = watched
            .restarted_thread("persist", move || {
                let stopped = stopped.clone();
                async move { drop(stopped.wait().await) }
            })
            .unwrap();
        stop.now(Reason::Asked);
        for thread in [essential, restarted] {
            thread.join(soon()).await.unwrap();
        }
        assert_eq!(stop.wait().await, Reason::Asked);
        assert!(health.restarts().is_empty());
    }

    #[tokio::test]
    async fn a_loop_that_ends_or_panics_is_started_again_after_pauses_that_double() {
        let (mut watched, stop, health) = watched();
        watched.pause_min = Duration::from_millis(10);
        let mut begun = 0_u32;
        let (starts, mut started) = tokio::sync::mpsc::unbounded_channel();
        let (go_on, gone_on) = tokio::sync::watch::channel(false);
        watched.restarted_task("tokens", move || {
            begun += 1;
            let (turn, starts, mut gone_on) = (begun, starts.clone(), gone_on.clone());
            async move {
                starts.send(Instant::now()).unwrap();
                match turn {
                    1 | 3 => panic!("no more"),
                    2 | 4 => {}
                    _ => drop(gone_on.wait_for(|on| *on).await),
                }
            }
        });
        let mut at = Vec::new();
        for _ in 0..5 {
            at.push(started.recv().await.unwrap());
        }
        for (index, two) in at.windows(2).enumerate() {
            assert!(two[1] - two[0] >= Duration::from_millis(10 << index), "{at:?}");
        }
        assert_eq!(health.restarts(), [("tokens".to_owned(), 4)]);
        assert_eq!(health.state(), State::Degraded);
        stop.now(Reason::Asked);
        go_on.send_replace(true);
    }

    #[tokio::test]
    async fn a_loop_that_runs_for_a_while_works_again() {
        let (mut watched, stop, health) = watched();
        (watched.pause_min, watched.steady) = (Duration::ZERO, Duration::from_millis(1));
        let mut begun = 0_u32;
        watched.restarted_task("tokens", move || {
            begun += 1;
            let panics = begun == 1;
            async move { if panics { panic!("no more") } else { std::future::pending().await } }
        });
        while health.restarts().is_empty() || health.state() != State::Ready {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(!stop.is_now());
    }

    #[tokio::test]
    async fn a_thread_that_does_not_end_is_not_waited_for_without_end() {
        let (watched, stop, _) = watched();
        let thread = watched.essential_thread("serve-0", std::future::pending::<()>).unwrap();
        stop.now(Reason::Asked);
        let joined = thread.join(Instant::now()).await.unwrap_err().to_string();
        assert_eq!(joined, "the thread serve-0 did not end in time");
    }

    #[test]
    fn what_a_panic_quotes_is_left_out() {
        let text = "secret value é".to_owned();
        let panic = catch_unwind(|| drop(text[..99].to_owned())).unwrap_err();
        let told = text_of(&*panic);
        assert!(!told.contains("secret") && told.contains("out of bounds"), "{told}");
    }
}
