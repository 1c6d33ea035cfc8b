//! A document as one run of bytes, for the queue and the cache.
//!
//! ```text
//! version     u8        1 or 2
//! id          16 bytes
//! received    i64       microseconds since the epoch, little endian
//! generation  u64       little endian; in version 2 only, 0 in version 1
//! stream      u8 length, then that many bytes
//! key         u8 length, then that many bytes; 0 for none
//! body        the rest
//! ```
//!
//! Version 2 is written where the generation is not 0, which is after an erasure only: binaries
//! that know version 1 alone read all others. The record around it carries the checksum. A newer
//! version is refused by name, so that an old binary beside a new one sets nothing wrong.

use bytes::{BufMut, Bytes, BytesMut};

use crate::document::{Document, IdempotencyKey, StreamName, Timestamp};
use crate::id::DocumentId;

const VERSION: u8 = 1;
const VERSION_WITH_GENERATION: u8 = 2;
const FIXED_BYTES: usize = 1 + 16 + 8;

/// Why bytes are no envelope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the envelope ends after {0} bytes")]
    Short(usize),
    /// It was written by a newer binary.
    #[error("the envelope has version {0}, this binary knows {VERSION_WITH_GENERATION}")]
    Version(u8),
    /// A name in it is not one that we would have let in.
    #[error("the envelope names a stream or key that is not allowed")]
    Name,
}

/// What comes before the body.
pub fn head(document: &Document) -> Bytes {
    let (stream, key) = (document.stream.as_str(), document.key.as_ref());
    let key = key.map_or("", IdempotencyKey::as_str);
    let mut head = BytesMut::with_capacity(FIXED_BYTES + 8 + 2 + stream.len() + key.len());
    let generation = document.generation.filter(|generation| *generation > 0);
    head.put_u8(generation.map_or(VERSION, |_| VERSION_WITH_GENERATION));
    head.put_slice(document.id.as_bytes());
    head.put_i64_le(document.received.as_micros());
    if let Some(generation) = generation {
        head.put_u64_le(generation);
    }
    for name in [stream, key] {
        head.put_u8(u8::try_from(name.len()).expect("names are at most 255 bytes"));
        head.put_slice(name.as_bytes());
    }
    head.freeze()
}

/// The whole envelope.
pub fn encode(document: &Document) -> Bytes {
    let mut bytes = BytesMut::from(head(document));
    bytes.put_slice(&document.body);
    bytes.freeze()
}

/// The document in an envelope; its body shares the envelope's memory.
pub fn decode(bytes: &Bytes) -> Result<Document, DecodeError> {
    let version = *bytes.first().ok_or(DecodeError::Short(0))?;
    if !matches!(version, VERSION | VERSION_WITH_GENERATION) {
        return Err(DecodeError::Version(version));
    }
    let short = || DecodeError::Short(bytes.len());
    let fixed: &[u8; FIXED_BYTES] = bytes.first_chunk().ok_or_else(short)?;
    let (mut id, mut received) = ([0; 16], [0; 8]);
    id.copy_from_slice(&fixed[1..17]);
    received.copy_from_slice(&fixed[17..]);
    let mut at = FIXED_BYTES;
    let mut generation = 0;
    if version == VERSION_WITH_GENERATION {
        let bytes: &[u8; 8] = bytes[at..].first_chunk().ok_or_else(short)?;
        generation = u64::from_le_bytes(*bytes);
        at += 8;
    }
    let mut name = || {
        let length = usize::from(*bytes.get(at).ok_or_else(short)?);
        let text = bytes.get(at + 1..at + 1 + length).ok_or_else(short)?;
        at += 1 + length;
        std::str::from_utf8(text).map_err(|_| DecodeError::Name)
    };
    let stream = StreamName::new(name()?).map_err(|_| DecodeError::Name)?;
    let key = match name()? {
        "" => None,
        key => Some(IdempotencyKey::new(key).map_err(|_| DecodeError::Name)?),
    };
    Ok(Document {
        id: DocumentId::from_bytes(id),
        stream,
        key,
        received: Timestamp::from_micros(i64::from_le_bytes(received)),
        generation: Some(generation),
        body: bytes.slice(at..),
    })
}

/// The ids of the envelopes whose heads are whole somewhere in `bytes`, in order: for bytes that
/// were set aside because something in them is damaged.
pub fn find_ids(bytes: &[u8]) -> Vec<DocumentId> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut ids = Vec::new();
    let mut from = 0;
    while let Some(at) = memchr::memchr(VERSION, &bytes[from..]) {
        let start = from + at;
        from = start + 1;
        if let Some(id) = bytes.get(start + 1..start + 17)
            && let Ok(id) = <[u8; 16]>::try_from(id)
            && DocumentId::from_bytes(id).is_ours()
            && decode(&bytes.slice(start..)).is_ok()
        {
            ids.push(DocumentId::from_bytes(id));
            from = start + FIXED_BYTES;
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(key: Option<&str>, generation: u64) -> Document {
        Document {
            generation: Some(generation),
            id: DocumentId::from_bytes([9; 16]),
            stream: StreamName::new("orders").unwrap(),
            key: key.map(|key| IdempotencyKey::new(key).unwrap()),
            received: Timestamp::from_micros(-5),
            body: Bytes::from_static(b"{\"a\":1}"),
        }
    }

    #[test]
    fn a_document_survives_its_envelope() {
        for key in [None, Some("k-1")] {
            for generation in [0, 1, u64::MAX] {
                let document = document(key, generation);
                assert_eq!(decode(&encode(&document)).unwrap(), document);
            }
        }
    }

    #[test]
    fn a_document_that_no_erasure_came_before_is_written_as_older_binaries_read_it() {
        assert_eq!(encode(&document(Some("k-1"), 0))[0], 1);
        assert_eq!(encode(&document(Some("k-1"), 1))[0], 2);
    }

    #[test]
    fn an_envelope_cut_short_of_its_body_is_refused() {
        for generation in [0, 7] {
            let document = document(Some("k-1"), generation);
            let whole = encode(&document);
            for length in 0..whole.len() - document.body.len() {
                assert!(decode(&whole.slice(..length)).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn ids_are_found_in_bytes_in_which_something_is_damaged() {
        let documents: Vec<Document> = (0..3)
            .map(|n| Document {
                id: DocumentId::mint(Timestamp::from_micros(n)),
                ..document(None, 0)
            })
            .collect();
        let mut bytes = vec![1; 40];
        for document in &documents {
            bytes.extend([9; 21]);
            bytes.extend(encode(document));
        }
        let found = find_ids(&bytes);
        assert_eq!(found, documents.iter().map(|document| document.id).collect::<Vec<_>>());
        // Of the second one the id itself is damaged.
        let at = bytes.windows(16).position(|bytes| bytes == documents[1].id.as_bytes()).unwrap();
        bytes[at + 3] ^= 1;
        assert_eq!(find_ids(&bytes), [documents[0].id, documents[2].id]);
    }

    #[test]
    fn a_newer_version_is_named() {
        assert_eq!(decode(&Bytes::from_static(&[3; 40])), Err(DecodeError::Version(3)));
    }
}
