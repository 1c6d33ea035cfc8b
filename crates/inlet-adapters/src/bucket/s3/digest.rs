//! The SHA-256 of objects in parts.
//!
//! S3 keeps of an object in parts a checksum over the checksums of its parts, and some services
//! keep none. The SHA-256 of all of its bytes lies in an object of its own, which is written once
//! the object is there, and counts while its tag is the object's:
//!
//! ```text
//! files/.inlet/NAME                {"format":1,"tag":"\"5ee1…-3\"","bytes":20971520,"sha256":"4413…"}
//! files/.inlet/NAME.UPLOAD         the SHA-256 so far of an upload whose parts come in order
//! files/.inlet/NAME.UPLOAD.00002   the SHA-256 of a part, where the service does not list it
//! ```
//!
//! `NAME` and `UPLOAD` are the beginnings of the SHA-256 of the key and of the upload's id. Both
//! lie under the first segment of the key, so that a policy for `files/*` covers them.
//!
//! The SHA-256 of an upload goes on where the part before ended, on whichever instance, as long
//! as the parts come in the order of their numbers from 1. The object's other bytes are read back
//! once it is there: parts can't be read before.

use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream as Body;
use bytes::Bytes;
use inlet_core::document::{hex, unhex};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{BucketKey, PartNumber, RESERVED_SEGMENT, UploadId};
use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};
use sha2::{Digest, Sha256};

use super::{S3Bucket, failure};

const FORMAT: u32 = 1;
/// The crate whose state of a hash is noted: another version could not read it.
const STATE_OF: &str = "sha2 0.11";
/// The largest note that is read, in bytes.
const NOTE_BYTES_MAX: usize = 16 << 10;

/// The checksum of an object in parts.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    format: u32,
    tag: String,
    bytes: u64,
    sha256: String,
}

/// The SHA-256 of the first parts of an upload.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    /// The number of the last part in it.
    pub(super) last: u16,
    /// The size of these parts, in bytes.
    pub(super) bytes: u64,
    /// A hash over their tags: a part that was put again has another.
    tags: [u8; 32],
    pub(super) hash: Sha256,
}

/// The checksum of a part of an upload, in base64 as S3 has it, while the part has this tag.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PartNote {
    pub(super) tag: String,
    pub(super) checksum: String,
}

/// [`Running`] as it lies in the bucket.
#[derive(Debug, Serialize, Deserialize)]
struct RunningNote {
    format: u32,
    state_of: String,
    last: u16,
    bytes: u64,
    tags: String,
    state: String,
}

impl Running {
    /// Adds a part that was put, whose bytes are in the hash already.
    pub(super) fn add(&mut self, number: PartNumber, bytes: u64, tag: &str) {
        self.last = number.get();
        self.bytes += bytes;
        self.tags = Sha256::new().chain_update(self.tags).chain_update(tag).finalize().into();
    }

    /// Whether these are the parts in it: their sizes and tags, in order.
    pub(super) fn is_of<'a>(&self, parts: impl Iterator<Item = (u64, &'a str)>) -> bool {
        let mut other = Self::default();
        for ((bytes, tag), number) in parts.zip(1..) {
            match PartNumber::new(number) {
                Ok(number) => other.add(number, bytes, tag),
                Err(_) => return false,
            }
        }
        (other.last, other.bytes, other.tags) == (self.last, self.bytes, self.tags)
    }

    fn note(&self) -> RunningNote {
        RunningNote {
            format: FORMAT,
            state_of: STATE_OF.to_owned(),
            last: self.last,
            bytes: self.bytes,
            tags: hex(&self.tags),
            state: hex(&self.hash.serialize()),
        }
    }

    fn of_note(note: &RunningNote) -> Option<Self> {
        if note.format != FORMAT || note.state_of != STATE_OF {
            return None;
        }
        let state = SerializedState::<Sha256>::try_from(&*unhex(&note.state)?).ok()?;
        Some(Self {
            last: note.last,
            bytes: note.bytes,
            tags: unhex(&note.tags)?.try_into().ok()?,
            hash: Sha256::deserialize(&state).ok()?,
        })
    }
}

/// The SHA-256 of the object with this tag, where it is noted.
pub(super) async fn of_object(
    bucket: &S3Bucket,
    key: &BucketKey,
    tag: &str,
    bytes: u64,
) -> Result<Option<String>, Failure> {
    let note = read::<Note>(bucket, &name(bucket, key)).await?;
    Ok(note
        .filter(|note| note.format == FORMAT && note.tag == tag && note.bytes == bytes)
        .map(|note| note.sha256))
}

