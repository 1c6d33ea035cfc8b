//! Document ids: UUIDs that say by themselves that Inlet made them.
//!
//! Without an idempotency key an id is a UUIDv7 (RFC 9562): 48 bits of milliseconds and 58 random
//! bits. With a key it is a UUIDv8 cut from SHA-256 of stream and key, so that two instances that
//! know nothing of each other give the same id. In both, the last 16 bits are a checksum
//! (SipHash-2-4 under a fixed key) over the rest: an id that is in neither the store nor the dead letters is
//! `queued` if its checksum holds and unknown (`404`) if it does not, without any index of what
//! is queued. The key is the same everywhere: instances on other machines, and functions that may
//! read no secret, give the same id for the same key. The checksum is no protection; tokens are.
//!
//! ```text
//! byte   0      6      8            14     16
//!        | time | v,r  | variant, r  | sum |    v7
//!        | hash | v,h  | variant, h  | sum |    v8
//! ```
//!
//! At 150,000 ids a second without pause, 58 random bits a millisecond mean one collision in
//! about 800 years; two documents that collide are told apart by their bytes and the second
//! becomes a dead letter, never lost.

use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use rand::RngExt;
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher24;

use crate::document::{IdempotencyKey, StreamName, Timestamp};
use crate::rejection::Rejection;

/// What the checksum of an id is made with. Another key would be another kind of id.
const CHECKSUM_KEY: &[u8; 16] = b"inlet document 1";

/// Where the ids of keys come from. Fixed for good: a repeat must give the same id.
const KEYS: &[u8] = b"inlet idempotency key v1\0";
/// The same for keys of clients that read like that of an item of a batch, `KEY#12`. Without a
/// domain of their own, such a document and that item would be taken for one.
const OWN_KEYS_LIKE_ITEMS: &[u8] = b"inlet idempotency key v2\0";

/// The domain from which the ids of the items of a batch come whose id was minted by an edge.
const MINTED_ITEMS: &[u8] = b"inlet item of a minted batch v1\0";

/// The id of a document and of its receipt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentId([u8; 16]);

impl DocumentId {
    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// A new id for a document without a key, received at `now`.
    pub fn mint(now: Timestamp) -> Self {
        let mut id: [u8; 16] = rand::rng().random();
        // An id can't be older than the epoch, nor can a clock that is.
        let millis = now.as_millis().max(0).to_be_bytes();
        id[..6].copy_from_slice(&millis[2..]);
        seal(id, 0x70)
    }

    /// The id of the document that a client sent with this key of its own into this stream; always
    /// the same one, and never that of an item of a batch.
    pub fn derive(stream: &StreamName, key: &IdempotencyKey) -> Self {
        let domain = if key.names_an_item() { OWN_KEYS_LIKE_ITEMS } else { KEYS };
        hashed(domain, stream, key)
    }

    /// The id of an item of a batch, by the key that [`IdempotencyKey::of_item`] made for it.
    pub fn derive_item(stream: &StreamName, key: &IdempotencyKey) -> Self {
        hashed(KEYS, stream, key)
    }

    /// The id of the document at that index of a batch without keys, whose own id was minted before
    /// an instance had it: always the same one, and of the same moment.
    pub fn of_item(&self, index: usize) -> Self {
        let digest = Sha256::new()
            .chain_update(MINTED_ITEMS)
            .chain_update(self.0)
            .chain_update(u64::try_from(index).unwrap_or(u64::MAX).to_be_bytes())
            .finalize();
        let mut id = self.0;
        id[6..].copy_from_slice(&digest[..10]);
        seal(id, 0x70)
    }

    /// The time at which the document with this id was accepted, to the millisecond, by the clock
    /// of then; nothing for an id that follows from a key.
    pub fn accepted(&self) -> Option<Timestamp> {
        let bytes = &self.0;
        let millis = bytes[..6].iter().fold(0, |millis, byte| millis << 8 | i64::from(*byte));
        (bytes[6] >> 4 == 7).then(|| Timestamp::from_micros(millis * 1_000))
    }

    /// Returns true if it follows from a key, and may be used again after an erasure.
    pub fn is_derived(&self) -> bool {
        self.0[6] >> 4 == 8
    }

    /// Whether Inlet can have made this id: true for all it made, and for one in 65,536 of all
    /// others.
    pub fn is_ours(&self) -> bool {
        checksum(&self.0) == self.0[14..]
    }

    /// The 36 ASCII characters of the hyphenated form.
    pub fn text(&self) -> [u8; 36] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        text
    }
}

/// The first digits of an id, with hyphens where an id has them or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPrefix {
    bytes: [u8; 16],
    digits: usize,
}

