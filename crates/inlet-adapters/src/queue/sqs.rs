//! The queue in Amazon SQS.
//!
//! Many callers that send share few calls ([`sender`]); what comes is received by calls that run
//! in the background and is kept from other workers until it is settled ([`receiver`]). What a
//! message looks like, so that other clients can read and write it, is in [`message`].
//!
//! The guarantees: a send returns once SQS has accepted every one of its documents (G1); a
//! message is deleted only after its documents are settled, so SQS delivers again what a worker
//! that died had (G2). SQS may deliver twice, and in any order; the store makes one of it.
//!
//! A queue with a redrive policy gives up a message after `maxReceiveCount` deliveries, into the
//! policy's dead-letter queue. That one is drained by the same worker: its documents become dead
//! letters of the store, where the same commands list and redrive them as with any other queue.
//! An outage of the store uses up no delivery, because what is held is given again from memory.

mod held;
mod lease;
mod message;
mod name;
mod options;
mod poll;
mod receiver;
mod send_call;
mod sender;
mod settle;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::Region;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use inlet_core::document::Document;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BatchLimit, Bucket, Delivered, Delivery, Depth, Oldest, Outcome, Queue};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::message::{Parcel, Read};
use self::name::QueueName;
use self::receiver::{DeadLetters, Place, Receiver};
use self::sender::{SendFailed, Sender};
use crate::aws::{self, Aws, Calls};
use crate::overflow::Overflow;

pub use self::message::SqsMessage;
pub use self::options::SqsOptions;

/// How long SQS keeps a message from others where the queue does not say.
const VISIBILITY_S: u32 = 30;
/// SQS's own limit for a message and for a call's messages together, in bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The smallest limit that a queue can have for its messages, in bytes.
/// Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html>.
const MESSAGE_BYTES_MIN: usize = 1 << 10;
/// How often documents are sent in all while the queue's limit for a message turns out to be
/// smaller than was known.
const FITTINGS_MAX: u32 = 3;

/// A [`Queue`] in Amazon SQS, or in anything that speaks its API.
///
/// Beyond the contract: it has no limit of its own, and is full only while more waits to be sent
/// from this process than [`SqsOptions`] allows; bytes that wait in SQS are not known, messages
/// are; documents may come in another order than they were sent.
pub struct SqsQueue {
    client: Client,
    url: String,
    sender: Sender,
    receiver: Option<Receiver>,
    overflow: Overflow,
    redrive: Option<Redrive>,
    depth: Mutex<Option<(Instant, Depth)>>,
    depth_max: Duration,
    calls: Calls,
    calls_sending: Calls,
}

/// What the queue does with a message that is delivered and never settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redrive {
    /// After how many deliveries it is given up.
    pub deliveries_max: u32,
    /// The name of the queue it goes to then.
    pub dead_letter_queue: String,
}

/// How often SQS was called, repetitions included: what is billed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SqsCalls {
    /// To send.
    pub sending: u64,
    /// To receive, to delete, to keep messages from others, and to learn about the queue.
    pub receiving: u64,
}

