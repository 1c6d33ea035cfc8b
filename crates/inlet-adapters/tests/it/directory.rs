use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_adapters::bucket::DirectoryBucket;
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    Bucket, BucketKey, ByteStream, Finished, FixedBytes, PartNumber, Precondition, SystemClock,
    UploadId,
};
use inlet_testkit::clock::ManualClock;
use inlet_testkit::contract::bucket::BucketFixture;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

struct Directory {
    directory: TempDir,
    clock: Arc<ManualClock>,
}

impl Default for Directory {
    fn default() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), clock: Arc::default() }
    }
}

impl Directory {
    fn root(&self) -> PathBuf {
        self.directory.path().join("bucket")
    }

    fn bucket(&self) -> DirectoryBucket {
        DirectoryBucket::open(self.root(), self.clock.clone()).unwrap()
    }

    fn object(&self, key: &str) -> PathBuf {
        self.root().join(key)
    }

    fn own(&self, name: &str) -> PathBuf {
        self.root().join(".inlet").join(name)
    }

    fn metadata(&self, key: &str) -> PathBuf {
        self.own("meta").join(key.split('/').count().to_string()).join(key)
    }
}

#[async_trait]
impl BucketFixture for Directory {
    async fn open(&self) -> Arc<dyn Bucket> {
        Arc::new(self.bucket())
    }

    /// Unfinished files and uploads, metadata of no object, and empty directories of keys.
    async fn remains(&self) -> Vec<String> {
        let mut remains = Vec::new();
        look(&self.root(), &self.root(), &mut remains);
        remains
    }
}

fn look(root: &Path, directory: &Path, remains: &mut Vec<String>) {
    let entries: Vec<_> = fs::read_dir(directory).unwrap().map(Result::unwrap).collect();
    let own = root.join(".inlet");
    let stays = [root.to_owned(), own.join("tmp"), own.join("meta")];
    if entries.is_empty() && !stays.contains(&directory.to_owned()) {
        remains.push(directory.display().to_string());
    }
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            look(root, &path, remains);
            continue;
        }
        // Metadata lies under the number of segments, as what lies beside does.
        let orphan = path.strip_prefix(own.join("meta")).is_ok_and(|metadata| {
            let plain: PathBuf = metadata.iter().skip(1).collect();
            !root.join(plain).is_file() && !own.join("beside").join(metadata).is_file()
        });
        let unfinished = ["tmp", "uploads"].iter().any(|place| path.starts_with(own.join(place)));
        if orphan || unfinished {
            remains.push(path.display().to_string());
        }
    }
}

mod with_a_clock_that_stands_still {
    inlet_testkit::bucket_contract!(super::Directory::default());
}

fn key(name: &str) -> BucketKey {
    BucketKey::new(name).unwrap()
}

async fn put(bucket: &DirectoryBucket, name: &str, body: &str) {
    let mut stream = FixedBytes::new(body.to_owned());
    bucket.put(&key(name), "text/plain", &mut stream).await.unwrap();
}

async fn text(bucket: &DirectoryBucket, name: &str) -> Option<String> {
    let mut object = bucket.get(&key(name), None).await.unwrap()?;
    let mut bytes = Vec::new();
    while let Some(piece) = object.body.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    Some(String::from_utf8(bytes).unwrap())
}

