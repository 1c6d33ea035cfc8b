//! DynamoDB, by the emulator. It differs from Amazon's in what these tests must know: it copies
//! the table for each action of a transaction, so tests keep to few items; it never throttles,
//! leaves nothing out of an answer, and does not know a transaction by its token. The proxy before
//! it does what it can't.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::aws::Aws;
use inlet_adapters::queue::{SqsOptions, SqsQueue};
use inlet_adapters::store::{DynamoOptions, DynamoStore};
use inlet_core::calendar::Calendar;
use inlet_core::dead_letter::{Cause, DeadLetterFilter};
use inlet_core::document::Document;
use inlet_core::failure::FailureKind;
use inlet_core::limits::Limits;
use inlet_core::persist::{Persister, persist_batch};
use inlet_core::ports::{Batch, Bucket, Outcome, PageQuery, Queue, Store, SystemClock, TallyKind};
use inlet_testkit::contract::store::StoreFixture;
use inlet_testkit::memory::MemoryBucket;
use inlet_testkit::sample::{
    NOW, PutBatch, after, batch, cursor, day, document, document_in, document_with, id,
};
use serde_json::{Value, json};

use crate::emulator::{self, Act, Proxy, aws_at, call, make_queue, unique};

/// A table of its own, behind a proxy.
struct Dynamo {
    table: String,
    proxy: Proxy,
    bucket: MemoryBucket,
    options: DynamoOptions,
    away: Arc<AtomicBool>,
    refused: Arc<Mutex<Option<String>>>,
}

impl Dynamo {
    async fn new() -> Self {
        let table = unique("table");
        let aws = aws_at(emulator::port()).await;
        assert!(DynamoStore::create_table(&aws, &format!("dynamodb://{table}")).await.unwrap());
        let proxy = Proxy::start(emulator::port());
        let (away, refused) =
            (Arc::<AtomicBool>::default(), Arc::<Mutex<Option<String>>>::default());
        let (is_away, marker) = (Arc::clone(&away), Arc::clone(&refused));
        proxy.rule(move |operation, input| {
            if is_away.load(Ordering::Relaxed) {
                return Act::Close;
            }
            let marker = marker.lock().unwrap();
            match marker.as_ref().and_then(|marker| refusal(operation, input, marker)) {
                Some(answer) => Act::Answer(400, answer),
                None => Act::Forward,
            }
        });
        let options = DynamoOptions { attempts_max: 2, ..DynamoOptions::default() };
        Self { table, proxy, bucket: MemoryBucket::default(), options, away, refused }
    }

    async fn open_store(&self) -> DynamoStore {
        let aws = aws_at(self.proxy.port()).await;
        let bucket: Arc<dyn Bucket> = Arc::new(self.bucket.clone());
        let url = format!("dynamodb://{}", self.table);
        DynamoStore::open(&aws, &url, bucket, &self.options).await.unwrap()
    }

    async fn objects(&self) -> usize {
        self.bucket.list("overflow/store/", None, 1_000).await.unwrap().len()
    }
}

/// The answer of a DynamoDB that refuses each document whose body contains `marker`.
fn refusal(operation: &str, input: &Value, marker: &str) -> Option<Value> {
    if !operation.ends_with("TransactWriteItems") {
        return None;
    }
    let refused = |action: &Value| {
        let item = &action["Put"]["Item"];
        let body = aws_smithy_types::base64::decode(item["body"]["B"].as_str().unwrap_or_default());
        let body = String::from_utf8(body.unwrap_or_default()).unwrap_or_default();
        item["pk"]["S"].as_str().is_some_and(|pk| pk.starts_with("d#")) && body.contains(marker)
    };
    let actions = input["TransactItems"].as_array()?;
    actions.iter().any(refused).then(|| {
        let reasons = actions.iter().map(|action| match refused(action) {
            true => json!({ "Code": "ValidationError", "Message": "poison is refused" }),
            false => json!({ "Code": "None" }),
        });
        cancelled(reasons.collect())
    })
}

