//! SQS, by the emulator. It differs from Amazon's in what these tests must know: a queue gives its
//! messages in the order they were sent, a long poll whose client has gone still takes messages,
//! and nothing is ever throttled or delivered twice by chance.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::aws::Aws;
use inlet_adapters::queue::{SqsMessage, SqsOptions, SqsQueue};
use inlet_core::calendar::Calendar;
use inlet_core::dead_letter::DeadLetterFilter;
use inlet_core::document::{Document, Timestamp};
use inlet_core::failure::FailureKind;
use inlet_core::limits::Limits;
use inlet_core::persist::{PersistReport, Persister, persist_batch};
use inlet_core::ports::{
    BatchLimit, Bucket, Delivery, Outcome, PageQuery, Queue, Store, SystemClock,
};
use inlet_core::redrive::redrive;
use inlet_testkit::clock::ManualClock;
use inlet_testkit::contract::queue::QueueFixture;
use inlet_testkit::memory::{MemoryBucket, MemoryStore};
use inlet_testkit::sample::{document, document_in, document_with, keyed_document};
use inlet_testkit::server::{Server, ServerKind};
use serde_json::{Value, json};

use crate::emulator::{self, Act, Proxy, aws_at, call, make_queue, unique};

/// A queue of its own.
struct Sqs {
    name: String,
    url: String,
    bucket: MemoryBucket,
    options: SqsOptions,
}

impl Default for Sqs {
    fn default() -> Self {
        Self::with(&json!({}))
    }
}

impl Sqs {
    fn with(attributes: &Value) -> Self {
        let name = unique("queue");
        let url = make_queue(&name, attributes);
        // One call at a time either way, so that the order is the emulator's.
        let options = SqsOptions {
            sends_max: 1,
            polls_max: 1,
            poll_s: 1,
            visibility_s: Some(2),
            depth_ms: 0,
            dead_letters_ms: 50,
            ..SqsOptions::default()
        };
        Self { name, url, bucket: MemoryBucket::default(), options }
    }

    /// A queue that gives up after `deliveries_max` deliveries, and the URL of where it puts them.
    fn with_redrive(deliveries_max: u32) -> (Self, String) {
        let dead = unique("dead");
        let dead_url = make_queue(&dead, &json!({}));
        let arn = format!("arn:aws:sqs:us-east-1:123456789012:{dead}");
        let policy =
            json!({ "deadLetterTargetArn": arn, "maxReceiveCount": deliveries_max }).to_string();
        (Self::with(&json!({ "RedrivePolicy": policy })), dead_url)
    }

    async fn at(&self, port: u16) -> SqsQueue {
        let aws = aws_at(port).await;
        let bucket: Arc<dyn Bucket> = Arc::new(self.bucket.clone());
        SqsQueue::open(&aws, &format!("sqs://{}", self.name), bucket, &self.options).await.unwrap()
    }

    async fn open_queue(&self) -> SqsQueue {
        self.at(emulator::port()).await
    }

    /// Sends as any other client does.
    fn send_foreign(&self, body: &str, attributes: &Value) -> String {
        let input =
            json!({ "QueueUrl": self.url, "MessageBody": body, "MessageAttributes": attributes });
        let sent = call(emulator::port(), "AmazonSQS.SendMessage", &input);
        sent["MessageId"].as_str().unwrap().to_owned()
    }

    /// Receives as any other client does, and gives back at once.
    fn look(&self) -> Vec<Value> {
        let input = json!({
            "QueueUrl": self.url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0,
            "MessageAttributeNames": ["All"],
        });
        let came = call(emulator::port(), "AmazonSQS.ReceiveMessage", &input);
        came["Messages"].as_array().cloned().unwrap_or_default()
    }

    fn count(&self, attribute: &str) -> u64 {
        count_at(&self.url, attribute)
    }

    /// All messages, those that are kept from others too.
    fn messages(&self) -> u64 {
        self.count("ApproximateNumberOfMessages")
            + self.count("ApproximateNumberOfMessagesNotVisible")
    }

    /// Waits until SQS keeps no message from anybody: as long as a worker's death takes.
    async fn all_visible(&self) {
        until(|| self.count("ApproximateNumberOfMessagesNotVisible") == 0).await;
    }
}

fn count_at(url: &str, attribute: &str) -> u64 {
    let input = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
    let found = call(emulator::port(), "AmazonSQS.GetQueueAttributes", &input);
    found["Attributes"][attribute].as_str().unwrap().parse().unwrap()
}

/// Comes back once `condition` holds; within 20 s.
async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..400 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it did not come about");
}