#[tokio::test]
async fn an_object_is_a_plain_file_under_its_own_name() {
    let directory = Directory::default();
    put(&directory.bucket(), "summaries/2026-W47.html", "<p>").await;
    let file = directory.root().join("summaries/2026-W47.html");
    assert_eq!(fs::read_to_string(file).unwrap(), "<p>");
    let mut names: Vec<_> =
        fs::read_dir(directory.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort_unstable();
    assert_eq!(names, [".inlet", "summaries"]);
}

/// One lies under its own name, the other beside; a reader knows nothing of it.
#[tokio::test]
async fn an_object_whose_name_is_taken_lies_beside_until_the_name_is_free() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "a/b", "first").await;
    put(&bucket, "a", "beside").await;
    put(&bucket, "a/b/c", "beside, too").await;
    assert_eq!(fs::read_to_string(directory.own("beside/1/a")).unwrap(), "beside");
    put(&bucket, "a", "replaced").await;
    for (name, body) in [("a", "replaced"), ("a/b", "first"), ("a/b/c", "beside, too")] {
        assert_eq!(text(&bucket, name).await.as_deref(), Some(body), "{name}");
    }
    let listed = bucket.list("a", None, 9).await.unwrap();
    let keys: Vec<_> = listed.iter().map(|meta| meta.key.as_str()).collect();
    assert_eq!(keys, ["a", "a/b", "a/b/c"]);
    bucket.delete(&key("a/b")).await.unwrap();
    put(&bucket, "a/b/c", "under its own name").await;
    assert_eq!(fs::read_to_string(directory.object("a/b/c")).unwrap(), "under its own name");
    assert!(!directory.own("beside/3").exists());
    for name in ["a", "a/b/c"] {
        bucket.delete(&key(name)).await.unwrap();
    }
    assert_eq!(directory.remains().await, Vec::<String>::new());
}

/// Large ones are written past the page cache, by whole blocks, and what is left otherwise.
#[tokio::test]
async fn an_object_of_any_size_is_there_to_its_last_byte() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    for bytes in [0, 1, 4_095, 524_287, 524_288, 1_048_576, 1_048_577, 3_149_823, 4_194_304] {
        let mut body = vec![0; bytes];
        getrandom::fill(&mut body).unwrap();
        let mut pieces = Pieces(body.chunks(100_003).map(Bytes::copy_from_slice).collect());
        let meta = bucket.put(&key("some"), "text/plain", &mut pieces).await.unwrap();
        let expected = hex(&Sha256::digest(&body));
        assert_eq!((meta.bytes, &meta.sha256), (bytes as u64, &expected));
        assert!(fs::read(directory.object("some")).unwrap() == body, "{bytes} bytes");
        assert_eq!(bucket.head(&key("some")).await.unwrap(), Some(meta));
    }
    assert_eq!(directory.remains().await, Vec::<String>::new());
}

struct Pieces(VecDeque<Bytes>);

#[async_trait]
impl ByteStream for Pieces {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        self.0.pop_front().map(Ok)
    }
}

#[tokio::test]
async fn what_a_crashed_put_left_is_removed_at_the_next_start() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    let unfinished = directory.own("tmp/0011223344556677");
    fs::write(&unfinished, "half an obj").unwrap();
    drop(bucket);
    put(&directory.bucket(), "a", "1").await;
    assert!(!unfinished.exists());
    assert_eq!(directory.remains().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_that_nobody_finished_in_seven_days_is_removed() {
    const DAY: i64 = 24 * 3_600 * 1_000_000;
    let directory = Directory::default();
    let bucket = directory.bucket();
    let one = PartNumber::new(1).unwrap();
    let old = bucket.begin_upload(&key("old"), "x/y").await.unwrap();
    bucket.put_part(&key("old"), &old, one, &mut FixedBytes::new("x")).await.unwrap();
    directory.clock.advance(4 * DAY);
    let young = bucket.begin_upload(&key("young"), "x/y").await.unwrap();
    assert!(bucket.parts(&key("old"), &old).await.unwrap().is_some());
    directory.clock.advance(4 * DAY);
    let bucket = directory.bucket();
    assert_eq!(bucket.parts(&key("old"), &old).await.unwrap(), None);
    assert!(bucket.parts(&key("young"), &young).await.unwrap().is_some());
    bucket.abandon_upload(&key("young"), &young).await.unwrap();
    assert_eq!(directory.remains().await, Vec::<String>::new());
}

#[tokio::test]
async fn of_two_files_of_a_part_that_a_crash_left_one_is_taken() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    let (k, one) = (key("k"), PartNumber::new(1).unwrap());
    let upload = bucket.begin_upload(&k, "x/y").await.unwrap();
    bucket.put_part(&k, &upload, one, &mut FixedBytes::new("first")).await.unwrap();
    let before = directory.own("uploads").join(upload.as_str());
    let first = fs::read_dir(&before)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("00001-"))
        .unwrap();
    let kept = directory.directory.path().join("first");
    fs::copy(&first, &kept).unwrap();
    bucket.put_part(&k, &upload, one, &mut FixedBytes::new("second")).await.unwrap();
    fs::rename(&kept, &first).unwrap();
    assert_eq!(bucket.parts(&k, &upload).await.unwrap().unwrap().len(), 1);
    let finished = bucket.finish_upload(&k, &upload, &[one], &Precondition::None).await.unwrap();
    let Finished::Object(meta) = finished else { panic!("{finished:?}") };
    let body = text(&bucket, "k").await.unwrap();
    assert!(body == "first" || body == "second", "{body}");
    assert_eq!(meta.bytes, body.len() as u64);
    assert_eq!(directory.remains().await, Vec::<String>::new());
}

