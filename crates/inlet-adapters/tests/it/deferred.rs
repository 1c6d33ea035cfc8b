//! Engines that open later: the contracts hold behind them, and the board says how they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use inlet_adapters::deferred::{Deferred, Opening};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::{Health, PartHealth, State};
use inlet_core::ports::{Bucket, Queue, Secrets, Store, SystemClock};
use inlet_testkit::contract::bucket::BucketFixture;
use inlet_testkit::contract::queue::QueueFixture;
use inlet_testkit::contract::secrets::SecretsFixture;
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::fault::{FailingQueue, FailingStore, Faults};
use inlet_testkit::memory::{MemoryBucket, MemoryQueue, MemorySecrets, MemoryStore};
use inlet_testkit::sample::{PutBatch, batch, document};

fn health() -> Health {
    Health::new(Arc::new(SystemClock))
}

fn ready<T: ?Sized + Send + Sync + 'static>(engine: &Arc<T>) -> Opening<T> {
    let engine = Arc::clone(engine);
    Box::pin(async move { Ok(engine) })
}

#[derive(Default)]
struct InMemory {
    store: MemoryStore,
    bucket: MemoryBucket,
    secrets: MemorySecrets,
    faults: Faults,
}

#[async_trait]
impl StoreFixture for InMemory {
    async fn open(&self) -> Arc<dyn Store> {
        let store: Arc<dyn Store> =
            Arc::new(FailingStore::new(self.store.clone(), self.faults.clone()));
        let deferred = Deferred::store(health().part("store"), move || ready(&store));
        deferred.attempt(Duration::from_secs(60)).await.unwrap();
        Arc::new(deferred)
    }

    async fn refuse(&self, marker: Option<&str>) {
        self.store.refuse(marker);
    }

    async fn set_away(&self, away: bool) {
        self.faults.set_away(away);
    }
}

#[async_trait]
impl BucketFixture for InMemory {
    async fn open(&self) -> Arc<dyn Bucket> {
        let bucket: Arc<dyn Bucket> = Arc::new(self.bucket.clone());
        let deferred = Deferred::bucket(health().part("bucket"), move || ready(&bucket));
        deferred.attempt(Duration::from_secs(60)).await.unwrap();
        Arc::new(deferred)
    }

    async fn remains(&self) -> Vec<String> {
        Vec::new()
    }
}

#[async_trait]
impl SecretsFixture for InMemory {
    async fn open(&self) -> Arc<dyn Secrets> {
        let secrets: Arc<dyn Secrets> = Arc::new(self.secrets.clone());
        let deferred = Deferred::secrets(health().part("secrets"), move || ready(&secrets));
        deferred.attempt(Duration::from_secs(60)).await.unwrap();
        Arc::new(deferred)
    }

    async fn exposed(&self) -> Vec<String> {
        Vec::new()
    }
}

struct InMemoryQueue(MemoryQueue);

#[async_trait]
impl QueueFixture for InMemoryQueue {
    async fn open(&self) -> Arc<dyn Queue> {
        let queue: Arc<dyn Queue> = Arc::new(self.0.clone());
        let deferred = Deferred::queue(health().part("queue"), move || ready(&queue));
        deferred.attempt(Duration::from_secs(60)).await.unwrap();
        Arc::new(deferred)
    }
}

mod store {
    inlet_testkit::store_contract!(super::InMemory::default());
}

mod bucket {
    inlet_testkit::bucket_contract!(super::InMemory::default());
}

mod secrets {
    inlet_testkit::secrets_contract!(super::InMemory::default());
}

mod queue {
    inlet_testkit::queue_contract!(super::InMemoryQueue(super::MemoryQueue::new(1 << 20)));
}

/// A store that opens at the attempt with this number, and fails as it is told from then on.
struct Late {
    health: Health,
    deferred: Deferred<dyn Store>,
    faults: Faults,
    attempts: Arc<AtomicU32>,
}

impl Late {
    /// The attempts before the one with the number `opens_at` fail with `kind`.
    fn new(opens_at: u32, kind: FailureKind) -> Self {
        let (health, faults, attempts) = (health(), Faults::default(), Arc::default());
        let store: Arc<dyn Store> =
            Arc::new(FailingStore::new(MemoryStore::default(), faults.clone()));
        let counted: Arc<AtomicU32> = Arc::clone(&attempts);
        let deferred = Deferred::store(health.part("store"), move || {
            if counted.fetch_add(1, Ordering::Relaxed) + 1 >= opens_at {
                return ready(&store);
            }
            Box::pin(async move {
                Err(Failure::new(kind, "connect to", "db.example.com")
                    .because("no route")
                    .hint("look"))
            })
        });
        Self { health, deferred, faults, attempts }
    }

    fn keep(&self) -> tokio::task::JoinHandle<()> {
        let deferred = self.deferred.clone();
        tokio::spawn(async move { deferred.keep().await })
    }

    fn part(&self) -> PartHealth {
        self.health.parts().remove(0)
    }

