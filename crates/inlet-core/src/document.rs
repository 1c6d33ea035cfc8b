//! A document and the names it goes by.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp as JiffTimestamp;
use md5::{Digest, Md5};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;

use crate::id::DocumentId;
use crate::rejection::Rejection;

/// The longest stream name, in bytes.
pub const STREAM_NAME_BYTES_MAX: usize = 64;
/// The name of the stream of documents that name none.
const DEFAULT_NAME: &str = "default";
/// The longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 255;

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
///
/// It is wall-clock time and may go backwards; nothing is ordered by it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `micros` microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Milliseconds since the epoch, rounded down.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Reads a moment exactly as RFC 3339 has it (`2026-11-21T02:03:18.5+01:00`), with at most nine
    /// digits of a second, and before the year 9999. The calendar library takes more forms.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let (moment, rest) = text.as_bytes().split_at_checked(19)?;
        let fits = |(byte, shape): (&u8, &u8)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte.eq_ignore_ascii_case(other),
        };
        let is_moment = moment.iter().zip(b"0000-00-00T00:00:00").all(fits);
        let digits = rest
            .strip_prefix(b".")
            .map(|rest| rest.iter().take_while(|digit| digit.is_ascii_digit()).count());
        let is_fraction = digits.is_none_or(|digits| (1..=9).contains(&digits));
        let is_zone = match &rest[digits.map_or(0, |digits| digits + 1)..] {
            b"Z" | b"z" => true,
            [b'+' | b'-', tens, hours, b':', b'0'..=b'5', minutes] => {
                [tens, hours, minutes].iter().all(|digit| digit.is_ascii_digit())
                    && (*tens, *hours) < (b'2', b'4')
            }
            _ => false,
        };
        let is_it = is_moment && is_fraction && is_zone && !moment.starts_with(b"9999");
        if is_it { text.parse().ok() } else { None }
    }

    /// The time from `earlier` to this moment; zero where it is later, because the clock went back.
    pub fn since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// The same moment as the calendar library's type; moments outside its range (the years
    /// -9999 to 9999) are moved to the nearest one inside.
    pub fn to_jiff(self) -> JiffTimestamp {
        JiffTimestamp::from_microsecond(self.0).unwrap_or(if self.0 < 0 {
            JiffTimestamp::MIN
        } else {
            JiffTimestamp::MAX
        })
    }
}

/// RFC 3339 in UTC with microseconds, for example `2026-11-21T02:03:18.000000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.to_jiff())
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Reads RFC 3339 (`2026-11-21T02:03:18Z`).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<JiffTimestamp>().map(|moment| Self(moment.as_microsecond()))
    }
}

/// The name of a stream: 1 to 64 of `A-Z a-z 0-9 _ -`, not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName(Arc<str>);

impl StreamName {
    /// Checks `name` and keeps it.
    pub fn new(name: &str) -> Result<Self, Rejection> {
        let fits = (1..=STREAM_NAME_BYTES_MAX).contains(&name.len())
            && !name.starts_with('-')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits { Ok(Self(Arc::from(name))) } else { Err(Rejection::StreamNameInvalid) }
    }

    /// Whether it is the stream of documents that name none.
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT_NAME
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The stream of documents that name none: `default`.
impl Default for StreamName {
    fn default() -> Self {
        static DEFAULT: LazyLock<StreamName> =
            LazyLock::new(|| StreamName(Arc::from(DEFAULT_NAME)));
        DEFAULT.clone()
    }
}

/// As its text; text that is no stream name is refused.
impl Serialize for StreamName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for StreamName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client's `Idempotency-Key`: 1 to 255 visible ASCII characters or spaces.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    /// Checks `key` and keeps it.
    pub fn new(key: &str) -> Result<Self, Rejection> {
        let fits = (1..=KEY_BYTES_MAX).contains(&key.len())
            && key.bytes().all(|b| (0x20..=0x7e).contains(&b));
        if fits { Ok(Self(Box::from(key))) } else { Err(Rejection::KeyInvalid) }
    }