#[tokio::test]
async fn what_another_process_is_putting_is_not_removed() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    let in_use = fs::File::open(directory.own("tmp")).unwrap();
    in_use.lock_shared().unwrap();
    let unfinished = directory.own("tmp/0011223344556677");
    fs::write(&unfinished, "half an obj").unwrap();
    drop(bucket);
    directory.bucket();
    assert!(unfinished.exists());
    drop(in_use);
    directory.bucket();
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn a_crash_between_metadata_and_object_leaves_the_old_object_with_its_own() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    for (old, new) in [("old", "the new one"), ("one", "two")] {
        put(&bucket, "a/b", old).await;
        let before = bucket.head(&key("a/b")).await.unwrap().unwrap();
        let kept = directory.directory.path().join("kept");
        fs::rename(directory.object("a/b"), &kept).unwrap();
        fs::copy(&kept, directory.object("a/b")).unwrap();
        fs::File::options()
            .write(true)
            .open(directory.object("a/b"))
            .unwrap()
            .set_modified(fs::metadata(&kept).unwrap().modified().unwrap())
            .unwrap();
        put(&bucket, "a/b", new).await;
        // As if the crash had come before the rename: the old file is still in its place.
        fs::rename(&kept, directory.object("a/b")).unwrap();
        let bucket = directory.bucket();
        assert_eq!(bucket.head(&key("a/b")).await.unwrap().unwrap(), before);
        assert_eq!(text(&bucket, "a/b").await.as_deref(), Some(old));
        put(&bucket, "a/b", new).await;
        let after = bucket.head(&key("a/b")).await.unwrap().unwrap();
        assert_ne!(after.sha256, before.sha256);
        assert_eq!(text(&bucket, "a/b").await.as_deref(), Some(new));
        bucket.delete(&key("a/b")).await.unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_lost_its_times_is_read_all_the_same() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "a", "one").await;
    // Replaced by one of the same size, so that only the bytes tell which it is.
    put(&bucket, "a", "two").await;
    let put = bucket.head(&key("a")).await.unwrap().unwrap();
    let file = fs::File::options().write(true).open(directory.object("a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(bucket.head(&key("a")).await.unwrap().unwrap(), put);
    assert_eq!(text(&bucket, "a").await.as_deref(), Some("two"));
}

#[tokio::test]
async fn an_object_that_was_changed_by_hand_is_damage_and_can_be_put_again() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "a", "one").await;
    fs::write(directory.object("a"), "longer than it was").unwrap();
    let failure = bucket.get(&key("a"), None).await.err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Damaged);
    assert!(failure.to_string().ends_with("bucket/a"), "{failure}");
    let listed = bucket.list("", None, 9).await.unwrap();
    assert_eq!((listed[0].bytes, listed[0].sha256.as_str()), (18, ""), "it is listed as it is");
    put(&bucket, "a", "again").await;
    assert_eq!(text(&bucket, "a").await.as_deref(), Some("again"));
}

