//! What was received and is not settled: messages that SQS keeps from other workers for us.
//!
//! A document is *ready* (it came and was not given yet), or *given* (with the last delivery).
//! What was given and not settled when the next delivery is asked for is given again from here,
//! so that an outage of the store costs no delivery of SQS's count and kills no document by it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use inlet_core::document::Timestamp;
use inlet_core::ports::{BatchLimit, Delivered};
use tokio::time::Instant;

use super::message::Read;

/// Which of the two queues a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The queue.
    Queue,
    /// The dead-letter queue of its redrive policy.
    DeadLetters,
}

/// A message that is ours for a time.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) source: Source,
    pub(super) message_id: String,
    pub(super) receipt: String,
    /// How often SQS delivered it, this time included.
    pub(super) receive_count: u32,
    /// Until when SQS keeps it from others.
    pub(super) until: Instant,
    /// How many of its documents are not settled.
    unsettled: usize,
    /// Where in the bucket its documents' bodies are.
    overflow: Vec<String>,
}

impl Lease {
    pub(super) fn new(
        source: Source,
        message_id: String,
        receipt: String,
        receive_count: u32,
        until: Instant,
    ) -> Self {
        let (unsettled, overflow) = (0, Vec::new());
        Self { source, message_id, receipt, receive_count, until, unsettled, overflow }
    }
}

/// A document of such a message.
#[derive(Debug, Clone)]
pub(super) struct Held {
    message: u64,
    index: usize,
    given_before: u32,
    pub(super) read: Read,
}

impl Held {
    fn bytes(&self) -> usize {
        match &self.read {
            Read::Here(Ok(document)) => document.body.len(),
            Read::Here(Err(undecodable)) => undecodable.payload.len(),
            Read::Elsewhere { bytes, .. } => *bytes,
        }
    }

    /// What names it in a delivery.
    pub(super) fn handle(&self) -> Box<str> {
        format!("{}-{}", self.message, self.index).into()
    }
}

/// A message whose documents are all settled, to be deleted.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) message: u64,
    pub(super) source: Source,
    pub(super) receipt: String,
    pub(super) overflow: Vec<String>,
}

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    ready: VecDeque<Held>,
    ready_bytes: usize,
    given: Vec<Held>,
    leases: HashMap<u64, Lease>,
    next: u64,
}

impl Holdings {
    /// How many documents are ready.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Whether as much is ready as a delivery may bring.
    pub(super) fn fills(&self, limit: BatchLimit) -> bool {
        self.ready.len() >= limit.documents_max.max(1) || self.ready_bytes >= limit.bytes_max
    }

