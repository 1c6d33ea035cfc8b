//! A batch of messages is stored; those that could not be are reported, and delivered again.
//!
//! Messages come from the queue, and from the dead-letter queue of its redrive policy, where SQS
//! puts what was delivered too often: those become dead letters of the store, listed and redriven
//! by the same commands as any other. Which of both it is says the record itself.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use inlet_adapters::aws::Aws;
use inlet_adapters::queue::SqsMessage;
use inlet_core::document::Timestamp;
use inlet_core::failure::Failure;
use inlet_core::persist::{Persister, store_delivery};
use inlet_core::ports::{Bucket, Delivery, SystemClock};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::absent::Absent;
use crate::database::Database;
use crate::engines::{self, Opened};
use crate::settings::Settings;

/// Why what comes from another queue than that of the settings is no longer tried.
const GIVEN_UP: &str = "delivered as often as the queue allows without being stored";

/// What stores.
pub(crate) struct Worker {
    persister: Persister,
    overflow: Arc<dyn Bucket>,
    database: Option<Database>,
    /// The name of the queue in which accepted documents wait; `None` where none is set, and
    /// whatever comes is stored.
    queue: Option<String>,
}

/// The event. Source: <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    body: String,
    #[serde(default, rename = "eventSourceARN")]
    queue_arn: String,
    #[serde(default)]
    attributes: HashMap<String, String>,
    #[serde(default)]
    message_attributes: HashMap<String, MessageAttribute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageAttribute {
    string_value: Option<String>,
}

/// Opens what storing needs.
pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Worker> {
    let aws = Aws::from_environment().await;
    let overflow = engines::bucket_or_absent(settings, &aws).await?;
    let secrets = engines::secrets(settings, &aws).await?;
    let Opened { store, database } =
        engines::store(settings, &aws, &overflow, secrets.as_ref()).await?;
    let persister = Persister {
        queue: Arc::new(Absent),
        store,
        clock: Arc::new(SystemClock),
        calendar: settings.calendar.clone(),
        limits: settings.limits.clone(),
    };
    let queue = settings.queue.trim_end_matches('/').rsplit('/').next();
    let queue = queue.filter(|name| !name.is_empty()).map(ToOwned::to_owned);
    Ok(Worker { persister, overflow, database, queue })
}

impl Worker {
    /// Stores the messages of an event, all in one batch; where that fails, each for itself, so
    /// that one that can't be stored holds up no other.
    pub(crate) async fn store(&self, event: Value) -> anyhow::Result<Value> {
        if let Some(database) = &self.database {
            database.refresh().await;
        }
        let event: Event = serde_json::from_value(event).context("the event is none of SQS")?;
        let mut failed = Vec::new();
        let mut read = Vec::new();
        for record in event.records {
            let count = record.number("ApproximateReceiveCount").unwrap_or(1);
            let given_up = self.is_given_up(&record).then(|| GIVEN_UP.to_owned());
            let message = record.message();
            match message.documents(u32::try_from(count).unwrap_or(u32::MAX), &self.overflow).await
            {
                Ok(mut documents) => {
                    for document in &mut documents {
                        document.given_up.clone_from(&given_up);
                    }
                    read.push((message, documents));
                }
                Err(failure) => failed.push(self.told(&message, &failure)),
            }
        }
        let all = read.iter().flat_map(|(_, documents)| documents.iter().cloned()).collect();
        let together = Delivery { messages: all, cursor: None };
        if store_delivery(&self.persister, &together).await.is_ok() {
            for (message, _) in &read {
                message.remove_overflow(&self.overflow).await;
            }
        } else {
            for (message, documents) in read {
                let alone = Delivery { messages: documents, cursor: None };
                match store_delivery(&self.persister, &alone).await {
                    Ok(_) => message.remove_overflow(&self.overflow).await,
                    Err(failure) => failed.push(self.told(&message, &failure)),
                }
            }
        }
        let failed: Vec<Value> =
            failed.into_iter().map(|id| json!({ "itemIdentifier": id })).collect();
        Ok(json!({ "batchItemFailures": failed }))
    }

    /// Whether SQS itself has given the message up, into the queue it comes from now.
    fn is_given_up(&self, record: &Record) -> bool {
        let from = record.queue_arn.rsplit(':').next().unwrap_or_default();
        self.queue.as_deref().is_some_and(|queue| !from.is_empty() && queue != from)
    }

    fn told(&self, message: &SqsMessage, failure: &Failure) -> String {
        let hint = failure.hint_text();
        let cause = std::error::Error::source(failure).map(ToString::to_string);
        tracing::warn!(message = message.message_id, %failure, cause, hint, "it is delivered again");
        message.message_id.clone()
    }
}

impl Record {
    fn number(&self, name: &str) -> Option<i64> {
        self.attributes.get(name)?.parse().ok()
    }

    fn message(self) -> SqsMessage {
        let sent_ms = self.number("SentTimestamp").unwrap_or(0);
        SqsMessage {
            message_id: self.message_id,
            body: self.body,
            attributes: self
                .message_attributes
                .into_iter()
                .filter_map(|(name, attribute)| Some((name, attribute.string_value?)))
                .collect(),
            sent: Timestamp::from_micros(sent_ms.saturating_mul(1_000)),
        }
    }
}