fn cancelled(reasons: Vec<Value>) -> Value {
    json!({
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "Message": "Transaction cancelled",
        "CancellationReasons": reasons,
    })
}

#[async_trait]
impl StoreFixture for Dynamo {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.open_store().await)
    }

    async fn refuse(&self, marker: Option<&str>) {
        *self.refused.lock().unwrap() = marker.map(str::to_owned);
    }

    async fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }
}

inlet_testkit::store_contract!(Dynamo::new().await);

/// All documents, over pages of `limit`.
async fn all(store: &DynamoStore, mut query: PageQuery, limit: usize) -> Vec<Document> {
    query.limit = limit;
    let mut found = Vec::new();
    loop {
        let page = store.page(&query).await.unwrap();
        found.extend(page.items.into_iter().map(|stored| stored.document));
        query.after = page.next;
        if !page.more {
            return found;
        }
    }
}

async fn stored_count(store: &DynamoStore) -> u64 {
    let rows = store.tallies(day().plus(-1), day().plus(1)).await.unwrap();
    rows.rows.iter().filter(|row| row.kind == TallyKind::Stored).map(|row| row.documents).sum()
}

#[tokio::test]
async fn a_batch_costs_few_calls_and_comes_whole() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let documents: Vec<Document> = (0..200).map(document).collect();
    let put = Batch { cursor: Some(cursor("log", 1, 9)), ..batch(documents.clone()) };
    let outcomes = store.put_batch(put).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Stored));
    // The version, the lane, its figures and tallies once; then one call for 90 documents.
    assert_eq!(store.calls(), 3 + 3);
    assert_eq!(all(&store, PageQuery::default(), 70).await, documents);
    assert_eq!(store.cursors().await.unwrap(), [cursor("log", 1, 9)]);
    assert_eq!(stored_count(&store).await, 200);
}

#[tokio::test]
async fn many_streams_and_days_in_one_batch_are_all_counted() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let documents: Vec<Document> = (0..120)
        .map(|n| {
            let mut document = document_in(&format!("s{}", n % 60), n);
            document.received = after(i64::try_from(n % 3).unwrap() * 86_400_000);
            document
        })
        .collect();
    store.put_batch(batch(documents)).await.unwrap();
    let streams = store.streams().await.unwrap();
    assert_eq!(streams.len(), 60);
    assert!(streams.iter().all(|figures| figures.documents == 2));
    let rows = store.tallies(day(), day().plus(2)).await.unwrap();
    let stored = rows.rows.iter().filter(|row| row.kind == TallyKind::Stored);
    assert_eq!(stored.map(|row| row.documents).sum::<u64>(), 120);
}

#[tokio::test]
async fn a_transaction_whose_answer_was_lost_counts_once() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let lost = AtomicBool::new(false);
    dynamo.proxy.rule(move |operation, _| {
        let writes = operation.ends_with("TransactWriteItems");
        if writes && !lost.swap(true, Ordering::Relaxed) { Act::Swallow } else { Act::Forward }
    });
    let outcomes = store.put_batch(batch([document(1), document(2)])).await.unwrap();
    // The emulator does not know the repetition by its token, as Amazon's would.
    assert_eq!(outcomes, [Outcome::Duplicate, Outcome::Duplicate]);
    assert_eq!(stored_count(&store).await, 2);
    assert_eq!(store.put_batch(batch([document(3)])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(all(&store, PageQuery::default(), 10).await.len(), 3);
}

#[tokio::test]
async fn what_is_refused_without_a_word_of_which_is_found() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    dynamo.proxy.rule(|operation, input| match refusal(operation, input, "poison") {
        Some(_) => {
            let code = "com.amazon.coral.validate#ValidationException";
            Act::Answer(400, json!({ "__type": code, "message": "Item size is too large" }))
        }
        None => Act::Forward,
    });
    let mut documents: Vec<Document> = (0..7).map(document).collect();
    documents[4] = document_with(4, "\"poison\"");
    let outcomes = store.put_batch(batch(documents)).await.unwrap();
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Outcome::Dead(Cause::Refused(said)) => {
                assert_eq!(n, 4);
                assert!(said.contains("Item size is too large"), "{said}");
            }
            other => assert_eq!((other, n == 4), (&Outcome::Stored, false)),
        }
    }
}