/// The fewest digits of a prefix: fewer would be those of many ids.
pub const PREFIX_DIGITS_MIN: usize = 8;

impl IdPrefix {
    /// The first id that begins so, if there were all of them.
    pub fn first(&self) -> DocumentId {
        DocumentId(self.bytes)
    }

    /// The last id that begins so, if there were all of them.
    pub fn last(&self) -> DocumentId {
        let mut last = self.bytes;
        for digit in self.digits..32 {
            last[digit / 2] |= if digit % 2 == 0 { 0xf0 } else { 0x0f };
        }
        DocumentId(last)
    }

    /// Returns true if `id` begins so.
    pub fn is_of(&self, id: &DocumentId) -> bool {
        (self.first()..=self.last()).contains(id)
    }

    /// The moments at which documents were received whose ids begin so and were made without a
    /// key: the first, and the one behind the last.
    pub fn received(&self) -> (Timestamp, Timestamp) {
        let millis = |id: DocumentId| {
            let mut millis = [0; 8];
            millis[2..].copy_from_slice(&id.0[..6]);
            i64::from_be_bytes(millis)
        };
        let moment = |millis: i64| Timestamp::from_micros(millis.saturating_mul(1_000));
        (moment(millis(self.first())), moment(millis(self.last()).saturating_add(1)))
    }
}

impl FromStr for IdPrefix {
    type Err = Rejection;

    /// Reads [`PREFIX_DIGITS_MIN`] to 32 hexadecimal digits, in either case, with all hyphens that
    /// stand between them in an id or with none.
    fn from_str(text: &str) -> Result<Self, Rejection> {
        let (mut bytes, mut digits) = ([0u8; 16], 0);
        let has_hyphens = text.as_bytes().get(8) == Some(&b'-');
        for (at, byte) in text.bytes().enumerate() {
            if has_hyphens && matches!(at, 8 | 13 | 18 | 23) {
                match byte {
                    b'-' => continue,
                    _ => return Err(Rejection::IdInvalid),
                }
            }
            let slot = bytes.get_mut(digits / 2).ok_or(Rejection::IdInvalid)?;
            *slot |= nibble(byte)? << if digits % 2 == 0 { 4 } else { 0 };
            digits += 1;
        }
        if digits < PREFIX_DIGITS_MIN {
            return Err(Rejection::ParameterInvalid {
                name: "prefix",
                expected: "at least 8 hexadecimal digits of an id",
            });
        }
        Ok(Self { bytes, digits })
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(std::str::from_utf8(&text).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DocumentId {
    type Err = Rejection;

    /// Reads the hyphenated form, in either case.
    fn from_str(text: &str) -> Result<Self, Rejection> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 {
            return Err(Rejection::IdInvalid);
        }
        let mut id = [0u8; 16];
        let mut at = 0;
        for (index, slot) in id.iter_mut().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                if bytes[at] != b'-' {
                    return Err(Rejection::IdInvalid);
                }
                at += 1;
            }
            *slot = (nibble(bytes[at])? << 4) | nibble(bytes[at + 1])?;
            at += 2;
        }
        Ok(Self(id))
    }
}

fn nibble(digit: u8) -> Result<u8, Rejection> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(Rejection::IdInvalid),
    }
}

fn hashed(domain: &[u8], stream: &StreamName, key: &IdempotencyKey) -> DocumentId {
    // The separator can't be part of a stream name, so no two pairs give the same input.
    let digest = Sha256::new()
        .chain_update(domain)
        .chain_update(stream.as_str())
        .chain_update(b"\0")
        .chain_update(key.as_str())
        .finalize();
    let mut id = [0u8; 16];
    id.copy_from_slice(&digest[..16]);
    seal(id, 0x80)
}

fn seal(mut id: [u8; 16], version: u8) -> DocumentId {
    id[6] = (id[6] & 0x0f) | version;
    id[8] = (id[8] & 0x3f) | 0x80;
    let sum = checksum(&id);
    id[14..].copy_from_slice(&sum);
    DocumentId(id)
}

