use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
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

    /// Puts an object of such parts as others would, perhaps under our rule's name.
    fn put_in_parts(&self, key: &str, sizes: &[usize], is_ours: bool) {
        let place = format!("{}/{}/{key}", url(), self.name);
        let mut begin = ureq::post(format!("{place}?uploads"))
            .header("Authorization", AUTHORIZATION)
            .header("x-amz-checksum-algorithm", "SHA256")
            .header("x-amz-checksum-type", "COMPOSITE");
        if is_ours {
            begin = begin.header("x-amz-meta-inlet-cut", "1");
        }
        let said = begin.send_empty().unwrap().body_mut().read_to_string().unwrap();
        let upload = said.split("UploadId>").nth(1).unwrap().trim_end_matches("</").to_owned();
        let mut done = String::new();
        for (number, size) in (1..).zip(sizes) {
            let put = ureq::put(format!("{place}?partNumber={number}&uploadId={upload}"))
                .header("Authorization", AUTHORIZATION)
                .send(vec![7; *size].as_slice())
                .unwrap();
            let tag = put.headers()["etag"].to_str().unwrap().to_owned();
            let part = format!("<PartNumber>{number}</PartNumber><ETag>{tag}</ETag>");
            done.push_str(&format!("<Part>{part}</Part>"));
        }
        let body = format!("<CompleteMultipartUpload>{done}</CompleteMultipartUpload>");
        ureq::post(format!("{place}?uploadId={upload}"))
            .header("Authorization", AUTHORIZATION)
            .send(&body)
            .unwrap();
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

/// Reads to the end; gives the size, in bytes.
async fn whole(mut body: Box<dyn ByteStream>) -> Result<usize, Failure> {
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        bytes += piece?.len();
    }
    Ok(bytes)
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
        assert_eq!(suffix, parts, "{}", put.sha256);
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
async fn bytes_that_are_not_those_that_were_put_are_damage() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    // What we cut into 8 MiB and the rest was cut into 5 MiB and the rest: another checksum.
    for (name, is_ours) in [("ours", true), ("theirs", false)] {
        fixture.put_in_parts(&format!("some/prefix/{name}"), &[5 << 20, 4 << 20], is_ours);
        let object = bucket.get(&key(name), None).await.unwrap().unwrap();
        assert_eq!(object.meta.bytes, 9 << 20);
        assert!(object.meta.sha256.ends_with("-2"), "{}", object.meta.sha256);
        let read = whole(object.body).await;
        if is_ours {
            let failure = read.unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Damaged, "{failure:?}");
        } else {
            assert_eq!(read.unwrap(), 9 << 20);
        }
    }
    let mut body = Pieces { left: 17, fails: false };
    let put = bucket.put(&key("good"), "x/y", &mut body).await.unwrap();
    let object = bucket.get(&key("good"), None).await.unwrap().unwrap();
    assert_eq!(object.meta, put);
    assert_eq!(whole(object.body).await.unwrap(), 17 << 20);
}

#[tokio::test]
async fn an_identity_that_may_put_and_not_look_can_put() {
    let service = PutOnly::start();
    let aws = Aws::at(&service.url, "test", "test").await;
    let bucket = S3Bucket::open_unseen(&aws, "s3://bucket").unwrap();
    let put = bucket.put(&key("a"), "x/y", &mut FixedBytes::new("{}")).await.unwrap();
    let known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!((put.bytes, put.content_type.as_str(), put.sha256.as_str()), (2, "x/y", known));
    let failure = bucket.head(&key("a")).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Denied, "{failure:?}");
    let failure = S3Bucket::open(&aws, "s3://bucket").await.unwrap_err();
    assert!(failure.hint_text().unwrap().contains("s3:ListBucket"), "{failure:?}");
}

/// A service that takes objects and answers 403 to everything else.
struct PutOnly {
    url: String,
}

impl PutOnly {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                Self::serve(BufReader::new(stream.unwrap()));
            }
        });
        Self { url }
    }

    /// Answers one request; the client makes a connection each.
    fn serve(mut stream: BufReader<TcpStream>) {
        let (mut first, mut bytes) = (String::new(), 0);
        stream.read_line(&mut first).unwrap();
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            bytes = line.strip_prefix("content-length: ").map_or(bytes, |n| n.parse().unwrap());
        }
        stream.read_exact(&mut vec![0; bytes]).unwrap();
        let status = if first.starts_with("PUT ") { "200 OK" } else { "403 Forbidden" };
        let answer = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        stream.get_mut().write_all(answer.as_bytes()).unwrap();
    }
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
        let is_url = url.starts_with("s3://no-such");
        let kind = if is_url { FailureKind::Missing } else { FailureKind::Refused };
        assert_eq!(failure.kind(), kind, "{failure:?}");
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
