//! The step that takes a document, table by table.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::accept::{Intake, Receipt, SaveHead};
use inlet_core::auth::{Caller, Scope, Token, TokenBook, Tokens};
use inlet_core::document::{BodyHash, Document, Timestamp};
use inlet_core::error::Error;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::limits::Limits;
use inlet_core::ports::{
    BatchLimit, Delivery, Depth, EraseMark, Erasure, Known, KnownLetter, LookAhead, Outcome, Queue,
    StreamFigures,
};
use inlet_core::rejection::Rejection;
use inlet_testkit::clock::ManualClock;
use inlet_testkit::memory::MemoryQueue;
use inlet_testkit::sample::{NOW, stream};
use tokio::sync::Semaphore;

/// What the store says when it is asked; by default it does not answer.
#[derive(Default)]
struct Store {
    known: Mutex<Option<HashMap<DocumentId, Known>>>,
    streams: Mutex<Option<Vec<StreamFigures>>>,
    /// How many ids each call named.
    calls: Mutex<Vec<usize>>,
}

#[async_trait]
impl LookAhead for Store {
    async fn known(&self, ids: &[DocumentId]) -> Option<HashMap<DocumentId, Known>> {
        self.calls.lock().unwrap().push(ids.len());
        self.known.lock().unwrap().clone()
    }

    async fn streams(&self) -> Option<Vec<StreamFigures>> {
        self.streams.lock().unwrap().clone()
    }
}

impl Store {
    fn has(&self, id: DocumentId, known: Known) {
        self.known.lock().unwrap().get_or_insert_default().insert(id, known);
    }
}

/// A queue that takes documents only as its gate is opened.
struct Gated {
    inner: MemoryQueue,
    gate: Semaphore,
}

#[async_trait]
impl Queue for Gated {
    fn has_room(&self) -> Result<(), Failure> {
        self.inner.has_room()
    }

    async fn send(&self, documents: &[Document]) -> Result<(), Failure> {
        self.gate.acquire().await.unwrap().forget();
        self.inner.send(documents).await
    }

    async fn receive(&self, limit: BatchLimit) -> Result<Delivery, Failure> {
        self.inner.receive(limit).await
    }

    async fn settle(&self, delivery: &Delivery, outcomes: &[Outcome]) -> Result<(), Failure> {
        self.inner.settle(delivery, outcomes).await
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        self.inner.depth().await
    }
}

struct Door {
    intake: Intake,
    queue: MemoryQueue,
    store: Arc<Store>,
    caller: Caller,
}

const JSON: SaveHead<'_> = SaveHead {
    stream: None,
    key: None,
    minted: None,
    content_type: Some("application/json"),
    content_encoding: None,
    content_length: None,
};

const LINES: SaveHead<'_> = SaveHead { content_type: Some("application/x-ndjson"), ..JSON };

impl Door {
    fn with(limits: Limits) -> Self {
        let queue = MemoryQueue::new(64 << 20);
        Self::onto(limits, queue.clone(), Arc::new(queue))
    }

    fn onto(limits: Limits, queue: MemoryQueue, used: Arc<dyn Queue>) -> Self {
        let token = |name: &str| Token::new(name, &Scope::ALL, name, Timestamp::default());
        let tokens = Tokens::new(TokenBook::new(&[token("a"), token("b")]));
        let caller = tokens.authorize(Some("a"), Scope::Save, NOW).unwrap();
        let store = Arc::new(Store::default());
        let look_ahead = Arc::clone(&store) as Arc<dyn LookAhead>;
        let clock = Arc::new(ManualClock::default());
        let intake = Intake::new(tokens, limits, clock, used, Some(look_ahead));
        Self { intake, queue, store, caller }
    }

    fn new() -> Self {
        Self::with(Limits::default())
    }

