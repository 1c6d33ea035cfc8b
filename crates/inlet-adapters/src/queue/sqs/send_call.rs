//! One SendMessageBatch, until each of its messages was accepted or has failed.

use std::time::Duration;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, MessageAttributeValue, SendMessageBatchRequestEntry,
    SendMessageBatchResultEntry,
};
use inlet_core::document::{hex, md5};
use inlet_core::failure::{Failure, FailureKind};

use super::message::{self, Written};
use super::sender::{Call, Waiting};
use crate::aws;

/// How often a message that SQS refused for now is sent in all.
const ATTEMPTS_MAX: u32 = 4;
/// The pause before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_millis(50);

/// Why a document was not accepted; told to each that waited for the call.
#[derive(Debug, Clone)]
pub(super) struct SendError {
    kind: FailureKind,
    text: String,
    hint: Option<String>,
}

impl SendError {
    /// The failure to tell about the queue at `url`.
    pub(super) fn failure(self, url: &str) -> Failure {
        let failure = Failure::new(self.kind, "send to the queue", url).because(self.text);
        match self.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }

    fn of_entry(entry: &BatchResultErrorEntry) -> Self {
        let message = entry.message().unwrap_or("no message");
        // SQS calls a throttled key the sender's fault as well: the code decides.
        let (kind, hint) = aws::class_of(entry.code(), message);
        let text = format!("{}: {message}", entry.code());
        Self { kind, text, hint: hint.map(str::to_owned) }
    }

    fn of_call(failure: &Failure) -> Self {
        let cause = std::error::Error::source(failure);
        Self {
            kind: failure.kind(),
            text: cause.map_or_else(String::new, ToString::to_string),
            hint: failure.hint_text().map(str::to_owned),
        }
    }

    /// Whether the same message may be accepted a moment later.
    fn may_pass(&self) -> bool {
        matches!(self.kind, FailureKind::Unavailable | FailureKind::Denied | FailureKind::Missing)
    }

    /// The queue's limit for a message, in bytes, where it is why the message was refused.
    pub(super) fn message_bytes_max(&self) -> Option<usize> {
        let digits = self.text.split("must be shorter than ").nth(1)?;
        digits.split(' ').next()?.parse().ok()
    }
}

/// A message on its way, and who waits for it.
struct Outgoing {
    written: Written,
    waiting: Vec<Waiting>,
}

impl Outgoing {
    fn new(waiting: Vec<Waiting>) -> Self {
        let parcels: Vec<_> = waiting.iter().map(|waiting| &waiting.parcel).collect();
        Self { written: message::write(&parcels), waiting }
    }

    fn tell(self, result: &Result<(), SendError>) {
        for waiting in self.waiting {
            // A caller that no longer waits is no fault.
            drop(waiting.reply.send(result.clone()));
        }
    }

    fn entry(&self, index: usize) -> SendMessageBatchRequestEntry {
        let mut entry = SendMessageBatchRequestEntry::builder()
            .id(index.to_string())
            .message_body(self.written.body.clone());
        for (name, value) in &self.written.attributes {
            let kind = if message::is_number(name) { "Number" } else { "String" };
            let value = MessageAttributeValue::builder()
                .data_type(kind)
                .string_value(value)
                .build()
                .expect("an attribute's type is set");
            entry = entry.message_attributes(*name, value);
        }
        entry.build().expect("an entry's id and body are set")
    }
}

/// Sends the messages of one call, and tells each that waits what became of its own. What SQS
/// refuses for now is sent again, a few times. An error is one of the whole call: the service did
/// not answer, or refuses everything.
pub(super) async fn send(client: &Client, url: &str, call: Call) -> Result<(), ()> {
    let mut left: Vec<Outgoing> = call.into_iter().map(Outgoing::new).collect();
    let mut attempt = 1;
    while !left.is_empty() {
        let is_last = attempt >= ATTEMPTS_MAX;
        let entries = left.iter().enumerate().map(|(index, outgoing)| outgoing.entry(index));
        let request =
            client.send_message_batch().queue_url(url).set_entries(Some(entries.collect()));
        match request.send().await {
            Ok(output) => left = settle(left, output.successful(), output.failed(), !is_last),
            Err(error) => {
                let answered = error.as_service_error();
                let failure = aws::failure("send to the queue", url, &error);
                let told = SendError::of_call(&failure);
                // A service that does not answer was tried again by the client already.
                if is_last || !told.may_pass() || answered.is_none() {
                    let error = Err(told);
                    left.into_iter().for_each(|outgoing| outgoing.tell(&error));
                    return Err(());
                }
            }
        }
        if !left.is_empty() {
            tokio::time::sleep(BACKOFF * 2_u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }
    Ok(())
}

/// Tells those whose message was accepted or refused for good; gives back what is to be sent
/// again.
fn settle(
    outgoing: Vec<Outgoing>,
    successful: &[SendMessageBatchResultEntry],
    failed: &[BatchResultErrorEntry],
    again: bool,
) -> Vec<Outgoing> {
    let mut left = Vec::new();
    for (index, outgoing) in outgoing.into_iter().enumerate() {
        let id = index.to_string();
        let accepted = successful.iter().find(|entry| entry.id() == id);
        if accepted.is_some_and(|entry| arrived_whole(entry, &outgoing.written)) {
            outgoing.tell(&Ok(()));
            continue;
        }
        let error = match failed.iter().find(|entry| entry.id() == id) {
            Some(entry) => SendError::of_entry(entry),
            None => SendError {
                kind: FailureKind::Unavailable,
                text: "SQS did not say that it accepted the message as it was sent".to_owned(),
                hint: None,
            },
        };
        if again && error.may_pass() {
            left.push(outgoing);
        } else {
            outgoing.tell(&Err(error));
        }
    }
    left
}

fn arrived_whole(entry: &SendMessageBatchResultEntry, written: &Written) -> bool {
    entry.md5_of_message_body() == hex(&md5(written.body.as_bytes()))
}
