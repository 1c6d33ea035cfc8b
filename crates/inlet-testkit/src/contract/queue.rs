//! The promises of [`Queue`].

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::document::{Document, Timestamp};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;
use inlet_core::ports::{BatchLimit, Delivery, Oldest, Outcome, Queue};

use super::not_run;
use crate::sample::{after, document, document_in, document_with, keyed_document};

/// Opens a queue, and opens it again as after a crash.
#[async_trait]
pub trait QueueFixture: Send + Sync {
    /// Opens the queue: empty the first time; every other time as after a crash of the process
    /// that had it open. A handle opened before is not used again. Its limit should be small (a
    /// megabyte or two), so that it can be filled.
    async fn open(&self) -> Arc<dyn Queue>;
}

/// Makes a test of each promise of [`Queue`]; the argument is an expression that makes a fresh
/// [`QueueFixture`].
#[macro_export]
macro_rules! queue_contract {
    ($fixture:expr) => {
        $crate::contract_tests! {
            queue, $fixture,
            queue_1_what_was_sent_survives_a_crash,
            queue_2_what_was_refused_comes_whole_or_not_at_all,
            queue_3_documents_come_byte_for_byte_and_in_order,
            queue_3_many_documents_in_one_send_all_come,
            queue_3_a_limit_splits_a_delivery_and_loses_nothing,
            queue_3_a_document_larger_than_the_limit_comes_alone,
            queue_4_what_was_not_settled_comes_again,
            queue_4_what_was_not_settled_comes_again_after_a_crash,
            queue_5_what_was_settled_does_not_come_again,
            queue_6_a_full_queue_refuses_at_once_and_takes_again_once_there_is_room,
            queue_7_receive_gives_an_empty_delivery_when_nothing_came,
            queue_7_receive_wakes_for_what_comes_while_it_waits,
            queue_8_a_send_dropped_half_way_loses_nothing_that_was_acknowledged,
            queue_8_a_receive_dropped_half_way_loses_nothing,
            queue_9_what_is_whole_is_not_known_as_damaged,
            queue_10_depth_has_the_oldest_document_until_it_is_settled,
        }
    };
}

/// After `Ok`, a crash loses nothing.
pub async fn queue_1_what_was_sent_survives_a_crash(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    queue.send(&[document(1), keyed_document("k", 2)]).await.unwrap();
    queue.send(&[document(3)]).await.unwrap();
    drop(queue);
    let queue = fixture.open().await;
    assert_eq!(drain(&*queue, 3).await, [document(1), keyed_document("k", 2), document(3)]);
}

/// What was refused may come or not; torn or mixed up it never comes.
pub async fn queue_2_what_was_refused_comes_whole_or_not_at_all(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let Some((sent, refused)) = fill(&*queue).await else { return };
    let sent: HashMap<DocumentId, Document> =
        sent.into_iter().map(|document| (document.id, document)).collect();
    let mut missing: HashSet<_> = sent.keys().copied().collect();
    let mut empty = 0;
    while empty < 2 {
        let delivery = queue.receive(limit(64)).await.unwrap();
        empty = if delivery.messages.is_empty() { empty + 1 } else { 0 };
        for document in documents(&delivery) {
            assert_eq!(document, *sent.get(&document.id).unwrap_or(&refused));
            missing.remove(&document.id);
        }
        settle(&*queue, &delivery).await;
    }
    assert!(missing.is_empty(), "{} acknowledged documents did not come", missing.len());
}

/// Bodies and names come as they were sent, in the order in which sends returned.
pub async fn queue_3_documents_come_byte_for_byte_and_in_order(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let mut sent = vec![
        document_with(1, "0"),
        document_with(2, &format!("\"{}\"", "y".repeat(100_000))),
        document_in("Other_stream-9", 3),
        keyed_document("a key with spaces ~", 4),
        document_with(5, "{\"\":\"\\u0000\"}\r\n"),
    ];
    sent[3].received = Timestamp::from_micros(-7);
    for document in &sent {
        queue.send(std::slice::from_ref(document)).await.unwrap();
    }
    assert_eq!(drain(&*queue, 5).await, sent);
}

/// One send of many documents is all of them.
pub async fn queue_3_many_documents_in_one_send_all_come(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let sent: Vec<_> = (0..2_000).map(document).collect();
    queue.send(&sent).await.unwrap();
    queue.send(&[]).await.unwrap();
    assert_eq!(drain(&*queue, 2_000).await, sent);
}

/// A delivery keeps to its limits.
pub async fn queue_3_a_limit_splits_a_delivery_and_loses_nothing(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let sent: Vec<_> = (0..50).map(|n| document_with(n, &"7".repeat(1_000))).collect();
    queue.send(&sent).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 50 {
        let few = BatchLimit { documents_max: 7, bytes_max: 4_500, wait: WAIT };
        let delivery = queue.receive(few).await.unwrap();
        let documents = documents(&delivery);
        assert!((1..=7).contains(&documents.len()));
        assert!(documents.iter().map(|document| document.body.len()).sum::<usize>() <= 4_500);
        came.extend(documents);
        settle(&*queue, &delivery).await;
    }
    assert_eq!(came, sent);
}