    async fn save(&self, head: SaveHead<'_>, body: impl Into<Bytes>) -> Result<Receipt, Error> {
        let admission = self.intake.admit(&self.caller, &head).await?;
        let mut share = self.intake.budget().share();
        self.intake.accept(admission.examine(body.into(), &mut share)?).await
    }

    async fn save_batch(
        &self,
        head: SaveHead<'_>,
        body: impl Into<Bytes>,
    ) -> Result<Vec<Result<Receipt, Rejection>>, Error> {
        let admission = self.intake.admit_batch(&self.caller, &head).await?;
        let mut share = self.intake.budget().share();
        self.intake.accept_batch(admission.examine_batch(body.into(), &mut share)?).await
    }

    /// The documents that were appended, in order.
    async fn appended(&self) -> Vec<Document> {
        let limit =
            BatchLimit { documents_max: 1 << 20, bytes_max: 1 << 30, wait: Default::default() };
        let delivery = self.queue.receive(limit).await.unwrap();
        delivery.messages.into_iter().map(|message| message.document.unwrap()).collect()
    }
}

/// The code of what was refused; `accepted`, or the kind of a failure of ours.
fn code<T>(outcome: &Result<T, Error>) -> &'static str {
    match outcome {
        Ok(_) => "accepted",
        Err(Error::Rejected(rejection)) => rejection.code(),
        Err(Error::Failed(failure)) => failure.kind().word(),
    }
}

fn codes(results: &[Result<Receipt, Rejection>]) -> Vec<&'static str> {
    results.iter().map(|result| result.as_ref().map_or_else(Rejection::code, |_| "ok")).collect()
}

#[tokio::test]
async fn each_head_is_admitted_or_refused_before_its_body_is_read() {
    let door = Door::new();
    let long = "k".repeat(256);
    let json = JSON;
    let table = [
        (json, "accepted"),
        (SaveHead { stream: Some("orders"), key: Some("k 1"), ..json }, "accepted"),
        (SaveHead { content_type: Some("application/json; charset=utf8"), ..json }, "accepted"),
        (SaveHead { content_encoding: Some("gzip"), ..json }, "accepted"),
        (SaveHead { content_length: Some(1 << 20), ..json }, "accepted"),
        (SaveHead { content_length: Some((1 << 20) + 1), ..json }, "BodyTooLarge"),
        (SaveHead { content_type: None, ..json }, "MediaTypeUnsupported"),
        (SaveHead { content_type: Some("text/plain"), ..json }, "MediaTypeUnsupported"),
        (LINES, "MediaTypeUnsupported"),
        (SaveHead { content_encoding: Some("br"), ..json }, "EncodingUnsupported"),
        (SaveHead { stream: Some("a/b"), ..json }, "StreamNameInvalid"),
        (SaveHead { stream: Some(""), ..json }, "StreamNameInvalid"),
        (SaveHead { key: Some(""), ..json }, "KeyInvalid"),
        (SaveHead { key: Some("\u{e4}"), ..json }, "KeyInvalid"),
        (SaveHead { key: Some(&long), ..json }, "KeyInvalid"),
    ];
    for (head, expected) in table {
        let admitted = door.intake.admit(&door.caller, &head).await;
        assert_eq!(code(&admitted), expected, "{head:?}");
    }
    for (head, expected) in [(JSON, "accepted"), (LINES, "accepted")] {
        let admitted = door.intake.admit_batch(&door.caller, &head).await;
        assert_eq!(code(&admitted), expected, "{head:?}");
    }
    let queue = MemoryQueue::new(0);
    let full = Door::onto(Limits::default(), queue.clone(), Arc::new(queue));
    assert_eq!(code(&full.intake.admit(&full.caller, &JSON).await), "full");
}

