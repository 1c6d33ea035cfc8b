use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use inlet_adapters::queue::{LogQueue, LogQueueOptions};
use inlet_core::document::Document;
use inlet_core::failure::FailureKind;
use inlet_core::ports::{Batch, BatchLimit, Delivery, Outcome, Queue, Store};
use inlet_log::{Log, LogOptions, Sync};
use inlet_testkit::contract::queue::QueueFixture;
use inlet_testkit::memory::MemoryStore;
use inlet_testkit::sample::{PutBatch, batch, document, document_with};
use tempfile::TempDir;

/// Logs in a directory of their own, and a store that keeps their cursors.
struct Logs {
    directory: TempDir,
    store: MemoryStore,
    options: LogQueueOptions,
}

impl Logs {
    fn new(sync: Sync) -> Self {
        let log = LogOptions {
            segment_bytes: 1 << 20,
            first_segment_bytes: 256 << 10,
            queue_bytes_max: 2 << 20,
            sync,
            ..LogOptions::default()
        };
        let options = LogQueueOptions { log, poll_ms: 5, list_ms: 5, ..LogQueueOptions::default() };
        Self { directory: tempfile::tempdir().unwrap(), store: MemoryStore::default(), options }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn instance(&self, name: &str) -> LogQueue {
        let queue = LogQueue::open(&self.root(), name, self.store(), &self.options).await.unwrap();
        drive(&queue);
        queue
    }

    async fn sender(&self, name: &str) -> LogQueue {
        let (root, store) = (self.root(), self.store());
        let queue = LogQueue::open_to_send(&root, name, &*store, &self.options).await.unwrap();
        drive(&queue);
        queue
    }

    fn worker(&self) -> LogQueue {
        LogQueue::open_to_receive(&self.root(), self.store(), &self.options)
    }

    fn segments(&self, instance: &str) -> usize {
        let names = fs::read_dir(self.root().join(instance)).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".seg")).count()
    }
}

#[async_trait]
impl QueueFixture for Logs {
    async fn open(&self) -> Arc<dyn Queue> {
        Arc::new(self.instance("one").await)
    }
}

fn drive(queue: &LogQueue) {
    tokio::spawn(queue.drive().unwrap());
}

mod by_thread {
    use super::{Logs, Sync};
    inlet_testkit::queue_contract!(Logs::new(Sync::Thread));
}

mod as_the_machine_can {
    use super::{Logs, Sync};
    inlet_testkit::queue_contract!(Logs::new(Sync::Auto));
}

const LIMIT: BatchLimit =
    BatchLimit { documents_max: 100, bytes_max: 1 << 20, wait: Duration::from_millis(300) };

fn documents(delivery: &Delivery) -> Vec<Document> {
    delivery.messages.iter().map(|message| message.document.clone().unwrap()).collect()
}

/// Receives, stores with the cursor, and settles, as the persist step does.
async fn persist(queue: &LogQueue, store: &dyn Store) -> Vec<Document> {
    let delivery = queue.receive(LIMIT).await.unwrap();
    let documents = documents(&delivery);
    let put = Batch { cursor: delivery.cursor.clone(), ..batch(documents.clone()) };
    let outcomes = store.put_batch(put).await.unwrap();
    queue.settle(&delivery, &outcomes).await.unwrap();
    documents
}

