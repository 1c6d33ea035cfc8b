//! Bodies that are too large for the engine they are meant for: they lie in the bucket, and the
//! engine keeps a pointer to them.
//!
//! ```text
//! overflow/ID/RANDOM    the body of the document with that id
//! ```
//!
//! Each body has an object of its own, also that of a document that comes again, so that what
//! removes one takes none away from another. What a crash leaves behind (an object whose pointer
//! was never kept) is harmless; a lifecycle rule of the bucket may remove objects under
//! `overflow/queue/` that are older than the queue keeps messages.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::id::DocumentId;
use inlet_core::ports::{Bucket, BucketKey, FixedBytes};

/// The longest body that is read back, in bytes; far beyond every limit at the door.
const BODY_BYTES_MAX: usize = 256 << 20;

/// Where large bodies lie.
#[derive(Clone)]
pub(crate) struct Overflow {
    bucket: Arc<dyn Bucket>,
    prefix: &'static str,
}

impl Overflow {
    /// Bodies under `overflow/PREFIX/` of `bucket`.
    pub(crate) fn new(bucket: Arc<dyn Bucket>, prefix: &'static str) -> Self {
        Self { bucket, prefix }
    }

    /// Puts the body of the document with that id, and gives the key to find it by.
    pub(crate) async fn put(&self, id: DocumentId, body: &Bytes) -> Result<String, Failure> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| {
            Failure::new(FailureKind::Unavailable, "make a random key for", id.to_string())
                .because(error.to_string())
        })?;
        let key = format!("overflow/{}/{id}/{}", self.prefix, hex(&random));
        let mut stream = FixedBytes::new(body.clone());
        self.bucket.put(&bucket_key(&key)?, "application/json", &mut stream).await?;
        Ok(key)
    }

    /// The body under that key; `None` where there is none.
    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, Failure> {
        let Some(mut object) = self.bucket.get(&bucket_key(key)?, None).await? else {
            return Ok(None);
        };
        let mut body = BytesMut::new();
        while let Some(piece) = object.body.next().await {
            body.extend_from_slice(&piece?);
            if body.len() > BODY_BYTES_MAX {
                let failure = Failure::new(FailureKind::Damaged, "read the body at", key);
                return Err(failure.because(format!("it is longer than {BODY_BYTES_MAX} bytes")));
            }
        }
        Ok(Some(body.freeze()))
    }

    /// Removes the body under that key.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), Failure> {
        self.bucket.delete(&bucket_key(key)?).await
    }

    /// Removes what no pointer names any more. Where that fails an object is left behind, which
    /// is told and harmless.
    pub(crate) async fn delete_or_tell(&self, key: &str) {
        if let Err(failure) = self.delete(key).await {
            tracing::warn!(%failure, key, "a body that is no longer needed stays in the bucket");
        }
    }
}

/// Only keys that this module could have made: a message of another client can name no object
/// that is not an overflowed body.
fn bucket_key(key: &str) -> Result<BucketKey, Failure> {
    let made_here = key.starts_with("overflow/");
    BucketKey::new(key).ok().filter(|_| made_here).ok_or_else(|| {
        Failure::new(FailureKind::Damaged, "use the pointer to a body", format!("{key:?}"))
    })
}
