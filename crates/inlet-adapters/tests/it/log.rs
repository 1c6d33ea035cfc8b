use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use inlet_adapters::queue::{LogDirectory, LogQueue, LogQueueOptions, StoreView};
use inlet_core::document::Document;
use inlet_core::failure::FailureKind;
use inlet_core::health::{Health, State};
use inlet_core::id::DocumentId;
use inlet_core::ports::{
    Batch, BatchLimit, Damaged, Delivery, Oldest, Outcome, Queue, Store, SystemClock,
};
use inlet_log::{Log, LogOptions, Position, RealDisk, Sync};
use inlet_testkit::contract::queue::QueueFixture;
use inlet_testkit::memory::MemoryStore;
use inlet_testkit::sample::{NOW, PutBatch, after, batch, document, document_with, id};
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
        let directory = tempfile::tempdir().unwrap();
        let options = LogQueueOptions {
            log,
            poll_ms: 5,
            list_ms: 5,
            retry_ms: 50,
            known: Some(directory.path().join("known")),
            losses: Some(directory.path().join("losses")),
            ..LogQueueOptions::default()
        };
        Self { directory, store: MemoryStore::default(), options }
    }

    /// The board that logs are reported on from now on.
    fn board(&mut self) -> Health {
        let health = Health::new(Arc::new(SystemClock));
        self.options.health = Some(health.clone());
        health
    }

    /// The logs as a command sees them.
    fn directory(&self) -> LogDirectory {
        let path = self.directory.path();
        LogDirectory::new(self.root(), path.join("known"), path.join("losses"))
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

/// The state and the text of a part of the board.
fn part(health: &Health, name: &str) -> Option<(State, String)> {
    let parts = health.parts();
    let part = parts.iter().find(|part| part.name == name)?;
    Some((part.state, part.detail.clone()))
}

/// Receives until the board has, or no longer has, a part of that name.
async fn until_told(queue: &LogQueue, health: &Health, name: &str, told: bool) -> String {
    let short = BatchLimit { wait: Duration::from_millis(5), ..LIMIT };
    let waiting = async {
        loop {
            assert_eq!(queue.receive(short).await.unwrap(), Delivery::default());
            match part(health, name) {
                Some((State::Degraded, detail)) if told => return detail,
                None if !told => return String::new(),
                _ => {}
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap()
}

#[tokio::test]
async fn a_damaged_log_is_set_aside_and_told_and_holds_up_no_other() {
    let mut logs = Logs::new(Sync::Thread);
    let health = logs.board();
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
    let detail = until_told(&worker, &health, "log-a-damaged", true).await;
    assert!(detail.contains("checksum is wrong") && detail.contains("a-damaged"), "{detail}");
    sound.send(&[document(105)]).await.unwrap();
    assert_eq!(persist_all(&worker, &*store, 1).await, [105]);
}

#[tokio::test]
async fn whatever_is_wrong_with_the_log_of_a_gone_instance_all_others_go_on() {
    type Break = fn(&Path);
    let breaks: [(&str, Break); 6] = [
        ("its identity is damaged", |dir| fs::write(dir.join("log.id"), "rubbish").unwrap()),
        ("its first segment is missing", |dir| fs::remove_file(segment(dir, 0)).unwrap()),
        ("its last segment is missing", |dir| fs::remove_file(segment(dir, 1)).unwrap()),
        ("a segment is a directory", |dir| {
            fs::remove_file(segment(dir, 0)).unwrap();
            fs::create_dir(dir.join("00000000000000000001.seg")).unwrap();
        }),
        ("a segment is a link that leads nowhere", |dir| {
            let path = segment(dir, 0);
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/nowhere", path).unwrap();
        }),
        ("it is of another store", |dir| {
            let other = inlet_log::StoreId::from_bytes([3; 16]);
            inlet_log::adopt_store(&RealDisk, dir, Some(other), Position::START).unwrap();
        }),
    ];
    for (what, break_it) in breaks {
        let mut logs = Logs::new(Sync::Thread);
        let health = logs.board();
        let gone = logs.sender("gone").await;
        gone.send(&[document(1)]).await.unwrap();
        gone.close().await;
        drop(gone);
        let dir = logs.root().join("gone");
        break_it(&dir);
        let (living, store) = (logs.instance("living").await, logs.store());
        living.send(&[document(2)]).await.unwrap();
        assert_eq!(persist_all(&living, &*store, 1).await, [2], "{what}");
        let detail = until_told(&living, &health, "log-gone", true).await;
        assert!(detail.contains("gone"), "{what}: {detail}");
        living.send(&[document(3)]).await.unwrap();
        assert_eq!(persist_all(&living, &*store, 1).await, [3], "{what}");
        assert_eq!(health.state(), State::Degraded, "{what}");
        // Once somebody has set it right, it is drained, and told no more.
        let view = StoreView {
            id: store.identity().await.unwrap(),
            cursors: store.cursors().await.unwrap(),
        };
        let directory = logs.directory();
        if directory.misfit(&dir, &view).unwrap().is_some() {
            directory.adopt(&dir, Some(&view), NOW).unwrap();
        } else {
            directory.repair(&dir, Some(&view), NOW).unwrap();
        }
        let whole = !what.contains("segment") || what.contains("last");
        let expected = if whole { vec![1] } else { vec![] };
        let mut came = Vec::new();
        let drained = async {
            while part(&health, "log-gone").is_some() || came.len() < expected.len() {
                let short = BatchLimit { wait: Duration::from_millis(5), ..LIMIT };
                let delivery = living.receive(short).await.unwrap();
                let outcomes = vec![Outcome::Stored; delivery.messages.len()];
                let put = Batch { cursor: delivery.cursor.clone(), ..batch(documents(&delivery)) };
                store.put_batch(put).await.unwrap();
                living.settle(&delivery, &outcomes).await.unwrap();
                came.extend(documents(&delivery).into_iter().map(|document| document.id));
            }
        };
        tokio::time::timeout(Duration::from_secs(30), drained).await.expect(what);
        assert_eq!(came, expected.into_iter().map(id).collect::<Vec<_>>(), "{what}");
    }
}

/// The path of the log's segments, in order.
fn segment(dir: &Path, nth: usize) -> PathBuf {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|name| name == "seg")).collect();
    segments.sort();
    segments.remove(nth)
}

#[tokio::test]
async fn a_log_that_was_taken_away_is_missed_by_its_instance_and_by_a_worker() {
    let mut logs = Logs::new(Sync::Thread);
    let health = logs.board();
    let one = logs.sender("one").await;
    one.send(&[document(1)]).await.unwrap();
    one.close().await;
    drop(one);
    fs::remove_dir_all(logs.root()).unwrap();
    let (root, store) = (logs.root(), logs.store());
    let failure = LogQueue::open_to_send(&root, "one", &*store, &logs.options).await.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Missing);
    assert!(failure.chain().contains("does not hold the log"), "{}", failure.chain());
    assert!(failure.hint_text().unwrap().contains("fsck --repair"));
    // Others start, and a worker tells.
    let (two, worker) = (logs.sender("two").await, logs.worker());
    two.send(&[document(2)]).await.unwrap();
    assert_eq!(persist_all(&worker, &*store, 1).await, [2]);
    let detail = until_told(&worker, &health, "log-one", true).await;
    assert!(detail.contains("does not hold the log"), "{detail}");
    let missing = logs.directory().missing().unwrap();
    assert_eq!(missing.iter().map(|log| &*log.instance).collect::<Vec<_>>(), ["one"]);
    logs.directory().forget(&missing[0], NOW).unwrap();
    until_told(&worker, &health, "log-one", false).await;
    logs.sender("one").await.send(&[document(3)]).await.unwrap();
    assert_eq!(persist_all(&worker, &*store, 1).await, [3]);
}

#[tokio::test]
async fn a_log_goes_on_with_the_store_that_its_documents_went_to_and_no_other() {
    let mut logs = Logs::new(Sync::Thread);
    let store = logs.store();
    let one = logs.instance("one").await;
    one.send(&[document(1)]).await.unwrap();
    assert_eq!(persist_all(&one, &*store, 1).await, [1]);
    one.close().await;
    drop(one);
    let identity = store.identity().await.unwrap().to_string();
    logs.store = MemoryStore::default();
    let other = logs.store();
    let (root, options) = (logs.root(), &logs.options);
    for opened in [
        LogQueue::open(&root, "one", Arc::clone(&other), options).await,
        LogQueue::open_to_send(&root, "one", &*other, options).await,
    ] {
        let failure = opened.err().unwrap();
        assert_eq!(failure.kind(), FailureKind::Refused);
        let text = failure.chain();
        for name in [&identity, &other.identity().await.unwrap().to_string(), "one"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(failure.hint_text().unwrap().contains("fsck --repair"));
    }
    let queue = LogQueue::open(&root, "one", store, options).await.unwrap();
    drive(&queue);
    queue.send(&[document(2)]).await.unwrap();
}

#[tokio::test]
async fn a_log_that_nobody_drains_is_known_to_be_so() {
    let logs = Logs::new(Sync::Thread);
    let sender = logs.sender("one").await;
    assert!(!sender.is_drained().await.unwrap());
    sender.send(&[document(1)]).await.unwrap();
    let oldest = sender.depth().await.unwrap().oldest;
    assert_eq!(oldest, Oldest::Accepted(document(1).received));
    let (worker, store) = (logs.worker(), logs.store());
    assert!(worker.is_drained().await.unwrap(), "nothing is sent from there");
    assert_eq!(persist_all(&worker, &*store, 1).await, [1]);
    assert!(sender.is_drained().await.unwrap());
    sender.note_drained(&*store).await.unwrap();
    assert_eq!(sender.depth().await.unwrap().oldest, Oldest::Nothing);
    drop(worker);
    assert!(!sender.is_drained().await.unwrap());
    let both = logs.instance("two").await;
    both.receive(BatchLimit { wait: Duration::ZERO, ..LIMIT }).await.unwrap();
    assert!(both.is_drained().await.unwrap());
}

#[tokio::test]
async fn a_document_that_a_repair_set_aside_is_known_as_damaged_and_no_other() {
    let logs = Logs::new(Sync::Thread);
    let one = logs.sender("one").await;
    let minted = |n: u64| {
        let received = after(i64::try_from(n).unwrap() * 10);
        Document { id: DocumentId::mint(received), received, ..document(n) }
    };
    let sent: Vec<Document> = (0..5).map(minted).collect();
    for document in &sent {
        one.send(std::slice::from_ref(document)).await.unwrap();
    }
    one.close().await;
    let dir = logs.root().join("one");
    flip_a_bit(&dir, &sent[2].body);
    let (_, losses) = logs.directory().repair(&dir, None, NOW).unwrap();
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].documents, Some(1));
    assert_eq!(losses[0].ids, [sent[2].id.to_string()]);
    let (before, behind) = (losses[0].after.clone().unwrap(), losses[0].before.clone().unwrap());
    assert_eq!((before.0, behind.0), (sent[1].id.to_string(), sent[3].id.to_string()));
    let queue = logs.worker();
    let known = queue.damaged(sent[2].id).await.unwrap();
    assert_eq!(known, Some(Damaged { found: NOW, certain: true }));
    for other in [sent[0].id, sent[1].id, sent[3].id, sent[4].id, id(77)] {
        assert_eq!(queue.damaged(other).await.unwrap(), None);
    }
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
