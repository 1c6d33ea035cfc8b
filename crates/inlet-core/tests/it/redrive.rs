use inlet_core::dead_letter::DeadLetterFilter;
use inlet_core::failure::Failure;
use inlet_core::ports::{Found, Queue, Store};
use inlet_core::redrive::{RedriveReport, redrive};
use inlet_testkit::fault::{FailingQueue, FailingStore, When};
use inlet_testkit::memory::MemoryQueue;
use inlet_testkit::sample::{NOW, document, document_with, id, keyed_document};

use crate::persist::Worker;

/// A worker whose store has these documents as dead letters, and would take them now.
async fn with_letters(numbers: impl Iterator<Item = u64>) -> Worker {
    let worker = Worker::new(1_000);
    worker.store.refuse(Some("n"));
    let documents: Vec<_> = numbers.map(document).collect();
    worker.queue.send(&documents).await.unwrap();
    worker.drain().await;
    worker.store.refuse(None);
    assert_eq!(worker.letters().await.len(), documents.len());
    worker
}

async fn run(worker: &Worker, filter: &str, dry_run: bool) -> Result<RedriveReport, Failure> {
    let store = FailingStore::new(worker.store.clone(), worker.store_faults.clone());
    let queue = FailingQueue::new(worker.queue.clone(), worker.queue_faults.clone());
    redrive(&store, &queue, &*worker.clock, &filter.parse().unwrap(), dry_run).await
}

#[tokio::test]
async fn a_redriven_letter_is_stored_under_its_own_id_with_its_names() {
    let worker = Worker::new(10);
    worker.store.refuse(Some("n"));
    let document = keyed_document("order-1", 1);
    worker.queue.send(std::slice::from_ref(&document)).await.unwrap();
    worker.drain().await;
    worker.store.refuse(None);
    let report = run(&worker, "", false).await.unwrap();
    assert_eq!(report, RedriveReport { matched: 1, redriven: 1, skipped: 0 });
    let letters = worker.letters().await;
    assert_eq!(letters[0].redriven, Some(NOW), "it stays listed until it is stored");
    worker.drain().await;
    assert_eq!(worker.letters().await, []);
    assert_eq!(worker.store.get(id(1)).await.unwrap().unwrap().document, document);
}

#[tokio::test]
async fn a_dry_run_counts_and_does_nothing() {
    let worker = with_letters(0..5).await;
    let report = run(&worker, "", true).await.unwrap();
    assert_eq!(report, RedriveReport { matched: 5, redriven: 5, skipped: 0 });
    assert!(worker.queue.is_empty());
    assert!(worker.letters().await.iter().all(|letter| letter.redriven.is_none()));
}

#[tokio::test]
async fn a_filter_leaves_the_others_alone() {
    let worker = with_letters(0..5).await;
    let report = run(&worker, &format!("id={}", id(3)), false).await.unwrap();
    assert_eq!(report.matched, 1);
    worker.drain().await;
    let left: Vec<_> = worker.letters().await.iter().map(|letter| letter.id).collect();
    assert_eq!(left, [id(0), id(1), id(2), id(4)]);
    assert_eq!(run(&worker, "stream=none", false).await.unwrap(), RedriveReport::default());
}

#[tokio::test]
async fn bytes_that_are_no_document_are_skipped_and_stay() {
    let worker = with_letters(0..1).await;
    worker.queue.send_raw("\x09no envelope");
    worker.drain().await;
    let report = run(&worker, "", false).await.unwrap();
    assert_eq!(report, RedriveReport { matched: 2, redriven: 1, skipped: 1 });
    worker.drain().await;
    let letters = worker.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].cause.code(), letters[0].redriven), ("undecodable", None));
}

#[tokio::test]
async fn letters_of_many_pages_are_sent_once_each() {
    let worker = with_letters(0..1_203).await;
    let report = run(&worker, "", false).await.unwrap();
    assert_eq!(report, RedriveReport { matched: 1_203, redriven: 1_203, skipped: 0 });
    assert_eq!(worker.queue.len(), 1_203);
    worker.drain().await;
    assert_eq!(worker.documents().await.len(), 1_203);
    assert_eq!(worker.letters().await, []);
}

#[tokio::test]
async fn a_crash_between_sending_and_noting_makes_nothing_twice() {
    let worker = with_letters(0..3).await;
    // The first call lists, the second notes.
    worker.store_faults.fail_nth(2, When::Before);
    run(&worker, "", false).await.unwrap_err();
    assert_eq!((worker.queue.len(), worker.letters().await.len()), (3, 3));
    run(&worker, "", false).await.unwrap();
    assert_eq!(worker.queue.len(), 6);
    worker.drain().await;
    assert_eq!(worker.documents().await.len(), 3);
    assert_eq!(worker.letters().await, []);
}

#[tokio::test]
async fn a_queue_that_fails_leaves_the_letters_as_they_were() {
    let worker = with_letters(0..3).await;
    let before = worker.letters().await;
    worker.queue_faults.set_away(true);
    run(&worker, "", false).await.unwrap_err();
    assert_eq!(worker.letters().await, before);
    let full = MemoryQueue::new(0);
    let all = DeadLetterFilter::default();
    let failure = redrive(&worker.store, &full, &*worker.clock, &all, false).await.unwrap_err();
    assert!(failure.is_retryable());
    assert_eq!(worker.letters().await, before);
}

#[tokio::test]
async fn a_letter_that_dies_again_keeps_its_id_and_adds_its_attempts() {
    let worker = with_letters(0..1).await;
    worker.store.refuse(Some("n"));
    for attempts in [3, 6, 9] {
        let letters = worker.letters().await;
        assert_eq!((letters.len(), letters[0].id, letters[0].attempts), (1, id(0), attempts));
        run(&worker, "", false).await.unwrap();
        worker.drain().await;
    }
}

#[tokio::test]
async fn a_letter_erased_on_its_way_stays_erased() {
    let worker = with_letters(0..2).await;
    run(&worker, "", false).await.unwrap();
    assert!(worker.store.erase(id(1), NOW).await.unwrap().was_there);
    worker.drain().await;
    assert_eq!(worker.letters().await, []);
    assert_eq!(worker.store.find(id(1)).await.unwrap(), Some(Found::Erased));
    assert_eq!(worker.documents().await.len(), 1);
}

#[tokio::test]
async fn a_conflict_that_is_redriven_is_a_conflict_still_and_the_first_stays() {
    let worker = Worker::new(10);
    worker.queue.send(&[document(1), document_with(1, "\"other\"")]).await.unwrap();
    worker.drain().await;
    run(&worker, "cause=key_conflict", false).await.unwrap();
    worker.drain().await;
    let letters = worker.letters().await;
    assert_eq!((letters.len(), letters[0].cause.code()), (1, "key_conflict"));
    assert_eq!(worker.store.get(id(1)).await.unwrap().unwrap().document, document(1));
}
