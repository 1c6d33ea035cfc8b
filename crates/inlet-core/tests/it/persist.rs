use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use inlet_core::calendar::Calendar;
use inlet_core::dead_letter::{DeadLetter, DeadLetterFilter};
use inlet_core::document::{Document, StoredDocument};
use inlet_core::envelope;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::limits::Limits;
use inlet_core::persist::{PersistReport, Persister, persist_batch, store_delivery};
use inlet_core::ports::{Cursor, Delivered, Delivery, Outcome, PageQuery, Queue, Store, TallyRow};
use inlet_core::redrive::redrive;
use inlet_testkit::clock::ManualClock;
use inlet_testkit::fault::{FailingQueue, FailingStore, Faults, When};
use inlet_testkit::memory::{MemoryQueue, MemoryStore};
use inlet_testkit::sample::{self, day, document, document_in, document_with, id};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A queue and a store that fail when told to, and a worker between them.
pub(crate) struct Worker {
    pub(crate) queue: MemoryQueue,
    pub(crate) store: MemoryStore,
    pub(crate) queue_faults: Faults,
    pub(crate) store_faults: Faults,
    pub(crate) clock: Arc<ManualClock>,
    persister: Persister,
}

impl Worker {
    pub(crate) fn new(documents_max: usize) -> Self {
        let (queue, store) = (MemoryQueue::new(1 << 30), MemoryStore::default());
        let (queue_faults, store_faults) = (Faults::default(), Faults::default());
        let clock = Arc::new(ManualClock::default());
        let persister = Persister {
            queue: Arc::new(FailingQueue::new(queue.clone(), queue_faults.clone())),
            store: Arc::new(FailingStore::new(store.clone(), store_faults.clone())),
            clock: clock.clone(),
            calendar: Calendar::utc(),
            limits: Limits { persist_documents_max: documents_max, ..Limits::default() },
        };
        Self { queue, store, queue_faults, store_faults, clock, persister }
    }

    pub(crate) async fn step(&self) -> Result<PersistReport, Failure> {
        persist_batch(&self.persister, Duration::ZERO).await
    }

    /// Steps until nothing waits, whatever fails on the way.
    pub(crate) async fn drain(&self) {
        let mut steps = 0;
        while !self.queue.is_empty() {
            steps += 1;
            assert!(steps < 10_000, "{} messages wait for ever", self.queue.len());
            // What failed is tried again with the next step.
            self.step().await.ok();
        }
    }

    pub(crate) async fn letters(&self) -> Vec<DeadLetter> {
        let filter = DeadLetterFilter::default();
        self.store.dead_letters(&filter, 100_000, None).await.unwrap().items
    }

    pub(crate) async fn documents(&self) -> Vec<StoredDocument> {
        let all = PageQuery { limit: 100_000, ..PageQuery::default() };
        self.store.page(&all).await.unwrap().items
    }

    /// All that the store holds; attempts aside, of which a failure may cost more.
    async fn state(&self) -> State {
        let mut letters = self.letters().await;
        letters.iter_mut().for_each(|letter| letter.attempts = 0);
        let tallies = self.store.tallies(day().plus(-1), day()).await.unwrap();
        let mut tallies = tallies.rows;
        tallies.sort_by(|a, b| (a.day, &a.stream, &a.kind).cmp(&(b.day, &b.stream, &b.kind)));
        State {
            documents: self.documents().await,
            letters,
            tallies,
            cursors: self.store.cursors().await.unwrap(),
        }
    }
}

#[derive(Debug, PartialEq)]
struct State {
    documents: Vec<StoredDocument>,
    letters: Vec<DeadLetter>,
    tallies: Vec<TallyRow>,
    cursors: Vec<Cursor>,
}

#[tokio::test]
async fn what_is_received_is_stored_with_its_cursor_and_settled() {
    let worker = Worker::new(2);
    worker.queue.send(&[document(1), document(2), document(3)]).await.unwrap();
    let report = worker.step().await.unwrap();
    assert_eq!(report, PersistReport { received: 2, stored: 2, ..PersistReport::default() });
    assert_eq!(worker.queue.len(), 1);
    assert_eq!(worker.store.cursors().await.unwrap(), [sample::cursor(MemoryQueue::LOG, 0, 2)]);
    assert_eq!(worker.step().await.unwrap().stored, 1);
    assert_eq!(worker.step().await.unwrap(), PersistReport::default());
    let stored: Vec<_> = worker.documents().await.into_iter().map(|it| it.document).collect();
    assert_eq!(stored, [document(1), document(2), document(3)]);
}

#[tokio::test]
async fn a_crash_between_the_store_and_the_settle_stores_once() {
    let worker = Worker::new(10);
    worker.queue.send(&[document(1), document(2)]).await.unwrap();
    // The first call receives, the second settles.
    worker.queue_faults.fail_nth(2, When::Before);
    worker.step().await.unwrap_err();
    assert_eq!(worker.queue.len(), 2);
    let report = worker.step().await.unwrap();
    let expected = PersistReport { received: 2, duplicates: 2, ..PersistReport::default() };
    assert_eq!(report, expected);
    assert_eq!(worker.documents().await.len(), 2);
    assert_eq!(worker.store.tallies(day(), day()).await.unwrap().rows[0].documents, 2);
}