#[tokio::test]
async fn each_body_is_appended_as_it_came_or_refused_and_not_appended() {
    let door = Door::with(Limits { body_bytes_max: 64, depth_max: 2, ..Limits::default() });
    let latin = SaveHead { content_type: Some("application/json; charset=iso-8859-1"), ..JSON };
    let gzip = SaveHead { content_encoding: Some("gzip"), ..JSON };
    let large = [b' '; 65];
    let table: [(SaveHead<'_>, &[u8], &str); 11] = [
        (JSON, b" {\"a\": \"\xc3\xa4\"}\n", "accepted"),
        (JSON, b"null", "accepted"),
        (JSON, b"[[1]]", "accepted"),
        (latin, b"\"ascii\"", "accepted"),
        (latin, b"\"\xc3\xa4\"", "MediaTypeUnsupported"),
        (JSON, b"", "BodyEmpty"),
        (JSON, b" ", "JsonInvalid"),
        (JSON, b"1 2", "JsonInvalid"),
        (JSON, b"[[[1]]]", "JsonInvalid"),
        (gzip, b"1", "EncodingInvalid"),
        (JSON, &large, "BodyTooLarge"),
    ];
    let mut accepted = Vec::new();
    for (head, body, expected) in table {
        let outcome = door.save(head, body.to_vec()).await;
        assert_eq!(code(&outcome), expected, "{:?}", String::from_utf8_lossy(body));
        accepted.extend(outcome.ok());
    }
    let appended = door.appended().await;
    assert_eq!(appended.len(), accepted.len());
    for (document, receipt) in appended.iter().zip(&accepted) {
        assert_eq!((document.id, &document.body), (receipt.id, &receipt.body));
        assert_eq!((document.md5(), document.received), (receipt.md5, NOW));
        assert!(document.stream.is_default() && document.key.is_none() && !receipt.replayed);
    }
    assert_eq!(door.intake.budget().taken_bytes(), 0);
}

#[tokio::test]
async fn a_batch_is_divided_by_its_form_and_each_part_is_judged_alone() {
    let door =
        Door::with(Limits { body_bytes_max: 20, batch_documents_max: 4, ..Limits::default() });
    let table: [(SaveHead<'_>, &[u8], &[&str]); 9] = [
        (LINES, b"1\n2\n", &["ok", "ok"]),
        (LINES, b"1\r\n\r\n \t\r\n{\"a\":\"b\"}\r\n", &["ok", "ok"]),
        (LINES, b"\n\n1", &["ok"]),
        (LINES, b"{\n2\n\"\xff\"\n", &["JsonInvalid", "ok", "JsonInvalid"]),
        // A byte order mark is refused as in a single document, and hides nothing behind it.
        (LINES, b"\xef\xbb\xbf1\n2", &["JsonInvalid", "ok"]),
        (LINES, b"\"a line of more than twenty bytes\"\n2", &["BodyTooLarge", "ok"]),
        (JSON, b" [1 , {\"a\":[2]},\n\"x\"] ", &["ok", "ok", "ok"]),
        (JSON, b"[{\"a\":1,\"a\":2}, 1]", &["JsonInvalid", "ok"]),
        (LINES, b"{\n{", &["JsonInvalid", "JsonInvalid"]),
    ];
    for (head, body, expected) in table {
        let results = door.save_batch(head, body.to_vec()).await.unwrap();
        assert_eq!(codes(&results), expected, "{:?}", String::from_utf8_lossy(body));
    }
    let whole: [(SaveHead<'_>, &[u8], &str); 8] = [
        (LINES, b"", "BatchEmpty"),
        (LINES, b"\r\n \n", "BatchEmpty"),
        (JSON, b"[]", "BatchEmpty"),
        (JSON, b"{}", "JsonInvalid"),
        (JSON, b"[1", "JsonInvalid"),
        (JSON, b"\xef\xbb\xbf[1]", "JsonInvalid"),
        (LINES, b"1\n2\n3\n4\n5", "BatchTooLong"),
        (JSON, b"[1,2,3,4,5]", "BatchTooLong"),
    ];
    let before = door.queue.len();
    for (head, body, expected) in whole {
        let outcome = door.save_batch(head, body.to_vec()).await;
        assert_eq!(code(&outcome), expected, "{:?}", String::from_utf8_lossy(body));
    }
    assert_eq!(door.queue.len(), before);
}

#[tokio::test]
async fn a_key_is_judged_by_what_this_instance_and_the_store_know_of_it() {
    let same = BodyHash::of(b"1");
    let other = BodyHash::of(b"2");
    let stored = |hash| Known { stored: Some(hash), ..Known::default() };
    let letter =
        |hash| Known { letters: vec![KnownLetter { body: hash, attempts: 3 }], ..Known::default() };
    let erased = Known { erased: Some(EraseMark { generation: 1, at: NOW }), ..Known::default() };
    let stored_again = Known { stored: Some(same), ..erased.clone() };
    // What came here before, what the store has, and what becomes of a document `1`.
    let table = [
        (None, None, "first"),
        (None, Some(stored(same)), "replayed"),
        (None, Some(stored(other)), "KeyConflict"),
        (None, Some(letter(same)), "replayed"),
        (None, Some(letter(other)), "first"),
        (None, Some(erased.clone()), "first"),
        (None, Some(stored_again.clone()), "replayed"),
        (Some("1"), None, "replayed"),
        (Some("1"), Some(erased.clone()), "first"),
        (Some("2"), None, "KeyConflict"),
        (Some("2"), Some(stored(other)), "KeyConflict"),
        (Some("2"), Some(erased), "first"),
        (Some("2"), Some(stored_again), "replayed"),
    ];
    let keyed = SaveHead { key: Some("k"), ..JSON };
    for (before, known, expected) in table {
        let case = format!("{before:?} {known:?}");
        let door = Door::new();
        let id = Door::new().save(keyed, "1").await.unwrap().id;
        if let Some(body) = before {
            door.save(keyed, body).await.unwrap();
        }
        if let Some(known) = known {
            door.store.has(id, known);
        }
        let queued = door.queue.len();
        let outcome = door.save(keyed, "1").await;
        match &outcome {
            Ok(receipt) => {
                assert_eq!(if receipt.replayed { "replayed" } else { "first" }, expected, "{case}");
                assert_eq!((receipt.id, door.queue.len()), (id, queued + 1), "{case}");
            }
            Err(_) => {
                assert_eq!((code(&outcome), door.queue.len()), (expected, queued), "{case}");
            }
        }
        // As an item of a batch it is the same.
        let door = Door::new();
        let id = Door::new().save_batch(keyed_lines(), "1").await.unwrap()[0].clone().unwrap().id;
        let other_item = DocumentId::from_bytes([7; 16]);
        assert_ne!(id, other_item);
        door.store.has(other_item, stored(other));
        assert_eq!(codes(&door.save_batch(keyed_lines(), "1").await.unwrap()), ["ok"], "{case}");
    }
}

fn keyed_lines() -> SaveHead<'static> {
    SaveHead { key: Some("k"), ..LINES }
}

#[tokio::test]
async fn the_store_is_asked_once_for_a_batch_and_never_for_what_has_no_key() {
    let door = Door::new();
    door.save(JSON, "1").await.unwrap();
    door.save_batch(LINES, "1\n2").await.unwrap();
    assert!(door.store.calls.lock().unwrap().is_empty());
    let lines: String = (0..1_000).map(|n| format!("{n}\n")).collect();
    let first = door.save_batch(keyed_lines(), lines.clone()).await.unwrap();
    assert_eq!(*door.store.calls.lock().unwrap(), [1_000]);
    let again = door.save_batch(keyed_lines(), lines).await.unwrap();
    let calls = door.store.calls.lock().unwrap().clone();
    assert_eq!(calls, [1_000, 1_000], "what is remembered here may be erased by another instance");
    for (first, again) in first.iter().zip(&again) {
        let (first, again) = (first.as_ref().unwrap(), again.as_ref().unwrap());
        assert_eq!((first.id, first.replayed, again.replayed), (again.id, false, true));
    }
}

#[tokio::test]
async fn an_item_of_a_batch_and_a_document_of_its_own_are_never_taken_for_one() {
    let door = Door::new();
    let single = SaveHead { key: Some("k#1"), ..JSON };
    let single = door.save(single, "{\"n\":1}").await.unwrap();
    let batch = door.save_batch(keyed_lines(), "{\"n\":0}\n{\"n\":1}\n{\"n\":1}").await.unwrap();
    let ids: Vec<_> = batch.iter().map(|result| result.as_ref().unwrap().id).collect();
    assert!(!ids.contains(&single.id) && ids[1] != ids[2], "twice in a batch is two documents");
    assert!(batch.iter().flatten().all(|receipt| !receipt.replayed));
    let other = SaveHead { key: Some("k#2"), ..JSON };
    assert_eq!(code(&door.save(other, "\"another body\"").await), "accepted");
    assert_eq!(door.queue.len(), 5);
}

#[tokio::test]
async fn a_key_too_long_for_its_items_is_refused_whole() {
    let door = Door::new();
    let lines = |count: usize| "1\n".repeat(count);
    for (length, documents, expected) in [
        (253, 10, "accepted"),
        (253, 11, "KeyTooLong"),
        (254, 1, "KeyTooLong"),
        (252, 11, "accepted"),
    ] {
        let key = "k".repeat(length);
        let head = SaveHead { key: Some(&key), ..LINES };
        let before = door.queue.len();
        let outcome = door.save_batch(head, lines(documents)).await;
        assert_eq!(code(&outcome), expected, "{length} {documents}");
        let appended = if outcome.is_ok() { documents } else { 0 };
        assert_eq!(door.queue.len() - before, appended);
        if let Err(Error::Rejected(Rejection::KeyTooLong { limit })) = outcome {
            let key = "k".repeat(limit);
            let head = SaveHead { key: Some(&key), ..LINES };
            assert_eq!(code(&door.save_batch(head, lines(documents)).await), "accepted", "{limit}");
        }
    }
}

#[tokio::test]
async fn of_a_document_and_its_repeat_at_the_same_time_exactly_one_is_the_first() {
    let queue = MemoryQueue::new(64 << 20);
    let gated = Arc::new(Gated { inner: queue.clone(), gate: Semaphore::new(0) });
    let door = Arc::new(Door::onto(Limits::default(), queue, Arc::clone(&gated) as Arc<dyn Queue>));
    let keyed = SaveHead { key: Some("k"), ..JSON };
    let save = |body: &'static str| {
        let door = Arc::clone(&door);
        tokio::spawn(async move { door.save(keyed, body).await })
    };
    let (one, two) = (save("1"), save("1"));
    while !one.is_finished() && door.store.calls.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let other = door.save(keyed, "2").await;
    assert_eq!(code(&other), "KeyConflict", "while both are under way");
    gated.gate.add_permits(2);
    let receipts = [one.await.unwrap().unwrap(), two.await.unwrap().unwrap()];
    assert_eq!(receipts.iter().filter(|receipt| receipt.replayed).count(), 1);
    assert_eq!(receipts[0].id, receipts[1].id);
}

#[tokio::test]
async fn a_key_whose_append_failed_was_not_used() {
    let queue = MemoryQueue::new(64 << 20);
    let gated = Arc::new(Gated { inner: queue.clone(), gate: Semaphore::new(1) });
    let door = Door::onto(Limits::default(), queue, Arc::clone(&gated) as Arc<dyn Queue>);
    let keyed = SaveHead { key: Some("k"), ..JSON };
    {
        gated.gate.acquire().await.unwrap().forget();
        let mut lost = std::pin::pin!(door.save(keyed, "1"));
        assert!(poll_once(lost.as_mut()).await.is_none(), "it waits for the queue");
    }
    gated.gate.add_permits(1);
    let receipt = door.save(keyed, "2").await.unwrap();
    assert!(!receipt.replayed);
}

/// Polls once.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn a_token_that_has_begun_its_streams_closes_default_to_nobody() {
    let limits = Limits { streams_max: 2, streams_total_max: 3, ..Limits::default() };
    let mut door = Door::with(limits);
    let in_stream = |stream| SaveHead { stream: Some(stream), ..JSON };
    for (stream, expected) in
        [("s1", "accepted"), ("s2", "accepted"), ("s3", "StreamQuota"), ("s1", "accepted")]
    {
        assert_eq!(code(&door.save(in_stream(stream), "1").await), expected, "{stream}");
    }
    assert_eq!(code(&door.save(JSON, "1").await), "accepted");
    assert_eq!(
        code(&door.save_batch(SaveHead { stream: Some("s3"), ..LINES }, "1").await),
        "StreamQuota"
    );
    door.caller = door.intake.authenticate(Some("b"), Scope::Save).unwrap();
    for (stream, expected) in
        [("s3", "accepted"), ("s4", "StreamLimit"), ("s1", "accepted"), ("default", "accepted")]
    {
        assert_eq!(code(&door.save(in_stream(stream), "1").await), expected, "{stream}");
    }
    let refused = Rejection::StreamQuota { limit: 2 };
    assert_eq!((refused.status(), refused.retry_after_s()), (429, Some(60)));
}