#[async_trait]
impl QueueFixture for Sqs {
    async fn open(&self) -> Arc<dyn Queue> {
        self.all_visible().await;
        Arc::new(self.open_queue().await)
    }
}

inlet_testkit::queue_contract!(Sqs::default());

const LIMIT: BatchLimit =
    BatchLimit { documents_max: 1_000, bytes_max: 8 << 20, wait: Duration::from_secs(5) };

async fn settle(queue: &SqsQueue, delivery: &Delivery) {
    queue.settle(delivery, &vec![Outcome::Stored; delivery.messages.len()]).await.unwrap();
}

fn documents(delivery: &Delivery) -> Vec<Document> {
    delivery.messages.iter().map(|message| message.document.clone().unwrap()).collect()
}

fn persister(queue: &Arc<SqsQueue>, store: &MemoryStore) -> Persister {
    Persister {
        queue: Arc::clone(queue) as Arc<dyn Queue>,
        store: Arc::new(store.clone()),
        clock: Arc::new(SystemClock),
        calendar: Calendar::utc(),
        limits: Limits::default(),
    }
}

async fn stored(store: &MemoryStore) -> Vec<Document> {
    let all = PageQuery { limit: 100_000, ..PageQuery::default() };
    store.page(&all).await.unwrap().items.into_iter().map(|stored| stored.document).collect()
}

#[tokio::test]
async fn a_message_is_the_documents_json_with_its_names_beside_it() {
    let sqs = Sqs::default();
    let queue = sqs.open_queue().await;
    queue.send(&[keyed_document("order-7", 7)]).await.unwrap();
    let seen = sqs.look();
    assert_eq!(seen[0]["Body"], "{\"n\":7}");
    let attribute = |name: &str| seen[0]["MessageAttributes"][name]["StringValue"].clone();
    assert_eq!(attribute("inlet-id"), document(7).id.to_string());
    assert_eq!(attribute("inlet-stream"), "orders");
    assert_eq!(attribute("inlet-key"), "order-7");
    assert_eq!(attribute("inlet-received-us"), document(7).received.as_micros().to_string());
}

#[tokio::test]
async fn text_that_sqs_does_not_take_comes_through_all_the_same() {
    let sqs = Sqs::default();
    let queue = sqs.open_queue().await;
    let odd = document_with(1, "\"\u{fffe}\u{ffff}\"");
    queue.send(&[odd.clone(), document_with(2, "\"🦀 \u{7f}\"")]).await.unwrap();
    let delivery = queue.receive(LIMIT).await.unwrap();
    assert_eq!(documents(&delivery), [odd, document_with(2, "\"🦀 \u{7f}\"")]);
}

#[tokio::test]
async fn a_message_of_another_client_is_a_document_with_the_same_id_each_time() {
    let sqs = Sqs::default();
    sqs.send_foreign(" {\"from\": \"elsewhere\"} ", &json!({}));
    let stream = json!({ "inlet-stream": { "DataType": "String", "StringValue": "sensors" } });
    sqs.send_foreign("[1]", &stream);
    let mut before: Option<Vec<Document>> = None;
    for _ in 0..2 {
        let queue = sqs.open_queue().await;
        let delivery = queue.receive(LIMIT).await.unwrap();
        let documents = documents(&delivery);
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].body, " {\"from\": \"elsewhere\"} ");
        assert_eq!(documents[0].stream.as_str(), "default");
        assert_eq!(documents[1].stream.as_str(), "sensors");
        assert!(documents[0].id.is_ours() && documents[0].id != documents[1].id);
        assert!(documents[0].received > Timestamp::from_micros(0));
        if let Some(before) = before.replace(documents.clone()) {
            assert_eq!(before, documents);
        }
        queue.close().await;
    }
}

#[tokio::test]
async fn a_message_that_is_no_json_is_a_dead_letter_and_the_rest_is_stored() {
    let sqs = Sqs::default();
    let (queue, store) = (Arc::new(sqs.open_queue().await), MemoryStore::default());
    sqs.send_foreign("{\"torn\":", &json!({}));
    queue.send(&[document(1), document(2)]).await.unwrap();
    let broken = json!({ "inlet-id": { "DataType": "String", "StringValue": "no id" } });
    sqs.send_foreign("{}", &broken);
    store.refuse(Some("poison"));
    queue.send(&[document_with(3, "\"poison\"")]).await.unwrap();
    let persister = persister(&queue, &store);
    let mut report = PersistReport::default();
    while report.received < 5 {
        let step = persist_batch(&persister, Duration::from_secs(5)).await.unwrap();
        assert!(step.received > 0, "only {} messages came", report.received);
        report.received += step.received;
        report.dead += step.dead;
    }
    assert_eq!(report.dead, 3);
    assert_eq!(stored(&store).await, [document(1), document(2)]);
    let letters = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap().items;
    let causes: Vec<String> = letters.iter().map(|letter| letter.cause.to_string()).collect();
    assert!(causes.iter().any(|cause| cause.starts_with("undecodable: the body is no JSON")));
    assert!(causes.iter().any(|cause| cause.contains("names an id, a stream or a key")));
    assert!(causes.iter().any(|cause| cause.starts_with("refused: ")), "{causes:?}");
    assert!(letters.iter().any(|letter| letter.body == "{\"torn\":"));
    assert_eq!(sqs.messages(), 0);
}

