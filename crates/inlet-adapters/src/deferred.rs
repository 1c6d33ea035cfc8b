//! Engines that open now or later, and report their health.
//!
//! A process that opens its engines before its door would keep the door closed while one of them
//! is away: a restart during an outage would close it (G7). Behind a [`Deferred`] the process
//! starts at once. Until the engine is open every call fails at once, with the failure of the last
//! attempt to open it; [`Deferred::keep`] goes on trying, whatever that failure was.
//!
//! The result of each call goes to a [`Part`](inlet_core::health::Part) of the board, so that readiness, metrics and the log
//! have the state of each engine, and since when.

mod bucket;
mod queue;
mod reports;
mod secrets;
mod store;

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use inlet_core::failure::{Failure, FailureKind};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use self::reports::{Direction, Reports};

/// The pause after the first attempt to open that failed; it doubles with each that follows.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two attempts to open.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The time between two looks at an engine that works.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// The time between two looks at an engine that fails.
const LOOK_SOON: Duration = Duration::from_millis(500);
/// The longest an engine may take to answer a look before it counts as away.
const LOOK_MAX: Duration = Duration::from_secs(2);

/// One attempt to open an engine.
pub type Opening<T> = Pin<Box<dyn Future<Output = Result<Arc<T>, Failure>> + Send>>;