/// Notes the SHA-256 of the object with this tag.
pub(super) async fn note_object(
    bucket: &S3Bucket,
    key: &BucketKey,
    tag: &str,
    bytes: u64,
    sha256: &str,
) -> Result<(), Failure> {
    let note = Note { format: FORMAT, tag: tag.to_owned(), bytes, sha256: sha256.to_owned() };
    write(bucket, &name(bucket, key), &note).await
}

/// Forgets the SHA-256 of the object.
pub(super) async fn forget_object(bucket: &S3Bucket, key: &BucketKey) -> Result<(), Failure> {
    delete(bucket, &name(bucket, key)).await
}

/// The SHA-256 so far of an upload; that of no part where it is not known.
pub(super) async fn of_upload(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
) -> Result<Running, Failure> {
    let note = read::<RunningNote>(bucket, &upload_name(bucket, key, upload)).await?;
    Ok(note.as_ref().and_then(Running::of_note).unwrap_or_default())
}

/// Notes the SHA-256 so far of an upload.
pub(super) async fn note_upload(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    running: &Running,
) -> Result<(), Failure> {
    write(bucket, &upload_name(bucket, key, upload), &running.note()).await
}

/// Notes the checksum of a part of an upload.
pub(super) async fn note_part(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    number: PartNumber,
    note: &PartNote,
) -> Result<(), Failure> {
    write(bucket, &part_name(bucket, key, upload, number), note).await
}

/// The note of the part that was put last under this number.
pub(super) async fn of_part(
    bucket: &S3Bucket,
    key: &BucketKey,
    upload: &UploadId,
    number: PartNumber,
) -> Result<Option<PartNote>, Failure> {
    read(bucket, &part_name(bucket, key, upload, number)).await
}

/// Forgets what is noted of an upload. Where that fails, the next upload of the key does it.
pub(super) async fn forget_upload(bucket: &S3Bucket, key: &BucketKey, upload: &UploadId) {
    let note = upload_name(bucket, key, upload);
    match bucket.lists_checksums.get() {
        Some(false) => forget_all(bucket, &note).await,
        Some(true) | None => {
            forget(bucket, &note).await;
        }
    }
}

/// Forgets what is noted of uploads of this key that nobody finished. One that is still under way
/// is read back when it is finished.
pub(super) async fn forget_uploads(bucket: &S3Bucket, key: &BucketKey) {
    forget_all(bucket, &format!("{}.", name(bucket, key))).await;
}

/// Forgets all notes whose names begin with `prefix`.
async fn forget_all(bucket: &S3Bucket, prefix: &str) {
    loop {
        let listing = bucket.client.list_objects_v2().bucket(&bucket.name).prefix(prefix);
        // The right to list may be missing, and so may the service; the notes are small.
        let Ok(listed) = listing.send().await else { return };
        let mut deleted = 0;
        for object in listed.contents().iter().filter_map(|object| object.key()) {
            deleted += usize::from(forget(bucket, object).await);
        }
        if deleted == 0 || !listed.is_truncated().unwrap_or(false) {
            return;
        }
    }
}

/// Whether a name in S3 is one of a note, and the first name behind all notes beside it.
pub(super) fn behind_notes(object: &str) -> Option<String> {
    let at = format!("/{object}").find(&format!("/{RESERVED_SEGMENT}/"))?;
    Some(format!("{}{RESERVED_SEGMENT}0", &object[..at]))
}

fn name(bucket: &S3Bucket, key: &BucketKey) -> String {
    let top = key.as_str().split_once('/').map_or(String::new(), |(top, _)| format!("{top}/"));
    let hash = hex(&Sha256::digest(key.as_str())[..16]);
    format!("{}{top}{RESERVED_SEGMENT}/{hash}", bucket.prefix)
}

fn part_name(bucket: &S3Bucket, key: &BucketKey, upload: &UploadId, number: PartNumber) -> String {
    format!("{}.{:05}", upload_name(bucket, key, upload), number.get())
}

fn upload_name(bucket: &S3Bucket, key: &BucketKey, upload: &UploadId) -> String {
    let hash = hex(&Sha256::digest(upload.as_str())[..8]);
    format!("{}.{hash}", name(bucket, key))
}