impl SqsQueue {
    /// Opens the queue that `url` names (`sqs://NAME` or `sqs://HOST/ACCOUNT/NAME`) to send and
    /// to receive. Documents too large for a message lie in `overflow` meanwhile.
    ///
    /// Asks SQS for the queue's attributes. Fails as [`FailureKind::Refused`] where the URL is none
    /// or no region is named, as [`FailureKind::Missing`] where there is no such queue, and as
    /// [`FailureKind::Denied`] where the credentials are wrong or may not use it.
    pub async fn open(
        aws: &Aws,
        url: &str,
        overflow: Arc<dyn Bucket>,
        options: &SqsOptions,
    ) -> Result<Self, Failure> {
        let mut queue = Self::open_to_send(aws, url, overflow, options).await?;
        let found = queue.attributes(QueueAttributeName::All).await?;
        let number = |name| found.get(&name).and_then(|value| value.parse::<u32>().ok());
        let bytes_max = number(QueueAttributeName::MaximumMessageSize)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(MESSAGE_BYTES_MAX);
        queue.sender.limit_message(bytes_max);
        let dead_letters = match found.get(&QueueAttributeName::RedrivePolicy) {
            Some(policy) => queue.dead_letters(policy),
            None => {
                tracing::warn!(
                    url,
                    "the queue has no redrive policy: what ends a worker is delivered for ever"
                );
                None
            }
        };
        let visibility_s = options
            .visibility_s
            .or_else(|| number(QueueAttributeName::VisibilityTimeout))
            .unwrap_or(VISIBILITY_S)
            .clamp(1, 43_200);
        let visibility = Duration::from_secs(u64::from(visibility_s));
        let place = Place { url: queue.url.clone(), dead_letters, visibility };
        let (client, overflow) = (queue.client.clone(), queue.overflow.clone());
        queue.receiver = Some(Receiver::new(client, place, options.clone(), overflow));
        Ok(queue)
    }

    /// Opens the queue to send only. With `sqs://HOST/ACCOUNT/NAME` nothing is asked of SQS
    /// before the first document; with `sqs://NAME` its URL is.
    pub async fn open_to_send(
        aws: &Aws,
        url: &str,
        overflow: Arc<dyn Bucket>,
        options: &SqsOptions,
    ) -> Result<Self, Failure> {
        let name = QueueName::parse(url)?;
        if name.region().is_none() {
            aws.needs_region(url)?;
        }
        let (calls, calls_sending) = (Calls::default(), Calls::default());
        let client = client(aws, &name, &calls, None);
        let sending = client_for_sending(aws, &name, &calls_sending, options);
        let queue_url = match &name {
            QueueName::Own(own) => find(&client, own, None, url).await?,
            QueueName::Full { scheme, host, account, name } => {
                let scheme = scheme.unwrap_or_else(|| scheme_of(aws, host));
                format!("{scheme}://{host}/{account}/{name}")
            }
        };
        let bytes_max = options.message_bytes_max.clamp(MESSAGE_BYTES_MIN, MESSAGE_BYTES_MAX);
        let sender = Sender::new(sending, queue_url.clone(), options.clone(), bytes_max);
        Ok(Self {
            client,
            url: queue_url,
            sender,
            receiver: None,
            overflow: Overflow::new(overflow, "queue"),
            redrive: None,
            depth: Mutex::default(),
            depth_max: Duration::from_millis(options.depth_ms),
            calls,
            calls_sending,
        })
    }

    /// The queue's URL, as SQS knows it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The queue's redrive policy; `None` where it has none or it could not be followed.
    pub fn redrive(&self) -> Option<&Redrive> {
        self.redrive.as_ref()
    }

    /// How often SQS was called so far.
    pub fn calls(&self) -> SqsCalls {
        SqsCalls { sending: self.calls_sending.count(), receiving: self.calls.count() }
    }

    /// Gives back to SQS what was received and is not settled, so that other workers have it at
    /// once. Without it they have it when its visibility time-out ends.
    pub async fn close(&self) {
        if let Some(receiver) = &self.receiver {
            receiver.release().await;
        }
    }

    fn receiving(&self) -> Result<&Receiver, Failure> {
        self.receiver.as_ref().ok_or_else(|| receiver::sends_only(&self.url))
    }

    async fn attributes(
        &self,
        name: QueueAttributeName,
    ) -> Result<HashMap<QueueAttributeName, String>, Failure> {
        let call = self.client.get_queue_attributes().queue_url(&self.url).attribute_names(name);
        let output = call.send().await.map_err(|error| {
            if is_missing(aws::code(&error)) {
                return missing(&self.url, &self.url);
            }
            aws::failure("read the attributes of the queue", &self.url, &error)
        })?;
        Ok(output.attributes.unwrap_or_default())
    }