#[tokio::test]
async fn a_document_larger_than_a_message_lies_in_the_bucket_meanwhile() {
    let mut sqs = Sqs::with(&json!({ "MaximumMessageSize": "262144" }));
    sqs.options.message_bytes_max = 1 << 20;
    let queue = sqs.open_queue().await;
    let sent = [
        document_with(1, &format!("\"{}\"", "x".repeat(261_900))),
        document_with(2, &format!("\"{}\"", "x".repeat(262_100))),
        document_with(3, &format!("\"{}\"", "y".repeat(900_000))),
        document(4),
    ];
    queue.send(&sent).await.unwrap();
    // The same document once more has a body of its own there.
    queue.send(&sent[2..3]).await.unwrap();
    assert_eq!(sqs.bucket.list("overflow/", None, 10).await.unwrap().len(), 3);
    let mut came = Vec::new();
    while came.len() < 5 {
        let delivery = queue.receive(LIMIT).await.unwrap();
        assert!(!delivery.messages.is_empty());
        came.extend(documents(&delivery));
        settle(&queue, &delivery).await;
    }
    assert_eq!(came[..4], sent);
    assert_eq!(came[4], sent[2]);
    assert_eq!(sqs.bucket.list("overflow/", None, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_message_can_only_point_to_bodies_that_overflowed() {
    let sqs = Sqs::default();
    let queue = sqs.open_queue().await;
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let id = text(&document(1).id.to_string());
    let attributes = json!({ "inlet-id": id, "inlet-overflow": text("summaries/2026-W47.json") });
    sqs.send_foreign("{\"bytes\":1}", &attributes);
    let gone = json!({ "inlet-id": id, "inlet-overflow": text("overflow/queue/gone") });
    sqs.send_foreign("{\"bytes\":1}", &gone);
    let delivery = queue.receive(LIMIT).await.unwrap();
    let causes: Vec<_> =
        delivery.messages.into_iter().map(|message| message.document.unwrap_err().cause).collect();
    assert!(causes[0].starts_with("could not use the pointer to a body"), "{causes:?}");
    assert_eq!(causes[1], "its body is no longer in the bucket at overflow/queue/gone");
}

#[tokio::test]
async fn many_senders_share_calls_and_each_is_answered() {
    let sqs = Sqs::default();
    let queue = Arc::new(sqs.open_queue().await);
    let mut senders = tokio::task::JoinSet::new();
    for n in 0..500 {
        let queue = Arc::clone(&queue);
        senders.spawn(async move { queue.send(&[document(n)]).await });
    }
    while let Some(sent) = senders.join_next().await {
        sent.unwrap().unwrap();
    }
    // One alone, and then full calls of 10 messages with 10 documents each.
    assert!(queue.calls().sending <= 10, "{} calls", queue.calls().sending);
    let mut came = HashSet::new();
    while came.len() < 500 {
        let delivery = queue.receive(LIMIT).await.unwrap();
        assert!(!delivery.messages.is_empty());
        came.extend(documents(&delivery).into_iter().map(|document| document.id));
        settle(&queue, &delivery).await;
    }
    assert_eq!(sqs.messages(), 0);
}

#[tokio::test]
async fn messages_without_company_carry_one_document_each() {
    let mut sqs = Sqs::default();
    sqs.options.message_documents_max = 1;
    let queue = sqs.open_queue().await;
    let many: Vec<Document> = (0..25).map(document).collect();
    queue.send(&many).await.unwrap();
    assert_eq!(sqs.messages(), 25);
    assert_eq!(queue.calls().sending, 3);
}

#[tokio::test]
async fn a_message_that_sqs_refuses_for_now_is_sent_again_and_no_other() {
    let sqs = Sqs::default();
    let proxy = Proxy::start(emulator::port());
    let queue = sqs.at(proxy.port()).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    proxy.rule(move |operation, input| {
        if operation != "AmazonSQS.SendMessageBatch" {
            return Act::Forward;
        }
        let entries = input["Entries"].as_array().unwrap();
        if seen.fetch_add(1, Ordering::Relaxed) > 0 {
            assert_eq!(entries.len(), 1, "only the one that failed is sent again");
            return Act::Forward;
        }
        let accepted = |entry: &Value| {
            let body = entry["MessageBody"].as_str().unwrap().as_bytes();
            let md5 = inlet_core::document::hex(&inlet_core::document::md5(body));
            json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": md5 })
        };
        let failed =
            json!({ "Id": entries[1]["Id"], "SenderFault": false, "Code": "InternalError" });
        let successful = [accepted(&entries[0]), accepted(&entries[2])];
        Act::Answer(200, json!({ "Successful": successful, "Failed": [failed] }))
    });
    queue.send(&[document(1), document(2), document(3)]).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    let delivery = queue.receive(LIMIT).await.unwrap();
    assert_eq!(documents(&delivery), [document(2)]);
}

#[tokio::test]
async fn a_message_that_sqs_refuses_for_good_fails_alone() {
    let sqs = Sqs::default();
    let proxy = Proxy::start(emulator::port());
    let queue = Arc::new(sqs.at(proxy.port()).await);
    proxy.rule(|operation, input| {
        if operation != "AmazonSQS.SendMessageBatch" {
            return Act::Forward;
        }
        let entries = input["Entries"].as_array().unwrap();
        let refused = |entry: &Value| entry["MessageBody"] == "\"refused\"";
        let (failed, successful): (Vec<&Value>, Vec<&Value>) =
            entries.iter().partition(|entry| refused(entry));
        let failed: Vec<Value> = failed
            .iter()
            .map(|entry| json!({ "Id": entry["Id"], "SenderFault": true, "Code": "InvalidMessageContents" }))
            .collect();
        let successful: Vec<Value> = successful
            .iter()
            .map(|entry| {
                let body = entry["MessageBody"].as_str().unwrap().as_bytes();
                let md5 = inlet_core::document::hex(&inlet_core::document::md5(body));
                json!({ "Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": md5 })
            })
            .collect();
        Act::Answer(200, json!({ "Successful": successful, "Failed": failed }))
    });
    let bodies = [document(1), document_with(2, "\"refused\""), document(3)];
    let [first, second, third] = bodies.map(|document| {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { queue.send(&[document]).await })
    });
    first.await.unwrap().unwrap();
    third.await.unwrap().unwrap();
    let failure = second.await.unwrap().unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Refused);
    let cause = std::error::Error::source(&failure).unwrap().to_string();
    assert!(cause.contains("InvalidMessageContents"), "{cause}");
}

#[tokio::test]
async fn without_sqs_a_send_is_refused_in_time_and_taken_again_afterwards() {
    let mut sqs = Sqs::default();
    sqs.options.send_ms = 1_500;
    let proxy = Proxy::start(emulator::port());
    let queue = sqs.at(proxy.port()).await;
    queue.send(&[document(1)]).await.unwrap();
    proxy.set_away(true);
    let failure = queue.send(&[document(2)]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    assert_eq!(queue.has_room().unwrap_err().kind(), FailureKind::Unavailable);
    proxy.set_away(false);
    until(|| queue.has_room().is_ok()).await;
    queue.send(&[document(3)]).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(documents(&queue.receive(LIMIT).await.unwrap()));
    }
    assert_eq!(came.first(), Some(&document(1)));
    assert!(came.contains(&document(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_is_refused_at_once_and_taken_again_once_there_is_room() {
    let mut sqs = Sqs::default();
    sqs.options.waiting_documents_max = 20;
    let proxy = Proxy::start(emulator::port());
    let queue = Arc::new(sqs.at(proxy.port()).await);
    let (go_on, held_back) = std::sync::mpsc::channel::<()>();
    proxy.rule(move |_, _| {
        // The first call is answered once the test says so, and all others at once.
        held_back.recv().ok();
        Act::Forward
    });
    let many: Vec<Document> = (0..25).map(document).collect();
    let first = tokio::spawn({
        let (queue, one) = (Arc::clone(&queue), many[..1].to_vec());
        async move { queue.send(&one).await }
    });
    until(|| queue.calls().sending == 1).await;
    let rest = tokio::spawn({
        let (queue, rest) = (Arc::clone(&queue), many[1..].to_vec());
        async move { queue.send(&rest).await }
    });
    until(|| queue.has_room().is_err()).await;
    assert_eq!(queue.has_room().unwrap_err().kind(), FailureKind::Full);
    let failure = queue.send(&[document(99)]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Full);
    drop(go_on);
    first.await.unwrap().unwrap();
    rest.await.unwrap().unwrap();
    queue.has_room().unwrap();
    queue.send(&[document(99)]).await.unwrap();
    let mut came = HashSet::new();
    while came.len() < 26 {
        let delivery = queue.receive(LIMIT).await.unwrap();
        came.extend(documents(&delivery).into_iter().map(|document| document.id));
        settle(&queue, &delivery).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_nothing_is_told_in_time_and_nothing_is_lost() {
    let server = Server::start(ServerKind::Moto);
    let aws = aws_at(server.port()).await;
    call(server.port(), "AmazonSQS.CreateQueue", &json!({ "QueueName": "q" }));
    let options =
        SqsOptions { send_ms: 1_000, poll_s: 1, visibility_s: Some(2), ..SqsOptions::default() };
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
    let queue = SqsQueue::open(&aws, "sqs://q", bucket, &options).await.unwrap();
    queue.send(&[document(1)]).await.unwrap();
    server.freeze();
    let failure = queue.send(&[document(2)]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable);
    let failure = loop {
        match queue.receive(LIMIT).await {
            Err(failure) => break failure,
            Ok(delivery) => assert_eq!(delivery.messages, []),
        }
    };
    assert!(failure.is_retryable(), "{failure}");
    server.thaw();
    until(|| queue.has_room().is_ok()).await;
    queue.send(&[document(3)]).await.unwrap();
    let mut came = HashSet::new();
    while !came.contains(&document(1).id) || !came.contains(&document(3).id) {
        let Ok(delivery) = queue.receive(LIMIT).await else { continue };
        came.extend(documents(&delivery).into_iter().map(|document| document.id));
        settle(&queue, &delivery).await;
    }
}

#[tokio::test]
async fn an_outage_of_the_store_uses_up_no_delivery() {
    let (sqs, dead_url) = Sqs::with_redrive(2);
    let (queue, store) = (Arc::new(sqs.open_queue().await), MemoryStore::default());
    assert_eq!(queue.redrive().unwrap().deliveries_max, 2);
    queue.send(&[document(1), document(2)]).await.unwrap();
    store.set_away(true);
    let persister = persister(&queue, &store);
    for _ in 0..6 {
        persist_batch(&persister, Duration::from_secs(5)).await.unwrap_err();
    }
    store.set_away(false);
    let report = persist_batch(&persister, Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.stored, 2);
    assert_eq!((sqs.messages(), count_at(&dead_url, "ApproximateNumberOfMessages")), (0, 0));
}

#[tokio::test]
async fn a_message_being_worked_on_is_kept_from_other_workers() {
    let mut sqs = Sqs::default();
    sqs.options.visibility_s = Some(1);
    let (worker, other) = (sqs.open_queue().await, sqs.open_queue().await);
    worker.send(&[document(1)]).await.unwrap();
    let delivery = worker.receive(LIMIT).await.unwrap();
    assert_eq!(documents(&delivery), [document(1)]);
    // Twice as long as SQS keeps it where nobody extends that.
    let long = BatchLimit { wait: Duration::from_millis(2_200), ..LIMIT };
    assert_eq!(other.receive(long).await.unwrap().messages, []);
    settle(&worker, &delivery).await;
    assert_eq!(sqs.messages(), 0);
}

#[tokio::test]
async fn what_a_worker_gives_back_another_has_at_once() {
    let mut sqs = Sqs::default();
    sqs.options.visibility_s = Some(600);
    let worker = sqs.open_queue().await;
    worker.send(&[document(1), document(2)]).await.unwrap();
    assert_eq!(documents(&worker.receive(LIMIT).await.unwrap()).len(), 2);
    worker.close().await;
    drop(worker);
    let other = sqs.open_queue().await;
    let delivery = other.receive(LIMIT).await.unwrap();
    assert_eq!(documents(&delivery), [document(1), document(2)]);
    assert_eq!(delivery.messages[0].deliveries_before, 1);
}

#[tokio::test]
async fn what_sqs_gave_up_is_listed_and_redriven_as_any_dead_letter() {
    let (sqs, dead_url) = Sqs::with_redrive(1);
    // A worker that dies with the message in its hands, once.
    let dying = sqs.open_queue().await;
    dying.send(&[document_in("orders", 1)]).await.unwrap();
    assert_eq!(documents(&dying.receive(LIMIT).await.unwrap()).len(), 1);
    drop(dying);
    sqs.all_visible().await;
    let (queue, store) = (Arc::new(sqs.open_queue().await), MemoryStore::default());
    let worker = persister(&queue, &store);
    let mut report = PersistReport::default();
    while report.received == 0 {
        report = persist_batch(&worker, Duration::from_millis(300)).await.unwrap();
    }
    assert_eq!((report.dead, report.stored), (1, 0));
    let letters = store.dead_letters(&DeadLetterFilter::default(), 10, None).await.unwrap().items;
    assert_eq!((letters[0].id, &letters[0].body), (document(1).id, &Bytes::from("{\"n\":1}")));
    assert_eq!(letters[0].cause.detail(), "delivered 1 times without being stored");
    assert_eq!((sqs.messages(), count_at(&dead_url, "ApproximateNumberOfMessages")), (0, 0));
    assert_eq!(count_at(&dead_url, "ApproximateNumberOfMessagesNotVisible"), 0);
    let (clock, all) = (ManualClock::default(), DeadLetterFilter::default());
    let report = redrive(&store, &*queue, &clock, &all, false).await.unwrap();
    assert_eq!(report.redriven, 1);
    let report = persist_batch(&worker, Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.stored, 1);
    assert_eq!(store.dead_letters(&all, 10, None).await.unwrap().items, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_on_one_queue_store_each_document_once() {
    let mut sqs = Sqs::default();
    (sqs.options.polls_max, sqs.options.sends_max) = (3, 3);
    sqs.options.message_documents_max = 3;
    let store = MemoryStore::default();
    let sender = Arc::new(sqs.open_queue().await);
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let queue = Arc::new(sqs.open_queue().await);
        let (worker, store) = (persister(&queue, &store), store.clone());
        workers.spawn(async move {
            while stored(&store).await.len() < 600 {
                persist_batch(&worker, Duration::from_millis(100)).await.unwrap();
            }
        });
    }
    for n in 0..6 {
        let many: Vec<Document> = (n * 100..(n + 1) * 100).map(document).collect();
        sender.send(&many).await.unwrap();
    }
    while let Some(worker) = workers.join_next().await {
        worker.unwrap();
    }
    let ids: HashSet<_> = stored(&store).await.into_iter().map(|document| document.id).collect();
    assert_eq!(ids.len(), 600);
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_refused_with_the_command_that_makes_it() {
    let aws = aws_at(emulator::port()).await;
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
    let host = format!("127.0.0.1:{}", emulator::port());
    for url in ["sqs://nowhere".to_owned(), format!("sqs://{host}/123456789012/nowhere")] {
        let options = SqsOptions::default();
        let opened = SqsQueue::open(&aws, &url, Arc::clone(&bucket), &options).await;
        let failure = opened.err().unwrap();
        assert_eq!(failure.kind(), FailureKind::Missing, "{failure}");
        assert!(failure.to_string().contains("nowhere"), "{failure}");
        let hint = failure.hint_text().unwrap();
        assert!(hint.contains("aws sqs create-queue --queue-name nowhere"), "{hint}");
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_named_as_that_and_never_shown() {
    let proxy = Proxy::start(emulator::port());
    proxy.rule(|_, _| {
        let code = "com.amazonaws.sqs#InvalidClientTokenId";
        Act::Answer(403, json!({ "__type": code, "message": "The security token is invalid." }))
    });
    let aws = Aws::at(&format!("http://127.0.0.1:{}", proxy.port()), "AKIAX", "very-secret").await;
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
    let opened = SqsQueue::open(&aws, "sqs://q", bucket, &SqsOptions::default()).await;
    let failure = opened.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Denied);
    assert!(failure.hint_text().unwrap().contains("credentials"));
    assert!(!format!("{failure:?}").contains("very-secret"));
}

#[tokio::test]
async fn a_queue_named_in_full_is_sent_to_without_asking_for_it() {
    let sqs = Sqs::default();
    let aws = aws_at(emulator::port()).await;
    let bucket: Arc<dyn Bucket> = Arc::new(MemoryBucket::default());
    let url = format!("sqs://127.0.0.1:{}/123456789012/{}", emulator::port(), sqs.name);
    let queue = SqsQueue::open_to_send(&aws, &url, bucket, &SqsOptions::default()).await.unwrap();
    queue.send(&[document(1)]).await.unwrap();
    let calls = queue.calls();
    assert_eq!((calls.sending, calls.receiving), (1, 0));
    assert_eq!(queue.receive(LIMIT).await.unwrap_err().kind(), FailureKind::Refused);
    assert_eq!(sqs.messages(), 1);
}

#[tokio::test]
async fn a_function_reads_the_documents_of_a_message_it_was_handed() {
    let sqs = Sqs::default();
    let queue = sqs.open_queue().await;
    let large = document_with(1, &format!("\"{}\"", "x".repeat(2 << 20)));
    queue.send(std::slice::from_ref(&large)).await.unwrap();
    let seen = sqs.look().remove(0);
    let attributes = seen["MessageAttributes"].as_object().unwrap();
    let message = SqsMessage {
        message_id: seen["MessageId"].as_str().unwrap().to_owned(),
        body: seen["Body"].as_str().unwrap().to_owned(),
        attributes: attributes
            .iter()
            .map(|(name, value)| (name.clone(), value["StringValue"].as_str().unwrap().to_owned()))
            .collect(),
        sent: Timestamp::from_micros(5),
    };
    let bucket: Arc<dyn Bucket> = Arc::new(sqs.bucket.clone());
    let documents = message.documents(3, &bucket).await.unwrap();
    assert_eq!(documents.len(), 1);
    assert_eq!(
        (documents[0].document.clone().unwrap(), documents[0].deliveries_before),
        (large, 2)
    );
    message.remove_overflow(&bucket).await;
    assert_eq!(sqs.bucket.list("overflow/", None, 10).await.unwrap(), []);
}

/// Answers that every entry of a batch failed with this code, whoever is at fault.
fn entries_fail(code: &'static str, input: &Value) -> Act {
    let entries = input["Entries"].as_array().unwrap();
    let failed: Vec<Value> = entries
        .iter()
        .map(|entry| json!({ "Id": entry["Id"], "Code": code, "SenderFault": true }))
        .collect();
    Act::Answer(200, json!({ "Successful": [], "Failed": failed }))
}

#[tokio::test]
async fn what_can_pass_is_sent_again_and_is_no_refusal_whoever_is_called_at_fault() {
    let sqs = Sqs::default();
    let proxy = Proxy::start(emulator::port());
    let queue = sqs.at(proxy.port()).await;
    for code in [
        "KMS.ThrottlingException",
        "KmsThrottled",
        "KMS.DisabledException",
        "KMS.NotFoundException",
        "InternalError",
        "RequestThrottled",
        "AWS.SimpleQueueService.NonExistentQueue",
        "AccessDenied",
        "NobodyKnowsThis",
    ] {
        // Twice in an entry, then for the whole call, then it passes.
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        proxy.rule(move |operation, input| {
            if !operation.ends_with("SendMessageBatch") {
                return Act::Forward;
            }
            match counted.fetch_add(1, Ordering::Relaxed) {
                0 | 1 => entries_fail(code, input),
                2 => Act::Answer(400, json!({ "__type": format!("com.amazonaws.sqs#{code}") })),
                _ => Act::Forward,
            }
        });
        queue.send(&[document(1)]).await.unwrap_or_else(|failure| panic!("{code}: {failure}"));
        assert!(calls.load(Ordering::Relaxed) >= 4, "{code}");
        // It does not pass: nothing is accepted for now, and nothing is refused for good.
        proxy.rule(move |_, input| entries_fail(code, input));
        let failure = queue.send(&[document(2)]).await.unwrap_err();
        assert!(failure.is_retryable(), "{code}: {failure}: {:?}", failure.kind());
        proxy.set_away(false);
        until(|| queue.has_room().is_ok()).await;
    }
}

#[tokio::test]
async fn what_can_never_pass_is_refused_at_once_and_with_a_hint() {
    let sqs = Sqs::default();
    let proxy = Proxy::start(emulator::port());
    let queue = sqs.at(proxy.port()).await;
    for code in ["InvalidMessageContents", "InvalidParameterValue", "UnsupportedOperation"] {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        proxy.rule(move |_, input| {
            counted.fetch_add(1, Ordering::Relaxed);
            entries_fail(code, input)
        });
        let failure = queue.send(&[document(1)]).await.unwrap_err();
        assert_eq!((failure.kind(), calls.load(Ordering::Relaxed)), (FailureKind::Refused, 1));
        assert!(failure.hint_text().is_some(), "{code}");
    }
}

#[tokio::test]
async fn a_clock_that_is_off_is_named_as_the_cause() {
    let sqs = Sqs::default();
    let proxy = Proxy::start(emulator::port());
    let queue = sqs.at(proxy.port()).await;
    let said = "Signature expired: 20261130T000000Z is now earlier than 20261130T001000Z";
    let code = "com.amazonaws.sqs#InvalidSignatureException";
    proxy.always(Act::Answer(403, json!({ "__type": code, "message": said })));
    let failure = queue.send(&[document(1)]).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Denied);
    assert!(failure.hint_text().unwrap().contains("clock"), "{:?}", failure.hint_text());
}

#[tokio::test]
async fn a_limit_of_the_queue_below_4_kib_is_kept_through_the_bucket() {
    // Known when it is opened to receive, learnt from the first refusal when only to send.
    for knows in [true, false] {
        let sqs = Sqs::with(&json!({ "MaximumMessageSize": "1024" }));
        let proxy = Proxy::start(emulator::port());
        proxy.rule(|operation, input| {
            let Some(entries) = input["Entries"].as_array() else { return Act::Forward };
            let too_long = |entry: &Value| {
                let attributes = entry["MessageAttributes"].as_object();
                let attributes = attributes.into_iter().flatten().map(|(name, value)| {
                    name.len() + "String".len() + value["StringValue"].as_str().unwrap().len()
                });
                let body = entry["MessageBody"].as_str().unwrap().len();
                body + attributes.sum::<usize>() > 1024
            };
            if !operation.ends_with("SendMessageBatch") || !entries.iter().any(too_long) {
                return Act::Forward;
            }
            // As Amazon's answers; the emulator does not look.
            let failed: Vec<Value> = entries
                .iter()
                .map(|entry| {
                    let message = "One or more parameters are invalid. Reason: Message must be \
                                   shorter than 1024 bytes.";
                    json!({ "Id": entry["Id"], "Code": "InvalidParameterValue",
                            "Message": message, "SenderFault": true })
                })
                .collect();
            Act::Answer(200, json!({ "Successful": [], "Failed": failed }))
        });
        let sending = if knows {
            sqs.at(proxy.port()).await
        } else {
            let aws = aws_at(proxy.port()).await;
            let bucket: Arc<dyn Bucket> = Arc::new(sqs.bucket.clone());
            let url = format!("sqs://{}", sqs.name);
            SqsQueue::open_to_send(&aws, &url, bucket, &sqs.options).await.unwrap()
        };
        let sent = [
            document_with(1, "\"small\""),
            document_with(2, &format!("\"{}\"", "x".repeat(900))),
            document_with(3, &format!("\"{}\"", "y".repeat(5_000))),
        ];
        sending.send(&sent).await.unwrap();
        assert_eq!(sqs.bucket.list("overflow/", None, 10).await.unwrap().len(), 2);
        let queue = sqs.open_queue().await;
        let mut came = HashSet::new();
        while came.len() < 3 {
            let delivery = queue.receive(LIMIT).await.unwrap();
            assert!(!delivery.messages.is_empty());
            came.extend(documents(&delivery).into_iter().map(|document| document.body));
            settle(&queue, &delivery).await;
        }
        assert!(sent.iter().all(|document| came.contains(&document.body)));
    }
}

#[tokio::test]
async fn a_message_whose_deletion_is_denied_keeps_its_body_in_the_bucket() {
    let sqs = Sqs::default();
    let proxy = Proxy::start(emulator::port());
    let queue = sqs.at(proxy.port()).await;
    queue.send(&[document_with(1, &format!("\"{}\"", "x".repeat(2 << 20)))]).await.unwrap();
    let delivery = queue.receive(LIMIT).await.unwrap();
    proxy.rule(|operation, input| match operation.ends_with("DeleteMessageBatch") {
        true => entries_fail("AccessDenied", input),
        false => Act::Forward,
    });
    let outcomes = vec![Outcome::Stored; delivery.messages.len()];
    let failure = queue.settle(&delivery, &outcomes).await.unwrap_err();
    assert!(failure.is_retryable(), "{failure}");
    assert_eq!(sqs.bucket.list("overflow/", None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dead_letter_queue_that_is_not_found_at_the_start_is_drained_once_it_is() {
    let (sqs, dead_url) = Sqs::with_redrive(1);
    let proxy = Proxy::start(emulator::port());
    proxy.rule(|operation, input| {
        let is_dead = input["QueueName"].as_str().is_some_and(|name| name.starts_with("dead"));
        match operation.ends_with("GetQueueUrl") && is_dead {
            true => Act::Answer(400, json!({ "__type": "com.amazonaws.sqs#AccessDenied" })),
            false => Act::Forward,
        }
    });
    let queue = sqs.at(proxy.port()).await;
    let input = json!({ "QueueUrl": dead_url, "MessageBody": "[1]" });
    call(emulator::port(), "AmazonSQS.SendMessage", &input);
    assert!(queue.receive(LIMIT).await.unwrap().messages.is_empty());
    proxy.set_away(false);
    loop {
        let delivery = queue.receive(LIMIT).await.unwrap();
        if let Some(message) = delivery.messages.first() {
            assert!(message.given_up.is_some());
            return;
        }
    }
}