/// One that alone is larger than the limit comes all the same.
pub async fn queue_3_a_document_larger_than_the_limit_comes_alone(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let sent = [document_with(1, &"1".repeat(9_000)), document(2)];
    queue.send(&sent).await.unwrap();
    let small = BatchLimit { documents_max: 10, bytes_max: 100, wait: WAIT };
    let delivery = queue.receive(small).await.unwrap();
    assert_eq!(documents(&delivery), sent[..1]);
    settle(&*queue, &delivery).await;
    assert_eq!(drain(&*queue, 1).await, sent[1..]);
}

/// Received and not settled is received again.
pub async fn queue_4_what_was_not_settled_comes_again(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    queue.send(&[document(1), document(2), document(3)]).await.unwrap();
    for _ in 0..3 {
        let delivery = queue.receive(limit(2)).await.unwrap();
        assert_eq!(documents(&delivery)[0], document(1));
    }
    assert_eq!(drain(&*queue, 3).await, [document(1), document(2), document(3)]);
}

/// The same after a crash.
pub async fn queue_4_what_was_not_settled_comes_again_after_a_crash(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    queue.send(&[document(1), document(2)]).await.unwrap();
    assert_eq!(documents(&queue.receive(limit(2)).await.unwrap()).len(), 2);
    drop(queue);
    let queue = fixture.open().await;
    assert_eq!(drain(&*queue, 2).await, [document(1), document(2)]);
}

/// Settled is done with.
pub async fn queue_5_what_was_settled_does_not_come_again(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    queue.send(&[document(1), document(2)]).await.unwrap();
    let delivery = queue.receive(limit(1)).await.unwrap();
    assert_eq!(documents(&delivery), [document(1)]);
    settle(&*queue, &delivery).await;
    queue.send(&[document(3)]).await.unwrap();
    assert_eq!(drain(&*queue, 2).await, [document(2), document(3)]);
    assert_eq!(queue.receive(limit(9)).await.unwrap().messages, []);
}

/// A full queue says so, keeps what it has, and takes more once there is room.
pub async fn queue_6_a_full_queue_refuses_at_once_and_takes_again_once_there_is_room(
    fixture: &dyn QueueFixture,
) {
    let queue = fixture.open().await;
    queue.has_room().unwrap();
    let Some((sent, refused)) = fill(&*queue).await else { return };
    // What refuses a large document may have room for small ones yet.
    let mut small = 0;
    while queue.send(&[document(10_000 + small)]).await.is_ok() {
        small += 1;
        assert!(small < 1_000, "small documents are taken without an end");
    }
    let failure = queue.has_room().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Full);
    let depth = queue.depth().await.unwrap();
    assert!(depth.bytes > 0);
    let (mut came, count) = (0, sent.len() as u64 + small);
    while came < count {
        let delivery = queue.receive(limit(64)).await.unwrap();
        came += delivery.messages.len() as u64;
        settle(&*queue, &delivery).await;
    }
    assert!(queue.depth().await.unwrap().bytes < depth.bytes);
    queue.has_room().unwrap();
    queue.send(&[refused]).await.unwrap();
}

/// The oldest document that waits is told, where the queue can tell, from when it was sent until
/// it is settled, by every handle.
pub async fn queue_10_depth_has_the_oldest_document_until_it_is_settled(
    fixture: &dyn QueueFixture,
) {
    let queue = fixture.open().await;
    let oldest = async |queue: &dyn Queue| queue.depth().await.unwrap().oldest;
    if oldest(&*queue).await == Oldest::Unknown {
        return not_run("this queue can't tell before it has delivered");
    }
    assert_eq!(oldest(&*queue).await, Oldest::Nothing);
    let mut documents = [document(1), document(2)];
    documents[1].received = after(60);
    let [first, second] = documents.clone().map(|document| document.received);
    queue.send(&documents).await.unwrap();
    assert_eq!(oldest(&*queue).await, Oldest::Accepted(first));
    let one = BatchLimit { documents_max: 1, ..limit(1) };
    for next in [Oldest::Accepted(second), Oldest::Nothing] {
        let before = oldest(&*queue).await;
        let delivery = queue.receive(one).await.unwrap();
        assert_eq!(oldest(&*queue).await, before, "what is being stored waits still");
        settle(&*queue, &delivery).await;
        assert_eq!(oldest(&*queue).await, next);
    }
}

/// Nothing that waits, is being delivered or was settled is known as damaged, and nothing that
/// never was there. What damage does is tested where it can be caused.
pub async fn queue_9_what_is_whole_is_not_known_as_damaged(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let documents = [document(1), document(2)];
    queue.send(&documents).await.unwrap();
    let damaged = async |queue: &dyn Queue| {
        for id in [documents[0].id, documents[1].id, document(3).id] {
            assert_eq!(queue.damaged(id).await.unwrap(), None);
        }
    };
    damaged(&*queue).await;
    let delivery = queue.receive(limit(1)).await.unwrap();
    damaged(&*queue).await;
    queue.settle(&delivery, &[Outcome::Stored]).await.unwrap();
    damaged(&*queue).await;
}

