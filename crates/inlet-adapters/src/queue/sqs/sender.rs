//! Documents into SQS: many callers, few calls.
//!
//! A document that comes while nothing is being sent goes at once, alone. While a call runs, what
//! comes waits for its end or until there is a full batch; so nothing lingers when there is little
//! to do, and calls are full when there is much. When more wait than a batch has messages, a
//! message carries several documents.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_sqs::Client;
use inlet_core::failure::{Failure, FailureKind};
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use super::message::Parcel;
use super::send_call::{self, SendError};
use super::{MESSAGE_BYTES_MAX, SqsOptions};

/// How many messages SQS takes with one call.
pub(super) const CALL_MESSAGES_MAX: usize = 10;
/// Up to how many bytes documents share a message: SQS bills each 64 KiB as a request.
const SHARED_BYTES_MAX: usize = 64 << 10;
/// For how long nothing is taken after a call failed; then the next document tries again.
const REST: Duration = Duration::from_millis(250);

/// A document that waits to be sent, and who waits for that.
pub(super) struct Waiting {
    pub(super) parcel: Parcel,
    pub(super) reply: oneshot::Sender<Result<(), SendError>>,
}

/// The documents of one message each.
pub(super) type Call = Vec<Vec<Waiting>>;

/// Sends what callers give it.
#[derive(Clone)]
pub(super) struct Sender(Arc<Shared>);

struct Shared {
    client: Client,
    url: String,
    options: SqsOptions,
    /// The most bytes of a message; the queue may have told of a smaller limit than was known.
    bytes_max: AtomicUsize,
    state: Mutex<State>,
}

/// Why documents were not sent.
#[derive(Debug)]
pub(super) enum SendFailed {
    /// The documents at these indexes are in messages that are larger than the queue allows, which
    /// is known now; all others were accepted.
    TooLarge(Vec<usize>),
    /// Anything else.
    Failure(Failure),
}

impl From<Failure> for SendFailed {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How many calls run.
    calls: usize,
    rests_until: Option<Instant>,
}

impl Sender {
    /// Sends to the queue at `url`, which takes messages of `bytes_max` bytes.
    pub(super) fn new(client: Client, url: String, options: SqsOptions, bytes_max: usize) -> Self {
        let (bytes_max, state) = (AtomicUsize::new(bytes_max), Mutex::default());
        Self(Arc::new(Shared { client, url, options, bytes_max, state }))
    }

    /// Notes that the queue takes messages of `bytes_max` bytes at most.
    pub(super) fn limit_message(&self, bytes_max: usize) {
        self.0.bytes_max.fetch_min(bytes_max, Ordering::Relaxed);
    }

    /// The most bytes of a message.
    pub(super) fn bytes_max(&self) -> usize {
        self.0.bytes_max()
    }

    /// Whether anything would be taken now.
    pub(super) fn has_room(&self) -> Result<(), Failure> {
        let state = self.0.state();
        self.0.check_room(&state)?;
        match state.rests_until {
            Some(until) if Instant::now() < until => Err(self.unavailable()),
            _ => Ok(()),
        }
    }

