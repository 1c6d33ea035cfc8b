//! A queue in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::document::Document;
use inlet_core::envelope;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    BatchLimit, Cursor, Delivered, Delivery, Depth, Oldest, Outcome, Queue, Undecodable,
};
use tokio::sync::Notify;

/// A [`Queue`] in memory that hands out a cursor as a log does. What is not settled stays in it,
/// so a clone finds it again, as after a crash.
#[derive(Debug, Clone)]
pub struct MemoryQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bytes_max: usize,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How many messages were settled in all: the offset of the first one that waits.
    settled: u64,
    waiting: VecDeque<Bytes>,
    bytes: usize,
}

impl MemoryQueue {
    /// The name of the log in this queue's cursors.
    pub const LOG: &'static str = "memory";

    /// A queue in which `bytes_max` bytes may wait.
    pub fn new(bytes_max: usize) -> Self {
        let (state, arrived) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { bytes_max, state, arrived }))
    }

    /// Puts bytes into the queue that need not be a document.
    pub fn send_raw(&self, payload: impl Into<Bytes>) {
        let payload = payload.into();
        let mut state = self.state();
        state.bytes += payload.len();
        state.waiting.push_back(payload);
        drop(state);
        self.0.arrived.notify_one();
    }

    /// How many messages wait.
    pub fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self) -> Failure {
        let subject = format!("the queue in memory of {} bytes", self.0.bytes_max);
        Failure::new(FailureKind::Full, "add to", subject)
    }

    fn take(&self, limit: BatchLimit) -> Delivery {
        let state = self.state();
        let mut messages = Vec::new();
        let mut bytes = 0;
        for payload in &state.waiting {
            let document = envelope::decode(payload);
            bytes += document.as_ref().map_or(payload.len(), |document| document.body.len());
            let full = messages.len() == limit.documents_max || bytes > limit.bytes_max;
            if full && !messages.is_empty() {
                break;
            }
            messages.push(Delivered {
                document: document.map_err(|error| Undecodable {
                    payload: payload.clone(),
                    cause: error.to_string(),
                }),
                deliveries_before: 0,
                given_up: None,
                handle: "".into(),
            });
        }
        let cursor = (!messages.is_empty()).then(|| Cursor {
            log: Self::LOG.to_owned(),
            segment: 0,
            offset: state.settled + messages.len() as u64,
        });
        Delivery { messages, cursor }
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn has_room(&self) -> Result<(), Failure> {
        if self.state().bytes < self.0.bytes_max { Ok(()) } else { Err(self.full()) }
    }

    async fn send(&self, documents: &[Document]) -> Result<(), Failure> {
        let payloads: Vec<_> = documents.iter().map(envelope::encode).collect();
        let mut state = self.state();
        if state.bytes >= self.0.bytes_max {
            return Err(self.full());
        }
        state.bytes += payloads.iter().map(Bytes::len).sum::<usize>();
        state.waiting.extend(payloads);
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }

    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        let arrived = self.0.arrived.notified();
        let delivery = self.take(limit);
        if !delivery.messages.is_empty() {
            return Ok(delivery);
        }
        match tokio::time::timeout(limit.wait, arrived).await {
            Ok(()) => Ok(self.take(limit)),
            Err(_) => Ok(Delivery::default()),
        }
    }

    async fn settle(&self, delivery: &Delivery, _outcomes: &[Outcome]) -> Result<(), Failure> {
        let Some(cursor) = &delivery.cursor else { return Ok(()) };
        let mut state = self.state();
        while state.settled < cursor.offset {
            let Some(payload) = state.waiting.pop_front() else { break };
            state.bytes -= payload.len();
            state.settled += 1;
        }
        Ok(())
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        let state = self.state();
        Ok(Depth {
            bytes: state.bytes as u64,
            bytes_max: Some(self.0.bytes_max as u64),
            messages: Some(state.waiting.len() as u64),
            oldest: state
                .waiting
                .iter()
                .find_map(|payload| envelope::decode(payload).ok())
                .map_or(Oldest::Nothing, |document| Oldest::Accepted(document.received)),
        })
    }
}