#[tokio::test]
async fn the_place_of_a_stream_whose_last_document_was_erased_is_free_again() {
    let door = Door::with(Limits { streams_max: 1, ..Limits::default() });
    let figures = |documents| StreamFigures {
        stream: stream("s1"),
        documents,
        bytes: 0,
        first: None,
        last: None,
    };
    let in_stream = |stream| SaveHead { stream: Some(stream), ..JSON };
    *door.store.streams.lock().unwrap() = Some(vec![figures(1)]);
    let receipt = door.save(in_stream("s1"), "1").await.unwrap();
    assert_eq!(code(&door.save(in_stream("s2"), "1").await), "StreamQuota");
    *door.store.streams.lock().unwrap() = Some(vec![figures(0)]);
    door.intake.note_erased(receipt.id, &Erasure { was_there: true, generation: 1 });
    assert_eq!(code(&door.save(in_stream("s2"), "1").await), "accepted");
    assert_eq!(code(&door.save(in_stream("s1"), "1").await), "StreamQuota");
}

/// The generations of the documents that were accepted, in order.
async fn generations(door: &Door) -> Vec<Option<u64>> {
    let limit = BatchLimit { documents_max: 100, bytes_max: 1 << 20, wait: Duration::ZERO };
    let delivery = door.queue.receive(limit).await.unwrap();
    delivery.messages.iter().map(|it| it.document.as_ref().unwrap().generation).collect()
}