    /// The key of the item at `index`, from 0, of a batch with this key: `KEY#INDEX`.
    ///
    /// # Errors
    /// [`Rejection::KeyTooLong`] where that is more than [`KEY_BYTES_MAX`].
    pub fn of_item(&self, index: usize) -> Result<Self, Rejection> {
        let key = format!("{}#{index}", self.0);
        match key.len() {
            ..=KEY_BYTES_MAX => Ok(Self(key.into_boxed_str())),
            bytes => Err(Rejection::KeyTooLong { limit: KEY_BYTES_MAX - (bytes - self.0.len()) }),
        }
    }

    /// Whether it reads like a key that [`of_item`](Self::of_item) makes.
    pub fn names_an_item(&self) -> bool {
        self.0.rsplit_once('#').is_some_and(|(key, index)| {
            let is_number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
            !key.is_empty() && is_number && (index == "0" || !index.starts_with('0'))
        })
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One JSON value as a client sent it, and what Inlet noted about it at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id, which is also its receipt's.
    pub id: DocumentId,
    /// The stream it belongs to.
    pub stream: StreamName,
    /// The key the client gave, if it gave one.
    pub key: Option<IdempotencyKey>,
    /// When it was accepted.
    pub received: Timestamp,
    /// The number of erasures that the store had counted, as far as the instance that accepted it
    /// knew: it is erased by a later one. 0 without a key, as such an id is used once. `None` where
    /// that instance knew of none because it has no right to the store, or is of an older version.
    pub generation: Option<u64>,
    /// The bytes as they were sent (after content decoding); valid UTF-8 and valid JSON.
    pub body: Bytes,
}

impl Document {
    /// The MD5 of the body, as SQS reports it; a fingerprint for clients, no protection.
    pub fn md5(&self) -> [u8; 16] {
        md5(&self.body)
    }

    /// The hash by which its body is compared with one that is stored.
    pub fn body_hash(&self) -> BodyHash {
        BodyHash::of(&self.body)
    }

    /// The body as text.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// A document that is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDocument {
    /// The document.
    pub document: Document,
    /// When the store took it.
    pub stored: Timestamp,
}

/// The SHA-256 of a body. Two bodies with the same hash are taken to be the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyHash([u8; 32]);

impl BodyHash {
    /// The hash of `body`.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The MD5 of `bytes`.
pub fn md5(bytes: &[u8]) -> [u8; 16] {
    Md5::digest(bytes).into()
}

/// `bytes` as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The bytes that pairs of hexadecimal digits stand for; `None` where `text` is anything else.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_read_exactly_as_rfc_3339_has_it() {
        for good in [
            "2026-11-21T02:03:18Z",
            "2026-11-21t02:03:18z",
            "2026-11-21T02:03:18.123456789+23:59",
            "2026-11-21T02:03:18-00:00",
            "0001-01-01T00:00:00Z",
            "9998-12-31T23:59:59-23:59",
            "2024-02-29T00:00:00.1Z",
        ] {
            assert!(Timestamp::from_rfc3339(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T02:03:18",
            "2026-11-21 02:03:18Z",
            "2026-11-21T02:03Z",
            "2026-11-21T02:03:18.Z",
            "2026-11-21T02:03:18.1234567890Z",
            "2026-11-21T02:03:18+24:00",
            "2026-11-21T02:03:18+01",
            "2026-11-21T02:03:18+01:60",
            "2026-11-21T02:03:18Z[Europe/Berlin]",
            "2026-02-30T02:03:18Z",
            "2026-11-21T24:03:18Z",
            "9999-01-01T00:00:00Z",
            "+2026-11-21T02:03:18Z",
            "yesterday",
        ] {
            assert!(Timestamp::from_rfc3339(bad).is_none(), "{bad}");
        }
    }
}
