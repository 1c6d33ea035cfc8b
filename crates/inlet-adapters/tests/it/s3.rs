use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::{PART_BYTES, S3Bucket};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{Bucket, BucketKey, ByteRange, ByteStream, FixedBytes};
use inlet_testkit::contract::bucket::BucketFixture;
use inlet_testkit::server::{Server, ServerKind, free_port};

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Moto));

/// A bucket of its own in the emulator.
struct Fixture {
    name: String,
}

impl Fixture {
    fn new() -> Self {
        let name = format!("bucket-{}", free_port());
        let made = ureq::put(format!("{}/{name}", url()))
            .header("Authorization", AUTHORIZATION)
            .send_empty()
            .unwrap();
        assert_eq!(made.status(), 200);
        Self { name }
    }

    async fn bucket(&self) -> S3Bucket {
        S3Bucket::open(&aws().await, &format!("s3://{}/some/prefix", self.name)).await.unwrap()
    }

    /// What the emulator itself answers to a GET.
    fn ask(&self, query: &str) -> String {
        let mut answer = ureq::get(format!("{}/{}?{query}", url(), self.name))
            .header("Authorization", AUTHORIZATION)
            .call()
            .unwrap();
        answer.body_mut().read_to_string().unwrap()
    }
}

/// The emulator reads the region from it and checks nothing.
const AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/s3/aws4_request, \
                             SignedHeaders=host, Signature=0";

fn url() -> String {
    format!("http://127.0.0.1:{}", MOTO.port())
}

async fn aws() -> Aws {
    Aws::at(&url(), "test", "test").await
}

#[async_trait]
impl BucketFixture for Fixture {
    async fn open(&self) -> Arc<dyn Bucket> {
        Arc::new(self.bucket().await)
    }

    async fn remains(&self) -> Vec<String> {
        let listed = self.ask("uploads");
        let uploads = listed.split("<UploadId>").skip(1);
        uploads.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    }
}

inlet_testkit::bucket_contract!(Fixture::new());

/// Pieces of a megabyte, and then perhaps a failure.
struct Pieces {
    left: usize,
    fails: bool,
}

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.left == 0 {
            let failure = Failure::new(FailureKind::Unavailable, "read", "the client");
            return std::mem::take(&mut self.fails).then_some(Err(failure));
        }
        self.left -= 1;
        Some(Ok(Bytes::from(vec![7; 1 << 20])))
    }
}

fn key(text: &str) -> BucketKey {
    BucketKey::new(text).unwrap()
}

#[tokio::test]
async fn a_large_object_goes_in_parts_and_has_their_checksum() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    for (megabytes, parts) in [(7, 0), (8, 1), (20, 3), (24, 3)] {
        let mut body = Pieces { left: megabytes, fails: false };
        let put = bucket.put(&key("large"), "x/y", &mut body).await.unwrap();
        assert_eq!(put.bytes, (megabytes as u64) << 20);
        let suffix = put.sha256.split_once('-').map_or(0, |(_, parts)| parts.parse().unwrap());
        // The emulator leaves the number of parts away.
        assert!(suffix == parts || suffix == 0, "{}", put.sha256);
        let range = ByteRange { first: (6 << 20) - 5, last: (6 << 20) + 4 };
        let mut object = bucket.get(&key("large"), Some(range)).await.unwrap().unwrap();
        assert_eq!(object.meta, put);
        let mut read = Vec::new();
        while let Some(piece) = object.body.next().await {
            read.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(read, [7; 10]);
    }
    assert!(fixture.remains().await.is_empty());
}

#[tokio::test]
async fn an_upload_that_fails_in_its_third_part_leaves_nothing() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    let mut body = Pieces { left: 20, fails: true };
    let failure = bucket.put(&key("large"), "x/y", &mut body).await.unwrap_err();
    assert!(failure.to_string().contains("the client"), "{failure}");
    assert!(fixture.remains().await.is_empty());
    assert!(bucket.head(&key("large")).await.unwrap().is_none());
}

/// Two parts, and then nothing more.
struct Stalls {
    parts: usize,
    stalled: Arc<AtomicBool>,
}

#[async_trait]
impl ByteStream for Stalls {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.parts == 0 {
            self.stalled.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        self.parts -= 1;
        Some(Ok(Bytes::from(vec![7; PART_BYTES])))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_upload_whose_client_goes_away_is_given_up() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    let large = key("large");
    let stalled = Arc::new(AtomicBool::new(false));
    {
        let mut body = Stalls { parts: 2, stalled: Arc::clone(&stalled) };
        let putting = bucket.put(&large, "x/y", &mut body);
        tokio::pin!(putting);
        while !stalled.load(Ordering::Relaxed) {
            let moment = std::time::Duration::from_millis(10);
            assert!(tokio::time::timeout(moment, &mut putting).await.is_err());
        }
        assert_eq!(fixture.remains().await.len(), 1);
    }
    while !fixture.remains().await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn keys_stay_under_the_prefix() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    bucket.put(&key("a b/ü+%2F"), "text/plain", &mut FixedBytes::new("x")).await.unwrap();
    let listed = fixture.ask("list-type=2");
    assert!(listed.contains("<Key>some/prefix/a b/ü+%2F</Key>"), "{listed}");
    let other =
        S3Bucket::open(&aws().await, &format!("s3://{}/other", fixture.name)).await.unwrap();
    assert!(other.list("", None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_bucket_that_is_not_there_or_no_url_is_refused_with_a_hint() {
    for (url, hint) in [
        ("s3://no-such-bucket-here/x", "aws s3 mb s3://no-such-bucket-here"),
        ("s3://", "s3://BUCKET"),
        ("s3:bucket", "s3://BUCKET"),
        ("s3://bucket/../up", "prefix"),
    ] {
        let failure = S3Bucket::open(&aws().await, url).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Refused, "{failure:?}");
        assert!(failure.hint_text().unwrap().contains(hint), "{failure:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_away_is_an_outage() {
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let aws = Aws::at(&nowhere, "test", "test").await;
    let failure = S3Bucket::open(&aws, "s3://bucket").await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Unavailable, "{failure:?}");
}
