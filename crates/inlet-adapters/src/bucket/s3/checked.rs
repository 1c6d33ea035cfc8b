//! Checks the bytes of an object in parts while they are read. Those of an object that was put in
//! one call the SDK checks.

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::ByteStream;
use sha2::{Digest, Sha256};

use super::parts::{Composite, part_bytes};

/// Gives the bytes on, and fails at their end where they are not those that were put.
pub(super) struct Checked {
    inner: Box<dyn ByteStream>,
    /// The checksum they must have.
    expected: String,
    place: String,
    composite: Composite,
    part: Sha256,
    number: i32,
    /// How much of the part is still to come, in bytes.
    left: usize,
    is_over: bool,
}

impl Checked {
    pub(super) fn new(inner: Box<dyn ByteStream>, expected: String, place: String) -> Self {
        Self {
            inner,
            expected,
            place,
            composite: Composite::default(),
            part: Sha256::new(),
            number: 1,
            left: part_bytes(1),
            is_over: false,
        }
    }

    fn add(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (some, rest) = bytes.split_at(bytes.len().min(self.left));
            self.part.update(some);
            self.left -= some.len();
            if self.left == 0 {
                self.composite.add(&self.part.finalize_reset());
                self.number += 1;
                self.left = part_bytes(self.number);
            }
            bytes = rest;
        }
    }

    fn finish(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.left < part_bytes(self.number) {
            self.composite.add(&self.part.finalize_reset());
        }
        let found = std::mem::take(&mut self.composite).finish();
        (found != self.expected).then(|| {
            let cause = format!("its bytes have the checksum {found}, not {}", self.expected);
            Err(Failure::new(FailureKind::Damaged, "read", self.place.clone()).because(cause))
        })
    }
}

#[async_trait]
impl ByteStream for Checked {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.is_over {
            return None;
        }
        let piece = self.inner.next().await;
        match &piece {
            Some(Ok(bytes)) => {
                self.add(bytes);
                piece
            }
            Some(Err(_)) => {
                self.is_over = true;
                piece
            }
            None => {
                self.is_over = true;
                self.finish()
            }
        }
    }
}
