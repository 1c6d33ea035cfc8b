//! A directory that version 0.1.0 wrote (`tests/data/bucket-of-0.1.0`) is taken over by renaming.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inlet_adapters::bucket::DirectoryBucket;
use inlet_core::backup::{BackupPlace, verify_backup};
use inlet_core::document::Timestamp;
use inlet_core::ports::{Bucket, BucketKey, Clock, Finished, PartNumber, Precondition, UploadId};
use inlet_testkit::clock::ManualClock;
use tempfile::TempDir;

/// Every object that version 0.1.0 put, with its type and its SHA-256; an object in parts had
/// none of its bytes.
const OBJECTS: [(&str, &str, &str); 9] = [
    ("backups/2026-W47.json", "application/json", "f"),
    ("backups/2026-W47.ndjson.zst", "application/zstd", "3b554f98"),
    ("files/a", "text/x-a", "042b0fa1"),
    ("files/a b/ü+%2F.bin", "application/x-odd", "990cb8eb"),
    ("files/a/b", "text/x-ab", "286c3a10"),
    ("files/in/parts.mp4", "video/mp4", ""),
    ("files/report", "application/pdf", "38523c08"),
    ("summaries/2026-W47.html", "text/html; charset=utf-8", "f"),
    ("summaries/2026-W47.json", "application/json", "f"),
];
const UPLOAD: &str = "c1bb45d6c82acbf0f9e9c4df6e39ac0e";
/// When the upload of the test data was begun.
const BEGUN_US: i64 = 1_796_003_313_000_000;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) =
            entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        match entry.is_dir() {
            true => copy(&entry, &target),
            false => fs::copy(&entry, &target).map(drop).unwrap(),
        }
    }
}

/// A fresh copy of the directory of version 0.1.0.
fn old() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/bucket-of-0.1.0");
    copy(&data, directory.path());
    // Git keeps no empty directory.
    fs::create_dir_all(directory.path().join("tmp")).unwrap();
    directory
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::new(Timestamp::from_micros(BEGUN_US)))
}

fn key(name: &str) -> BucketKey {
    BucketKey::new(name).unwrap()
}

/// Every file under `directory`, with its inode.
fn files(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => {
                let inode = fs::metadata(&path).unwrap().ino();
                found.insert(path, inode);
            }
        }
    }
    found
}

/// Asserts that all of it is there, and nothing of the old layout.
async fn assert_taken_over(root: &Path) {
    let bucket = DirectoryBucket::open(root, clock()).unwrap();
    let listed = bucket.list("", None, 99).await.unwrap();
    let keys: Vec<_> = listed.iter().map(|meta| meta.key.as_str()).collect();
    assert_eq!(keys, OBJECTS.map(|(key, ..)| key));
    for (meta, (name, content_type, sha256)) in listed.iter().zip(OBJECTS) {
        assert_eq!(meta.content_type, content_type, "{name}");
        match sha256 {
            "f" => assert_eq!(meta.sha256.len(), 64, "{name}"),
            known => assert!(meta.sha256.starts_with(known), "{name}: {}", meta.sha256),
        }
        assert!(sha256.is_empty() == meta.sha256.is_empty(), "{name}: {}", meta.sha256);
    }
    let mut names: Vec<_> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, [".inlet", "backups", "files", "summaries"]);
    let place = BackupPlace::of_week("2026-W47".parse().unwrap());
    verify_backup(&bucket, &place).await.unwrap();
    let (k, upload) = (key("files/unfinished"), UploadId::new(UPLOAD).unwrap());
    let parts = bucket.parts(&k, &upload).await.unwrap().expect("the upload goes on");
    assert_eq!((parts.len(), parts[0].bytes), (1, 20));
    let one = [PartNumber::new(1).unwrap()];
    let finished = bucket.finish_upload(&k, &upload, &one, &Precondition::None).await.unwrap();
    assert!(matches!(finished, Finished::Object(meta) if meta.content_type == "x/unfinished"));
}

#[tokio::test]
async fn a_directory_of_the_version_before_is_taken_over_without_copying_a_byte() {
    let directory = old();
    let root = directory.path();
    let mut before: Vec<u64> = files(root).into_values().collect();
    drop(DirectoryBucket::open(root, clock()).unwrap());
    let mut after: Vec<u64> = files(root)
        .into_iter()
        .filter(|(path, _)| *path != root.join(".inlet/FORMAT"))
        .map(|(_, inode)| inode)
        .collect();
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after, "every file is the one that was there");
    assert_taken_over(root).await;
}

/// Every state that a crash can leave: some objects moved, then some metadata, then the uploads.
#[tokio::test]
async fn a_take_over_that_was_interrupted_goes_on_wherever_it_stopped() {
    let steps = files(old().path()).len();
    for done in 0..=steps {
        let directory = old();
        let root = directory.path();
        let mut left = done;
        let mut step = |from: PathBuf, to: PathBuf| {
            if left > 0 && from.exists() {
                left -= 1;
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::rename(from, to).unwrap();
            }
        };
        for (name, ..) in OBJECTS {
            let depth = name.split('/').count().to_string();
            let to = match name {
                "files/a/b" => root.join(".inlet/beside/3/files/a/b"),
                name => root.join(name),
            };
            step(root.join(&depth).join(name), to);
        }
        for (name, ..) in OBJECTS {
            let depth = name.split('/').count().to_string();
            let from = root.join("meta").join(&depth).join(name);
            step(from, root.join(".inlet/meta").join(&depth).join(name));
        }
        step(root.join("uploads").join(UPLOAD), root.join(".inlet/uploads").join(UPLOAD));
        assert_taken_over(root).await;
    }
}

/// A process of version 0.1.0 that still runs goes on putting where it always did.
#[tokio::test]
async fn objects_that_the_version_before_puts_meanwhile_are_taken_over_at_the_next_start() {
    let directory = old();
    let root = directory.path();
    drop(DirectoryBucket::open(root, clock()).unwrap());
    let late = old();
    for place in ["2/files/report", "meta/2/files/report"] {
        fs::create_dir_all(root.join(place).parent().unwrap()).unwrap();
        fs::copy(late.path().join(place), root.join(place)).unwrap();
    }
    fs::create_dir(root.join("tmp")).unwrap();
    // The one that was there is older: it was put before the process wrote again.
    let written = fs::File::options().write(true).open(root.join("files/report")).unwrap();
    written.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_taken_over(root).await;
}

#[tokio::test]
async fn an_empty_directory_of_the_version_before_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["tmp", "meta"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let bucket = DirectoryBucket::open(directory.path(), clock()).unwrap();
    assert!(bucket.list("", None, 9).await.unwrap().is_empty());
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".inlet"]);
}