#[tokio::test]
async fn a_file_put_there_by_hand_is_an_object_whose_type_follows_from_its_name() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "files/b", "1").await;
    fs::write(directory.object("files/a.pdf"), "by hand").unwrap();
    fs::create_dir_all(directory.object("backups")).unwrap();
    fs::write(directory.object("backups/2026-W47.json"), "{}").unwrap();
    // A file system of its own has this, and only root may look into it.
    fs::create_dir(directory.object("lost+found")).unwrap();
    fs::write(directory.object("lost+found/#12"), "a remnant").unwrap();
    let listed = bucket.list("", None, 9).await.unwrap();
    let told: Vec<_> =
        listed.iter().map(|meta| (meta.key.as_str(), meta.content_type.as_str())).collect();
    let expected = [
        ("backups/2026-W47.json", "application/json"),
        ("files/a.pdf", "application/pdf"),
        ("files/b", "text/plain"),
    ];
    assert_eq!(told, expected);
    assert_eq!(text(&bucket, "files/a.pdf").await.as_deref(), Some("by hand"));
    let there = bucket.head(&key("files/a.pdf")).await.unwrap().unwrap();
    assert_eq!((there.bytes, there.sha256.as_str()), (7, ""));
    put(&bucket, "files/a.pdf", "by Inlet").await;
    let there = bucket.head(&key("files/a.pdf")).await.unwrap().unwrap();
    assert_eq!((there.content_type.as_str(), there.sha256.len()), ("text/plain", 64));
    bucket.delete(&key("backups/2026-W47.json")).await.unwrap();
    assert!(!directory.object("backups").exists());
}

#[tokio::test]
async fn a_file_in_the_way_that_is_no_object_of_ours_is_an_error_and_hides_nothing() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    fs::write(directory.object("backups"), "in the way").unwrap();
    let k = key("backups/2026-W47.json");
    let failure = bucket.put(&k, "x/y", &mut FixedBytes::new("{}")).await.unwrap_err();
    assert!(failure.chain().contains("backups"), "{failure:?}");
    assert_eq!(bucket.head(&k).await.unwrap(), None);
    fs::remove_file(directory.object("backups")).unwrap();
    put(&bucket, "backups/2026-W47.json", "{}").await;
    assert!(directory.object("backups/2026-W47.json").is_file());
}

/// As `cp -r bucket/* elsewhere` leaves it.
#[tokio::test]
async fn a_copy_without_the_metadata_has_all_objects() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "files/a/b.json", "{}").await;
    fs::remove_dir_all(directory.root().join(".inlet")).unwrap();
    let bucket = directory.bucket();
    assert_eq!(text(&bucket, "files/a/b.json").await.as_deref(), Some("{}"));
    let listed = bucket.list("files/", None, 9).await.unwrap();
    assert_eq!(listed[0].content_type, "application/json");
}

#[tokio::test]
async fn metadata_that_can_not_be_read_is_damage_and_the_object_can_be_put_again() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "a", "one").await;
    fs::write(directory.metadata("a"), "no JSON").unwrap();
    let failure = bucket.head(&key("a")).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged, "{failure}");
    put(&bucket, "a", "again").await;
    assert_eq!(text(&bucket, "a").await.as_deref(), Some("again"));
}

#[tokio::test]
async fn of_two_puts_at_once_where_nothing_was_one_succeeds() {
    let directory = Directory::default();
    let (one, other) = (directory.bucket(), directory.bucket());
    for n in 0..20 {
        let (key, absent) = (key(&format!("files/{n}")), Precondition::Absent);
        let (mut first, mut second) = (FixedBytes::new("first"), FixedBytes::new("second"));
        let (first, second) = tokio::join!(
            one.put_if(&key, "text/plain", &mut first, &absent),
            other.put_if(&key, "text/plain", &mut second, &absent)
        );
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_ne!(first.is_some(), second.is_some(), "{first:?} {second:?}");
        assert_eq!(one.head(&key).await.unwrap(), first.or(second));
    }
}

#[tokio::test]
async fn a_bucket_of_a_newer_layout_is_refused_and_left_alone() {
    let directory = Directory::default();
    put(&directory.bucket(), "a", "one").await;
    fs::write(directory.own("FORMAT"), "3\n").unwrap();
    for opened in [
        DirectoryBucket::open(directory.root(), directory.clock.clone()),
        DirectoryBucket::read_only(directory.root(), directory.clock.clone()),
    ] {
        let failure = opened.err().unwrap();
        assert_eq!(failure.kind(), FailureKind::Refused, "{failure}");
        assert!(failure.chain().contains("its layout is 3, this binary knows 2"), "{failure:?}");
    }
    assert_eq!(fs::read_to_string(directory.object("a")).unwrap(), "one");
}