#[tokio::test]
async fn a_key_that_was_erased_elsewhere_is_as_good_as_new() {
    let door = Door::new();
    let keyed = SaveHead { key: Some("k"), ..JSON };
    *door.store.known.lock().unwrap() = Some(HashMap::new());
    let first = door.save(keyed, "1").await.unwrap();
    let mark = EraseMark { generation: 7, at: NOW };
    door.store.has(first.id, Known { erased: Some(mark), ..Known::default() });
    assert!(!door.intake.has_accepted_since(&first.id, 7));
    // Neither is another body a conflict, nor the same one a repeat.
    let second = door.save(keyed, "2").await.unwrap();
    assert_eq!((second.id, second.replayed), (first.id, false));
    assert!(door.intake.has_accepted_since(&first.id, 7));
    assert_eq!(code(&door.save(keyed, "1").await), "KeyConflict");
    assert!(door.save(keyed, "2").await.unwrap().replayed);
    let mark = EraseMark { generation: 9, at: NOW };
    door.store.has(first.id, Known { erased: Some(mark), ..Known::default() });
    assert!(!door.save(keyed, "2").await.unwrap().replayed);
    assert_eq!(generations(&door).await, [Some(0), Some(7), Some(7), Some(9)]);
}

#[tokio::test]
async fn where_the_store_does_not_answer_the_last_count_of_erasures_stands_in() {
    let door = Door::new();
    let keyed = SaveHead { key: Some("k"), ..JSON };
    door.save(keyed, "1").await.unwrap();
    assert!(door.intake.note_erasures(4));
    assert!(!door.intake.note_erasures(3), "it never goes back");
    door.save(keyed, "1").await.unwrap();
    door.save(JSON, "1").await.unwrap();
    // The instance's memory of the key is still true, as far as it knows.
    assert_eq!(code(&door.save(keyed, "2").await), "KeyConflict");
    // The store is asked about the key itself where it can be.
    *door.store.known.lock().unwrap() = Some(HashMap::new());
    door.save(SaveHead { key: Some("other"), ..JSON }, "1").await.unwrap();
    assert_eq!(generations(&door).await, [Some(0), Some(4), Some(0), Some(0)]);
}

