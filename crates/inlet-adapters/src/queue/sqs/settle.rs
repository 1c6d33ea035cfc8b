//! Deleting what is done with.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::DeleteMessageBatchRequestEntry;
use inlet_core::failure::{Failure, FailureKind};
use tokio::task::JoinSet;

use super::held::{Settled, Source};
use super::receiver::Shared;
use crate::aws;

/// How many messages one call deletes.
const CALL_MESSAGES_MAX: usize = 10;
/// How many calls delete at once.
const CALLS_MAX: usize = 8;
/// How often a message that SQS did not delete is tried in all.
const ATTEMPTS_MAX: u32 = 4;
/// The pause before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_millis(50);

/// Deletes the messages, and then the bodies that lie in the bucket for them. Each that was
/// deleted is forgotten, also where another fails.
pub(super) async fn delete(shared: &Arc<Shared>, settled: Vec<Settled>) -> Result<(), Failure> {
    let mut calls = JoinSet::new();
    let mut result = Ok(());
    for source in [Source::Queue, Source::DeadLetters] {
        let of_source: Vec<_> = settled.iter().filter(|it| it.source == source).collect();
        for some in of_source.chunks(CALL_MESSAGES_MAX) {
            if calls.len() >= CALLS_MAX {
                result = result.and(ended(calls.join_next().await));
            }
            let some: Vec<Settled> = some.iter().copied().cloned().collect();
            calls.spawn(delete_some(Arc::clone(shared), source, some));
        }
    }
    while let Some(call) = calls.join_next().await {
        result = result.and(ended(Some(call)));
    }
    result
}

fn ended(call: Option<Result<Result<(), Failure>, tokio::task::JoinError>>) -> Result<(), Failure> {
    match call {
        None => Ok(()),
        Some(Ok(result)) => result,
        Some(Err(error)) => {
            Err(Failure::new(FailureKind::Unavailable, "delete messages of", "the queue")
                .because(error))
        }
    }
}

async fn delete_some(
    shared: Arc<Shared>,
    source: Source,
    mut left: Vec<Settled>,
) -> Result<(), Failure> {
    let url = shared.url(source);
    for attempt in 1.. {
        let entries = left.iter().enumerate().map(|(index, settled)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(&settled.receipt)
                .build()
                .expect("an entry's id and receipt are set")
        });
        let call = shared.client.delete_message_batch().queue_url(url);
        let output = call
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|error| aws::failure("delete messages of the queue", url, &error))?;
        // A receipt that is refused is out of date: SQS delivers the message again, if it is
        // there at all, and the store knows its documents.
        let again: HashSet<usize> = output
            .failed()
            .iter()
            .filter(|entry| !aws::is_refused(entry))
            .filter_map(|entry| entry.id().parse().ok())
            .collect();
        let (mut failed, mut done) = (Vec::new(), Vec::new());
        for (index, settled) in left.into_iter().enumerate() {
            if again.contains(&index) { failed.push(settled) } else { done.push(settled) }
        }
        shared.state().holdings.forget(&done.iter().map(|settled| settled.message).collect());
        for key in done.iter().flat_map(|settled| &settled.overflow) {
            shared.overflow.delete_or_tell(key).await;
        }
        left = failed;
        if left.is_empty() {
            return Ok(());
        }
        if attempt >= ATTEMPTS_MAX {
            break;
        }
        tokio::time::sleep(BACKOFF * 2_u32.pow(attempt - 1)).await;
    }
    let subject = format!("{} messages of the queue {url}", left.len());
    Err(Failure::new(FailureKind::Unavailable, "delete", subject))
}