#[tokio::test]
async fn a_throttled_transaction_is_tried_again_and_at_last_is_an_outage() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let times = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&times);
    let throttled = move |most: usize| {
        let seen = Arc::clone(&seen);
        move |operation: &str, input: &Value| {
            let writes = operation.ends_with("TransactWriteItems");
            if writes && seen.fetch_add(1, Ordering::Relaxed) < most {
                let count = input["TransactItems"].as_array().unwrap().len();
                let mut reasons = vec![json!({ "Code": "None" }); count];
                reasons[0] = json!({ "Code": "ThrottlingError", "Message": "slow down" });
                return Act::Answer(400, cancelled(reasons));
            }
            Act::Forward
        }
    };
    dynamo.proxy.rule(throttled(2));
    assert_eq!(store.put_batch(batch([document(1)])).await.unwrap(), [Outcome::Stored]);
    assert_eq!(times.load(Ordering::Relaxed), 3);
    dynamo.proxy.rule(throttled(usize::MAX));
    let failure = store.put_batch(batch([document(2)])).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    assert!(times.load(Ordering::Relaxed) < 20);
    dynamo.proxy.rule(|_, _| Act::Forward);
    assert_eq!(store.put_batch(batch([document(2)])).await.unwrap(), [Outcome::Stored]);
}

#[tokio::test]
async fn keys_that_dynamodb_left_out_are_asked_for_again() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    store.put_batch(batch((0..5).map(document))).await.unwrap();
    let left_out = AtomicUsize::new(0);
    dynamo.proxy.rule(move |operation, input| {
        let reads = operation.ends_with("BatchGetItem");
        if reads && left_out.fetch_add(1, Ordering::Relaxed) < 2 {
            let unprocessed = input["RequestItems"].clone();
            return Act::Answer(200, json!({ "Responses": {}, "UnprocessedKeys": unprocessed }));
        }
        Act::Forward
    });
    assert_eq!(all(&store, PageQuery::default(), 10).await.len(), 5);
    dynamo.proxy.rule(|operation, input| match operation.ends_with("BatchGetItem") {
        true => {
            let unprocessed = input["RequestItems"].clone();
            Act::Answer(200, json!({ "Responses": {}, "UnprocessedKeys": unprocessed }))
        }
        false => Act::Forward,
    });
    let query = PageQuery { limit: 3, ..PageQuery::default() };
    assert_eq!(store.page(&query).await.unwrap_err().kind(), FailureKind::Unavailable);
}

#[tokio::test]
async fn a_large_document_lies_in_the_bucket_and_goes_with_its_erasure() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let large = document_with(1, &format!("\"{}\"", "x".repeat(600_000)));
    let other = document_with(1, &format!("\"{}\"", "y".repeat(500_000)));
    let outcomes = store.put_batch(batch([large.clone(), document(2), large.clone()])).await;
    assert_eq!(outcomes.unwrap(), [Outcome::Stored, Outcome::Stored, Outcome::Duplicate]);
    assert_eq!(store.put_batch(batch([large.clone()])).await.unwrap(), [Outcome::Duplicate]);
    assert_eq!(dynamo.objects().await, 1);
    assert_eq!(store.get(id(1)).await.unwrap().unwrap().document, large);
    assert_eq!(all(&store, PageQuery::default(), 10).await, [large.clone(), document(2)]);
    let outcomes = store.put_batch(batch([other.clone()])).await.unwrap();
    assert_eq!(outcomes, [Outcome::Dead(Cause::KeyConflict)]);
    assert_eq!(dynamo.objects().await, 2);
    let letters = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap().items;
    assert_eq!(letters[0].body, other.body);
    assert!(store.erase(id(1), NOW).await.unwrap().was_there);
    assert_eq!(dynamo.objects().await, 0);
    assert_eq!(store.put_batch(batch([large])).await.unwrap(), [Outcome::Erased]);
    assert_eq!(dynamo.objects().await, 0);
}