#[tokio::test]
async fn an_erasure_by_this_instance_frees_the_key_though_the_store_does_not_answer() {
    let door = Door::new();
    let keyed = SaveHead { key: Some("k"), ..JSON };
    let first = door.save(keyed, "1").await.unwrap();
    door.intake.note_erased(first.id, &Erasure { was_there: true, generation: 5 });
    let second = door.save(keyed, "2").await.unwrap();
    assert_eq!((second.id, second.replayed), (first.id, false));
    assert_eq!(generations(&door).await, [Some(0), Some(5)]);
}

#[tokio::test]
async fn a_batch_of_many_small_documents_takes_what_they_cost_from_the_budget() {
    let bodies_bytes_max = 1 << 20;
    let door = Door::with(Limits { bodies_bytes_max, ..Limits::default() });
    assert_eq!(code(&door.save_batch(LINES, "1\n".repeat(1_000)).await), "accepted");
    assert_eq!(code(&door.save_batch(LINES, "1\n".repeat(10_000)).await), "full");
    assert_eq!(door.queue.len(), 1_000);
    assert_eq!(door.intake.budget().taken_bytes(), 0);
}

#[tokio::test]
async fn what_two_instances_take_under_one_minted_id_is_one_document() {
    let id = DocumentId::mint(NOW);
    let (one, other) = (Door::new(), Door::new());
    let minted = SaveHead { minted: Some(id), ..JSON };
    for door in [&one, &other] {
        assert_eq!(door.save(minted, "[1]").await.unwrap().id, id);
    }
    let (first, second) = (sent(&one).await, sent(&other).await);
    assert_eq!(first, second);
    assert_eq!(first[0].received.as_millis(), NOW.as_millis());
    let lines = SaveHead { minted: Some(id), ..LINES };
    for door in [&one, &other] {
        door.save_batch(lines, "1\n1\n").await.unwrap();
    }
    let (first, second) = (sent(&one).await, sent(&other).await);
    assert_eq!((&first, first.len()), (&second, 2));
    assert_ne!(first[0].id, first[1].id, "the same body twice in a batch is two documents");
    // Beside a key, the key decides.
    let keyed = SaveHead { key: Some("k"), ..minted };
    assert_ne!(one.save(keyed, "[1]").await.unwrap().id, id);
}

/// The documents that the door has sent to its queue, which has them no more.
async fn sent(door: &Door) -> Vec<Document> {
    let limit =
        BatchLimit { documents_max: 10, bytes_max: 1 << 20, wait: Duration::from_millis(1) };
    let delivery = door.queue.receive(limit).await.unwrap();
    let outcomes = vec![Outcome::Stored; delivery.messages.len()];
    door.queue.settle(&delivery, &outcomes).await.unwrap();
    delivery.messages.into_iter().map(|message| message.document.unwrap()).collect()
}