/// A cheap question to an engine that is open.
type Question<T> = fn(Arc<T>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;

/// An engine behind a port that is opened now or later. Clones are the same engine.
///
/// It implements the port of `T`: [`Store`](inlet_core::ports::Store),
/// [`Bucket`](inlet_core::ports::Bucket), [`Secrets`](inlet_core::ports::Secrets) or
/// [`Queue`](inlet_core::ports::Queue).
pub struct Deferred<T: ?Sized>(Arc<Shared<T>>);

struct Shared<T: ?Sized> {
    open: Box<dyn Fn() -> Opening<T> + Send + Sync>,
    question: Option<Question<T>>,
    /// Set if the question is asked while the engine works, too.
    is_asked_always: bool,
    engine: RwLock<Option<Arc<T>>>,
    /// The failure of the last attempt, until one succeeds.
    last: Mutex<Option<Told>>,
    first: Mutex<First>,
    first_came: Notify,
    /// Wakes [`Deferred::keep`] when the engine was let go.
    let_go: Notify,
    /// The answer that is waited for, by all who ask at the same time.
    answer: Mutex<Option<watch::Receiver<Option<Answer>>>>,
    reports: Reports,
}

/// The outcome of the first attempt, for [`Deferred::first`].
#[derive(Default)]
enum First {
    #[default]
    Pending,
    Came(Result<(), Failure>),
    Taken,
}

type Answer = Result<(), Told>;

/// A failure that is told more than once.
#[derive(Debug, Clone)]
struct Told {
    kind: FailureKind,
    text: String,
    hint: Option<String>,
}

impl Told {
    fn of(failure: &Failure) -> Self {
        let hint = failure.hint_text().map(str::to_owned);
        Self { kind: failure.kind(), text: failure.chain(), hint }
    }

    fn again(&self, attempted: &'static str, subject: &str) -> Failure {
        let failure = Failure::new(self.kind, attempted, subject).because(self.text.clone());
        match &self.hint {
            Some(hint) => failure.hint(hint.clone()),
            None => failure,
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Deferred<T> {
    fn new(
        reports: Reports,
        question: Option<Question<T>>,
        is_asked_always: bool,
        open: impl Fn() -> Opening<T> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Shared {
            open: Box::new(open),
            question,
            is_asked_always,
            engine: RwLock::new(None),
            last: Mutex::new(None),
            first: Mutex::default(),
            first_came: Notify::new(),
            let_go: Notify::new(),
            answer: Mutex::new(None),
            reports,
        }))
    }

    /// Waits until the first attempt that [`keep`](Self::keep) makes has come to its end, for
    /// `within` at most. `None` where it has not by then: the attempt goes on.
    pub async fn first(&self, within: Duration) -> Option<Result<(), Failure>> {
        let came = async {
            loop {
                let notified = self.0.first_came.notified();
                let first = std::mem::take(&mut *lock(&self.0.first));
                match first {
                    First::Pending => notified.await,
                    First::Came(outcome) => {
                        *lock(&self.0.first) = First::Taken;
                        return Some(outcome);
                    }
                    First::Taken => return None,
                }
            }
        };
        timeout(within, came).await.ok().flatten()
    }

    /// Makes one attempt to open the engine, unless it is open. For a process without
    /// [`keep`](Self::keep), as a function is.
    ///
    /// # Errors
    /// The attempt's failure, or [`FailureKind::Unavailable`] where it takes longer than `within`.
    pub async fn attempt(&self, within: Duration) -> Result<(), Failure> {
        if self.engine().is_some() {
            return Ok(());
        }
        let opened = timeout(within, (self.0.open)()).await;
        self.note(opened.unwrap_or_else(|_| Err(self.silent("open", within))))
    }

    /// Opens the engine, however many attempts it takes, opens it anew when it was poisoned, and
    /// asks it from time to time whether it answers. It never returns; dropped, it stops.
    pub async fn keep(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            if self.engine().is_none() {
                let opened = self.note(self.patiently_opened().await);
                let is_open = opened.is_ok();
                self.came(opened);
                if is_open {
                    pause = PAUSE_MIN;
                } else {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
                continue;
            }
            let is_failing = self.0.reports.is_failing();
            let every = if is_failing { LOOK_SOON } else { LOOK_EVERY };
            tokio::select! {
                () = self.0.let_go.notified() => {}
                () = sleep(every) => if is_failing || self.0.is_asked_always {
                    // Reported; nobody waits for it here.
                    drop(self.ask().await);
                }
            }
        }
    }

    /// The outcome of an attempt, however long it takes; one that hangs is reported meanwhile.
    async fn patiently_opened(&self) -> Result<Arc<T>, Failure> {
        let mut opening = (self.0.open)();
        loop {
            tokio::select! {
                opened = &mut opening => return opened,
                () = sleep(LOOK_MAX) => {
                    self.0.reports.not_opened(&self.silent("open", LOOK_MAX));
                }
            }
        }
    }

    fn name(&self) -> &str {
        self.0.reports.name()
    }

    fn silent(&self, attempted: &'static str, within: Duration) -> Failure {
        Failure::new(FailureKind::Unavailable, attempted, self.name())
            .because(format!("no answer within {} ms", within.as_millis()))
    }

    fn engine(&self) -> Option<Arc<T>> {
        self.0.engine.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The engine once it is open; until then the failure of the last attempt to open it.
    fn opened(&self) -> Result<Arc<T>, Failure> {
        self.engine().ok_or_else(|| match &*lock(&self.0.last) {
            // It may be opened later, whatever a person has to do about it.
            Some(last) if last.kind == FailureKind::Refused => {
                Told { kind: FailureKind::Denied, ..last.clone() }.again("reach", self.name())
            }
            Some(last) => last.again("reach", self.name()),
            None => Failure::new(FailureKind::Unavailable, "reach", self.name())
                .because("it is being opened"),
        })
    }

    /// Reports the result of a call to `engine`. An engine that can no longer vouch for what it
    /// holds is let go, and opened anew.
    fn seen<R>(
        &self,
        direction: Direction,
        engine: &Arc<T>,
        result: Result<R, Failure>,
    ) -> Result<R, Failure> {
        self.0.reports.seen(direction, result.as_ref().err());
        if result.as_ref().is_err_and(|failure| failure.kind() == FailureKind::Poisoned) {
            let mut open = self.0.engine.write().unwrap_or_else(PoisonError::into_inner);
            if open.take_if(|open| Arc::ptr_eq(open, engine)).is_some() {
                self.0.reports.restarted();
                self.0.let_go.notify_one();
            }
        }
        result
    }

    /// Succeeds if the engine answers. All who ask while an answer is waited for get the same one,
    /// and nobody who stops waiting cuts it off.
    async fn ask(&self) -> Result<(), Failure> {
        let engine = self.opened()?;
        let Some(question) = self.0.question else { return Ok(()) };
        let mut answer = {
            let mut answer = lock(&self.0.answer);
            match &*answer {
                Some(waited) if waited.has_changed().is_ok() && waited.borrow().is_none() => {
                    waited.clone()
                }
                _ => {
                    let (tell, told) = watch::channel(None);
                    let asking = self.clone();
                    tokio::spawn(async move {
                        let asked = timeout(LOOK_MAX, question(Arc::clone(&engine))).await;
                        let asked = asked.unwrap_or_else(|_| Err(asking.silent("ask", LOOK_MAX)));
                        let asked = asking.seen(Direction::Read, &engine, asked);
                        tell.send_replace(Some(asked.map_err(|failure| Told::of(&failure))));
                    });
                    *answer = Some(told.clone());
                    told
                }
            }
        };
        let answer = match answer.wait_for(Option::is_some).await {
            Ok(answer) => (*answer).clone(),
            Err(_) => None,
        };
        let answer = answer.unwrap_or_else(|| Err(Told::of(&self.silent("ask", LOOK_MAX))));
        answer.map_err(|told| told.again("ask", self.name()))
    }

    /// Fails where a call found damage a while ago, though the engine answers.
    fn damage(&self) -> Result<(), Failure> {
        if !self.0.reports.is_damaged() {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Damaged, "trust", self.name())
            .because("a call found what was not written so; the log says which"))
    }

    fn note(&self, opened: Result<Arc<T>, Failure>) -> Result<(), Failure> {
        match opened {
            Ok(engine) => {
                *self.0.engine.write().unwrap_or_else(PoisonError::into_inner) = Some(engine);
                *lock(&self.0.last) = None;
                self.0.reports.opened();
                Ok(())
            }
            Err(failure) => {
                *lock(&self.0.last) = Some(Told::of(&failure));
                self.0.reports.not_opened(&failure);
                Err(failure)
            }
        }
    }

    fn came(&self, outcome: Result<(), Failure>) {
        let mut first = lock(&self.0.first);
        if matches!(*first, First::Pending) {
            *first = First::Came(outcome);
            self.0.first_came.notify_waiters();
        }
    }
}

impl<T: ?Sized> Clone for Deferred<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> fmt::Debug for Deferred<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deferred").field(&self.0.reports.name()).finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
