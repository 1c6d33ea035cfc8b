use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::{PART_BYTES, S3Bucket};
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{Bucket, BucketKey, ByteRange, ByteStream, FixedBytes};
use inlet_testkit::contract::bucket::BucketFixture;
use inlet_testkit::server::{Server, ServerKind, free_port};
use sha2::{Digest, Sha256};

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

    /// Puts an object of such parts as others would.
    fn put_in_parts(&self, key: &str, sizes: &[usize]) {
        let place = format!("{}/{}/{key}", url(), self.name);
        let begin = ureq::post(format!("{place}?uploads"))
            .header("Authorization", AUTHORIZATION)
            .header("x-amz-checksum-algorithm", "SHA256")
            .header("x-amz-checksum-type", "COMPOSITE");
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
        remains(&self.ask("uploads"), &self.ask("list-type=2"))
    }
}

/// Unfinished uploads, and notes of checksums whose object is not there.
pub(crate) fn remains(uploads: &str, objects: &str) -> Vec<String> {
    let texts = |listed: &str, name: &str| -> Vec<String> {
        let begin = format!("<{name}>");
        let found = listed.split(&begin).skip(1);
        found.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    };
    let keys = texts(objects, "Key");
    let is_note = |key: &&String| key.contains("/.inlet/");
    let hashes: Vec<String> = keys
        .iter()
        .filter(|key| !is_note(key))
        .map(|key| key.strip_prefix("some/prefix/").unwrap().replace("&amp;", "&"))
        .map(|key| hex(&Sha256::digest(key)[..16]))
        .collect();
    let notes = keys.iter().filter(is_note);
    let lost = notes.filter(|key| !hashes.iter().any(|hash| key.ends_with(hash))).cloned();
    texts(uploads, "UploadId").into_iter().chain(lost).collect()
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
async fn a_large_object_goes_in_parts_and_has_the_checksum_of_its_bytes() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    for megabytes in [7, 8, 20, 24] {
        let mut body = Pieces { left: megabytes, fails: false };
        let put = bucket.put(&key("large"), "x/y", &mut body).await.unwrap();
        assert_eq!(put.bytes, (megabytes as u64) << 20);
        let body = vec![7; megabytes << 20];
        assert_eq!(put.sha256, hex(&Sha256::digest(&body)), "{megabytes} MiB");
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

/// Replaced by others with bytes of the same size, as by a disk that gives what it likes.
#[tokio::test]
async fn bytes_that_are_not_those_that_were_put_are_damage() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    let mut body = Pieces { left: 17, fails: false };
    let put = bucket.put(&key("files/good"), "x/y", &mut body).await.unwrap();
    let object = bucket.get(&key("files/good"), None).await.unwrap().unwrap();
    assert_eq!(object.meta, put);
    assert_eq!(whole(object.body).await.unwrap(), 17 << 20);
    // The note is made to tell of other bytes.
    let noted = fixture.ask("list-type=2");
    let note = noted.split("<Key>some/prefix/files/.inlet/").nth(1).unwrap();
    let place = format!(
        "{}/{}/some/prefix/files/.inlet/{}",
        url(),
        fixture.name,
        note.split('<').next().unwrap()
    );
    let mut said = ureq::get(&place).header("Authorization", AUTHORIZATION).call().unwrap();
    let said = said.body_mut().read_to_string().unwrap();
    let other = said.replace(&put.sha256, &hex(&Sha256::digest("other bytes")));
    assert_ne!(said, other);
    ureq::put(&place).header("Authorization", AUTHORIZATION).send(&other).unwrap();
    let object = bucket.get(&key("files/good"), None).await.unwrap().unwrap();
    let failure = whole(object.body).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged, "{failure:?}");
}

/// Also under a key that had an object of ours in parts: its note is of another tag.
#[tokio::test]
async fn an_object_in_parts_that_others_put_has_no_checksum_and_is_read() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    let mut body = Pieces { left: 9, fails: false };
    bucket.put(&key("files/theirs"), "x/y", &mut body).await.unwrap();
    fixture.put_in_parts("some/prefix/files/theirs", &[5 << 20, 4 << 20]);
    let object = bucket.get(&key("files/theirs"), None).await.unwrap().unwrap();
    assert_eq!((object.meta.bytes, object.meta.sha256.as_str()), (9 << 20, ""));
    assert_eq!(whole(object.body).await.unwrap(), 9 << 20);
}

/// More notes than fit into a page of the list lie before the objects.
#[tokio::test]
async fn notes_of_checksums_hide_no_objects() {
    let fixture = Fixture::new();
    let bucket = fixture.bucket().await;
    for n in 0..12 {
        let place = format!("{}/{}/some/prefix/files/.inlet/{n}", url(), fixture.name);
        ureq::put(place).header("Authorization", AUTHORIZATION).send("{}").unwrap();
    }
    for name in ["files/a", "files/b"] {
        bucket.put(&key(name), "x/y", &mut FixedBytes::new("x")).await.unwrap();
    }
    let first = bucket.list("files/", None, 1).await.unwrap();
    assert_eq!(first[0].key, key("files/a"));
    let rest = bucket.list("files/", Some(&first[0].key), 5).await.unwrap();
    assert_eq!(rest.iter().map(|meta| meta.key.clone()).collect::<Vec<_>>(), [key("files/b")]);
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
