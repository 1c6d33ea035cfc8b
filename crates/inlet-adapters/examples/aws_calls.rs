//! How many calls a document costs: to SQS each way and to DynamoDB, when there is much to do.
//!
//! `cargo run --release -p inlet-adapters --features aws --example aws_calls -- URL [SQS_DOCUMENTS]
//! [DYNAMODB_DOCUMENTS]`, where URL is that of an emulator, as `scripts/server moto` runs one. That
//! one looks through a whole queue and copies a whole table for each call, so documents go through
//! the queue 250 at a time, and every thousand goes to a table of its own.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::DirectoryBucket;
use inlet_adapters::queue::{SqsOptions, SqsQueue};
use inlet_adapters::store::{DynamoOptions, DynamoStore};
use inlet_core::calendar::Calendar;
use inlet_core::document::{Document, StreamName};
use inlet_core::id::DocumentId;
use inlet_core::persist::put_batch;
use inlet_core::ports::{Batch, BatchLimit, Bucket, Clock, Outcome, Queue, SystemClock};
use tokio::task::JoinSet;

/// How many callers send at once, one document each.
const SENDERS: usize = 64;
/// How many documents are in a queue of the emulator at most.
const QUEUE_DOCUMENTS: usize = 250;
/// How many documents are in a table of the emulator at most.
const TABLE_DOCUMENTS: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("give the URL of an emulator")?;
    let sqs: usize = arguments.next().map_or(Ok(10_000), |text| text.parse())?;
    let dynamodb: usize = arguments.next().map_or(Ok(1_000), |text| text.parse())?;
    let aws = Aws::at(&url, "test", "test").await;
    let directory = tempfile::tempdir()?;
    let bucket = bucket(directory.path())?;
    queue(&url, &aws, &bucket, sqs).await?;
    store(&aws, &bucket, dynamodb).await
}

fn bucket(directory: &Path) -> Result<Arc<dyn Bucket>, Box<dyn Error>> {
    Ok(Arc::new(DirectoryBucket::open(directory, Arc::new(SystemClock))?))
}

async fn queue(
    url: &str,
    aws: &Aws,
    bucket: &Arc<dyn Bucket>,
    count: usize,
) -> Result<(), Box<dyn Error>> {
    let name = format!("calls-{}", std::process::id());
    make_queue(url, &name)?;
    for company in [10, 1] {
        let options =
            SqsOptions { message_documents_max: company, send_ms: 60_000, ..SqsOptions::default() };
        let url = format!("sqs://{name}");
        let queue = Arc::new(SqsQueue::open(aws, &url, Arc::clone(bucket), &options).await?);
        let opened = queue.calls();
        let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
        for begin in (0..count).step_by(QUEUE_DOCUMENTS) {
            let round = QUEUE_DOCUMENTS.min(count - begin);
            let begun = Instant::now();
            send(&queue, round).await?;
            sending += begun.elapsed();
            let begun = Instant::now();
            drain(&queue, round).await?;
            receiving += begun.elapsed();
        }
        let calls = queue.calls();
        say(&format!(
            "SQS, at most {company} documents a message: {:.4} calls a document to send ({sending:?}), \
             {:.4} to receive and delete ({receiving:?})",
            ratio(calls.sending - opened.sending, count),
            ratio(calls.receiving - opened.receiving, count),
        ));
    }
    Ok(())
}

/// Many callers send one document at a time.
async fn send(queue: &Arc<SqsQueue>, count: usize) -> Result<(), Box<dyn Error>> {
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let queue = Arc::clone(queue);
        senders.spawn(async move {
            for _ in (sender..count).step_by(SENDERS) {
                queue.send(&[document()]).await?;
            }
            Ok::<(), inlet_core::failure::Failure>(())
        });
    }
    while let Some(sent) = senders.join_next().await {
        sent??;
    }
    Ok(())
}

async fn drain(queue: &SqsQueue, count: usize) -> Result<(), Box<dyn Error>> {
    let limit =
        BatchLimit { documents_max: 4_096, bytes_max: 8 << 20, wait: Duration::from_secs(5) };
    let mut came = 0;
    while came < count {
        let delivery = queue.receive(limit).await?;
        came += delivery.messages.len();
        let outcomes = vec![Outcome::Stored; delivery.messages.len()];
        queue.settle(&delivery, &outcomes).await?;
    }
    Ok(())
}

async fn store(aws: &Aws, bucket: &Arc<dyn Bucket>, count: usize) -> Result<(), Box<dyn Error>> {
    let (begun, mut calls) = (Instant::now(), 0);
    for (table, begin) in (0..count).step_by(TABLE_DOCUMENTS).enumerate() {
        let url = format!("dynamodb://calls-{}-{table}", std::process::id());
        DynamoStore::create_table(aws, &url).await?;
        let options = DynamoOptions::default();
        let store = DynamoStore::open(aws, &url, Arc::clone(bucket), &options).await?;
        let some = TABLE_DOCUMENTS.min(count - begin);
        let batch = Batch {
            documents: (0..some).map(|_| document()).collect(),
            dead: Vec::new(),
            cursor: None,
            now: SystemClock.now(),
            calendar: Calendar::utc(),
            attempts_max: 3,
        };
        put_batch(&store, batch).await?;
        calls += store.calls();
    }
    let each = ratio(calls, count);
    say(&format!("DynamoDB: {each:.4} calls a document to store ({:?})", begun.elapsed()));
    Ok(())
}

fn document() -> Document {
    let now = SystemClock.now();
    let id = DocumentId::mint(now);
    let body = format!("{{\"order\":\"{id}\",\"total\":12.5,\"lines\":[1,2,3]}}");
    let stream = StreamName::default();
    Document { id, stream, key: None, received: now, generation: Some(0), body: body.into() }
}

/// As any other client makes one.
fn make_queue(url: &str, name: &str) -> Result<(), Box<dyn Error>> {
    let signed = "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/sqs/aws4_request, \
                  SignedHeaders=host, Signature=0";
    ureq::post(url)
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AmazonSQS.CreateQueue")
        .header("authorization", signed)
        .send(format!("{{\"QueueName\":\"{name}\"}}"))?;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "a figure to read")]
fn ratio(calls: u64, documents: usize) -> f64 {
    calls as f64 / documents as f64
}

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn say(line: &str) {
    println!("{line}");
}
