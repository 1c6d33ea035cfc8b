//! Content encodings: a body as it was sent to a body as it was meant, and not a byte more than
//! the limit.
//!
//! A body that inflates without end is refused while it inflates. Decoding one costs at most the
//! limit in memory, twice that while the last of it is moved, and the window of its encoding:
//! 32 KiB for gzip, at most 8 MiB for zstd (RFC 8878, 3.1.1.1.2 recommends to support that much).
//! What it costs is taken from the budget of the process before it is allocated.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use crate::budget::Share;
use crate::error::Error;
use crate::failure::Failure;
use crate::rejection::Rejection;

/// The base-2 logarithm of the largest zstd window, in bytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// What is reserved first for each byte that was sent: JSON shrinks to about a quarter.
const GUESSED_RATIO: usize = 4;
/// The least that is reserved, in bytes, so that a decoder is not asked for crumbs.
const RESERVED_BYTES_MIN: usize = 4 << 10;

/// How the bytes of a body stand for the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// They are it.
    Identity,
    /// gzip (RFC 1952), one member or several.
    Gzip,
    /// Zstandard (RFC 8878), one frame or several.
    Zstd,
}

impl Encoding {
    /// Reads a `Content-Encoding` header, whatever its case. None, an empty one and `identity` are
    /// the same, and `x-gzip` is `gzip` (RFC 9110, 8.4.1.3). One encoding on top of another is
    /// not decoded.
    ///
    /// # Errors
    ///
    /// [`Rejection::EncodingUnsupported`] for everything else.
    pub fn from_header(value: Option<&str>) -> Result<Self, Rejection> {
        let Some(value) = value else {
            return Ok(Self::Identity);
        };
        let value = value.trim_matches([' ', '\t']);
        let is = |name: &str| value.eq_ignore_ascii_case(name);
        if value.is_empty() || is("identity") {
            Ok(Self::Identity)
        } else if is("gzip") || is("x-gzip") {
            Ok(Self::Gzip)
        } else if is("zstd") {
            Ok(Self::Zstd)
        } else {
            Err(Rejection::EncodingUnsupported)
        }
    }
}

/// Decodes a body of at most `limit_bytes`, counted after decoding. With [`Encoding::Identity`]
/// the same bytes are given back, without a copy. `share` has the bytes as they were sent, and
/// afterwards those that are given back.
///
/// # Errors
///
/// [`Rejection::BodyTooLarge`] as soon as it is larger than the limit,
/// [`Rejection::EncodingInvalid`] where it is cut short, damaged, nothing at all, or followed by
/// something else, and a failure where the budget has no more.
pub fn decode(
    encoding: Encoding,
    bytes: Bytes,
    limit_bytes: usize,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let (name, decoded) = match encoding {
        Encoding::Identity if bytes.len() > limit_bytes => {
            return Err(Rejection::BodyTooLarge { limit_bytes }.into());
        }
        Encoding::Identity => return Ok(bytes),
        Encoding::Gzip => ("gzip", read_gzip(&bytes, limit_bytes, share)),
        Encoding::Zstd => ("zstd", read_zstd(&bytes, limit_bytes, share)),
    };
    match decoded {
        Ok(decoded) => {
            drop(bytes);
            share.shrink_to(decoded.len());
            Ok(decoded)
        }
        Err(ReadError::TooLarge) => Err(Rejection::BodyTooLarge { limit_bytes }.into()),
        Err(ReadError::Invalid) => Err(Rejection::EncodingInvalid(name).into()),
        Err(ReadError::OverBudget(failure)) => Err(failure.into()),
    }
}

/// Why a body was not read to its end.
enum ReadError {
    Invalid,
    TooLarge,
    OverBudget(Failure),
}

impl From<io::Error> for ReadError {
    /// What is wrong with the bytes is nothing that a client could act on.
    fn from(_: io::Error) -> Self {
        Self::Invalid
    }
}

fn read_gzip(bytes: &[u8], limit_bytes: usize, share: &mut Share) -> Result<Bytes, ReadError> {
    refuse_nothing(bytes)?;
    read_capped(MultiGzDecoder::new(bytes), bytes.len(), limit_bytes, share)
}

fn read_zstd(bytes: &[u8], limit_bytes: usize, share: &mut Share) -> Result<Bytes, ReadError> {
    refuse_nothing(bytes)?;
    let mut decoder = zstd::Decoder::with_buffer(bytes)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    read_capped(decoder, bytes.len(), limit_bytes, share)
}

/// Nothing is no member and no frame, though the decoders read it as none of them.
fn refuse_nothing(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

/// Reads to the end, as far as the limit and the budget allow.
fn read_capped(
    mut decoder: impl Read,
    sent_bytes: usize,
    limit_bytes: usize,
    share: &mut Share,
) -> Result<Bytes, ReadError> {
    // The one byte more tells a body that just fits from one that does not.
    let reserved_max = limit_bytes.saturating_add(1);
    let guessed = sent_bytes.saturating_mul(GUESSED_RATIO).max(RESERVED_BYTES_MIN);
    let reserved = guessed.min(reserved_max);
    share.grow(reserved).map_err(ReadError::OverBudget)?;
    let mut decoded = vec![0; reserved];
    let mut length = 0;
    loop {
        if length > limit_bytes {
            return Err(ReadError::TooLarge);
        }
        if length == decoded.len() {
            let reserved = decoded.len().saturating_mul(2).min(reserved_max);
            share.grow(reserved - decoded.len()).map_err(ReadError::OverBudget)?;
            decoded.reserve_exact(reserved - decoded.len());
            decoded.resize(reserved, 0);
        }
        match decoder.read(&mut decoded[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    // A document may wait in the queue, so what it does not need is given back.
    decoded.truncate(length);
    decoded.shrink_to_fit();
    Ok(decoded.into())
}
