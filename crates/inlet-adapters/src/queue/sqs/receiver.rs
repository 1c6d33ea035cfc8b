//! Documents out of SQS.
//!
//! Messages are received by tasks of their own (*polls*), which go on whether or not anybody
//! waits for what they bring: a receive that is dropped half-way has nothing in its hands, and a
//! long poll outlasts many short waits. One poll runs while little comes; more join it as long as
//! calls come back full.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::Client;
use bytes::Bytes;
use inlet_core::document::{Document, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BatchLimit, Delivered, Delivery, Undecodable};
use tokio::sync::{Notify, OnceCell, watch};
use tokio::time::{self, Instant};

use super::SqsOptions;
use super::held::{Held, Holdings, Source};
use super::message::Read;
use super::poll::Poll;
use super::{lease, settle};
use crate::overflow::Overflow;

/// How long nobody may ask for messages before what is held goes back to SQS: far longer than a
/// store takes for a batch, and than the pauses while a store is away.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(600);

/// Where messages are received from.
#[derive(Debug)]
pub(super) struct Place {
    /// The URL of the queue.
    pub(super) url: String,
    /// The dead-letter queue of its redrive policy, if it has one.
    pub(super) dead_letters: Option<DeadLetters>,
    /// How long SQS keeps a received message from others.
    pub(super) visibility: Duration,
}

#[derive(Debug)]
pub(super) struct DeadLetters {
    pub(super) name: String,
    pub(super) account: String,
    /// Its URL, once it was found.
    pub(super) url: OnceCell<String>,
    /// Why its messages are there.
    pub(super) why: String,
}

/// Receives and settles.
pub(super) struct Receiver {
    shared: Arc<Shared>,
    /// Dropped with this, which ends all tasks.
    _running: watch::Sender<()>,
}

pub(super) struct Shared {
    pub(super) client: Client,
    pub(super) place: Place,
    pub(super) options: SqsOptions,
    pub(super) overflow: Overflow,
    pub(super) arrived: Notify,
    stopped: watch::Receiver<()>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) holdings: Holdings,
    /// How many polls run, and how many should as long as there is room for what they bring.
    pub(super) polls: usize,
    pub(super) polls_wanted: usize,
    /// What the last delivery could bring: as much is fetched ahead.
    pub(super) limit: Option<BatchLimit>,
    /// What the last poll failed with, until it is told.
    pub(super) failed: Option<Failure>,
    pub(super) keeps_leases: bool,
    pub(super) asked: Option<Instant>,
    dead_letters_at: Option<Instant>,
}

impl State {
    /// Whether a further poll should run.
    pub(super) fn is_poll_due(&self) -> bool {
        let room = self.limit.is_some_and(|limit| !self.holdings.fills(limit));
        room && self.failed.is_none() && self.polls < self.polls_wanted.max(1)
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `task` until it is done or the queue is dropped.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut stopped = self.stopped.clone();
        tokio::spawn(async move {
            tokio::select! {
                // Nothing is ever sent: it ends with the sender.
                _ = stopped.changed() => {}
                () = task => {}
            }
        });
    }

    /// The URL of that queue. Nothing is held of a dead-letter queue that was not found yet.
    pub(super) fn url(&self, source: Source) -> &str {
        let dead_letters =
            self.place.dead_letters.as_ref().filter(|_| source == Source::DeadLetters);
        dead_letters.and_then(|it| it.url.get()).unwrap_or(&self.place.url)
    }

    /// The URL of that queue, which is asked for where it is not known yet.
    pub(super) async fn find_url(&self, source: Source) -> Result<&str, Failure> {
        let (Source::DeadLetters, Some(dead_letters)) = (source, &self.place.dead_letters) else {
            return Ok(&self.place.url);
        };
        let DeadLetters { name, account, .. } = dead_letters;
        let found = dead_letters
            .url
            .get_or_try_init(|| super::find(&self.client, name, Some(account), name));
        found.await.map(String::as_str)
    }
}

impl Receiver {
    pub(super) fn new(
        client: Client,
        place: Place,
        options: SqsOptions,
        overflow: Overflow,
    ) -> Self {
        let (running, stopped) = watch::channel(());
        let (arrived, state) = (Notify::new(), Mutex::default());
        let shared = Shared { client, place, options, overflow, arrived, stopped, state };
        Self { shared: Arc::new(shared), _running: running }
    }