#[tokio::test]
async fn any_failure_anywhere_leaves_the_same_state_after_another_step() {
    let batch = || {
        [
            document(1),
            document_with(2, "\"poison\""),
            document(1),
            document_with(1, "\"another\""),
            document_in("other", 3),
        ]
    };
    let run = async |queue_fault: Option<(u64, When)>, store_fault: Option<When>| {
        let worker = Worker::new(10);
        worker.store.refuse(Some("poison"));
        worker.queue.send(&batch()).await.unwrap();
        worker.queue.send_raw("\x09no envelope");
        if let Some((nth, when)) = queue_fault {
            worker.queue_faults.fail_nth(nth, when);
        }
        if let Some(when) = store_fault {
            worker.store_faults.fail_nth(1, when);
        }
        let fails = queue_fault.is_some() || store_fault.is_some();
        assert_eq!(worker.step().await.is_err(), fails);
        worker.drain().await;
        worker.state().await
    };
    let expected = run(None, None).await;
    assert_eq!((expected.documents.len(), expected.letters.len()), (2, 3));
    for when in [When::Before, When::After] {
        assert_eq!(run(Some((1, when)), None).await, expected, "receive, {when:?}");
        assert_eq!(run(None, Some(when)).await, expected, "put_batch, {when:?}");
        assert_eq!(run(Some((2, when)), None).await, expected, "settle, {when:?}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_document_are_one_dead_letter_however_often_they_come() {
    let worker = Worker::new(10);
    for _ in 0..2 {
        worker.queue.send_raw("\x09no envelope");
        worker.queue.send(&[document(1)]).await.unwrap();
        worker.step().await.unwrap();
    }
    let letters = worker.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].body, Bytes::from("\x09no envelope"));
    assert_eq!(letters[0].cause.code(), "undecodable");
    assert!(letters[0].cause.detail().contains("version 9"), "{}", letters[0].cause);
    assert_eq!(letters[0].attempts, 1);
    assert_eq!(worker.documents().await.len(), 1);
    assert!(worker.queue.is_empty());
}

#[tokio::test]
async fn an_envelope_cut_short_is_kept_whole_as_a_dead_letter() {
    let worker = Worker::new(10);
    let cut = envelope::encode(&document(1)).slice(..20);
    worker.queue.send_raw(cut.clone());
    let report = worker.step().await.unwrap();
    assert_eq!(report, PersistReport { received: 1, dead: 1, ..PersistReport::default() });
    assert_eq!(worker.letters().await[0].body, cut);
}

#[tokio::test]
async fn a_poison_document_holds_up_none_behind_it() {
    let worker = Worker::new(3);
    worker.store.refuse(Some("poison"));
    for n in 0..30 {
        let body = if n % 4 == 0 { "\"poison\"" } else { "\"good\"" };
        worker.queue.send(&[document_with(n, body)]).await.unwrap();
    }
    for _ in 0..10 {
        assert_eq!(worker.step().await.unwrap().received, 3);
    }
    assert_eq!(worker.documents().await.len(), 22);
    let letters = worker.letters().await;
    assert_eq!(letters.len(), 8);
    assert!(letters.iter().all(|letter| letter.attempts == 3));
}

#[tokio::test]
async fn an_outage_is_no_poison_however_long() {
    let worker = Worker::new(10);
    worker.queue.send(&(0..25).map(document).collect::<Vec<_>>()).await.unwrap();
    worker.store_faults.set_away(true);
    for _ in 0..100 {
        assert!(worker.step().await.unwrap_err().is_retryable());
    }
    assert_eq!(worker.queue.len(), 25);
    worker.store_faults.set_away(false);
    for stored in [10, 10, 5] {
        assert_eq!(worker.step().await.unwrap().stored, stored);
    }
    assert_eq!(worker.letters().await, []);
}

#[tokio::test]
async fn what_was_erased_while_it_waited_is_not_stored() {
    let worker = Worker::new(10);
    worker.queue.send(&[document(1), document(2)]).await.unwrap();
    worker.store.erase(id(1), sample::NOW).await.unwrap();
    let report = worker.step().await.unwrap();
    assert_eq!((report.stored, report.erased), (1, 1));
    assert!(worker.queue.is_empty());
}

