//! A batch of messages is stored; those that could not be are reported, and delivered again.

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
use crate::engines;
use crate::settings::Settings;

/// What stores.
pub(crate) struct Worker {
    persister: Persister,
    overflow: Arc<dyn Bucket>,
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
    let store = engines::store(settings, &aws, &overflow).await?;
    let persister = Persister {
        queue: Arc::new(Absent),
        store,
        clock: Arc::new(SystemClock),
        calendar: settings.calendar.clone(),
        limits: settings.limits.clone(),
    };
    Ok(Worker { persister, overflow })
}

impl Worker {
    /// Stores the messages of an event, all in one batch; where that fails, each for itself, so
    /// that one that can't be stored holds up no other.
    pub(crate) async fn store(&self, event: Value) -> anyhow::Result<Value> {
        let event: Event = serde_json::from_value(event).context("the event is none of SQS")?;
        let mut failed = Vec::new();
        let mut read = Vec::new();
        for record in event.records {
            let count = record.number("ApproximateReceiveCount").unwrap_or(1);
            let message = record.message();
            match message.documents(u32::try_from(count).unwrap_or(u32::MAX), &self.overflow).await
            {
                Ok(documents) => read.push((message, documents)),
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