    /// The dead-letter queue of the redrive policy. Its URL is asked for when it is first looked
    /// at: one that can't be found yet is drained once it can be.
    fn dead_letters(&mut self, policy: &str) -> Option<DeadLetters> {
        let Ok(policy) = serde_json::from_str::<RedrivePolicy>(policy) else {
            tracing::warn!(policy, "the queue's redrive policy can't be read");
            return None;
        };
        let mut parts = policy.target_arn.split(':').skip(4);
        let (account, name) = (parts.next()?.to_owned(), parts.next()?.to_owned());
        let deliveries_max = policy.deliveries_max();
        self.redrive = Some(Redrive { deliveries_max, dead_letter_queue: name.clone() });
        let why = format!("delivered {deliveries_max} times without being stored");
        Some(DeadLetters { name, account, url: OnceCell::new(), why })
    }

    /// The document as it goes into a message; a large one leaves its body in the bucket.
    async fn parcel(&self, document: &Document) -> Result<Parcel, Failure> {
        if document.body.len() <= self.sender.bytes_max() {
            let parcel = Parcel::new(document);
            if parcel.bytes() <= self.sender.bytes_max() {
                return Ok(parcel);
            }
        }
        let key = self.overflow.put(document.id, &document.body).await?;
        Ok(Parcel::elsewhere(document, &key))
    }
}

#[async_trait]
impl Queue for SqsQueue {
    fn has_room(&self) -> Result<(), Failure> {
        self.sender.has_room()
    }

    async fn send(&self, documents: &[Document]) -> Result<(), Failure> {
        if documents.is_empty() {
            return Ok(());
        }
        self.sender.has_room()?;
        let mut left: Vec<&Document> = documents.iter().collect();
        for _ in 0..FITTINGS_MAX {
            let mut parcels = Vec::with_capacity(left.len());
            for document in &left {
                parcels.push(self.parcel(document).await?);
            }
            match self.sender.send(parcels).await {
                Ok(()) => return Ok(()),
                Err(SendFailed::Failure(failure)) => return Err(failure),
                // They go again by the limit that the queue has told.
                Err(SendFailed::TooLarge(refused)) => {
                    left =
                        refused.into_iter().filter_map(|index| left.get(index).copied()).collect();
                }
            }
        }
        Err(Failure::new(FailureKind::Refused, "send to the queue", self.url.clone())
            .because("its limit for a message was smaller each time than it had said"))
    }

    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        self.receiving()?.receive(limit).await
    }

    async fn settle(&self, delivery: &Delivery, _outcomes: &[Outcome]) -> Result<(), Failure> {
        self.receiving()?.settle(delivery).await
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        // Of what SQS keeps nobody is told the age; what was received and is not settled is known.
        let held = self.receiver.as_ref().and_then(Receiver::oldest);
        let oldest = held.map_or(Oldest::Unknown, Oldest::Accepted);
        let known = *self.depth.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, depth)) = known
            && at.elapsed() < self.depth_max
        {
            return Ok(Depth { oldest, ..depth });
        }
        let found = self.attributes(QueueAttributeName::All).await?;
        let count = |name| found.get(&name).and_then(|value| value.parse::<u64>().ok());
        let waiting = count(QueueAttributeName::ApproximateNumberOfMessages).unwrap_or(0);
        let held = count(QueueAttributeName::ApproximateNumberOfMessagesNotVisible).unwrap_or(0);
        let messages = Some(waiting + held);
        let depth = Depth { bytes: 0, bytes_max: None, messages, oldest };
        *self.depth.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), depth));
        Ok(depth)
    }
}

