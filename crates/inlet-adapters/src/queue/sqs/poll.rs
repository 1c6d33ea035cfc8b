//! The calls that receive.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use inlet_core::document::Timestamp;
use inlet_core::failure::{Failure, FailureKind};
use tokio::time::Instant;

use super::held::{Lease, Source};
use super::lease;
use super::message::{self, SqsMessage};
use super::receiver::{Shared, State};
use crate::aws;

/// How many messages SQS gives with one call.
const CALL_MESSAGES_MAX: i32 = 10;
/// How long a look into the dead-letter queue waits, in seconds: 1 is enough to ask all of SQS's
/// servers, which 0 is not.
const DEAD_LETTERS_POLL_S: u16 = 1;

/// A task that receives until it brings less than a full batch or enough is held.
pub(super) struct Poll {
    shared: Arc<Shared>,
    source: Source,
    ended: bool,
}

impl Poll {
    /// Starts one and counts it in `state`.
    pub(super) fn start(shared: &Arc<Shared>, state: &mut State, source: Source) {
        if source == Source::Queue {
            state.polls += 1;
        }
        let poll = Self { shared: Arc::clone(shared), source, ended: false };
        shared.spawn(poll.run());
    }

    async fn run(mut self) {
        loop {
            let came = receive(&self.shared, self.source).await;
            if self.take(came) {
                self.shared.arrived.notify_waiters();
                return;
            }
            self.shared.arrived.notify_waiters();
        }
    }

    /// Notes what came. Whether this poll is at its end.
    fn take(&mut self, came: Result<Vec<Message>, Failure>) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        let full = match came {
            Ok(messages) => {
                let full = messages.len() >= usize::try_from(CALL_MESSAGES_MAX).unwrap_or(10);
                let until = Instant::now() + shared.place.visibility;
                for message in messages {
                    hold(&mut state, self.source, message, until);
                }
                lease::keep(&shared, &mut state);
                full
            }
            Err(failure) if self.source == Source::DeadLetters => {
                // The queue itself may be well: what can't be drained now is drained later.
                tracing::warn!(%failure, "the dead-letter queue was not looked at");
                false
            }
            Err(failure) => {
                state.failed = Some(failure);
                false
            }
        };
        if self.source == Source::DeadLetters {
            self.ended = !full || state.limit.is_none_or(|limit| state.holdings.fills(limit));
            return self.ended;
        }
        state.polls -= 1;
        let most = shared.options.polls_max.max(1);
        state.polls_wanted = if full { (state.polls_wanted.max(1) * 2).min(most) } else { 1 };
        self.ended = !full || !state.is_poll_due();
        if !self.ended {
            state.polls += 1;
            while state.is_poll_due() {
                Self::start(&shared, &mut state, Source::Queue);
            }
        }
        self.ended
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        if !self.ended && self.source == Source::Queue {
            self.shared.state().polls -= 1;
        }
    }
}

async fn receive(shared: &Shared, source: Source) -> Result<Vec<Message>, Failure> {
    let url = shared.find_url(source).await?;
    let wait_s = match source {
        Source::Queue => shared.options.poll_s.min(20),
        Source::DeadLetters => DEAD_LETTERS_POLL_S,
    };
    let visibility_s = i32::try_from(shared.place.visibility.as_secs()).unwrap_or(i32::MAX);
    let call = shared
        .client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(CALL_MESSAGES_MAX)
        .wait_time_seconds(i32::from(wait_s))
        .visibility_timeout(visibility_s)
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
        .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
        .message_attribute_names("All")
        .send();
    // A server that answers nothing at all is told from one that has nothing.
    let limit =
        Duration::from_secs(u64::from(wait_s)) + Duration::from_millis(shared.options.send_ms);
    let output = tokio::time::timeout(limit, call).await.map_err(|_| {
        Failure::new(FailureKind::Unavailable, "receive from the queue", url)
            .because(format!("no answer within {} s", limit.as_secs()))
    })?;
    let output = output.map_err(|error| aws::failure("receive from the queue", url, &error))?;
    Ok(output.messages.unwrap_or_default())
}

fn hold(state: &mut State, source: Source, message: Message, until: Instant) {
    let Some(receipt) = message.receipt_handle.clone() else { return };
    let number = |name| message.attributes.as_ref()?.get(&name)?.parse::<i64>().ok();
    let count = number(MessageSystemAttributeName::ApproximateReceiveCount);
    let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1);
    let sent_ms = number(MessageSystemAttributeName::SentTimestamp).unwrap_or(0);
    let message = SqsMessage {
        message_id: message.message_id.unwrap_or_default(),
        body: message.body.unwrap_or_default(),
        attributes: texts(message.message_attributes.unwrap_or_default()),
        sent: Timestamp::from_micros(sent_ms.saturating_mul(1_000)),
    };
    let reads = message::read(&message);
    let lease = Lease::new(source, message.message_id, receipt, count, until);
    state.holdings.came(lease, reads);
}

fn texts(
    attributes: HashMap<String, aws_sdk_sqs::types::MessageAttributeValue>,
) -> HashMap<String, String> {
    attributes.into_iter().filter_map(|(name, value)| Some((name, value.string_value?))).collect()
}