/// Persists until `count` documents have come.
async fn persist_all(queue: &LogQueue, store: &dyn Store, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let came = persist(queue, store).await;
        assert!(!came.is_empty(), "{} of {count} came", numbers.len());
        numbers.extend(
            came.iter().map(|document| {
                u64::from_be_bytes(document.id.as_bytes()[..8].try_into().unwrap())
            }),
        );
    }
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn one_worker_drains_the_logs_of_all_instances_also_those_that_appear_later() {
    let logs = Logs::new(Sync::Thread);
    let (worker, store) = (logs.worker(), logs.store());
    let one = logs.sender("one").await;
    one.send(&[document(1), document(2)]).await.unwrap();
    assert_eq!(persist_all(&worker, &*store, 2).await, [1, 2]);
    let two = logs.sender("two").await;
    for n in 3..20 {
        let instance = if n % 2 == 0 { &one } else { &two };
        instance.send(&[document(n)]).await.unwrap();
    }
    assert_eq!(persist_all(&worker, &*store, 17).await, (3..20).collect::<Vec<_>>());
    assert_eq!(store.cursors().await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_log_of_an_instance_that_is_gone_is_drained_by_another() {
    let logs = Logs::new(Sync::Auto);
    let store = logs.store();
    let gone = logs.sender("gone").await;
    gone.send(&(0..30).map(document).collect::<Vec<_>>()).await.unwrap();
    gone.close().await;
    drop(gone);
    let living = logs.instance("living").await;
    living.send(&[document(100)]).await.unwrap();
    let numbers = persist_all(&living, &*store, 31).await;
    assert_eq!(numbers, (0..30).chain([100]).collect::<Vec<_>>());
}

#[tokio::test]
async fn logs_take_turns() {
    let logs = Logs::new(Sync::Thread);
    let (one, two) = (logs.sender("one").await, logs.sender("two").await);
    one.send(&(0..500).map(document).collect::<Vec<_>>()).await.unwrap();
    two.send(&(1_000..1_500).map(document).collect::<Vec<_>>()).await.unwrap();
    let (worker, store) = (logs.worker(), logs.store());
    let mut turns = Vec::new();
    for _ in 0..10 {
        let came = persist(&worker, &*store).await;
        assert_eq!(came.len(), 100);
        turns.push(came[0].id < document(1_000).id);
    }
    assert!(turns.windows(2).all(|pair| pair[0] != pair[1]), "{turns:?}");
}

#[tokio::test]
async fn after_a_crash_only_what_is_behind_the_cursor_comes_again() {
    let logs = Logs::new(Sync::Thread);
    let store = logs.store();
    let queue = logs.instance("one").await;
    queue.send(&(0..250).map(document).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(persist(&queue, &*store).await.len(), 100);
    // Stored, but the crash comes before it is settled.
    let delivery = queue.receive(LIMIT).await.unwrap();
    let put = Batch { cursor: delivery.cursor.clone(), ..batch(documents(&delivery)) };
    store.put_batch(put).await.unwrap();
    // What another process finds: the files as they are now, no lock.
    let crashed = Logs { store: logs.store.clone(), ..Logs::new(Sync::Thread) };
    copy(&logs.root().join("one"), &crashed.root().join("one"));
    let queue = crashed.instance("one").await;
    assert_eq!(persist_all(&queue, &*store, 50).await, (200..250).collect::<Vec<_>>());
    assert_eq!(queue.receive(LIMIT).await.unwrap(), Delivery::default());
}

#[tokio::test]
async fn a_log_is_drained_by_one_worker_at_a_time() {
    let logs = Logs::new(Sync::Thread);
    let store = logs.store();
    let sender = logs.sender("one").await;
    sender.send(&[document(1)]).await.unwrap();
    let (first, second) = (logs.worker(), logs.worker());
    assert_eq!(persist_all(&first, &*store, 1).await, [1]);
    sender.send(&[document(2)]).await.unwrap();
    let short = BatchLimit { wait: Duration::from_millis(20), ..LIMIT };
    assert_eq!(second.receive(short).await.unwrap(), Delivery::default());
    drop(first);
    assert_eq!(persist_all(&second, &*store, 1).await, [2]);
}

#[tokio::test]
async fn what_is_stored_is_removed_from_the_disk() {
    let logs = Logs::new(Sync::Auto);
    let store = logs.store();
    let queue = logs.instance("one").await;
    let body = format!("\"{}\"", "x".repeat(50_000));
    let mut segments_most = 0;
    for round in 0..10 {
        let sent: Vec<_> = (0..20).map(|n| document_with(round * 20 + n, &body)).collect();
        queue.send(&sent).await.unwrap();
        segments_most = segments_most.max(logs.segments("one"));
        persist_all(&queue, &*store, 20).await;
    }
    assert!((2..=5).contains(&segments_most), "{segments_most} segments at once");
    assert!(logs.segments("one") <= 2, "{} segments stay", logs.segments("one"));
    assert_eq!(queue.depth().await.unwrap().bytes, 0);
}

#[tokio::test]
async fn a_full_instance_takes_more_once_a_worker_elsewhere_has_stored() {
    let logs = Logs::new(Sync::Thread);
    let (sender, worker, store) = (logs.sender("one").await, logs.worker(), logs.store());
    let body = format!("\"{}\"", "x".repeat(50_000));
    let mut sent = 0;
    let failure = loop {
        match sender.send(&[document_with(sent, &body)]).await {
            Ok(()) => sent += 1,
            Err(failure) => break failure,
        }
        assert!(sent < 100);
    };
    assert_eq!(failure.kind(), FailureKind::Full);
    assert!(failure.hint_text().is_some());
    persist_all(&worker, &*store, usize::try_from(sent).unwrap()).await;
    let room = async {
        while sender.has_room().is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room).await.unwrap();
    sender.send(&[document(1_000)]).await.unwrap();
}

#[tokio::test]
async fn the_drained_log_of_a_gone_instance_is_removed_and_a_living_ones_stays() {
    let mut logs = Logs::new(Sync::Thread);
    logs.options.remove_after_ms = 0;
    let (worker, store) = (logs.worker(), logs.store());
    let (gone, living) = (logs.sender("gone").await, logs.sender("living").await);
    for sender in [&gone, &living] {
        sender.send(&[document(1), document(2)]).await.unwrap();
    }
    gone.close().await;
    drop(gone);
    let mut came = 0;
    let removed = async {
        while logs.root().join("gone").exists() {
            came += persist(&worker, &*store).await.len();
        }
    };
    tokio::time::timeout(Duration::from_secs(10), removed).await.unwrap();
    assert!(came >= 2);
    assert!(!logs.root().join("gone.drain").exists());
    living.send(&[document(3)]).await.unwrap();
    while came < 5 {
        came += persist(&worker, &*store).await.len();
    }
    // The name can be used again, for a log of its own.
    let again = logs.sender("gone").await;
    again.send(&[document(4)]).await.unwrap();
    assert_eq!(persist_all(&worker, &*store, 1).await, [4]);
}

#[tokio::test]
async fn a_damaged_log_is_told_and_holds_up_no_other() {
    let logs = Logs::new(Sync::Thread);
    let (damaged, sound) = (logs.sender("a-damaged").await, logs.sender("b-sound").await);
    for n in 0..5 {
        damaged.send(&[document(n)]).await.unwrap();
        sound.send(&[document(100 + n)]).await.unwrap();
    }
    flip_a_bit(&logs.root().join("a-damaged"), b"\"n\":2");
    let (worker, store) = (logs.worker(), logs.store());
    let mut numbers = persist_all(&worker, &*store, 7).await;
    assert_eq!(numbers.split_off(2), (100..105).collect::<Vec<_>>());
    assert_eq!(numbers, [0, 1]);
    let failure = worker.receive(LIMIT).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged);
    assert!(failure.hint_text().unwrap().contains("inlet fsck"));
    assert!(failure.to_string().contains("a-damaged"), "{failure}");
    sound.send(&[document(105)]).await.unwrap();
    assert_eq!(persist_all(&worker, &*store, 1).await, [105]);
}

#[tokio::test]
async fn bytes_that_are_no_document_are_delivered_as_such() {
    let logs = Logs::new(Sync::Thread);
    let dir = logs.root().join("one");
    let (log, _) = Log::open(Arc::new(inlet_log::RealDisk), &dir, &logs.options.log).unwrap();
    let driven = tokio::spawn(log.drive());
    log.append(&[b"\xffno envelope"]).await.unwrap();
    log.close().await;
    driven.await.unwrap().unwrap();
    drop(log);
    let delivery = logs.worker().receive(LIMIT).await.unwrap();
    let undecodable = delivery.messages[0].document.as_ref().unwrap_err();
    assert_eq!(&undecodable.payload[..], b"\xffno envelope");
    assert!(undecodable.cause.contains("version 255"), "{}", undecodable.cause);
    assert!(delivery.cursor.is_some());
}

#[tokio::test]
async fn documents_larger_than_one_append_in_all_go_in_together() {
    let logs = Logs::new(Sync::Auto);
    let (queue, store) = (logs.instance("one").await, logs.store());
    let body = format!("\"{}\"", "x".repeat(300_000));
    queue.send(&(0..6).map(|n| document_with(n, &body)).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(persist_all(&queue, &*store, 6).await, [0, 1, 2, 3, 4, 5]);
    let too_large = document_with(9, &"1".repeat(2 << 20));
    let failure = queue.send(&[too_large]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Refused, "{failure}");
}

#[tokio::test(start_paused = true)]
async fn two_processes_on_one_log_are_refused_by_name() {
    let logs = Logs::new(Sync::Thread);
    let _first = logs.sender("one").await;
    let store = logs.store();
    let second = LogQueue::open_to_send(&logs.root(), "one", &*store, &logs.options).await;
    let failure = second.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused);
    assert!(failure.to_string().ends_with("log/one"), "{failure}");
    assert!(failure.hint_text().unwrap().contains("--data"));
}

#[tokio::test]
async fn a_handle_does_only_what_it_was_opened_for() {
    let logs = Logs::new(Sync::Thread);
    let (sender, worker) = (logs.sender("one").await, logs.worker());
    assert_eq!(worker.send(&[document(1)]).await.unwrap_err().kind(), FailureKind::Refused);
    assert_eq!(worker.has_room().unwrap_err().kind(), FailureKind::Refused);
    assert!(worker.drive().is_none());
    assert_eq!(sender.receive(LIMIT).await.unwrap_err().kind(), FailureKind::Refused);
    assert!(sender.drive().is_some());
    assert_eq!(worker.depth().await.unwrap().bytes_max, None);
}

#[tokio::test]
async fn two_workers_on_one_handle_are_refused_and_the_first_goes_on() {
    let logs = Logs::new(Sync::Thread);
    let queue = logs.instance("one").await;
    let (first, second, ()) = tokio::join!(queue.receive(LIMIT), queue.receive(LIMIT), async {
        queue.send(&[document(1)]).await.unwrap();
    });
    assert_eq!(documents(&first.unwrap()), [document(1)]);
    assert!(second.unwrap_err().is_retryable());
}

#[tokio::test]
async fn a_store_that_is_away_is_no_reason_not_to_send() {
    use inlet_testkit::fault::{FailingStore, Faults};
    let logs = Logs::new(Sync::Thread);
    let faults = Faults::default();
    let store = Arc::new(FailingStore::new(logs.store.clone(), faults.clone()));
    faults.set_away(true);
    let queue = LogQueue::open(&logs.root(), "one", store.clone(), &logs.options).await.unwrap();
    drive(&queue);
    queue.send(&[document(1)]).await.unwrap();
    let failure = queue.receive(LIMIT).await.unwrap_err();
    assert!(failure.is_retryable());
    faults.set_away(false);
    assert_eq!(persist_all(&queue, &*store, 1).await, [1]);
}

#[tokio::test]
async fn what_is_given_out_again_after_a_failure_settles_as_a_whole() {
    let logs = Logs::new(Sync::Thread);
    let queue = logs.instance("one").await;
    queue.send(&(0..10).map(document).collect::<Vec<_>>()).await.unwrap();
    let few = BatchLimit { documents_max: 4, ..LIMIT };
    let first = queue.receive(few).await.unwrap();
    let again = queue.receive(LIMIT).await.unwrap();
    assert_eq!((first.messages.len(), again.messages.len()), (4, 10));
    // The earlier and shorter delivery is settled after the later one was given out.
    queue.settle(&first, &[const { Outcome::Stored }; 4]).await.unwrap();
    let rest = queue.receive(LIMIT).await.unwrap();
    assert_eq!(documents(&rest), (4..10).map(document).collect::<Vec<_>>());
    queue.settle(&rest, &[const { Outcome::Stored }; 6]).await.unwrap();
    let short = BatchLimit { wait: Duration::ZERO, ..LIMIT };
    assert_eq!(queue.receive(short).await.unwrap(), Delivery::default());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Flips one bit in the first segment of the log where `text` stands.
fn flip_a_bit(dir: &Path, text: &[u8]) {
    let segments = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        segments.filter(|path| path.extension().is_some_and(|name| name == "seg")).collect();
    segments.sort();
    for segment in segments {
        let bytes = fs::read(&segment).unwrap();
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
            file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
            return;
        }
    }
    panic!("{text:?} is in no segment");
}