/// What a seeded run sent, and what of it was acknowledged.
struct Model {
    worker: Worker,
    random: StdRng,
    acknowledged: BTreeSet<(DocumentId, Bytes)>,
    sent: BTreeSet<(DocumentId, Bytes)>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let worker = Worker::new(7);
        worker.queue_faults.fail_at_random(seed, 5);
        worker.store_faults.fail_at_random(!seed, 5);
        let random = StdRng::seed_from_u64(seed);
        Self { worker, random, acknowledged: BTreeSet::new(), sent: BTreeSet::new() }
    }

    fn documents(&mut self) -> Vec<Document> {
        let count = self.random.random_range(1..6);
        (0..count)
            .map(|_| {
                // Few ids and bodies, so that repeats and conflicts are common.
                let n = self.random.random_range(0..60);
                let body = match self.random.random_range(0..10) {
                    0 => "\"another\"".to_owned(),
                    1 => format!("\"poison {n}\""),
                    _ => format!("\"usual {n}\""),
                };
                document_with(n, &body)
            })
            .collect()
    }

    async fn act(&mut self) {
        match self.random.random_range(0..10) {
            0..=4 => {
                let documents = self.documents();
                let keys = documents.iter().map(|document| (document.id, document.body.clone()));
                self.sent.extend(keys.clone());
                let queue =
                    FailingQueue::new(self.worker.queue.clone(), self.worker.queue_faults.clone());
                if queue.send(&documents).await.is_ok() {
                    self.acknowledged.extend(keys);
                }
            }
            5..=7 => drop(self.worker.step().await),
            8 => {
                let refused = self.random.random_range(0..2) == 0;
                self.worker.store.refuse(refused.then_some("poison"));
            }
            _ => self.redrive().await,
        }
        self.worker.clock.advance(self.random.random_range(-1_000..1_000));
    }

    async fn redrive(&self) {
        let worker = &self.worker;
        let queue = FailingQueue::new(worker.queue.clone(), worker.queue_faults.clone());
        let store = FailingStore::new(worker.store.clone(), worker.store_faults.clone());
        let all = DeadLetterFilter::default();
        redrive(&store, &queue, &*worker.clock, &all, false).await.ok();
    }

    /// Each document is in the store or among the dead letters, and in one of them only.
    async fn check(&self, seed: u64) {
        let stored: Vec<_> = self.worker.documents().await;
        let stored: Vec<_> =
            stored.into_iter().map(|it| (it.document.id, it.document.body)).collect();
        let dead: Vec<_> = self.worker.letters().await;
        let dead: Vec<_> = dead.into_iter().map(|it| (it.id, it.body)).collect();
        for key in &self.acknowledged {
            let places = stored.iter().chain(&dead).filter(|there| *there == key).count();
            assert_eq!(places, 1, "seed {seed}: {key:?} is in {places} places");
        }
        for key in stored.iter().chain(&dead) {
            assert!(self.sent.contains(key), "seed {seed}: {key:?} was never sent");
        }
        let ids: BTreeSet<_> = stored.iter().map(|(id, _)| id).collect();
        assert_eq!(ids.len(), stored.len(), "seed {seed}: an id is stored twice");
    }
}

#[tokio::test]
async fn every_acknowledged_document_ends_in_exactly_one_place_whatever_fails() {
    let seeds = match std::env::var("INLET_SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => 0..150,
    };
    for seed in seeds {
        let mut model = Model::new(seed);
        for _ in 0..120 {
            model.act().await;
        }
        model.worker.drain().await;
        model.check(seed).await;
        // With nothing refused any more, all but the conflicts can be stored after all.
        model.worker.queue_faults.clear();
        model.worker.store_faults.clear();
        model.worker.store.refuse(None);
        model.redrive().await;
        model.worker.drain().await;
        model.check(seed).await;
        let letters = model.worker.letters().await;
        let conflicts = letters.iter().all(|letter| letter.cause.code() == "key_conflict");
        assert!(conflicts, "seed {seed}: {letters:?}");
    }
}

#[tokio::test]
async fn what_the_queue_gave_up_is_a_dead_letter_unless_it_is_stored() {
    let worker = Worker::new(10);
    worker.queue.send(&[document(1)]).await.unwrap();
    worker.step().await.unwrap();
    let given_up = |document: Document| Delivered {
        document: Ok(document),
        deliveries_before: 5,
        given_up: Some("delivered 5 times without being stored".to_owned()),
        handle: "".into(),
    };
    let fresh = Delivered { given_up: None, ..given_up(document(3)) };
    let messages = vec![given_up(document(1)), given_up(document(2)), fresh];
    let delivery = Delivery { messages, cursor: None };
    let outcomes = store_delivery(&worker.persister, &delivery).await.unwrap();
    assert_eq!((&outcomes[0], &outcomes[2]), (&Outcome::Duplicate, &Outcome::Stored));
    assert!(matches!(outcomes[1], Outcome::Dead(_)), "{:?}", outcomes[1]);
    let letters = worker.letters().await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id, letters[0].attempts), (id(2), 5));
    assert_eq!(letters[0].cause.to_string(), "refused: delivered 5 times without being stored");
    let all = DeadLetterFilter::default();
    let report = redrive(&worker.store, &worker.queue, &*worker.clock, &all, false).await;
    assert_eq!(report.unwrap().redriven, 1);
    worker.drain().await;
    assert_eq!(worker.letters().await, []);
    assert_eq!(worker.documents().await.len(), 3);
}