#[tokio::test]
async fn a_letter_with_many_companions_is_erased_with_them() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let conflicts = (0..60).map(|n| document_with(1, &format!("{n}")));
    store.put_batch(batch(conflicts)).await.unwrap();
    assert!(store.erase(id(1), NOW).await.unwrap().was_there);
    let letters = store.dead_letters(&DeadLetterFilter::default(), 100, None).await.unwrap();
    assert_eq!(letters.items.len(), 0);
    assert_eq!(store.get(id(1)).await.unwrap(), None);
    assert!(!store.erase(id(1), NOW).await.unwrap().was_there);
}

#[tokio::test]
async fn what_is_stored_is_not_buried_by_a_late_word_of_the_queue() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    store.put_batch(batch([document(1)])).await.unwrap();
    let mut late = batch([]);
    late.dead.push(inlet_core::dead_letter::DeadLetter {
        id: id(1),
        stream: document(1).stream,
        key: None,
        received: document(1).received,
        generation: Some(0),
        body: document(1).body,
        cause: Cause::Refused("delivered 5 times without being stored".into()),
        attempts: 5,
        died: NOW,
        redriven: None,
    });
    store.put_batch(late).await.unwrap();
    let letters = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap();
    assert_eq!(letters.items, []);
}

#[tokio::test]
async fn a_range_of_time_is_found_behind_chapters_that_have_none_of_it() {
    let mut dynamo = Dynamo::new().await;
    dynamo.options.transaction_documents_max = 1;
    let store = dynamo.open_store().await;
    // 256 spans are a chapter: here the second one has what is asked for.
    store.put_batch(batch((0..258).map(document))).await.unwrap();
    let calls = store.calls();
    let query = PageQuery { from: Some(after(257)), to: Some(after(258)), ..PageQuery::default() };
    assert_eq!(all(&store, query.clone(), 10).await, [document(257)]);
    assert!(store.calls() - calls <= 4, "{} calls", store.calls() - calls);
    let query = PageQuery { stream: Some(document(0).stream), ..query };
    assert_eq!(all(&store, query, 10).await, [document(257)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn several_writers_store_each_document_once_and_a_reader_misses_none() {
    let dynamo = Dynamo::new().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u64 {
        let store = dynamo.open_store().await;
        writers.spawn(async move {
            for n in 0..6 {
                // Each document is sent by two of them.
                let first = (writer / 2) * 100 + n * 5;
                store.put_batch(batch((first..first + 5).map(document))).await.unwrap();
            }
        });
    }
    let reader = dynamo.open_store().await;
    let mut query = PageQuery { limit: 7, ..PageQuery::default() };
    let mut seen: Vec<Document> = Vec::new();
    while seen.len() < 60 {
        let page = reader.page(&query).await.unwrap();
        seen.extend(page.items.into_iter().map(|stored| stored.document));
        query.after = page.next;
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let page = reader.page(&query).await.unwrap();
    assert_eq!(page.items.len(), 0);
    assert_eq!(seen.iter().map(|document| document.id).collect::<HashSet<_>>().len(), 60);
    assert_eq!(stored_count(&reader).await, 60);
    assert_eq!(reader.streams().await.unwrap()[0].documents, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_move_a_queue_in_sqs_into_one_table() {
    let dynamo = Dynamo::new().await;
    let name = unique("to-dynamo");
    make_queue(&name, &json!({}));
    let aws = aws_at(emulator::port()).await;
    let bucket: Arc<dyn Bucket> = Arc::new(dynamo.bucket.clone());
    let options = SqsOptions { poll_s: 1, message_documents_max: 3, ..SqsOptions::default() };
    let open = async || {
        let url = format!("sqs://{name}");
        SqsQueue::open(&aws, &url, Arc::clone(&bucket), &options).await.unwrap()
    };
    let documents: Vec<Document> = (0..120).map(document).collect();
    open().await.send(&documents).await.unwrap();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (queue, store) = (Arc::new(open().await), Arc::new(dynamo.open_store().await));
        let persister = Persister {
            queue,
            store: Arc::clone(&store) as Arc<dyn Store>,
            clock: Arc::new(SystemClock),
            calendar: Calendar::utc(),
            limits: Limits::default(),
        };
        workers.spawn(async move {
            while stored_count(&store).await < 120 {
                persist_batch(&persister, Duration::from_millis(100)).await.unwrap();
            }
        });
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let store = dynamo.open_store().await;
    let found = all(&store, PageQuery::default(), 1_000).await;
    assert_eq!(found.len(), 120);
    assert_eq!(found.into_iter().map(|it| it.id).collect::<HashSet<_>>().len(), 120);
}

#[tokio::test]
async fn a_table_that_is_not_there_is_refused_with_the_command_that_makes_it() {
    let aws = aws_at(emulator::port()).await;
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
    let options = DynamoOptions::default();
    let opened = DynamoStore::open(&aws, "dynamodb://nowhere", Arc::clone(&bucket), &options).await;
    let failure = opened.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Missing, "{failure}");
    let hint = failure.hint_text().unwrap();
    assert!(hint.contains("inlet migrate --store dynamodb://nowhere"), "{hint}");
    for url in ["dynamodb://", "dynamodb://a/b", "dynamodb:table", "dynamodb://a b c"] {
        let opened = DynamoStore::open(&aws, url, Arc::clone(&bucket), &options).await;
        assert!(opened.err().unwrap().hint_text().is_some(), "{url}");
    }
}

#[tokio::test]
async fn a_table_is_made_once_and_can_be_restored() {
    let dynamo = Dynamo::new().await;
    let (aws, url) = (aws_at(emulator::port()).await, format!("dynamodb://{}", dynamo.table));
    let store = dynamo.open_store().await;
    store.put_batch(batch([document(1)])).await.unwrap();
    assert!(!DynamoStore::create_table(&aws, &url).await.unwrap());
    assert!(store.get(id(1)).await.unwrap().is_some());
    let table = json!({ "TableName": dynamo.table });
    let operation = "DynamoDB_20120810.DescribeContinuousBackups";
    let backups = call(emulator::port(), operation, &table);
    let recovery = &backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    assert_eq!(recovery["PointInTimeRecoveryStatus"], "ENABLED");
}

#[tokio::test]
async fn a_table_of_a_newer_version_is_refused() {
    let dynamo = Dynamo::new().await;
    let item = json!({ "pk": { "S": "schema" }, "sk": { "S": "schema" }, "version": { "N": "7" } });
    let input = json!({ "TableName": dynamo.table, "Item": item });
    call(emulator::port(), "DynamoDB_20120810.PutItem", &input);
    let aws: Aws = aws_at(emulator::port()).await;
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
    let url = format!("dynamodb://{}", dynamo.table);
    let opened = DynamoStore::open(&aws, &url, bucket, &DynamoOptions::default()).await;
    let failure = opened.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused);
    assert!(failure.to_string().contains("version 7, this binary knows 1"), "{failure}");
}

#[tokio::test]
async fn an_empty_document_and_a_moment_before_the_epoch_are_kept() {
    let dynamo = Dynamo::new().await;
    let store = dynamo.open_store().await;
    let mut odd = document_with(1, "0");
    odd.body = Bytes::new();
    odd.received = inlet_core::document::Timestamp::from_micros(-5);
    store.put_batch(batch([odd.clone()])).await.unwrap();
    assert_eq!(store.get(id(1)).await.unwrap().unwrap().document, odd);
    assert_eq!(all(&store, PageQuery::default(), 1).await, [odd]);
}

#[tokio::test]
async fn two_tables_have_two_identities_and_two_that_ask_at_once_get_one() {
    let (one, other) = (Dynamo::new().await, Dynamo::new().await);
    let (first, second) = (one.open_store().await, one.open_store().await);
    let (first, second) = tokio::join!(first.identity(), second.identity());
    let identity = first.unwrap();
    assert_eq!(second.unwrap(), identity);
    assert_ne!(other.open_store().await.identity().await.unwrap(), identity);
}
