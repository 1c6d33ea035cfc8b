//! A file on its way in: bounded, paced, and checked against what the request says it is.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::ByteStream;
use inlet_core::rejection::Rejection;
use inlet_server::Body;
use md5::Md5;
use sha2::{Digest, Sha256};

use super::too_large;
use crate::body::broken;
use crate::call::Call;

/// Where a client may say what the bytes are, by SHA-256 in base64: as S3's clients do, and as
/// RFC 9530 has it.
const SHA256_HEADERS: [(HeaderName, &str); 3] = [
    (HeaderName::from_static("x-amz-checksum-sha256"), "x-amz-checksum-sha256"),
    (HeaderName::from_static("content-digest"), "Content-Digest"),
    (HeaderName::from_static("repr-digest"), "Repr-Digest"),
];
const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// The body of a request, as the bucket takes it.
pub(super) struct IncomingFile {
    body: Body,
    came: u64,
    bytes_max: u64,
    sha256: Option<Expected<Sha256>>,
    md5: Option<Expected<Md5>>,
    /// Why it was broken off, where that is the client's doing.
    rejection: Option<Rejection>,
}

/// A checksum that the client announced, and the one of what came so far.
struct Expected<D> {
    header: &'static str,
    announced: Vec<u8>,
    hash: D,
}

impl<D: Digest> Expected<D> {
    fn new(header: &'static str, text: &str) -> Result<Self, Rejection> {
        let hash = D::new();
        let announced = STANDARD.decode(text.trim()).ok();
        match announced.filter(|announced| announced.len() == <D as Digest>::output_size()) {
            Some(announced) => Ok(Self { header, announced, hash }),
            None => {
                let expected = "a checksum in base64, of the right length";
                Err(Rejection::ParameterInvalid { name: header, expected })
            }
        }
    }

    fn check(self) -> Result<(), Rejection> {
        match *self.hash.finalize() == *self.announced {
            true => Ok(()),
            false => Err(Rejection::ChecksumMismatch(self.header)),
        }
    }
}

impl IncomingFile {
    /// The body of `call`, of at most `bytes_max`.
    pub(super) fn new(call: &Call<'_>, body: Body, bytes_max: u64) -> Result<Self, Rejection> {
        let headers = &call.head.headers;
        Ok(Self {
            body,
            came: 0,
            bytes_max,
            sha256: announced_sha256(headers)?,
            md5: match headers.get(CONTENT_MD5) {
                Some(text) => {
                    Some(Expected::new("Content-MD5", text.to_str().unwrap_or_default())?)
                }
                None => None,
            },
            rejection: None,
        })
    }

    /// Why it was not put: through the client's doing, or as `failure` says.
    pub(super) fn blame(&mut self, failure: Failure) -> Error {
        match self.rejection.take() {
            Some(rejection) => rejection.into(),
            None => failure.into(),
        }
    }

    /// The next piece, once it is counted and hashed; at the end, whether all is as it should.
    async fn step(&mut self) -> Result<Option<Bytes>, Rejection> {
        let Some(piece) = self.body.piece().await.transpose().map_err(broken)? else {
            self.sha256.take().map_or(Ok(()), Expected::check)?;
            self.md5.take().map_or(Ok(()), Expected::check)?;
            return Ok(None);
        };
        self.came += piece.len() as u64;
        if self.came > self.bytes_max {
            return Err(too_large(self.bytes_max));
        }
        if let Some(expected) = &mut self.sha256 {
            expected.hash.update(&piece);
        }
        if let Some(expected) = &mut self.md5 {
            expected.hash.update(&piece);
        }
        Ok(Some(piece))
    }
}

#[async_trait]
impl ByteStream for IncomingFile {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match self.step().await {
            Ok(piece) => piece.map(Ok),
            Err(rejection) => {
                let failure = Failure::new(FailureKind::Refused, "take", "the client's bytes")
                    .because(rejection.to_string());
                self.rejection = Some(rejection);
                Some(Err(failure))
            }
        }
    }

    fn bytes_left(&self) -> Option<u64> {
        self.body.left()
    }
}

/// Bytes as base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The SHA-256 that the request says its body has. A digest by another algorithm is passed over.
fn announced_sha256(headers: &HeaderMap) -> Result<Option<Expected<Sha256>>, Rejection> {
    for (header, name) in SHA256_HEADERS {
        let Some(value) = headers.get(&header) else { continue };
        let text = value.to_str().unwrap_or_default();
        if name.starts_with("x-amz") {
            return Expected::new(name, text).map(Some);
        }
        // A dictionary of byte sequences (RFC 8941): `sha-256=:base64:, sha-512=:…:`.
        let digests = text.split(',').filter_map(|member| member.trim().split_once('='));
        for (algorithm, digest) in digests {
            if algorithm.trim().eq_ignore_ascii_case("sha-256") {
                return Expected::new(name, digest.trim().trim_matches(':')).map(Some);
            }
        }
    }
    Ok(None)
}