    /// The time at which the oldest document that is held was accepted.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let accepted = |held: &Held| match &held.read {
            Read::Here(document) => Some(document.as_ref().ok()?.received),
            Read::Elsewhere { document, .. } => Some(document.received),
        };
        self.ready.iter().chain(&self.given).filter_map(accepted).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Takes what came. A message that is held already, because its lease had run out, only gets
    /// its new receipt.
    pub(super) fn came(&mut self, mut lease: Lease, reads: Vec<Read>) {
        let held = self.leases.values_mut().find(|held| held.message_id == lease.message_id);
        if let Some(held) = held {
            held.receipt = lease.receipt;
            held.receive_count = lease.receive_count;
            held.until = lease.until;
            return;
        }
        let message = self.next;
        self.next += 1;
        lease.unsettled = reads.len();
        for (index, read) in reads.into_iter().enumerate() {
            if let Read::Elsewhere { key, .. } = &read {
                lease.overflow.push(key.clone());
            }
            let held = Held { message, index, given_before: 0, read };
            self.ready_bytes += held.bytes();
            self.ready.push_back(held);
        }
        self.leases.insert(message, lease);
    }

    /// Makes ready again what was given and not settled, in the order in which it came.
    pub(super) fn take_back(&mut self) {
        for mut held in std::mem::take(&mut self.given).into_iter().rev() {
            held.given_before += 1;
            self.ready_bytes += held.bytes();
            self.ready.push_front(held);
        }
    }

    /// Gives what is ready, as much as the limit allows; one document even where it is larger.
    pub(super) fn give(&mut self, limit: BatchLimit) -> Vec<Held> {
        let mut bytes = 0;
        while let Some(first) = self.ready.front() {
            bytes += first.bytes();
            let full = self.given.len() >= limit.documents_max || bytes > limit.bytes_max;
            if full && !self.given.is_empty() {
                break;
            }
            self.ready_bytes -= first.bytes();
            self.given.extend(self.ready.pop_front());
        }
        self.given.clone()
    }

    /// Puts the body that was read from the bucket beside its document.
    pub(super) fn found(&mut self, handle: &str, read: Read) {
        if let Some(held) = self.given.iter_mut().find(|held| *held.handle() == *handle) {
            held.read = read;
        }
    }

    /// Takes back the one that can't be given yet, behind all others.
    pub(super) fn put_off(&mut self, handle: &str) {
        if let Some(index) = self.given.iter().position(|held| *held.handle() == *handle) {
            let held = self.given.remove(index);
            self.ready_bytes += held.bytes();
            self.ready.push_back(held);
        }
    }

    /// Gives one as a delivery names it.
    pub(super) fn delivered(&self, held: &Held, given_up: &str) -> Option<Delivered> {
        let Read::Here(document) = &held.read else { return None };
        let lease = self.leases.get(&held.message)?;
        Some(Delivered {
            document: document.clone(),
            deliveries_before: lease.receive_count.saturating_sub(1) + held.given_before,
            given_up: (lease.source == Source::DeadLetters).then(|| given_up.to_owned()),
            handle: held.handle(),
        })
    }

    /// Notes what is settled, and gives the messages that are wholly settled by it.
    pub(super) fn settle<'a>(&mut self, handles: impl Iterator<Item = &'a str>) -> Vec<Settled> {
        let handles: HashSet<&str> = handles.collect();
        let mut settling: HashMap<u64, usize> = HashMap::new();
        for held in self.given.iter().filter(|held| handles.contains(&*held.handle())) {
            *settling.entry(held.message).or_default() += 1;
        }
        let whole = |message: &u64, count: usize| {
            self.leases.get(message).filter(|lease| lease.unsettled == count)
        };
        let mut settled: Vec<Settled> = settling
            .iter()
            .filter_map(|(message, count)| {
                whole(message, *count).map(|lease| Settled {
                    message: *message,
                    source: lease.source,
                    receipt: lease.receipt.clone(),
                    overflow: lease.overflow.clone(),
                })
            })
            .collect();
        settled.sort_by_key(|settled| settled.message);
        // Of a message that is not whole yet, what is settled is done with here; of the others
        // only once SQS has deleted them.
        for (message, count) in settling {
            if settled.binary_search_by_key(&message, |settled| settled.message).is_ok() {
                continue;
            }
            self.given.retain(|held| held.message != message || !handles.contains(&*held.handle()));
            if let Some(lease) = self.leases.get_mut(&message) {
                lease.unsettled -= count;
            }
        }
        settled
    }

    /// Forgets messages that were deleted, or are no longer ours.
    pub(super) fn forget(&mut self, messages: &HashSet<u64>) {
        for message in messages {
            self.leases.remove(message);
        }
        self.given.retain(|held| !messages.contains(&held.message));
        self.ready.retain(|held| !messages.contains(&held.message));
        self.ready_bytes = self.ready.iter().map(Held::bytes).sum();
    }

    /// Forgets everything, and gives what was held.
    pub(super) fn take_all(&mut self) -> Vec<Lease> {
        self.ready.clear();
        self.given.clear();
        self.ready_bytes = 0;
        self.leases.drain().map(|(_, lease)| lease).collect()
    }

    /// The leases that end within `within`.
    pub(super) fn ending(&self, within: Duration) -> Vec<(u64, Lease)> {
        let by = Instant::now() + within;
        let ending = self.leases.iter().filter(|(_, lease)| lease.until <= by);
        ending.map(|(message, lease)| (*message, lease.clone())).collect()
    }

    /// Notes that SQS keeps the message for us until then.
    pub(super) fn extended(&mut self, message: u64, until: Instant) {
        if let Some(lease) = self.leases.get_mut(&message) {
            lease.until = until;
        }
    }
}
