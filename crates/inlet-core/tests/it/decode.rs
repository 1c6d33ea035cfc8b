//! Content encodings.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use inlet_core::budget::Budget;
use inlet_core::decode::{Encoding, decode};
use inlet_core::error::Error;
use inlet_core::failure::FailureKind;
use inlet_core::rejection::Rejection;

const BODY: &[u8] =
    br#"{"order":17,"items":[{"sku":"A-1"},{"sku":"B-2"}],"note":"left at the door"}"#;
const LIMIT_BYTES: usize = 1 << 20;

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn zstd(body: &[u8]) -> Vec<u8> {
    zstd::encode_all(body, 3).unwrap()
}

/// Both encodings: with its name, and what it makes of a body.
#[expect(clippy::type_complexity, reason = "it is said once, and read in the line below")]
const BOTH: [(Encoding, &str, fn(&[u8]) -> Vec<u8>); 2] =
    [(Encoding::Gzip, "gzip", gzip), (Encoding::Zstd, "zstd", zstd)];

fn decoded(encoding: Encoding, bytes: Vec<u8>, limit_bytes: usize) -> Result<Bytes, Rejection> {
    let budget = Budget::new(1 << 30);
    match decode(encoding, bytes.into(), limit_bytes, &mut budget.share()) {
        Ok(decoded) => Ok(decoded),
        Err(Error::Rejected(rejection)) => Err(rejection),
        Err(Error::Failed(failure)) => panic!("{failure}"),
    }
}

#[test]
fn a_header_names_its_encoding_in_any_case() {
    for (value, encoding) in [
        (None, Encoding::Identity),
        (Some(""), Encoding::Identity),
        (Some("  "), Encoding::Identity),
        (Some("Identity"), Encoding::Identity),
        (Some("gzip"), Encoding::Gzip),
        (Some(" GZip "), Encoding::Gzip),
        (Some("X-GZIP"), Encoding::Gzip),
        (Some("zstd"), Encoding::Zstd),
        (Some("ZSTD"), Encoding::Zstd),
    ] {
        assert_eq!(Encoding::from_header(value), Ok(encoding), "{value:?}");
    }
}

#[test]
fn other_encodings_and_lists_of_them_are_refused() {
    for value in ["br", "deflate", "compress", "gzip, gzip", "gzip,", "identity, gzip", "gz", "*"] {
        let found = Encoding::from_header(Some(value));
        assert_eq!(found, Err(Rejection::EncodingUnsupported), "{value}");
    }
}

#[test]
fn a_body_that_is_not_encoded_is_given_back_without_a_copy() {
    let body = Bytes::from_static(BODY);
    let budget = Budget::new(0);
    let share = &mut budget.share();
    let found = decode(Encoding::Identity, body.clone(), BODY.len(), share).unwrap();
    assert_eq!((found.as_ptr(), found.len()), (body.as_ptr(), body.len()));
    let limit_bytes = BODY.len() - 1;
    let refused = decoded(Encoding::Identity, BODY.to_vec(), limit_bytes);
    assert_eq!(refused, Err(Rejection::BodyTooLarge { limit_bytes }));
    assert_eq!(decoded(Encoding::Identity, Vec::new(), 0), Ok(Bytes::new()));
}