    async fn until(&self, state: State, cause: Option<&str>) -> PartHealth {
        loop {
            let part = self.part();
            if part.state == state && part.cause == cause {
                return part;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_failure_to_open_is_tried_again_until_it_opens() {
    for kind in FailureKind::ALL {
        let late = Late::new(4, kind);
        let keeping = late.keep();
        let first = late.deferred.first(Duration::from_secs(60)).await.unwrap().unwrap_err();
        assert_eq!((first.kind(), first.hint_text()), (kind, Some("look")));
        assert_eq!(late.part().cause, Some(kind.word()));
        let failure = late.deferred.cursors().await.unwrap_err();
        assert!(failure.chain().contains("could not connect to db.example.com: no route"));
        assert_ne!(failure.kind(), FailureKind::Refused, "a caller may try again");
        late.until(State::Ready, None).await;
        assert_eq!(late.deferred.cursors().await.unwrap(), []);
        assert_eq!(late.attempts.load(Ordering::Relaxed), 4);
        keeping.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_holds_up_nobody() {
    let health = health();
    let hanging =
        Deferred::<dyn Store>::store(health.part("store"), || Box::pin(std::future::pending()));
    let keeping = hanging.clone();
    let keeping = tokio::spawn(async move { keeping.keep().await });
    assert!(hanging.first(Duration::from_secs(1)).await.is_none());
    let asked = hanging.get(document(1).id);
    let failure = tokio::time::timeout(Duration::ZERO, asked).await.unwrap().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let part = health.parts().remove(0);
    assert_eq!((part.state, part.cause), (State::Degraded, Some("unavailable")), "it is told");
    assert!(hanging.attempt(Duration::from_secs(1)).await.is_err());
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_works_and_fails_and_works_again_is_on_the_board_by_itself() {
    let late = Late::new(1, FailureKind::Unavailable);
    let keeping = late.keep();
    late.deferred.first(Duration::from_secs(60)).await.unwrap().unwrap();
    late.faults.set_failing(Some(FailureKind::Denied));
    let failing = late.until(State::Degraded, Some("denied")).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(late.part().since, failing.since, "it began then");
    late.faults.set_failing(None);
    late.until(State::Ready, None).await;
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn a_right_to_write_that_is_missing_is_told_though_reads_work() {
    let (health, faults) = (health(), Faults::default());
    let store = MemoryStore::default();
    let writes: Arc<dyn Store> = Arc::new(FailingStore::new(store.clone(), faults.clone()));
    let late = Deferred::store(health.part("store"), move || ready(&writes));
    late.attempt(Duration::from_secs(1)).await.unwrap();
    faults.set_failing(Some(FailureKind::Denied));
    late.put_batch(batch([document(1)])).await.unwrap_err();
    let began = health.parts()[0].since;
    faults.set_failing(None);
    for _ in 0..3 {
        late.cursors().await.unwrap();
    }
    let part = health.parts().remove(0);
    assert_eq!((part.cause, part.since), (Some("denied"), began));
    late.put_batch(batch([document(1)])).await.unwrap();
    assert_eq!(health.state(), State::Ready);
}

#[tokio::test(start_paused = true)]
async fn damage_that_a_read_found_stays_on_the_board_while_the_store_answers() {
    let late = Late::new(1, FailureKind::Unavailable);
    late.deferred.attempt(Duration::from_secs(1)).await.unwrap();
    late.faults.set_failing(Some(FailureKind::Damaged));
    late.deferred.get(document(1).id).await.unwrap_err();
    late.faults.set_failing(None);
    late.deferred.cursors().await.unwrap();
    assert_eq!(late.deferred.check().await.unwrap_err().kind(), FailureKind::Damaged);
    assert_eq!(late.part().cause, Some("damaged"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_can_no_longer_vouch_for_what_it_holds_is_opened_anew_and_counted() {
    let late = Late::new(1, FailureKind::Unavailable);
    let keeping = late.keep();
    late.deferred.first(Duration::from_secs(60)).await.unwrap().unwrap();
    late.faults.set_failing(Some(FailureKind::Poisoned));
    late.deferred.cursors().await.unwrap_err();
    late.faults.set_failing(None);
    while late.deferred.cursors().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(late.attempts.load(Ordering::Relaxed), 2);
    assert_eq!(late.health.restarts(), [("store".to_owned(), 1)]);
    keeping.abort();
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_whether_it_answers_wait_for_one_answer_and_cut_off_none() {
    let late = Late::new(1, FailureKind::Unavailable);
    late.deferred.attempt(Duration::from_secs(1)).await.unwrap();
    let before = late.faults.calls();
    // Nobody of the first has the patience.
    for _ in 0..100 {
        let asked = late.deferred.check();
        drop(tokio::time::timeout(Duration::ZERO, asked).await);
    }
    late.deferred.check().await.unwrap();
    assert!(late.faults.calls() - before <= 2, "{}", late.faults.calls() - before);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_takes_nothing_makes_the_process_unready_and_one_that_is_full_does_not() {
    let (health, faults) = (health(), Faults::default());
    let inner: Arc<dyn Queue> =
        Arc::new(FailingQueue::new(MemoryQueue::new(1 << 20), faults.clone()));
    let queue = Deferred::queue(health.part("queue"), move || ready(&inner));
    let failure = queue.has_room().unwrap_err();
    assert!(failure.is_retryable(), "{failure}");
    queue.attempt(Duration::from_secs(1)).await.unwrap();
    for (kind, state) in [
        (FailureKind::Full, State::Ready),
        (FailureKind::Missing, State::Unready),
        (FailureKind::Unavailable, State::Unready),
    ] {
        faults.set_failing(Some(kind));
        queue.send(&[document(1)]).await.unwrap_err();
        assert_eq!(health.state(), state, "{kind:?}");
    }
    // A look at its depth does not show that it takes documents again; a document does.
    faults.set_failing(None);
    queue.depth().await.unwrap();
    assert_eq!(health.state(), State::Unready);
    queue.send(&[document(2)]).await.unwrap();
    assert_eq!(health.state(), State::Ready);
}
