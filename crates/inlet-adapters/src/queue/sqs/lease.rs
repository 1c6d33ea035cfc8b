//! Keeping received messages from other workers for as long as they are worked on.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sqs::types::ChangeMessageVisibilityBatchRequestEntry;
use inlet_core::failure::Failure;
use tokio::time::{self, Instant};

use super::held::{Lease, Source};
use super::receiver::{IDLE_MAX, Shared, State};
use crate::aws;

/// How many messages one call changes.
const CALL_MESSAGES_MAX: usize = 10;

/// Starts the task that extends leases, unless it runs or nothing is held.
pub(super) fn keep(shared: &Arc<Shared>, state: &mut State) {
    if state.keeps_leases || state.holdings.is_empty() {
        return;
    }
    state.keeps_leases = true;
    shared.spawn(run(Arc::clone(shared)));
}

/// Extends each lease at half its time, until nothing is held.
async fn run(shared: Arc<Shared>) {
    let visibility = shared.place.visibility;
    loop {
        time::sleep(visibility / 4).await;
        let ending = {
            let mut state = shared.state();
            if state.holdings.is_empty() {
                state.keeps_leases = false;
                return;
            }
            if state.asked.is_some_and(|asked| asked.elapsed() >= IDLE_MAX) {
                tracing::warn!("nobody asks for messages any more: they go back to the queue");
                state.holdings.take_all();
                state.keeps_leases = false;
                return;
            }
            state.holdings.ending(visibility / 2)
        };
        if let Err(failure) = extend(&shared, ending, visibility).await {
            // They are delivered again, to us or to another, and are stored once all the same.
            tracing::warn!(%failure, "messages were not kept from other workers");
        }
    }
}

async fn extend(
    shared: &Shared,
    leases: Vec<(u64, Lease)>,
    visibility: Duration,
) -> Result<(), Failure> {
    for source in [Source::Queue, Source::DeadLetters] {
        let of_source: Vec<_> = leases.iter().filter(|(_, it)| it.source == source).collect();
        for some in of_source.chunks(CALL_MESSAGES_MAX) {
            let until = Instant::now() + visibility;
            let receipts = some.iter().map(|(_, lease)| lease.receipt.as_str());
            let lost = change(shared, source, receipts, visibility).await?;
            let mut state = shared.state();
            let gone: HashSet<u64> =
                lost.iter().filter_map(|index| some.get(*index)).map(|it| it.0).collect();
            for (message, _) in some.iter().filter(|(message, _)| !gone.contains(message)) {
                state.holdings.extended(*message, until);
            }
            if !gone.is_empty() {
                tracing::info!(messages = gone.len(), "SQS keeps messages for us no longer");
            }
        }
    }
    Ok(())
}

/// Gives messages back, so that they are delivered again at once.
pub(super) async fn release(shared: &Shared, leases: Vec<Lease>) {
    for source in [Source::Queue, Source::DeadLetters] {
        let of_source: Vec<_> = leases.iter().filter(|it| it.source == source).collect();
        for some in of_source.chunks(CALL_MESSAGES_MAX) {
            let receipts = some.iter().map(|lease| lease.receipt.as_str());
            if let Err(failure) = change(shared, source, receipts, Duration::ZERO).await {
                tracing::info!(%failure, "messages come back to the queue later");
                return;
            }
        }
    }
}

/// Sets how long SQS keeps these, at most 10; the indexes of those that it no longer does.
async fn change<'a>(
    shared: &Shared,
    source: Source,
    receipts: impl Iterator<Item = &'a str>,
    visibility: Duration,
) -> Result<Vec<usize>, Failure> {
    let url = shared.url(source);
    let visibility_s = i32::try_from(visibility.as_secs()).unwrap_or(i32::MAX);
    let entries = receipts.enumerate().map(|(index, receipt)| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(index.to_string())
            .receipt_handle(receipt)
            .visibility_timeout(visibility_s)
            .build()
            .expect("an entry's id and receipt are set")
    });
    let call = shared.client.change_message_visibility_batch().queue_url(url);
    let output = call
        .set_entries(Some(entries.collect()))
        .send()
        .await
        .map_err(|error| aws::failure("keep messages of the queue", url, &error))?;
    // One that was only throttled is ours until its time is over, and is extended by then.
    let lost = output.failed().iter().filter(|entry| aws::is_refused(entry));
    Ok(lost.filter_map(|entry| entry.id().parse().ok()).collect())
}