    /// The time at which the oldest document that was received and is not settled was accepted.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.shared.state().holdings.oldest()
    }

    /// The next documents: those of the last delivery that were not settled before all others.
    pub(super) async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        let shared = &self.shared;
        let deadline = Instant::now() + limit.wait;
        shared.state().holdings.take_back();
        let mut gather_until: Option<Instant> = None;
        loop {
            let arrived = shared.arrived.notified();
            let wait_until = {
                let mut state = shared.state();
                state.asked = Some(Instant::now());
                state.limit = Some(limit);
                self.look_for_dead_letters(&mut state);
                let (now, ready) = (Instant::now(), state.holdings.ready() > 0);
                // A poll that came back less than full has told that there is no more.
                let gathered = state.polls_wanted <= 1 || gather_until.is_some_and(|at| at <= now);
                if ready && (state.holdings.fills(limit) || gathered) {
                    break;
                }
                // Only now, with empty hands: what a call brings to a worker that ends while it
                // stores would be kept from others for nothing.
                while state.is_poll_due() {
                    Poll::start(shared, &mut state, Source::Queue);
                }
                if !ready {
                    if let Some(failure) = state.failed.take() {
                        return Err(failure);
                    }
                    if deadline <= now {
                        return Ok(Delivery::default());
                    }
                    deadline
                } else {
                    let gather = Duration::from_millis(shared.options.gather_ms);
                    *gather_until.get_or_insert(now + gather)
                }
            };
            tokio::select! {
                () = arrived => {}
                () = time::sleep_until(wait_until) => {}
            }
        }
        let given = shared.state().holdings.give(limit);
        self.deliver(given).await
    }

    /// Deletes the messages whose documents are all settled.
    pub(super) async fn settle(&self, delivery: &Delivery) -> Result<(), Failure> {
        let settled = {
            let mut state = self.shared.state();
            state.asked = Some(Instant::now());
            state.holdings.settle(delivery.messages.iter().map(|message| &*message.handle))
        };
        settle::delete(&self.shared, settled).await
    }

    /// Gives back to SQS what is held, so that another worker has it at once.
    pub(super) async fn release(&self) {
        let held = self.shared.state().holdings.take_all();
        lease::release(&self.shared, held).await;
    }

    fn look_for_dead_letters(&self, state: &mut State) {
        let now = Instant::now();
        let due = state.dead_letters_at.is_none_or(|at| at <= now);
        if due && self.shared.place.dead_letters.is_some() && state.failed.is_none() {
            let every = Duration::from_millis(self.shared.options.dead_letters_ms);
            state.dead_letters_at = Some(now + every);
            Poll::start(&self.shared, state, Source::DeadLetters);
        }
    }

    /// A delivery of these, with the bodies that are in the bucket. Those that can't be read yet
    /// hold up no other: they are put off.
    async fn deliver(&self, given: Vec<Held>) -> Result<Delivery, Failure> {
        let mut failed = None;
        let mut messages: Vec<Delivered> = Vec::with_capacity(given.len());
        let why = self.shared.place.dead_letters.as_ref().map_or("", |it| &it.why);
        for mut held in given {
            if let Read::Elsewhere { document, key, .. } = &held.read {
                match self.shared.overflow.get(key).await {
                    Ok(body) => {
                        let document = document.clone();
                        held.read = Read::Here(with_body(document, key, body));
                        let mut state = self.shared.state();
                        state.holdings.found(&held.handle(), held.read.clone());
                    }
                    Err(failure) if !failure.is_retryable() => {
                        let mut unreadable = no_body(document, key);
                        unreadable.cause = failure.to_string();
                        held.read = Read::Here(Err(unreadable));
                    }
                    Err(failure) => {
                        self.shared.state().holdings.put_off(&held.handle());
                        failed = Some(failure);
                        continue;
                    }
                }
            }
            messages.extend(self.shared.state().holdings.delivered(&held, why));
        }
        match failed {
            Some(failure) if messages.is_empty() => Err(failure),
            _ => Ok(Delivery { messages, cursor: None }),
        }
    }
}

/// The document with the body that was found for it; without one it is none.
pub(super) fn with_body(
    document: Document,
    key: &str,
    body: Option<Bytes>,
) -> Result<Document, Undecodable> {
    match body {
        Some(body) => Ok(Document { body, ..document }),
        None => Err(no_body(&document, key)),
    }
}

fn no_body(document: &Document, key: &str) -> Undecodable {
    let pointer = serde_json::json!({ "id": document.id.to_string(), "inlet-overflow": key });
    Undecodable {
        payload: Bytes::from(pointer.to_string()),
        cause: format!("its body is no longer in the bucket at {key}"),
    }
}

/// What it means that a queue is asked to receive by a handle that only sends.
pub(super) fn sends_only(url: &str) -> Failure {
    Failure::new(FailureKind::Refused, "receive by a handle that only sends to", url)
}