impl SqsMessage {
    /// The documents of the message, as a function has to store them that SQS hands its messages
    /// in an event; `receive_count` is SQS's count of its deliveries, this one included. What
    /// can't be read as a document is one that is undecodable. An error is one of the bucket, in
    /// which large documents lie: the message is to be delivered again.
    pub async fn documents(
        &self,
        receive_count: u32,
        overflow: &Arc<dyn Bucket>,
    ) -> Result<Vec<Delivered>, Failure> {
        let overflow = Overflow::new(Arc::clone(overflow), "queue");
        let mut documents = Vec::new();
        for read in message::read(self) {
            let document = match read {
                Read::Here(document) => document,
                Read::Elsewhere { document, key, .. } => {
                    let body = overflow.get(&key).await?;
                    receiver::with_body(document, &key, body)
                }
            };
            documents.push(Delivered {
                document,
                deliveries_before: receive_count.saturating_sub(1),
                given_up: None,
                handle: self.message_id.as_str().into(),
            });
        }
        Ok(documents)
    }

    /// Removes what the bucket holds for the message; after its documents were stored, when it is
    /// about to be deleted. One that can't be removed is told, and harmless.
    pub async fn remove_overflow(&self, overflow: &Arc<dyn Bucket>) {
        let overflow = Overflow::new(Arc::clone(overflow), "queue");
        for read in message::read(self) {
            if let Read::Elsewhere { key, .. } = read {
                overflow.delete_or_tell(&key).await;
            }
        }
    }
}

#[derive(Deserialize)]
struct RedrivePolicy {
    #[serde(rename = "deadLetterTargetArn")]
    target_arn: String,
    /// A number, which some clients write as text.
    #[serde(rename = "maxReceiveCount")]
    max_receive_count: serde_json::Value,
}

impl RedrivePolicy {
    fn deliveries_max(&self) -> u32 {
        let count = &self.max_receive_count;
        let count = count.as_u64().or_else(|| count.as_str()?.parse().ok());
        count.and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
    }
}

fn client(aws: &Aws, name: &QueueName, calls: &Calls, timeouts: Option<TimeoutConfig>) -> Client {
    let mut config = aws_sdk_sqs::config::Builder::from(aws.config()).interceptor(calls.clone());
    if let Some(region) = name.region() {
        config = config.region(Region::new(region));
    }
    if let Some(timeouts) = timeouts {
        config = config.timeout_config(timeouts);
    }
    Client::from_conf(config.build())
}

/// A client whose calls end within the time a send may take.
fn client_for_sending(aws: &Aws, name: &QueueName, calls: &Calls, options: &SqsOptions) -> Client {
    let whole = Duration::from_millis(options.send_ms);
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(whole / 4)
        .operation_attempt_timeout(whole / 2)
        .operation_timeout(whole)
        .build();
    client(aws, name, calls, Some(timeouts))
}

/// The URL of the queue with that name.
async fn find(
    client: &Client,
    name: &str,
    account: Option<&str>,
    tried: &str,
) -> Result<String, Failure> {
    let call = client.get_queue_url().queue_name(name);
    let call = call.set_queue_owner_aws_account_id(account.map(str::to_owned));
    let output = call.send().await.map_err(|error| {
        if is_missing(aws::code(&error)) {
            return missing(tried, name);
        }
        aws::failure("find the queue", tried, &error)
    })?;
    output.queue_url.ok_or_else(|| missing(tried, name))
}

fn is_missing(code: &str) -> bool {
    code.ends_with("NonExistentQueue") || code.ends_with("QueueDoesNotExist")
}

fn missing(tried: &str, name: &str) -> Failure {
    let name = name.rsplit('/').next().unwrap_or(name);
    Failure::new(FailureKind::Missing, "find the queue", tried).hint(format!(
        "there is none with that name in this account and region; make it with `inlet deploy`, \
         or `aws sqs create-queue --queue-name {name}`"
    ))
}

/// `https`, unless that very host was given as an endpoint without it.
fn scheme_of(aws: &Aws, host: &str) -> &'static str {
    let endpoint = aws.config().endpoint_url().and_then(|url| url.strip_prefix("http://"));
    let plain = endpoint.is_some_and(|endpoint| endpoint.trim_end_matches('/') == host);
    if plain { "http" } else { "https" }
}
