//! Backup and restore: every byte comes back, and what is not whole is refused before anything
//! is put.

use std::error::Error;

use bytes::Bytes;
use inlet_core::backup::{
    BACKUP_FORMAT, BackupFault, BackupManifest, BackupPlace, RestoreInto, RestoreReport,
    find_backups, prune_backups, restore, verify_backup, write_backup,
};
use inlet_core::calendar::Calendar;
use inlet_core::dead_letter::{Cause, DeadLetter, DeadLetterFilter};
use inlet_core::document::{Document, IdempotencyKey, StoredDocument, StreamName, Timestamp, hex};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;
use inlet_core::ports::{PageQuery, Store};
use inlet_testkit::memory::MemoryStore;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha256};

use crate::double::{PlainBucket, PlainStore};

const NOW: Timestamp = Timestamp::from_micros(1_795_500_000_123_456);
const LATER: Timestamp = Timestamp::from_micros(1_795_600_000_000_000);
const OBJECT: &str = "backups/2026-W47.ndjson.zst";
const MANIFEST: &str = "backups/2026-W47.json";

fn place() -> BackupPlace {
    BackupPlace::of_week("2026-W47".parse().unwrap())
}

fn id(n: u64) -> DocumentId {
    let mut bytes = [0xab; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    DocumentId::from_bytes(bytes)
}

fn document(n: u64, body: impl Into<Bytes>) -> Document {
    Document {
        id: id(n),
        stream: StreamName::new(if n.is_multiple_of(3) { "orders" } else { "clicks" }).unwrap(),
        key: n.is_multiple_of(5).then(|| IdempotencyKey::new(&format!("k \"{n}\\~")).unwrap()),
        received: Timestamp::from_micros(1_795_000_000_000_000 + i64::try_from(n).unwrap()),
        generation: Some(0),
        body: body.into(),
    }
}

fn letter(n: u64, body: impl Into<Bytes>, cause: Cause) -> DeadLetter {
    let Document { id, stream, key, received, body, .. } = document(n, body);
    DeadLetter {
        id,
        stream,
        key,
        received,
        generation: Some(0),
        body,
        cause,
        attempts: 7,
        died: Timestamp::from_micros(1_795_000_000_999_999),
        redriven: n.is_multiple_of(2).then_some(LATER),
    }
}

/// A store with documents of all kinds and sizes, and dead letters with any bytes.
fn sample(documents: u64, seed: u64) -> PlainStore {
    let mut rng = StdRng::seed_from_u64(seed);
    let store = PlainStore::default();
    for n in 0..documents {
        let text = match n % 7 {
            0 => format!("{{\"n\":{n}}}"),
            1 => " \r\n\t[1,\n\t2 ]\n ".to_owned(),
            2 => format!("\"Zürich 東京 \u{1f980} \\u0000 \u{2028} \u{7f} {n}\""),
            3 => "1e400".to_owned(),
            4 => format!("{{\"quoted\":\"\\\"\\\\{n}\"}}"),
            5 => format!("\"{}\"", "x".repeat(rng.random_range(0..3_000))),
            _ => format!(
                "[{}]",
                (0..40).map(|_| rng.random::<u32>().to_string() + ",").collect::<String>() + "0"
            ),
        };
        let stored = Timestamp::from_micros(1_795_000_100_000_000);
        store
            .documents
            .lock()
            .unwrap()
            .push(StoredDocument { document: document(n, text), stored });
    }
    let any: Vec<u8> = (0..=255).collect();
    store.dead.lock().unwrap().extend([
        letter(900_001, any, Cause::Undecodable("record is cut".to_owned())),
        letter(900_002, "", Cause::Undecodable(String::new())),
        letter(900_003, "{\"a\":1}", Cause::Refused("too \"large\"\n".to_owned())),
        letter(1, "another body", Cause::KeyConflict),
    ]);
    store
}

async fn restored(
    bucket: &PlainBucket,
    store: &PlainStore,
    into: RestoreInto,
) -> Result<RestoreReport, Failure> {
    restore(bucket, &place(), store, &Calendar::utc(), LATER, into).await
}

fn fault(failure: &Failure) -> &BackupFault {
    failure.source().and_then(|source| source.downcast_ref()).expect("a refusal names its fault")
}

/// Restores into an empty store, and asserts that this is refused with nothing put.
async fn refusal(bucket: &PlainBucket) -> BackupFault {
    let store = PlainStore::default();
    let failure = restored(bucket, &store, RestoreInto::Empty).await.unwrap_err();
    assert!(store.documents.lock().unwrap().is_empty(), "something was put");
    assert!(store.dead.lock().unwrap().is_empty(), "something was put");
    assert!(failure.hint_text().is_some());
    fault(&failure).clone()
}

async fn backed_up(documents: u64) -> (PlainStore, PlainBucket, BackupManifest) {
    let (store, bucket) = (sample(documents, 1), PlainBucket::default());
    let manifest = write_backup(&store, &bucket, NOW, &place()).await.unwrap();
    (store, bucket, manifest)
}

/// Puts `lines`, compressed, as the object, with a manifest that is true of it.
fn forge(bucket: &PlainBucket, lines: &str, documents: u64, dead_letters: u64) {
    let object = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    forge_object(bucket, &object, documents, dead_letters);
}

fn forge_object(bucket: &PlainBucket, object: &[u8], documents: u64, dead_letters: u64) {
    let manifest = BackupManifest {
        format: BACKUP_FORMAT,
        object: OBJECT.to_owned(),
        made: NOW,
        documents,
        dead_letters,
        body_bytes: 0,
        bytes: object.len() as u64,
        sha256: hex(&Sha256::digest(object)),
    };
    bucket.set(MANIFEST, serde_json::to_vec(&manifest).unwrap());
    bucket.set(OBJECT, object.to_vec());
}

const HEADER: &str = "{\"kind\":\"inlet-backup\",\"format\":1,\"made\":\"2026-11-23T06:00:00Z\"}\n";

#[tokio::test]
async fn every_document_and_dead_letter_comes_back_byte_for_byte() {
    let (store, bucket, manifest) = backed_up(2_500).await;
    assert_eq!((manifest.documents, manifest.dead_letters), (2_500, 4));
    assert_eq!(*bucket.puts.lock().unwrap(), [OBJECT, MANIFEST], "the manifest is put last");
    let again = PlainStore::default();
    let report = restored(&bucket, &again, RestoreInto::Empty).await.unwrap();
    assert_eq!(report, RestoreReport { stored: 2_500, dead_letters: 4, ..Default::default() });
    assert_eq!(again.by_id(), store.by_id());
    assert_eq!(*again.dead.lock().unwrap(), *store.dead.lock().unwrap());
    let order = |store: &PlainStore| {
        let documents = store.documents.lock().unwrap();
        documents.iter().map(|stored| stored.document.id).collect::<Vec<_>>()
    };
    assert_eq!(order(&again), order(&store));
}

#[tokio::test]
async fn the_manifest_is_true_of_the_object() {
    let (store, bucket, manifest) = backed_up(300).await;
    let object = bucket.bytes(OBJECT);
    assert_eq!(manifest.bytes, object.len() as u64);
    assert_eq!(manifest.sha256, hex(&Sha256::digest(&object)));
    let bodies =
        store.documents.lock().unwrap().iter().map(|of| of.document.body.len()).sum::<usize>()
            + store.dead.lock().unwrap().iter().map(|letter| letter.body.len()).sum::<usize>();
    assert_eq!(manifest.body_bytes, bodies as u64);
    let read: BackupManifest = serde_json::from_slice(&bucket.bytes(MANIFEST)).unwrap();
    assert_eq!(read, manifest);
    assert_eq!(verify_backup(&bucket, &place()).await.unwrap(), manifest);
    assert_eq!((place().manifest.as_str(), place().object.as_str()), (MANIFEST, OBJECT));
}

#[tokio::test]
async fn lines_are_as_documented() {
    let (_, bucket, _) = backed_up(3).await;
    let plain = zstd::decode_all(&bucket.bytes(OBJECT)[..]).unwrap();
    let lines: Vec<serde_json::Value> = std::str::from_utf8(&plain)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    let letter = "dead_letter";
    let document = "document";
    assert_eq!(
        kinds,
        ["inlet-backup", letter, letter, letter, letter, document, document, document, "end"]
    );
    assert_eq!(lines[0]["format"], 1);
    assert_eq!(lines[1]["body_hex"].as_str().unwrap().len(), 512);
    assert_eq!(lines[1]["cause"], "undecodable");
    assert!(lines[1].get("body").is_none() && lines[1].get("redriven").is_none());
    assert_eq!(lines[2]["body"], "");
    assert_eq!(lines[5]["body"], "{\"n\":0}");
    assert_eq!(lines[5]["stream"], "orders");
    assert_eq!(lines[5]["key"], "k \"0\\~");
    assert!(lines[6].get("key").is_none());
    assert_eq!(lines[8]["documents"], 3);
    assert!(plain.ends_with(b"}\n"));
}

#[tokio::test]
async fn an_empty_store_has_a_backup_too() {
    let bucket = PlainBucket::default();
    write_backup(&PlainStore::default(), &bucket, NOW, &place()).await.unwrap();
    let store = PlainStore::default();
    let report = restored(&bucket, &store, RestoreInto::Empty).await.unwrap();
    assert_eq!(report, RestoreReport::default());
}

#[tokio::test]
async fn a_backup_cut_anywhere_is_refused() {
    let (_, bucket, _) = backed_up(40).await;
    let whole = bucket.bytes(OBJECT);
    for length in 0..whole.len() {
        bucket.set(OBJECT, whole.slice(..length));
        let fault = refusal(&bucket).await;
        let expected = whole.len() as u64;
        assert_eq!(fault, BackupFault::SizeDiffers { expected, found: length as u64 });
    }
}

#[tokio::test]
async fn a_cut_that_the_manifest_agrees_with_is_refused_all_the_same() {
    let (_, bucket, _) = backed_up(40).await;
    let whole = bucket.bytes(OBJECT);
    for length in 0..whole.len() {
        forge_object(&bucket, &whole[..length], 40, 4);
        let fault = refusal(&bucket).await;
        assert!(matches!(fault, BackupFault::CompressionInvalid(_)), "{length}: {fault}");
    }
    let longer = [&whole[..], b"\n"].concat();
    forge_object(&bucket, &longer, 40, 4);
    assert!(matches!(refusal(&bucket).await, BackupFault::CompressionInvalid(_)));
}

#[tokio::test]
async fn every_flipped_byte_is_found() {
    let (_, bucket, _) = backed_up(40).await;
    let whole = bucket.bytes(OBJECT);
    for at in 0..whole.len() {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        bucket.set(OBJECT, flipped);
        let fault = refusal(&bucket).await;
        assert!(matches!(fault, BackupFault::ChecksumDiffers { .. }), "{at}: {fault}");
    }
}

#[tokio::test]
async fn a_missing_part_is_named() {
    let (_, bucket, _) = backed_up(4).await;
    let manifest = bucket.bytes(MANIFEST);
    bucket.remove(MANIFEST);
    assert_eq!(refusal(&bucket).await, BackupFault::ManifestMissing(MANIFEST.to_owned()));
    bucket.set(MANIFEST, manifest);
    bucket.remove(OBJECT);
    assert_eq!(refusal(&bucket).await, BackupFault::ObjectMissing(OBJECT.to_owned()));
    for foreign in ["", "{}", "[]", "{\"format\":1}", "no JSON"] {
        bucket.set(MANIFEST, foreign);
        let fault = refusal(&bucket).await;
        assert!(matches!(fault, BackupFault::ManifestInvalid(_)), "{foreign}: {fault}");
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number() {
    let (_, bucket, _) = backed_up(4).await;
    let newer = BackupFault::FormatNewer { found: 2, known: 1 };
    bucket.set(MANIFEST, "{\"format\":2,\"parts\":[]}");
    assert_eq!(refusal(&bucket).await, newer);
    forge(&bucket, &HEADER.replace("\"format\":1", "\"format\":2"), 0, 0);
    assert_eq!(refusal(&bucket).await, newer);
}

#[tokio::test]
async fn a_foreign_or_incomplete_object_is_refused_by_its_line() {
    let bucket = PlainBucket::default();
    let document = "{\"kind\":\"document\",\"id\":\"abababab-abab-abab-0000-000000000001\",\
                    \"stream\":\"orders\",\"received\":\"2026-11-20T00:00:00Z\",\
                    \"stored\":\"2026-11-20T00:00:00Z\",\"body\":\"1\"}\n";
    let end = "{\"kind\":\"end\",\"documents\":1,\"dead_letters\":0}\n";
    let whole = [HEADER, document, end].concat();
    forge(&bucket, &whole, 1, 0);
    let store = PlainStore::default();
    let report = restored(&bucket, &store, RestoreInto::Empty).await.unwrap();
    assert_eq!(report.stored, 1, "what is changed below was whole before");

    for (line, lines) in [
        (1, String::new()),
        (1, document.to_owned()),
        (1, "{\"n\":1}\n".to_owned()),
        (2, HEADER.to_owned()),
        (3, [HEADER, document].concat()),
        (3, [HEADER, document, end.trim_end()].concat()),
        (2, [HEADER, "\n", document, end].concat()),
        (2, [HEADER, HEADER, document, end].concat()),
        (4, [HEADER, document, end, document].concat()),
        (2, whole.replace("\"body\":\"1\"", "\"body\":\"1\",\"body_hex\":\"31\"")),
        (2, whole.replace(",\"body\":\"1\"", "")),
        (2, whole.replace("\"body\":\"1\"", "\"body_hex\":\"3\"")),
        (2, whole.replace("\"body\":\"1\"", "\"body_hex\":\"+1\"")),
        (2, whole.replace("\"orders\"", "\"a/b\"")),
        (2, whole.replace("abababab-", "")),
        (2, whole.replace("\"document\"", "\"thing\"")),
    ] {
        forge(&bucket, &lines, 1, 0);
        match refusal(&bucket).await {
            BackupFault::LineInvalid { line: found, .. } => assert_eq!(found, line, "{lines}"),
            fault => panic!("{fault} for {lines}"),
        }
    }
    for (documents, dead_letters, lines) in [
        (2, 0, whole.clone()),
        (1, 1, whole.clone()),
        (1, 0, whole.replace("\"documents\":1", "\"documents\":2")),
        (0, 0, [HEADER, &end.replace(":1", ":0")].concat() + ""),
    ] {
        // The last of them is whole, and told apart by the counts of its manifest alone.
        let documents = if lines.contains("body") { documents } else { 1 };
        forge(&bucket, &lines, documents, dead_letters);
        let fault = refusal(&bucket).await;
        assert!(matches!(fault, BackupFault::CountsDiffer { .. }), "{fault} for {lines}");
    }
}

#[tokio::test]
async fn a_store_that_is_not_empty_is_refused_unless_that_is_allowed() {
    let (store, bucket, _) = backed_up(20).await;
    let other = sample(0, 2);
    other.dead.lock().unwrap().truncate(1);
    let kept = document(3, "3");
    for (documents, dead) in [(1, 0), (0, 1)] {
        let target = PlainStore::default();
        if documents == 1 {
            let stored = StoredDocument { document: kept.clone(), stored: NOW };
            target.documents.lock().unwrap().push(stored);
        }
        if dead == 1 {
            target.dead.lock().unwrap().extend(other.dead.lock().unwrap().iter().cloned());
        }
        let failure = restored(&bucket, &target, RestoreInto::Empty).await.unwrap_err();
        assert_eq!(*fault(&failure), BackupFault::StoreNotEmpty);
        assert_eq!(failure.kind(), FailureKind::Refused);
        assert_eq!(target.documents.lock().unwrap().len(), documents);

        let report = restored(&bucket, &target, RestoreInto::Any).await.unwrap();
        assert_eq!((report.stored, report.dead), (20 - documents as u64, documents as u64));
        if documents == 1 {
            assert_eq!(target.by_id()[&kept.id], kept, "what was there stays as it was");
        } else {
            assert_eq!(target.by_id(), store.by_id());
        }
    }
}

#[tokio::test]
async fn an_interrupted_restore_goes_on_wherever_it_stopped_and_puts_nothing_twice() {
    let (store, bucket, _) = backed_up(2_500).await;
    for batches in 0..4 {
        let again = PlainStore::default();
        *again.batches_left.lock().unwrap() = Some(batches);
        let failure = restored(&bucket, &again, RestoreInto::Empty).await.unwrap_err();
        assert!(failure.is_retryable());
        let there = again.documents.lock().unwrap().len() as u64;
        *again.batches_left.lock().unwrap() = None;
        let report = restored(&bucket, &again, RestoreInto::Any).await.unwrap();
        assert_eq!((report.stored, report.duplicates), (2_500 - there, there), "{batches}");
        assert_eq!(again.by_id(), store.by_id());
        assert_eq!(*again.dead.lock().unwrap(), *store.dead.lock().unwrap());
        let report = restored(&bucket, &again, RestoreInto::Any).await.unwrap();
        assert_eq!((report.stored, report.duplicates, report.dead), (0, 2_500, 0));
        assert_eq!(again.documents.lock().unwrap().len(), 2_500);
        assert_eq!(*again.dead.lock().unwrap(), *store.dead.lock().unwrap());
    }
}

/// On a store that keeps the whole contract: attempts, tallies and all.
#[tokio::test]
async fn restored_twice_a_store_counts_and_holds_what_it_did_after_the_first_time() {
    let (sample, bucket, _) = backed_up(2_500).await;
    let store = MemoryStore::default();
    let everything = async || {
        let (first, last) = ("2026-11-01".parse().unwrap(), "2026-12-31".parse().unwrap());
        (
            store.page(&PageQuery { limit: 9_999, ..PageQuery::default() }).await.unwrap(),
            store.dead_letters(&DeadLetterFilter::default(), 9_999, None).await.unwrap(),
            store.streams().await.unwrap(),
            store.tallies(first, last).await.unwrap(),
        )
    };
    let restored = async |into| {
        restore(&bucket, &place(), &store, &Calendar::utc(), LATER, into).await.unwrap()
    };
    let report = restored(RestoreInto::Empty).await;
    assert_eq!(report, RestoreReport { stored: 2_500, dead_letters: 4, ..Default::default() });
    let once = everything().await;
    assert_eq!(once.0.items.len(), 2_500);
    assert_eq!(once.1.items, *sample.dead.lock().unwrap());
    assert!(!once.3.rows.is_empty(), "restoring counts the documents anew");
    let report = restored(RestoreInto::Any).await;
    let expected = RestoreReport { duplicates: 2_500, dead_letters_known: 4, ..Default::default() };
    assert_eq!(report, expected);
    assert_eq!(everything().await, once);
    // A backup of the restored store holds what the first one held.
    let again = PlainBucket::default();
    let manifest = write_backup(&store, &again, NOW, &place()).await.unwrap();
    assert_eq!((manifest.documents, manifest.dead_letters), (2_500, 4));
}

#[tokio::test]
async fn a_dead_letter_that_was_stored_meanwhile_is_a_document_only() {
    let (store, bucket) = (sample(3, 1), PlainBucket::default());
    // As if it had been redriven between the two parts of the backup.
    let dead = letter(2, store.by_id()[&id(2)].body.clone(), Cause::Refused("full".to_owned()));
    store.dead.lock().unwrap().push(dead.clone());
    write_backup(&store, &bucket, NOW, &place()).await.unwrap();
    let again = PlainStore::default();
    for into in [RestoreInto::Empty, RestoreInto::Any] {
        restored(&bucket, &again, into).await.unwrap();
        assert_eq!(again.by_id(), store.by_id());
        assert!(again.dead.lock().unwrap().iter().all(|letter| letter.id != dead.id));
    }
}

#[tokio::test]
async fn a_failing_store_leaves_the_backup_before_as_it_was() {
    struct Failing;
    #[async_trait::async_trait]
    impl inlet_core::ports::ByteStream for Failing {
        async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
            Some(Err(Failure::new(FailureKind::Unavailable, "read", "the store")))
        }
    }
    let (_, bucket, manifest) = backed_up(20).await;
    let key = inlet_core::ports::BucketKey::new(OBJECT).unwrap();
    let put = inlet_core::ports::Bucket::put(&bucket, &key, "", &mut Failing).await;
    assert!(put.is_err());
    assert_eq!(verify_backup(&bucket, &place()).await.unwrap(), manifest);
}

#[tokio::test]
async fn large_documents_are_read_a_few_at_a_time_and_given_on_in_small_pieces() {
    let (store, bucket) = (PlainStore::default(), PlainBucket::default());
    let mut rng = StdRng::seed_from_u64(3);
    for n in 0..40 {
        let noise: String = (0..(1 << 18)).map(|_| rng.random_range('!'..'~')).collect();
        let document = document(n, serde_json::to_vec(&noise).unwrap());
        store.documents.lock().unwrap().push(StoredDocument { document, stored: NOW });
    }
    let manifest = write_backup(&store, &bucket, NOW, &place()).await.unwrap();
    assert!(manifest.bytes > 6 << 20, "{} bytes do not compress", manifest.bytes);
    let page_bytes_max = *store.page_bytes_max.lock().unwrap();
    assert!(page_bytes_max < 5 << 20, "{page_bytes_max}");
    let piece_bytes_max = *bucket.piece_bytes_max.lock().unwrap();
    assert!(piece_bytes_max < 256 << 10, "{piece_bytes_max}");
    let again = PlainStore::default();
    restored(&bucket, &again, RestoreInto::Empty).await.unwrap();
    assert_eq!(again.by_id(), store.by_id());
}

#[tokio::test]
async fn the_stream_steps_back_while_it_compresses_what_hardly_gives_a_byte() {
    let (store, bucket) = (PlainStore::default(), PlainBucket::default());
    let document = document(0, format!("\"{}\"", "x".repeat(4 << 20)));
    store.documents.lock().unwrap().push(StoredDocument { document, stored: NOW });
    let mut others = 0u32;
    let place = place();
    let backup = write_backup(&store, &bucket, NOW, &place);
    tokio::pin!(backup);
    let manifest = loop {
        tokio::select! {
            biased;
            manifest = &mut backup => break manifest.unwrap(),
            () = std::future::ready(()) => others += 1,
        }
    };
    assert!(manifest.bytes < 64 << 10);
    assert!(others >= 14, "others had the thread {others} times in 16 steps");
}

#[tokio::test]
async fn only_backups_with_a_manifest_are_listed() {
    let (_, bucket, _) = backed_up(1).await;
    bucket.set("backups/2026-W48.ndjson.zst", "not finished");
    bucket.set("summaries/2026-W49.json", "{}");
    bucket.set("backups/2026-W02.json", "{}");
    let weeks = find_backups(&bucket, None).await.unwrap();
    assert_eq!(weeks, ["2026-W47".parse().unwrap(), "2026-W02".parse().unwrap()]);
}

#[tokio::test]
async fn the_same_store_at_the_same_moment_gives_the_same_bytes() {
    let (_, first, _) = backed_up(500).await;
    let (_, second, _) = backed_up(500).await;
    assert_eq!(first.bytes(OBJECT), second.bytes(OBJECT));
}

/// A backup of that week, made at that moment, of a store with as many documents.
async fn backup_of(bucket: &PlainBucket, week: &str, made: i64, documents: u64) {
    let place = BackupPlace::of_week(week.parse().unwrap());
    let made = Timestamp::from_micros(made);
    write_backup(&sample(documents, 1), bucket, made, &place).await.unwrap();
}

async fn weeks(bucket: &PlainBucket) -> Vec<String> {
    find_backups(bucket, None).await.unwrap().iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn backups_beyond_those_to_keep_are_pruned_oldest_first_and_nothing_else_is() {
    let bucket = PlainBucket::default();
    for n in 1..=9 {
        backup_of(&bucket, &format!("2026-W{n:02}"), i64::from(n), 2).await;
    }
    // A backup in a newer format, and files that only look like backups.
    bucket.set("backups/2025-W01.json", "{\"format\":2,\"parts\":[]}");
    bucket.set("backups/2025-W01.ndjson.zst", "newer");
    bucket.set("backups/2025-W02.json", "{\"mine\":true}");
    bucket.set("backups/2025-W02.ndjson.zst", "mine");
    bucket.set("backups/notes.txt", "mine, too");
    let manifest = String::from_utf8(bucket.bytes("backups/2026-W01.json").to_vec()).unwrap();
    bucket.set("backups/2025-W03.json", manifest);
    bucket.set("backups/2025-W03.ndjson.zst", "of another size than its manifest says");
    let pruned = prune_backups(&bucket, 3, "2026-W09".parse().unwrap()).await.unwrap();
    let pruned: Vec<_> = pruned.iter().map(ToString::to_string).collect();
    assert_eq!(pruned, ["2026-W06", "2026-W05", "2026-W04", "2026-W03", "2026-W02", "2026-W01"]);
    let left = ["2026-W09", "2026-W08", "2026-W07", "2025-W03", "2025-W02", "2025-W01"];
    assert_eq!(weeks(&bucket).await, left);
    for key in ["backups/2025-W01.ndjson.zst", "backups/2025-W02.ndjson.zst", "backups/notes.txt"] {
        assert!(!bucket.bytes(key).is_empty());
    }
    assert!(prune_backups(&bucket, 3, "2026-W09".parse().unwrap()).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_backup_that_was_just_verified_is_kept_however_old_its_week() {
    let bucket = PlainBucket::default();
    for n in 5..=7 {
        backup_of(&bucket, &format!("2026-W{n:02}"), i64::from(n), 1).await;
    }
    backup_of(&bucket, "2020-W01", 1, 1).await;
    prune_backups(&bucket, 1, "2020-W01".parse().unwrap()).await.unwrap();
    assert_eq!(weeks(&bucket).await, ["2020-W01"]);
}

/// A bucket that keeps other bytes than it was given, and says that all is well.
#[tokio::test]
async fn a_backup_that_the_bucket_did_not_keep_is_no_backup() {
    let bucket = PlainBucket { flips: true, ..PlainBucket::default() };
    let failure = write_backup(&sample(40, 1), &bucket, NOW, &place()).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Damaged, "{failure:?}");
    assert_eq!(*bucket.puts.lock().unwrap(), [OBJECT], "there is no manifest of it");
}