/// With nothing to give, `receive` gives nothing.
pub async fn queue_7_receive_gives_an_empty_delivery_when_nothing_came(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let short = BatchLimit { wait: Duration::from_millis(5), ..limit(10) };
    for _ in 0..2 {
        let delivery = queue.receive(short).await.unwrap();
        assert_eq!(delivery, Delivery::default());
    }
    queue.settle(&Delivery::default(), &[]).await.unwrap();
    assert_eq!(queue.depth().await.unwrap().bytes, 0);
}

/// What is sent while a worker waits wakes it.
pub async fn queue_7_receive_wakes_for_what_comes_while_it_waits(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    let (received, sent) =
        tokio::join!(queue.receive(limit(10)), async { queue.send(&[document(1)]).await });
    sent.unwrap();
    let mut came = documents(&received.unwrap());
    if came.is_empty() {
        came = documents(&queue.receive(limit(10)).await.unwrap());
    }
    assert_eq!(came, [document(1)]);
}

/// A client that goes away in the middle harms no other.
pub async fn queue_8_a_send_dropped_half_way_loses_nothing_that_was_acknowledged(
    fixture: &dyn QueueFixture,
) {
    let queue = fixture.open().await;
    let mut acknowledged = Vec::new();
    for n in 0..20 {
        let given_up = document_with(1_000 + n, "\"given up\"");
        if poll_once(queue.send(std::slice::from_ref(&given_up))).await.is_some() {
            acknowledged.push(given_up.id);
        }
        queue.send(&[document(n)]).await.unwrap();
        acknowledged.push(document(n).id);
    }
    drop(queue);
    let queue = fixture.open().await;
    let mut came = HashSet::new();
    while !acknowledged.iter().all(|id| came.contains(id)) {
        let delivery = queue.receive(limit(7)).await.unwrap();
        assert!(!delivery.messages.is_empty(), "not all that was acknowledged came");
        for document in documents(&delivery) {
            let n = u64::from_be_bytes(document.id.as_bytes()[..8].try_into().unwrap());
            let whole = if n < 1_000 { &document.body } else { &Bytes::from("\"given up\"") };
            assert_eq!(document.body, *whole);
            came.insert(document.id);
        }
        settle(&*queue, &delivery).await;
    }
}

/// A worker that gives up in the middle of a receive gets the same later.
pub async fn queue_8_a_receive_dropped_half_way_loses_nothing(fixture: &dyn QueueFixture) {
    let queue = fixture.open().await;
    queue.send(&[document(1), document(2)]).await.unwrap();
    for _ in 0..5 {
        poll_once(queue.receive(limit(1))).await;
    }
    assert_eq!(drain(&*queue, 2).await, [document(1), document(2)]);
}

/// Long enough that a busy machine does not cut a test short; only waited out where nothing
/// comes.
const WAIT: Duration = Duration::from_millis(500);

fn limit(documents_max: usize) -> BatchLimit {
    BatchLimit { documents_max, bytes_max: 1 << 20, wait: WAIT }
}

fn documents(delivery: &Delivery) -> Vec<Document> {
    delivery.messages.iter().map(|message| message.document.clone().unwrap()).collect()
}

async fn settle(queue: &dyn Queue, delivery: &Delivery) {
    let outcomes = vec![Outcome::Stored; delivery.messages.len()];
    queue.settle(delivery, &outcomes).await.unwrap();
}

/// Receives and settles until `count` documents have come, which is all there are.
async fn drain(queue: &dyn Queue, count: usize) -> Vec<Document> {
    let (mut came, mut empty) = (Vec::new(), 0);
    while came.len() < count {
        let delivery = queue.receive(limit(700)).await.unwrap();
        // A service may have nothing to give for a moment.
        empty = if delivery.messages.is_empty() { empty + 1 } else { 0 };
        assert!(empty < 40, "{} of {count} came", came.len());
        came.extend(documents(&delivery));
        settle(queue, &delivery).await;
    }
    came
}

/// Sends until the queue refuses: what it took, and what it refused. `None`, and a line that says
/// so, where the queue has no limit of its own.
async fn fill(queue: &dyn Queue) -> Option<(Vec<Document>, Document)> {
    let Some(bytes_max) = queue.depth().await.unwrap().bytes_max else {
        not_run("this queue has no limit of its own");
        return None;
    };
    let body = "9".repeat(60_000);
    let mut sent = Vec::new();
    // The one that fills it may reach over the limit; no further one is taken.
    for n in 0..bytes_max / 60_000 + 3 {
        let document = document_with(n, &body);
        let result: Result<(), Failure> = queue.send(std::slice::from_ref(&document)).await;
        match result {
            Ok(()) => sent.push(document),
            Err(failure) => {
                assert_eq!(failure.kind(), FailureKind::Full, "{failure}");
                assert!(!sent.is_empty());
                return Some((sent, document));
            }
        }
    }
    panic!("{} documents beyond the limit of {bytes_max} bytes were taken", sent.len());
}

/// Polls `future` once and drops it: its result, if it was ready at once.
async fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    let result = match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    };
    tokio::task::yield_now().await;
    result
}
