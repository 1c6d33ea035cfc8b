//! Checks the bytes of an object while they are read, where the service does not.

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::ByteStream;
use sha2::{Digest, Sha256};

/// Gives the bytes on, and fails at their end where they are not those that were put.
pub(super) struct Checked {
    inner: Box<dyn ByteStream>,
    /// The SHA-256 they must have, in hexadecimal digits.
    expected: String,
    place: String,
    hash: Option<Sha256>,
}

impl Checked {
    pub(super) fn new(inner: Box<dyn ByteStream>, expected: String, place: String) -> Self {
        Self { inner, expected, place, hash: Some(Sha256::new()) }
    }
}

#[async_trait]
impl ByteStream for Checked {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let hash = self.hash.as_mut()?;
        match self.inner.next().await {
            Some(Ok(bytes)) => {
                hash.update(&bytes);
                Some(Ok(bytes))
            }
            Some(Err(failure)) => {
                self.hash = None;
                Some(Err(failure))
            }
            None => {
                let found = hex(&self.hash.take()?.finalize());
                (found != self.expected).then(|| {
                    let cause =
                        format!("its bytes have the SHA-256 {found}, not {}", self.expected);
                    Err(Failure::new(FailureKind::Damaged, "read", self.place.clone())
                        .because(cause))
                })
            }
        }
    }
}
