//! A bucket that is opened now or later.

use async_trait::async_trait;
use inlet_core::failure::Failure;
use inlet_core::health::{self, State};
use inlet_core::ports::{
    Bucket, BucketKey, ByteRange, ByteStream, Finished, Object, ObjectMeta, Part, PartNumber,
    Precondition, UploadId,
};

use super::reports::Direction::{Read, Write};
use super::reports::Reports;
use super::{Deferred, Opening};

impl Deferred<dyn Bucket> {
    /// A bucket that `open` opens and that reports to `part`. Nothing is opened yet.
    ///
    /// It is asked whether it answers only while it fails: each question costs money.
    pub fn bucket(
        part: health::Part,
        open: impl Fn() -> Opening<dyn Bucket> + Send + Sync + 'static,
    ) -> Self {
        let reports = Reports::new(part, State::Degraded);
        let question = |bucket: std::sync::Arc<dyn Bucket>| {
            Box::pin(async move { bucket.list("", None, 1).await.map(drop) }) as _
        };
        Self::new(reports, Some(question), false, open)
    }
}

#[async_trait]
impl Bucket for Deferred<dyn Bucket> {
    async fn put_if(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        let bucket = self.opened()?;
        self.seen(Write, &bucket, bucket.put_if(key, content_type, body, precondition).await)
    }

    async fn get(
        &self,
        key: &BucketKey,
        range: Option<ByteRange>,
    ) -> Result<Option<Object>, Failure> {
        let bucket = self.opened()?;
        self.seen(Read, &bucket, bucket.get(key, range).await)
    }

    async fn head(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        let bucket = self.opened()?;
        self.seen(Read, &bucket, bucket.head(key).await)
    }

    async fn delete(&self, key: &BucketKey) -> Result<(), Failure> {
        let bucket = self.opened()?;
        self.seen(Write, &bucket, bucket.delete(key).await)
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let bucket = self.opened()?;
        self.seen(Read, &bucket, bucket.list(prefix, after, limit).await)
    }

    async fn begin_upload(&self, key: &BucketKey, content_type: &str) -> Result<UploadId, Failure> {
        let bucket = self.opened()?;
        self.seen(Write, &bucket, bucket.begin_upload(key, content_type).await)
    }

    async fn put_part(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        number: PartNumber,
        body: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure> {
        let bucket = self.opened()?;
        self.seen(Write, &bucket, bucket.put_part(key, upload, number, body).await)
    }

    async fn parts(
        &self,
        key: &BucketKey,
        upload: &UploadId,
    ) -> Result<Option<Vec<Part>>, Failure> {
        let bucket = self.opened()?;
        self.seen(Read, &bucket, bucket.parts(key, upload).await)
    }

    async fn finish_upload(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        parts: &[PartNumber],
        precondition: &Precondition,
    ) -> Result<Finished, Failure> {
        let bucket = self.opened()?;
        self.seen(Write, &bucket, bucket.finish_upload(key, upload, parts, precondition).await)
    }

    async fn abandon_upload(&self, key: &BucketKey, upload: &UploadId) -> Result<(), Failure> {
        let bucket = self.opened()?;
        self.seen(Write, &bucket, bucket.abandon_upload(key, upload).await)
    }
}