/// Reads a note; `None` where there is none, where it can't be understood, and where this
/// identity may not read it.
async fn read<T: for<'a> Deserialize<'a>>(
    bucket: &S3Bucket,
    object: &str,
) -> Result<Option<T>, Failure> {
    let said = bucket.client.get_object().bucket(&bucket.name).key(object).send().await;
    let mut body = match said {
        Ok(found) => found.body,
        Err(error) if failure::is_missing(&error) => return Ok(None),
        Err(error) => {
            let failure = failure::failure(&error, "read the checksum in", place(bucket, object));
            let may_not = failure.kind() == FailureKind::Refused;
            return if may_not { Ok(None) } else { Err(failure) };
        }
    };
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            let place = place(bucket, object);
            Failure::new(FailureKind::Unavailable, "read the checksum in", place).because(error)
        })?;
        bytes.extend_from_slice(&piece);
        if bytes.len() > NOTE_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(serde_json::from_slice(&bytes).ok())
}

async fn write<T: Serialize>(bucket: &S3Bucket, object: &str, note: &T) -> Result<(), Failure> {
    let failed = || place(bucket, object);
    let bytes = serde_json::to_vec(note).map_err(|error| {
        Failure::new(FailureKind::Refused, "note a checksum in", failed()).because(error)
    })?;
    bucket
        .client
        .put_object()
        .bucket(&bucket.name)
        .key(object)
        .content_type("application/json")
        .body(Body::from(Bytes::from(bytes)))
        .send()
        .await
        .map(drop)
        .map_err(|error| failure::failure(&error, "note a checksum in", failed()))
}

async fn delete(bucket: &S3Bucket, object: &str) -> Result<(), Failure> {
    let said = bucket.client.delete_object().bucket(&bucket.name).key(object).send().await;
    match said {
        Err(error) if error.code() != Some("NoSuchKey") => {
            Err(failure::failure(&error, "forget the checksum in", place(bucket, object)))
        }
        _ => Ok(()),
    }
}

/// Returns whether it is gone.
async fn forget(bucket: &S3Bucket, object: &str) -> bool {
    let deleted = delete(bucket, object).await;
    if let Err(failure) = &deleted {
        tracing::debug!(%failure, "a note of an upload stays for a while");
    }
    deleted.is_ok()
}

fn place(bucket: &S3Bucket, object: &str) -> String {
    format!("s3://{}/{object}", bucket.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(number: u16) -> PartNumber {
        PartNumber::new(number).unwrap()
    }

    #[test]
    fn a_hash_goes_on_from_its_note() {
        let mut running = Running::default();
        running.hash.update(b"first ");
        running.add(number(1), 6, "\"a\"");
        let mut later = Running::of_note(&running.note()).unwrap();
        assert!(later.is_of([(6, "\"a\"")].into_iter()));
        later.hash.update(b"second");
        later.add(number(2), 6, "\"b\"");
        assert_eq!(later.hash.finalize(), Sha256::digest("first second"));
        let newer = RunningNote { state_of: "sha2 0.12".to_owned(), ..running.note() };
        assert!(Running::of_note(&newer).is_none());
    }

    #[test]
    fn parts_that_were_put_again_or_left_out_are_others() {
        let mut running = Running::default();
        running.add(number(1), 5, "\"a\"");
        running.add(number(2), 6, "\"b\"");
        let is_of = |parts: &[(u64, &str)]| running.is_of(parts.iter().copied());
        assert!(is_of(&[(5, "\"a\""), (6, "\"b\"")]));
        for parts in [
            &[(5, "\"a\""), (6, "\"c\"")][..],
            &[(5, "\"a\""), (7, "\"b\"")],
            &[(6, "\"b\""), (5, "\"a\"")],
            &[(5, "\"a\"")],
            &[],
        ] {
            assert!(!is_of(parts), "{parts:?}");
        }
    }

    #[test]
    fn notes_are_told_from_objects() {
        for (object, behind) in [
            ("p/files/.inlet/44136f", Some("p/files/.inlet0")),
            (".inlet/44136f.ab", Some(".inlet0")),
            ("p/files/.inlet0", None),
            ("p/files/a.inlet/b", None),
            ("p/files/a", None),
        ] {
            assert_eq!(behind_notes(object).as_deref(), behind, "{object}");
        }
    }
}
