//! The promises of [`Bucket`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    Bucket, BucketKey, ByteRange, ByteStream, Finished, FixedBytes, Object, ObjectMeta,
    PART_BYTES_MIN, Part, PartNumber, Precondition, UploadId,
};
use sha2::{Digest, Sha256};

use super::not_run;

/// Opens a bucket, and looks at what it keeps beside its objects.
#[async_trait]
pub trait BucketFixture: Send + Sync {
    /// Opens the bucket: empty the first time, with what was put before every other time, as
    /// after a restart. Handles opened before go on working.
    async fn open(&self) -> Arc<dyn Bucket>;
    /// The names of what lies around and belongs to no object: unfinished or forgotten parts.
    async fn remains(&self) -> Vec<String>;
    /// Whether the service lists keys in the order of their bytes, as S3 does.
    fn lists_by_bytes(&self) -> bool {
        true
    }
}

/// Makes a test of each promise of [`Bucket`]; the argument is an expression that makes a fresh
/// [`BucketFixture`].
#[macro_export]
macro_rules! bucket_contract {
    ($fixture:expr) => {
        $crate::contract_tests! {
            bucket, $fixture,
            bucket_1_get_gives_what_was_put_also_after_a_restart,
            bucket_1_the_checksum_is_that_of_all_bytes_on_both_sides_of_a_part,
            bucket_1_a_key_may_be_the_beginning_of_another,
            bucket_2_a_put_that_fails_leaves_what_was_there_and_nothing_else,
            bucket_3_a_put_over_a_key_replaces_it_whole,
            bucket_3_a_reader_keeps_the_object_it_began_to_read,
            bucket_3_puts_at_once_leave_one_of_them_whole,
            bucket_4_a_range_gives_its_bytes,
            bucket_5_list_gives_keys_in_order_by_prefix_and_page,
            bucket_5_keys_come_in_the_order_of_their_bytes,
            bucket_6_a_deleted_key_is_gone,
            bucket_7_a_large_object_passes_in_pieces,
            bucket_7_a_large_part_passes_in_pieces,
            bucket_8_parts_are_told_of_also_after_a_restart,
            bucket_8_a_part_put_again_replaces_the_one_before_and_one_that_fails_nothing,
            bucket_9_the_named_parts_become_one_object_and_the_upload_is_gone,
            bucket_9_the_checksum_is_that_of_all_bytes_in_whatever_order_parts_came,
            bucket_9_a_part_that_was_not_put_fails_it_and_the_upload_stays,
            bucket_10_an_abandoned_upload_leaves_nothing,
            bucket_10_an_upload_that_is_not_there_gives_none,
            bucket_11_an_object_is_put_only_where_its_precondition_holds,
            bucket_11_an_upload_is_finished_only_where_its_precondition_holds,
        }
    };
}

/// Bytes, type and checksum come back.
pub async fn bucket_1_get_gives_what_was_put_also_after_a_restart(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let text = "x".repeat(2_000_000);
    let odd = "ein Schlüssel, mit: allem? (100 %)/.hidden/~#&+=";
    for (name, body, content_type) in
        [("a/b.json", "{}", "application/json"), ("empty", "", "text/plain"), (odd, &text, "x/y")]
    {
        let mut stream = FixedBytes::new(Bytes::copy_from_slice(body.as_bytes()));
        let put = bucket.put(&key(name), content_type, &mut stream).await.unwrap();
        for bucket in [Arc::clone(&bucket), fixture.open().await] {
            let object = bucket.get(&key(name), None).await.unwrap().unwrap();
            assert_eq!(object.meta, put);
            assert_eq!(bucket.head(&key(name)).await.unwrap(), Some(put.clone()));
            assert!(read(object).await == body, "the bytes of {name} changed");
        }
        assert_eq!((&put.key, put.bytes), (&key(name), body.len() as u64));
        assert_eq!(put.content_type, content_type);
    }
    let known = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
    assert_eq!(bucket.head(&key("a/b.json")).await.unwrap().unwrap().sha256, known);
    assert!(bucket.get(&key("a/c"), None).await.unwrap().is_none());
    assert_eq!(bucket.head(&key("a")).await.unwrap(), None);
}