#[test]
fn what_inflates_is_taken_from_the_budget_before_it_is_allocated_and_given_back_at_the_end() {
    let body = vec![b' '; 1 << 20];
    for (encoding, name, encode) in BOTH {
        let sent = Bytes::from(encode(&body));
        let budget = Budget::new(2 << 20);
        let mut share = budget.share();
        share.grow(sent.len()).unwrap();
        let found = decode(encoding, sent.clone(), 1 << 20, &mut share).unwrap();
        assert_eq!((found.len(), share.bytes()), (1 << 20, 1 << 20), "{name}");
        drop(share);
        assert_eq!(budget.taken_bytes(), 0, "{name}");

        let budget = Budget::new(512 << 10);
        let mut share = budget.share();
        share.grow(sent.len()).unwrap();
        match decode(encoding, sent, 1 << 20, &mut share) {
            Err(Error::Failed(failure)) => assert_eq!(failure.kind(), FailureKind::Full, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_body_survives_its_encoding_up_to_the_limit_and_not_a_byte_further() {
    for (encoding, name, encode) in BOTH {
        for length in [0, 1, BODY.len(), 4_095, 4_096, 4_097, 100_000] {
            let body: Vec<_> = BODY.iter().copied().cycle().take(length).collect();
            let found = decoded(encoding, encode(&body), length);
            assert_eq!(found, Ok(body.clone().into()), "{name} {length}");
            if let Some(limit_bytes) = length.checked_sub(1) {
                let found = decoded(encoding, encode(&body), limit_bytes);
                assert_eq!(found, Err(Rejection::BodyTooLarge { limit_bytes }), "{name} {length}");
            }
        }
    }
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    // Deflate (RFC 1951) makes at most 1,032 bytes of one.
    let (zeros, limit_bytes) = (vec![0; 64 << 20], LIMIT_BYTES);
    for ((encoding, name, encode), ratio) in BOTH.into_iter().zip([1_000, 10_000]) {
        let bomb = encode(&zeros);
        assert!(bomb.len() * ratio < zeros.len(), "{name}: {} bytes", bomb.len());
        let found = decoded(encoding, bomb, limit_bytes);
        assert_eq!(found, Err(Rejection::BodyTooLarge { limit_bytes }), "{name}");
    }
}

#[test]
fn a_body_that_is_cut_anywhere_is_refused() {
    for (encoding, name, encode) in BOTH {
        let whole = encode(BODY);
        for length in 0..whole.len() {
            let found = decoded(encoding, whole[..length].to_vec(), LIMIT_BYTES);
            assert_eq!(found, Err(Rejection::EncodingInvalid(name)), "{name} {length}");
        }
    }
}

#[test]
fn a_body_with_something_behind_it_is_refused() {
    for (encoding, name, encode) in BOTH {
        for more in [&b"\0"[..], b"x", b"\0\0\0\0\0\0\0\0", BODY, b"\x1f", b"\x28\xb5\x2f"] {
            let found = decoded(encoding, [&encode(BODY), more].concat(), LIMIT_BYTES);
            assert_eq!(found, Err(Rejection::EncodingInvalid(name)), "{name} {more:?}");
        }
    }
}

#[test]
fn several_members_or_frames_are_one_body() {
    for (encoding, name, encode) in BOTH {
        let (begin, end) = BODY.split_at(20);
        let parts = [encode(begin), encode(b""), encode(end)].concat();
        assert_eq!(decoded(encoding, parts, LIMIT_BYTES), Ok(BODY.into()), "{name}");
    }
}

#[test]
fn a_body_in_another_encoding_than_it_says_is_refused() {
    for (encoding, name, _) in BOTH {
        let other = if encoding == Encoding::Gzip { zstd(BODY) } else { gzip(BODY) };
        for body in [BODY.to_vec(), other] {
            let found = decoded(encoding, body, LIMIT_BYTES);
            assert_eq!(found, Err(Rejection::EncodingInvalid(name)), "{name}");
        }
    }
}

#[test]
fn a_flipped_bit_in_gzip_never_gives_another_body() {
    let whole = gzip(BODY);
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // Time stamp and system in its head are not part of the body.
        if let Ok(found) = decoded(Encoding::Gzip, damaged, LIMIT_BYTES) {
            assert_eq!(found, BODY, "bit {bit}");
        }
    }
}

#[test]
fn a_window_of_more_than_8_mib_is_refused() {
    let encoded = |window_log| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        encoder.write_all(BODY).unwrap();
        // Without this, the frame is told to be as small as its only block.
        encoder.flush().unwrap();
        encoder.write_all(BODY).unwrap();
        encoder.finish().unwrap()
    };
    let twice = [BODY, BODY].concat();
    assert_eq!(decoded(Encoding::Zstd, encoded(23), LIMIT_BYTES), Ok(twice.into()));
    let found = decoded(Encoding::Zstd, encoded(24), LIMIT_BYTES);
    assert_eq!(found, Err(Rejection::EncodingInvalid("zstd")));
}