#[tokio::test]
async fn a_bucket_that_is_only_read_makes_and_changes_nothing() {
    let directory = Directory::default();
    fs::create_dir(directory.root()).unwrap();
    fs::write(directory.root().join("2026-W47.json"), "{}").unwrap();
    let bucket = DirectoryBucket::read_only(directory.root(), directory.clock.clone()).unwrap();
    assert_eq!(text(&bucket, "2026-W47.json").await.as_deref(), Some("{}"));
    assert_eq!(bucket.list("", None, 9).await.unwrap().len(), 1);
    let k = key("2026-W47.json");
    let upload = UploadId::new("0".repeat(32)).unwrap();
    let number = PartNumber::new(1).unwrap();
    let failures = [
        bucket.put(&k, "x/y", &mut FixedBytes::new("x")).await.err(),
        bucket.delete(&k).await.err(),
        bucket.begin_upload(&k, "x/y").await.err(),
        bucket.abandon_upload(&k, &upload).await.err(),
        bucket.finish_upload(&k, &upload, &[number], &Precondition::None).await.err(),
    ];
    for failure in failures {
        assert_eq!(failure.unwrap().kind(), FailureKind::Refused);
    }
    let names: Vec<_> =
        fs::read_dir(directory.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["2026-W47.json"]);
    let missing = DirectoryBucket::read_only(directory.root().join("no"), directory.clock.clone());
    assert!(missing.is_err());
    assert!(!directory.root().join("no").exists());
}

#[tokio::test]
async fn metadata_that_outlived_its_object_harms_nothing() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "a", "one").await;
    fs::remove_file(directory.object("a")).unwrap();
    assert_eq!(bucket.head(&key("a")).await.unwrap(), None);
    assert_eq!(bucket.list("", None, 10).await.unwrap(), []);
    bucket.delete(&key("a")).await.unwrap();
    assert!(!directory.metadata("a").exists());
}

#[tokio::test]
async fn more_objects_than_a_directory_is_read_at_once_are_all_listed() {
    let directory = Directory::default();
    let bucket = directory.bucket();
    put(&bucket, "many/0000", "x").await;
    let (object, metadata) = (directory.object("many/0000"), directory.metadata("many/0000"));
    for n in 1..2_500 {
        let name = format!("many/{n:04}");
        fs::hard_link(&object, directory.object(&name)).unwrap();
        fs::hard_link(&metadata, directory.metadata(&name)).unwrap();
    }
    let all = bucket.list("many/", None, 5_000).await.unwrap();
    assert_eq!(all.len(), 2_500);
    assert!(all.is_sorted_by(|a, b| a.key < b.key));
    let some = bucket.list("many/1", Some(&key("many/1023")), 3).await.unwrap();
    let keys: Vec<_> = some.iter().map(|meta| meta.key.as_str()).collect();
    assert_eq!(keys, ["many/1024", "many/1025", "many/1026"]);
}

#[tokio::test]
async fn puts_and_deletes_side_by_side_never_leave_half_an_object() {
    let directory = Directory::default();
    let (one, other) = (directory.bucket(), directory.bucket());
    let putting = async {
        for n in 0..40 {
            put(&one, "a/b/c", &"x".repeat(n)).await;
        }
    };
    let deleting = async {
        for _ in 0..40 {
            other.delete(&key("a/b/c")).await.unwrap();
        }
    };
    let reading = async {
        for _ in 0..80 {
            if let Some(object) = one.get(&key("a/b/c"), None).await.unwrap() {
                assert!(object.meta.bytes < 40);
            }
        }
    };
    tokio::join!(putting, deleting, reading);
    one.delete(&key("a/b/c")).await.unwrap();
    assert_eq!(directory.remains().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_bucket_in_a_place_that_can_not_be_is_refused_by_name() {
    let directory = Directory::default();
    fs::write(directory.root(), "in the way").unwrap();
    let failure = DirectoryBucket::open(directory.root(), Arc::new(SystemClock)).err().unwrap();
    assert_eq!(failure.kind(), FailureKind::Refused, "{failure}");
    assert!(failure.to_string().contains("bucket"), "{failure}");
}