/// An adapter that puts large objects in parts gives no other checksum for them.
pub async fn bucket_1_the_checksum_is_that_of_all_bytes_on_both_sides_of_a_part(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    // The least that S3 takes for a part, and the sizes that adapters cut at.
    for part in [5 << 20, 8 << 20, 16 << 20] {
        for bytes in [part - 1, part, part + 1] {
            let body = noise(bytes);
            let sha256 = hex(&Sha256::digest(&body));
            let name = format!("sized/{bytes}");
            let mut stream = Cut(body.clone());
            let put = bucket.put(&key(&name), "x/y", &mut stream).await.unwrap();
            assert_eq!((put.bytes, &put.sha256), (bytes as u64, &sha256), "{bytes} bytes");
            let bucket = fixture.open().await;
            assert_eq!(bucket.head(&key(&name)).await.unwrap().as_ref(), Some(&put));
            let object = bucket.get(&key(&name), None).await.unwrap().unwrap();
            assert_eq!(object.meta, put);
            assert!(bytes_of(object).await == body, "the {bytes} bytes changed");
        }
    }
    let listed = bucket.list("sized/", None, 20).await.unwrap();
    assert_eq!(listed.len(), 9, "an adapter's own notes are no objects");
    for meta in listed {
        bucket.delete(&meta.key).await.unwrap();
    }
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// `a` and `a/b` are two objects, whichever comes first.
pub async fn bucket_1_a_key_may_be_the_beginning_of_another(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let long = "n".repeat(255);
    for name in ["a", "a/b", "c/d/e", "c/d", "c", &long, &format!("{long}/{long}")] {
        put(&*bucket, name, name).await;
    }
    for name in ["a", "a/b", "c/d/e", "c/d", "c", &long, &format!("{long}/{long}")] {
        assert_eq!(text(&*bucket, name).await.as_deref(), Some(name));
    }
    bucket.delete(&key("c/d")).await.unwrap();
    assert_eq!(text(&*bucket, "c/d").await, None);
    assert_eq!(text(&*bucket, "c/d/e").await.as_deref(), Some("c/d/e"));
    assert_eq!(text(&*bucket, "c").await.as_deref(), Some("c"));
}

/// A stream that breaks off changes nothing.
pub async fn bucket_2_a_put_that_fails_leaves_what_was_there_and_nothing_else(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    let before = put(&*bucket, "kept", "before").await;
    for name in ["kept", "never/there"] {
        let mut broken = Generated::new(40).failing_after(30);
        let failure = bucket.put(&key(name), "x/y", &mut broken).await.unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Unavailable, "{failure}");
    }
    for bucket in [Arc::clone(&bucket), fixture.open().await] {
        assert_eq!(text(&*bucket, "kept").await.as_deref(), Some("before"));
        assert_eq!(bucket.head(&key("kept")).await.unwrap(), Some(before.clone()));
        assert_eq!(bucket.head(&key("never/there")).await.unwrap(), None);
        assert_eq!(bucket.list("", None, 10).await.unwrap(), std::slice::from_ref(&before));
    }
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// The new object has nothing of the old one.
pub async fn bucket_3_a_put_over_a_key_replaces_it_whole(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let first = put(&*bucket, "k", "a long first object").await;
    let mut stream = FixedBytes::new("short");
    let second = bucket.put(&key("k"), "text/html", &mut stream).await.unwrap();
    assert_ne!(first.sha256, second.sha256);
    for bucket in [Arc::clone(&bucket), fixture.open().await] {
        assert_eq!(text(&*bucket, "k").await.as_deref(), Some("short"));
        assert_eq!(bucket.head(&key("k")).await.unwrap(), Some(second.clone()));
        assert_eq!(bucket.list("", None, 10).await.unwrap(), std::slice::from_ref(&second));
    }
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// A reader has the old bytes or the new ones, never a mixture.
pub async fn bucket_3_a_reader_keeps_the_object_it_began_to_read(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let (old, new) = ("o".repeat(3_000_000), "n".repeat(3_000_000));
    put(&*bucket, "k", &old).await;
    let mut object = bucket.get(&key("k"), None).await.unwrap().unwrap();
    let mut came = object.body.next().await.unwrap().unwrap().to_vec();
    put(&*bucket, "k", &new).await;
    while let Some(piece) = object.body.next().await {
        came.extend_from_slice(&piece.unwrap());
    }
    assert!(came == old.as_bytes(), "the reader saw a mixture");
    assert!(text(&*bucket, "k").await == Some(new));
}

/// Of puts at once under one key, one is there, with its own metadata.
pub async fn bucket_3_puts_at_once_leave_one_of_them_whole(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    for _ in 0..5 {
        let (first, second, third) = tokio::join!(
            put(&*bucket, "k", "first"),
            put(&*bucket, "k", "second!"),
            put(&*bucket, "k", "third")
        );
        let object = bucket.get(&key("k"), None).await.unwrap().unwrap();
        assert!([first, second, third].contains(&object.meta), "{:?}", object.meta);
        let (meta, body) = (object.meta.clone(), read(object).await);
        assert_eq!(meta.bytes, body.len() as u64);
        let checked = put(&*bucket, "checked", &body).await;
        assert_eq!(meta.sha256, checked.sha256);
    }
}

/// A range gives what it names, cut at the object's end.
pub async fn bucket_4_a_range_gives_its_bytes(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    put(&*bucket, "k", "0123456789").await;
    for (first, last, expected) in [
        (0, 9, "0123456789"),
        (0, 0, "0"),
        (3, 5, "345"),
        (7, 99, "789"),
        (9, u64::MAX, "9"),
        (10, 12, ""),
        (u64::MAX, u64::MAX, ""),
    ] {
        let range = Some(ByteRange { first, last });
        let object = bucket.get(&key("k"), range).await.unwrap().unwrap();
        assert_eq!(object.meta.bytes, 10);
        assert_eq!(read(object).await, expected, "{first}-{last}");
    }
    let range = Some(ByteRange { first: 0, last: 1 });
    assert!(bucket.get(&key("none"), range).await.unwrap().is_none());
}

/// Keys come in the order of their bytes, narrowed and in pages.
pub async fn bucket_5_list_gives_keys_in_order_by_prefix_and_page(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    assert_eq!(bucket.list("", None, 10).await.unwrap(), []);
    let mut names = vec![
        "a/b",
        "a/c/d",
        "ab/c",
        "b",
        "sum/2026-W46.json",
        "sum/2026-W47.html",
        "sum/2026-W47.json",
        "sum/x/y",
        "ü",
    ];
    for name in names.iter().rev() {
        put(&*bucket, name, name).await;
    }
    names.sort_unstable();
    for limit in [1, 2, 3, 100] {
        for prefix in ["", "a", "a/", "a/c", "sum/2026-W4", "sum/2026-W47.", "x", "ü"] {
            let expected: Vec<_> =
                names.iter().filter(|name| name.starts_with(prefix)).copied().collect();
            assert_eq!(listed(&*bucket, prefix, limit).await, expected, "{prefix} by {limit}");
        }
    }
    let after = key("a/zzz");
    let rest = bucket.list("", Some(&after), 1).await.unwrap();
    assert_eq!(rest[0].key.as_str(), "ab/c");
    assert_eq!(bucket.list("a/", Some(&key("b")), 10).await.unwrap(), []);
}

/// Keys that are the beginning of others, and characters before and behind the slash, which a
/// walk through directories takes for last.
pub async fn bucket_5_keys_come_in_the_order_of_their_bytes(fixture: &dyn BucketFixture) {
    if !fixture.lists_by_bytes() {
        return not_run("the service walks directories instead of sorting keys");
    }
    let bucket = fixture.open().await;
    let mut names = ["a", "a/b", "a/b/c", "a-b", "a-b/c", "a.b", "a0", "ab", "ab/c", "b"];
    for name in names.iter().rev() {
        put(&*bucket, name, name).await;
    }
    names.sort_unstable();
    for limit in [1, 2, 3, 100] {
        for prefix in ["", "a", "a/", "a-", "a."] {
            let expected: Vec<_> =
                names.iter().filter(|name| name.starts_with(prefix)).copied().collect();
            assert_eq!(listed(&*bucket, prefix, limit).await, expected, "{prefix} by {limit}");
        }
    }
}

/// Deleted is gone; deleting nothing is no error.
pub async fn bucket_6_a_deleted_key_is_gone(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    put(&*bucket, "a/b", "1").await;
    put(&*bucket, "a/c", "2").await;
    bucket.delete(&key("a/b")).await.unwrap();
    bucket.delete(&key("a/b")).await.unwrap();
    bucket.delete(&key("never/was")).await.unwrap();
    for bucket in [Arc::clone(&bucket), fixture.open().await] {
        assert!(bucket.get(&key("a/b"), None).await.unwrap().is_none());
        assert_eq!(bucket.head(&key("a/b")).await.unwrap(), None);
        assert_eq!(listed(&*bucket, "", 10).await, ["a/c"]);
    }
    bucket.delete(&key("a/c")).await.unwrap();
    assert_eq!(fixture.remains().await, Vec::<String>::new());
    put(&*bucket, "a/b", "again").await;
    assert_eq!(text(&*bucket, "a/b").await.as_deref(), Some("again"));
}

/// A bucket lets go of the pieces it was given, and gives pieces of bounded size.
pub async fn bucket_7_a_large_object_passes_in_pieces(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let mut stream = Generated::new(1_000);
    let (alive_now, alive_most) = (Arc::clone(&stream.alive), Arc::clone(&stream.alive_most));
    let meta = bucket.put(&key("large"), "x/y", &mut stream).await.unwrap();
    assert_eq!(meta.bytes, 1_000 * PIECE_BYTES as u64);
    assert_eq!(alive_now.load(Ordering::SeqCst), 0);
    let most = alive_most.load(Ordering::SeqCst) * PIECE_BYTES;
    assert!(most <= 4 << 20, "{most} bytes were held at once");
    let mut object = bucket.get(&key("large"), None).await.unwrap().unwrap();
    let mut bytes = 0;
    while let Some(piece) = object.body.next().await {
        let piece = piece.unwrap();
        assert!((1..=1 << 20).contains(&piece.len()), "a piece of {} bytes", piece.len());
        bytes += piece.len();
    }
    assert_eq!(bytes, 1_000 * PIECE_BYTES);
}

/// What holds for an object holds for a part.
pub async fn bucket_7_a_large_part_passes_in_pieces(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let key = key("large");
    let upload = bucket.begin_upload(&key, "x/y").await.unwrap();
    let mut stream = Generated::new(1_000);
    let (alive_now, alive_most) = (Arc::clone(&stream.alive), Arc::clone(&stream.alive_most));
    let part = bucket.put_part(&key, &upload, number(1), &mut stream).await.unwrap().unwrap();
    assert_eq!(part.bytes, 1_000 * PIECE_BYTES as u64);
    assert_eq!(alive_now.load(Ordering::SeqCst), 0);
    let most = alive_most.load(Ordering::SeqCst) * PIECE_BYTES;
    assert!(most <= 4 << 20, "{most} bytes were held at once");
    bucket.abandon_upload(&key, &upload).await.unwrap();
}

/// Parts come back in the order of their numbers, whatever order they were put in.
pub async fn bucket_8_parts_are_told_of_also_after_a_restart(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let key = key("in/parts");
    let upload = bucket.begin_upload(&key, "x/y").await.unwrap();
    assert_eq!(bucket.parts(&key, &upload).await.unwrap(), Some(Vec::new()));
    let mut put = Vec::new();
    for (n, body) in [(3, "three"), (1, "one"), (10_000, ""), (20, "twenty")] {
        let part = put_part(&*bucket, &key, &upload, n, body).await;
        let sha256 = hex(&Sha256::digest(body));
        assert_eq!(part, Part { number: number(n), bytes: body.len() as u64, sha256 });
        put.push(part);
    }
    put.sort_by_key(|part| part.number);
    for bucket in [Arc::clone(&bucket), fixture.open().await] {
        assert_parts(&*bucket, &key, &upload, &put).await;
    }
    assert_eq!(bucket.head(&key).await.unwrap(), None, "it is no object yet");
    assert_eq!(bucket.list("", None, 10).await.unwrap(), []);
    bucket.abandon_upload(&key, &upload).await.unwrap();
}

/// A number stands for what was put under it last.
pub async fn bucket_8_a_part_put_again_replaces_the_one_before_and_one_that_fails_nothing(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    let key = key("k");
    let upload = bucket.begin_upload(&key, "x/y").await.unwrap();
    put_part(&*bucket, &key, &upload, 1, "first").await;
    let second = put_part(&*bucket, &key, &upload, 1, "second!").await;
    for n in [1, 2] {
        let mut broken = Generated::new(40).failing_after(30);
        bucket.put_part(&key, &upload, number(n), &mut broken).await.unwrap_err();
    }
    assert_parts(&*bucket, &key, &upload, &[second]).await;
    let same = put_part(&*bucket, &key, &upload, 1, "second!").await;
    assert_parts(&*bucket, &key, &upload, &[same]).await;
    let done = finish(&*bucket, &key, &upload, &[number(1)]).await;
    assert_eq!(done.bytes, 7);
    assert_eq!(text(&*bucket, "k").await.as_deref(), Some("second!"));
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// The object is as one that was put, and takes the place of the one before it.
pub async fn bucket_9_the_named_parts_become_one_object_and_the_upload_is_gone(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    let key = key("a/whole");
    put(&*bucket, "a/whole", "before").await;
    let upload = bucket.begin_upload(&key, "video/mp4").await.unwrap();
    let first = "f".repeat(usize::try_from(PART_BYTES_MIN).expect("5 MiB"));
    put_part(&*bucket, &key, &upload, 7, "the end").await;
    put_part(&*bucket, &key, &upload, 2, &first).await;
    put_part(&*bucket, &key, &upload, 5, "is not named").await;
    assert_eq!(text(&*bucket, "a/whole").await.as_deref(), Some("before"));

    let bucket = fixture.open().await;
    let parts = [number(2), number(7)];
    let meta = finish(&*bucket, &key, &upload, &parts).await;
    let whole = Sha256::new().chain_update(&first).chain_update("the end");
    assert_eq!(meta.sha256, hex(&whole.finalize()));
    assert_eq!((meta.bytes, &*meta.content_type), (PART_BYTES_MIN + 7, "video/mp4"));
    for bucket in [Arc::clone(&bucket), fixture.open().await] {
        assert_eq!(bucket.head(&key).await.unwrap(), Some(meta.clone()));
        assert_eq!(bucket.list("", None, 10).await.unwrap(), std::slice::from_ref(&meta));
        assert!(text(&*bucket, "a/whole").await == Some(format!("{first}the end")));
        assert_eq!(bucket.parts(&key, &upload).await.unwrap(), None);
    }
    let range = Some(ByteRange { first: PART_BYTES_MIN - 1, last: PART_BYTES_MIN + 2 });
    let object = bucket.get(&key, range).await.unwrap().unwrap();
    assert_eq!((object.meta.clone(), read(object).await), (meta, "fthe".to_owned()));
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// In order, out of order, with parts put again or left out, and over restarts.
pub async fn bucket_9_the_checksum_is_that_of_all_bytes_in_whatever_order_parts_came(
    fixture: &dyn BucketFixture,
) {
    let (k, least) = (key("sums/k"), usize::try_from(PART_BYTES_MIN).expect("5 MiB"));
    let bodies: Vec<Bytes> = (0..3).map(|n| noise(least + n)).chain([noise(9)]).collect();
    let again = noise(least + 7);
    // Numbers of parts as they are put, with the body of each, and those the object is made of.
    let orders: [&[(u16, &Bytes)]; 5] = [
        &[(1, &bodies[0]), (2, &bodies[1]), (3, &bodies[2]), (4, &bodies[3])],
        &[(2, &bodies[1]), (1, &bodies[0]), (4, &bodies[3]), (3, &bodies[2])],
        &[(1, &bodies[0]), (2, &again), (3, &bodies[2]), (2, &bodies[1]), (4, &bodies[3])],
        &[(1, &bodies[0]), (2, &bodies[1]), (3, &again), (4, &bodies[3])],
        &[(2, &bodies[1]), (4, &bodies[3])],
    ];
    let named: [&[u16]; 5] = [&[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 3, 4], &[1, 2, 4], &[2, 4]];
    for (order, numbers) in orders.into_iter().zip(named) {
        let upload = fixture.open().await.begin_upload(&k, "x/y").await.unwrap();
        for (n, body) in order {
            let bucket = fixture.open().await;
            let mut stream = FixedBytes::new((*body).clone());
            bucket.put_part(&k, &upload, number(*n), &mut stream).await.unwrap().unwrap();
        }
        let bucket = fixture.open().await;
        let parts: Vec<PartNumber> = numbers.iter().copied().map(number).collect();
        let meta = finish(&*bucket, &k, &upload, &parts).await;
        let mut whole = Sha256::new();
        for n in numbers {
            whole.update(&bodies[usize::from(*n) - 1]);
        }
        assert_eq!(meta.sha256, hex(&whole.finalize()), "{numbers:?}");
        assert_eq!(bucket.head(&k).await.unwrap().as_ref(), Some(&meta));
        assert_eq!(bucket.list("sums/", None, 9).await.unwrap(), [meta]);
        assert_eq!(fixture.remains().await, Vec::<String>::new());
    }
    // What takes its place has its own.
    let bucket = fixture.open().await;
    let small = put(&*bucket, "sums/k", "small").await;
    assert_eq!(small.sha256, hex(&Sha256::digest("small")));
    assert_eq!(bucket.head(&k).await.unwrap(), Some(small));
    bucket.delete(&k).await.unwrap();
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// Nothing is made of an upload that is not whole, and it can be gone on with.
pub async fn bucket_9_a_part_that_was_not_put_fails_it_and_the_upload_stays(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    let key = key("k");
    let upload = bucket.begin_upload(&key, "x/y").await.unwrap();
    let part = put_part(&*bucket, &key, &upload, 2, "two").await;
    let parts = [number(1), number(2)];
    let failure =
        bucket.finish_upload(&key, &upload, &parts, &Precondition::None).await.unwrap_err();
    assert_eq!(failure.kind(), FailureKind::Refused, "{failure}");
    assert_eq!(bucket.head(&key).await.unwrap(), None);
    assert_parts(&*bucket, &key, &upload, &[part]).await;
    finish(&*bucket, &key, &upload, &parts[1..]).await;
    assert_eq!(text(&*bucket, "k").await.as_deref(), Some("two"));
}

/// What was there under the key stays, and nothing of the upload does.
pub async fn bucket_10_an_abandoned_upload_leaves_nothing(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let before = put(&*bucket, "k", "before").await;
    let upload = bucket.begin_upload(&key("k"), "x/y").await.unwrap();
    put_part(&*bucket, &key("k"), &upload, 1, "one").await;
    bucket.abandon_upload(&key("k"), &upload).await.unwrap();
    bucket.abandon_upload(&key("k"), &upload).await.unwrap();
    assert_eq!(bucket.parts(&key("k"), &upload).await.unwrap(), None);
    assert_eq!(bucket.list("", None, 10).await.unwrap(), [before]);
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// One that was finished, belongs to another key or never was.
pub async fn bucket_10_an_upload_that_is_not_there_gives_none(fixture: &dyn BucketFixture) {
    let bucket = fixture.open().await;
    let (there, other) = (key("there"), key("other"));
    let open = bucket.begin_upload(&there, "x/y").await.unwrap();
    put_part(&*bucket, &there, &open, 1, "one").await;
    let finished = bucket.begin_upload(&there, "x/y").await.unwrap();
    put_part(&*bucket, &there, &finished, 1, "one").await;
    finish(&*bucket, &there, &finished, &[number(1)]).await;
    let never = ["0".repeat(32), "../../1".to_owned(), "x".to_owned()];
    let never = never.map(|id| (&there, UploadId::new(id).unwrap()));
    let absent = [(&other, open.clone()), (&there, finished)].into_iter().chain(never);
    for (key, upload) in absent {
        let mut body = FixedBytes::new("x");
        assert_eq!(bucket.put_part(key, &upload, number(1), &mut body).await.unwrap(), None);
        assert_eq!(bucket.parts(key, &upload).await.unwrap(), None, "{upload}");
        let finished =
            bucket.finish_upload(key, &upload, &[number(1)], &Precondition::None).await.unwrap();
        assert_eq!(finished, Finished::UploadUnknown);
        bucket.abandon_upload(key, &upload).await.unwrap();
    }
    assert_eq!(bucket.parts(&there, &open).await.unwrap().unwrap().len(), 1);
    bucket.abandon_upload(&there, &open).await.unwrap();
}

/// The condition is about what is there when the last byte has come.
pub async fn bucket_11_an_object_is_put_only_where_its_precondition_holds(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    let put_if = async |precondition: &Precondition, body: &str| {
        let mut stream = FixedBytes::new(body.to_owned());
        bucket.put_if(&key("a/k"), "text/plain", &mut stream, precondition).await.unwrap()
    };
    let first = put_if(&Precondition::Absent, "first").await.expect("nothing was there");
    assert_eq!(put_if(&Precondition::Absent, "second").await, None);
    assert_eq!(text(&*bucket, "a/k").await.as_deref(), Some("first"));
    let there = Precondition::Unchanged(first);
    let third = put_if(&there, "the third").await.expect("the first was there");
    assert_eq!(put_if(&there, "the fourth").await, None);
    assert_eq!(bucket.head(&key("a/k")).await.unwrap(), Some(third.clone()));
    assert_eq!(text(&*bucket, "a/k").await.as_deref(), Some("the third"));
    bucket.delete(&key("a/k")).await.unwrap();
    assert_eq!(put_if(&Precondition::Unchanged(third), "the fifth").await, None);
    assert_eq!(bucket.head(&key("a/k")).await.unwrap(), None);
    // A large object passes the same condition.
    put(&*bucket, "large", "there").await;
    let mut large = Generated::new(600);
    let refused = bucket.put_if(&key("large"), "x/y", &mut large, &Precondition::Absent).await;
    assert_eq!(refused.unwrap(), None);
    assert_eq!(text(&*bucket, "large").await.as_deref(), Some("there"));
    let mut large = Generated::new(600);
    let made = bucket.put_if(&key("new"), "x/y", &mut large, &Precondition::Absent).await;
    assert_eq!(made.unwrap().map(|meta| meta.bytes), Some(600 * PIECE_BYTES as u64));
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

/// The upload stays where the condition does not hold.
pub async fn bucket_11_an_upload_is_finished_only_where_its_precondition_holds(
    fixture: &dyn BucketFixture,
) {
    let bucket = fixture.open().await;
    let k = key("k");
    let there = put(&*bucket, "k", "there").await;
    let upload = bucket.begin_upload(&k, "x/y").await.unwrap();
    put_part(&*bucket, &k, &upload, 1, "in parts").await;
    let finish = async |precondition: Precondition| {
        bucket.finish_upload(&k, &upload, &[number(1)], &precondition).await.unwrap()
    };
    assert_eq!(finish(Precondition::Absent).await, Finished::PreconditionFailed);
    assert_eq!(bucket.parts(&k, &upload).await.unwrap().unwrap().len(), 1);
    let other = ObjectMeta { bytes: 99, ..there.clone() };
    assert_eq!(finish(Precondition::Unchanged(other)).await, Finished::PreconditionFailed);
    assert_eq!(text(&*bucket, "k").await.as_deref(), Some("there"));
    let finished = finish(Precondition::Unchanged(there)).await;
    assert!(matches!(finished, Finished::Object(meta) if meta.bytes == 8));
    assert_eq!(text(&*bucket, "k").await.as_deref(), Some("in parts"));
    assert_eq!(fixture.remains().await, Vec::<String>::new());
}

const PIECE_BYTES: usize = 16_384;

/// A stream of pieces that counts how many of them are alive, and can break off.
struct Generated {
    pieces: usize,
    given: usize,
    fail_after: Option<usize>,
    alive: Arc<AtomicUsize>,
    alive_most: Arc<AtomicUsize>,
}

/// The memory of one piece; tells when it is let go.
struct Piece {
    bytes: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl Generated {
    fn new(pieces: usize) -> Self {
        Self {
            pieces,
            given: 0,
            fail_after: None,
            alive: Arc::default(),
            alive_most: Arc::default(),
        }
    }

    fn failing_after(mut self, pieces: usize) -> Self {
        self.fail_after = Some(pieces);
        self
    }
}

#[async_trait]
impl ByteStream for Generated {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.fail_after == Some(self.given) {
            let failure = Failure::new(FailureKind::Unavailable, "read", "a client that went away");
            return Some(Err(failure));
        }
        if self.given == self.pieces {
            return None;
        }
        self.given += 1;
        let alive = self.alive.fetch_add(1, Ordering::SeqCst) + 1;
        self.alive_most.fetch_max(alive, Ordering::SeqCst);
        let bytes = vec![u8::try_from(self.given % 251).expect("below 251"); PIECE_BYTES];
        Some(Ok(Bytes::from_owner(Piece { bytes, alive: Arc::clone(&self.alive) })))
    }

    fn bytes_left(&self) -> Option<u64> {
        Some(((self.pieces - self.given) * PIECE_BYTES) as u64)
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Bytes that are not the same anywhere, and are the same each time.
fn noise(bytes: usize) -> Bytes {
    let mut state = bytes as u64 | 1;
    let words = std::iter::repeat_with(|| {
        state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        state.to_le_bytes()
    });
    words.take(bytes.div_ceil(8)).flatten().take(bytes).collect::<Vec<u8>>().into()
}

/// A stream of bytes in pieces whose size divides no part's.
struct Cut(Bytes);

#[async_trait]
impl ByteStream for Cut {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let piece = self.0.split_to(self.0.len().min(300_007));
        (!piece.is_empty()).then_some(Ok(piece))
    }
}

fn key(name: &str) -> BucketKey {
    BucketKey::new(name).unwrap()
}

async fn put(bucket: &dyn Bucket, name: &str, body: &str) -> ObjectMeta {
    let mut stream = FixedBytes::new(Bytes::copy_from_slice(body.as_bytes()));
    bucket.put(&key(name), "text/plain", &mut stream).await.unwrap()
}

fn number(number: u16) -> PartNumber {
    PartNumber::new(number).unwrap()
}

async fn put_part(
    bucket: &dyn Bucket,
    key: &BucketKey,
    upload: &UploadId,
    n: u16,
    body: &str,
) -> Part {
    let mut stream = FixedBytes::new(Bytes::copy_from_slice(body.as_bytes()));
    bucket.put_part(key, upload, number(n), &mut stream).await.unwrap().unwrap()
}

async fn finish(
    bucket: &dyn Bucket,
    key: &BucketKey,
    upload: &UploadId,
    parts: &[PartNumber],
) -> ObjectMeta {
    match bucket.finish_upload(key, upload, parts, &Precondition::None).await.unwrap() {
        Finished::Object(meta) => meta,
        other => panic!("{other:?}"),
    }
}

/// Asserts that these are the parts of the upload. A service may keep no checksum of them.
async fn assert_parts(bucket: &dyn Bucket, key: &BucketKey, upload: &UploadId, expected: &[Part]) {
    let parts = bucket.parts(key, upload).await.unwrap().expect("there is such an upload");
    let without = |part: &Part| Part { sha256: String::new(), ..part.clone() };
    assert_eq!(parts.len(), expected.len());
    for (part, expected) in parts.iter().zip(expected) {
        assert!(*part == *expected || *part == without(expected), "{part:?} is not {expected:?}");
    }
}

async fn bytes_of(mut object: Object) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = object.body.next().await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

async fn read(object: Object) -> String {
    String::from_utf8(bytes_of(object).await).unwrap()
}

async fn text(bucket: &dyn Bucket, name: &str) -> Option<String> {
    match bucket.get(&key(name), None).await.unwrap() {
        Some(object) => Some(read(object).await),
        None => None,
    }
}

async fn listed(bucket: &dyn Bucket, prefix: &str, limit: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut after: Option<BucketKey> = None;
    loop {
        let page = bucket.list(prefix, after.as_ref(), limit).await.unwrap();
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return names };
        after = Some(last.key.clone());
        names.extend(page.iter().map(|meta| meta.key.as_str().to_owned()));
    }
}