fn checksum(id: &[u8; 16]) -> [u8; 2] {
    let mut hasher = SipHasher24::new_with_key(CHECKSUM_KEY);
    hasher.write(&id[..14]);
    let sum = hasher.finish().to_le_bytes();
    [sum[0], sum[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = DocumentId::mint(Timestamp::from_micros(1_795_226_598_000_000));
        assert_eq!(id.to_string().parse::<DocumentId>().unwrap(), id);
        assert_eq!(id.to_string().to_uppercase().parse::<DocumentId>().unwrap(), id);
        assert_eq!(&id.to_string()[14..15], "7");
        assert_eq!(id.accepted(), Some(Timestamp::from_micros(1_795_226_598_000_000)));
        assert!(!id.is_derived());
    }

    #[test]
    fn the_items_of_a_minted_batch_have_ids_of_their_own_that_are_always_the_same() {
        let batch = DocumentId::mint(Timestamp::from_micros(1_795_226_598_000_000));
        let other = DocumentId::mint(Timestamp::from_micros(1_795_226_598_000_000));
        let ids: std::collections::HashSet<_> =
            (0..100).flat_map(|index| [batch.of_item(index), other.of_item(index)]).collect();
        assert_eq!(ids.len(), 200);
        for index in 0..100 {
            let id = batch.of_item(index);
            assert_eq!(id, batch.of_item(index));
            assert!(id.is_ours() && !id.is_derived() && id != batch);
            assert_eq!(id.accepted(), batch.accepted());
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in [
            "",
            "x",
            "0190a0b0-0000-7000-8000-00000000000g",
            "0190a0b0_0000-7000-8000-000000000000",
        ] {
            assert!(text.parse::<DocumentId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_prefix_is_of_the_ids_that_begin_so_and_of_no_other() {
        let id: DocumentId = "019aa2f0-1234-7abc-8def-0123456789ab".parse().unwrap();
        let text = id.to_string();
        for digits in 8..=36 {
            let prefix: IdPrefix = text[..digits].parse().unwrap();
            assert!(prefix.is_of(&id), "{prefix:?}");
            let (from, to) = prefix.received();
            let received = Timestamp::from_micros(0x019a_a2f0_1234 * 1_000);
            assert!(from <= received && received < to, "{prefix:?}");
        }
        let prefix: IdPrefix = "019AA2F01".parse().unwrap();
        assert_eq!(prefix.first().to_string(), "019aa2f0-1000-0000-0000-000000000000");
        assert_eq!(prefix.last().to_string(), "019aa2f0-1fff-ffff-ffff-ffffffffffff");
        for text in [
            "",
            "019aa2f",
            "019aa2fg",
            "019-aa2f0",
            "019aa2f0--1",
            "019aa2f0-11112",
            &format!("{text}0"),
        ] {
            assert!(text.parse::<IdPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn our_own_ids_are_known_and_hardly_any_other() {
        let now = Timestamp::from_micros(1_795_226_598_000_000);
        assert!((0..1000).all(|_| DocumentId::mint(now).is_ours()));
        let taken_for_ours =
            (0..1000).filter(|_| DocumentId::from_bytes(rand::rng().random()).is_ours()).count();
        assert!(taken_for_ours < 5, "{taken_for_ours}");
    }

    #[test]
    fn a_key_gives_the_same_id_in_one_stream_and_another_in_another() {
        let key = IdempotencyKey::new("order-1").unwrap();
        let (orders, returns) =
            (StreamName::new("orders").unwrap(), StreamName::new("returns").unwrap());
        assert_eq!(DocumentId::derive(&orders, &key), DocumentId::derive(&orders, &key));
        assert_ne!(DocumentId::derive(&orders, &key), DocumentId::derive(&returns, &key));
        assert!(DocumentId::derive(&orders, &key).is_ours());
        assert_eq!(DocumentId::derive(&orders, &key).accepted(), None);
        assert!(DocumentId::derive(&orders, &key).is_derived());
        // Fixed for good: a deployment on many machines, and every version, gives this id.
        assert_eq!(
            DocumentId::derive(&orders, &key).to_string(),
            "4aa23fc6-17b1-8898-b1f4-d5ab53bcc774"
        );
    }

    #[test]
    fn an_item_of_a_batch_has_the_id_it_always_had_and_no_key_of_a_client_gives_it() {
        let stream = StreamName::new("orders").unwrap();
        for text in ["K#0", "K#1", "K#1#12", "#1#2"] {
            let key = IdempotencyKey::new(text).unwrap();
            let item = DocumentId::derive_item(&stream, &key);
            assert_ne!(item, DocumentId::derive(&stream, &key), "{text}");
            assert!(item.is_ours() && DocumentId::derive(&stream, &key).is_ours());
        }
        for text in ["K", "K#", "#1", "K#01", "K#-1", "K#1x", "K#1 "] {
            let key = IdempotencyKey::new(text).unwrap();
            assert_eq!(DocumentId::derive_item(&stream, &key), DocumentId::derive(&stream, &key));
        }
        let item = IdempotencyKey::new("K#1").unwrap();
        assert_eq!(
            DocumentId::derive_item(&stream, &item).to_string(),
            "28eebe57-a418-8068-8129-c75d0146ecfa"
        );
    }
}