    /// Sends the documents; comes back once SQS has accepted all of them.
    pub(super) async fn send(&self, parcels: Vec<Parcel>) -> Result<(), SendFailed> {
        let mut answers = Vec::with_capacity(parcels.len());
        {
            let mut state = self.0.state();
            self.0.check_room(&state)?;
            for parcel in parcels {
                let (reply, answer) = oneshot::channel();
                state.bytes += parcel.bytes();
                state.waiting.push_back(Waiting { parcel, reply });
                answers.push(answer);
            }
            while state.is_call_due(self.0.options.sends_max) {
                state.calls += 1;
                let call = self.0.next_call(&mut state);
                let lane = Lane { shared: Arc::clone(&self.0), left: false };
                tokio::spawn(lane.run(call));
            }
        }
        let all = async {
            let mut too_large = Vec::new();
            for (index, answer) in answers.into_iter().enumerate() {
                match answer.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => match error.message_bytes_max() {
                        Some(bytes_max) => {
                            self.limit_message(bytes_max);
                            too_large.push(index);
                        }
                        None => return Err(error.failure(&self.0.url).into()),
                    },
                    Err(_) => return Err(self.unavailable().hint("Inlet is stopping").into()),
                }
            }
            if too_large.is_empty() { Ok(()) } else { Err(SendFailed::TooLarge(too_large)) }
        };
        let limit = Duration::from_millis(self.0.options.send_ms);
        time::timeout(limit, all).await.unwrap_or_else(|_| {
            self.0.state().rests_until = Some(Instant::now() + REST);
            let late = format!("no answer within {} ms", limit.as_millis());
            Err(self.unavailable().because(late).into())
        })
    }

    fn unavailable(&self) -> Failure {
        Failure::new(FailureKind::Unavailable, "send to the queue", self.0.url.clone())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_max(&self) -> usize {
        self.bytes_max.load(Ordering::Relaxed)
    }

    fn check_room(&self, state: &State) -> Result<(), Failure> {
        let full = state.waiting.len() >= self.options.waiting_documents_max
            || state.bytes >= self.options.waiting_bytes_max;
        if !full {
            return Ok(());
        }
        let subject = format!("{}: {} documents wait to be sent", self.url, state.waiting.len());
        Err(Failure::new(FailureKind::Full, "send to the queue", subject)
            .hint("SQS takes less than what comes in; is it throttling?"))
    }

    /// Takes the documents of the next call from those that wait; at least one.
    fn next_call(&self, state: &mut State) -> Call {
        // Nobody waits any more for the answer about these: nothing was promised.
        state.drop_abandoned();
        let share = state.waiting.len().div_ceil(CALL_MESSAGES_MAX);
        let share = share.clamp(1, self.options.message_documents_max.max(1));
        let mut call: Call = Vec::with_capacity(CALL_MESSAGES_MAX);
        // The queue's own limit is for a message, SQS's for all of a call.
        let message_max = SHARED_BYTES_MAX.min(self.bytes_max());
        let call_max = self.options.message_bytes_max.min(MESSAGE_BYTES_MAX);
        let mut bytes: usize = 0;
        while call.len() < CALL_MESSAGES_MAX {
            // The first one goes whatever its size: the queue says what is too large.
            let room = if call.is_empty() { usize::MAX } else { call_max.saturating_sub(bytes) };
            let Some(first) = state.take(room) else { break };
            let plain = first.parcel.is_plain();
            let mut message_bytes = first.parcel.bytes();
            let mut message = vec![first];
            while plain && message.len() < share {
                let room = message_max.min(call_max.saturating_sub(bytes));
                let Some(next) = state.take_plain(room.saturating_sub(message_bytes)) else {
                    break;
                };
                message_bytes += next.parcel.bytes();
                message.push(next);
            }
            bytes += message_bytes;
            call.push(message);
        }
        call
    }
}

impl State {
    /// Whether a further call is to be made now.
    fn is_call_due(&self, calls_max: usize) -> bool {
        let full = self.waiting.len() >= CALL_MESSAGES_MAX;
        !self.waiting.is_empty() && (self.calls == 0 || (full && self.calls < calls_max))
    }

    /// The first one that waits, if it is at most `bytes_max` large.
    fn take(&mut self, bytes_max: usize) -> Option<Waiting> {
        if self.waiting.front()?.parcel.bytes() > bytes_max {
            return None;
        }
        let first = self.waiting.pop_front()?;
        self.bytes -= first.parcel.bytes();
        Some(first)
    }

    fn take_plain(&mut self, bytes_max: usize) -> Option<Waiting> {
        if self.waiting.front()?.parcel.is_plain() { self.take(bytes_max) } else { None }
    }

    fn drop_abandoned(&mut self) {
        let mut bytes = 0;
        self.waiting.retain(|waiting| {
            let wanted = !waiting.reply.is_closed();
            bytes += if wanted { waiting.parcel.bytes() } else { 0 };
            wanted
        });
        self.bytes = bytes;
    }
}

/// Makes one call after the other, as long as any is due.
struct Lane {
    shared: Arc<Shared>,
    left: bool,
}

impl Lane {
    async fn run(mut self, mut call: Call) {
        loop {
            let sent = send_call::send(&self.shared.client, &self.shared.url, call).await;
            let mut state = self.shared.state();
            state.rests_until = sent.is_err().then(|| Instant::now() + REST);
            // The last lane takes whatever waits; any other only a full batch.
            state.calls -= 1;
            if !state.is_call_due(self.shared.options.sends_max) {
                self.left = true;
                return;
            }
            state.calls += 1;
            call = self.shared.next_call(&mut state);
        }
    }
}

impl Drop for Lane {
    /// A lane that was cut off, because its runtime ended, leaves nobody waiting for it.
    fn drop(&mut self) {
        if !self.left {
            let mut state = self.shared.state();
            state.calls -= 1;
            if state.calls == 0 {
                state.waiting.clear();
                state.bytes = 0;
            }
        }
    }
}
