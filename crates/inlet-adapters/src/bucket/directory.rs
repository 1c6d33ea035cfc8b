//! The bucket in a directory.
//!
//! ```text
//! ROOT/summaries/2026-W47.html                 the object with the key summaries/2026-W47.html
//! ROOT/.inlet/meta/2/summaries/2026-W47.html   its metadata, as JSON
//! ROOT/.inlet/beside/1/a                       the object `a`, where a directory has its name
//! ROOT/.inlet/tmp/                             objects that are not whole yet
//! ROOT/.inlet/uploads/                         objects that are put in parts, see `parts`
//! ROOT/.inlet/FORMAT                           the version of this layout, 2
//! ```
//!
//! An object is a plain file under its own name, and a plain file is an object, whoever put it
//! there. Of the keys `a` and `a/b`, which can both be there, the one that came later lies beside.
//! The `2` and the `1` are the number of segments of the key: so both have room for their
//! metadata, and no name needs a suffix that might make it too long.
//!
//! An object and its metadata are two files, and a crash may come between them. So the metadata
//! names its file by size and modification time, which a put sets to a moment that no earlier
//! object of that key had. A put writes the metadata first, with that of the object it replaces
//! behind it, and then renames the object into its place: whichever object is there, its metadata
//! is there too. Where the times were lost (a copy made without them), the size decides, and where
//! that is not enough, the bytes. Metadata in extended attributes or in SQLite was rejected, see
//! docs/decisions/0031.
//!
//! Everything is synced before it is renamed, and each directory after, so that `put` holds after
//! a power cut. Puts and deletes under one directory wait for each other, also across processes,
//! by a lock on the directory of the metadata.

mod body;
mod direct;
mod layout;
mod list;
mod meta;
mod parts;
mod stage;
mod takeover;
mod upload;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::document::hex;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{
    Bucket, BucketKey, ByteRange, ByteStream, Clock, Finished, Object, ObjectMeta, Part,
    PartNumber, Precondition, UploadId,
};
use sha2::{Digest, Sha256};
use tokio::task::{self, JoinError};

use self::body::FileBody;
use self::layout::Layout;
use self::stage::Stage;
use self::upload::Upload;

/// How many bytes are written and read at a time.
const PIECE_BYTES: usize = 512 << 10;

/// A [`Bucket`] in a directory.
///
/// Beyond the contract: a file that was put into its tree by hand is an object, whose type follows
/// from its name and whose checksum is not known; an object whose size was changed by hand is
/// [`FailureKind::Damaged`] until it is put again.
#[derive(Clone)]
pub struct DirectoryBucket {
    layout: Arc<Layout>,
    clock: Arc<dyn Clock>,
}

impl DirectoryBucket {
    /// Opens the bucket in `root`, or makes it where there is none; takes over the layout of an
    /// earlier version, and removes the leftovers of crashed puts and uploads that were begun over
    /// seven days ago. Blocks, for milliseconds: for the start of a process.
    ///
    /// # Errors
    ///
    /// [`FailureKind::Refused`] where the layout is of a newer version, or this user may not write
    /// there.
    pub fn open(root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        let layout = Layout::open(root.into())?;
        parts::sweep(&layout, clock.now());
        Ok(Self { layout: Arc::new(layout), clock })
    }

    /// Opens the directory `root` to read the objects in it. Nothing in it is made, moved or
    /// removed; what would is [`FailureKind::Refused`].
    ///
    /// # Errors
    ///
    /// [`FailureKind::Refused`] where it is no directory or of a newer version.
    pub fn read_only(root: impl Into<PathBuf>, clock: Arc<dyn Clock>) -> Result<Self, Failure> {
        Ok(Self { layout: Arc::new(Layout::read_only(root.into())?), clock })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        self.layout.root()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let layout = Arc::clone(&self.layout);
        finished(task::spawn_blocking(move || {
            layout.check_place()?;
            work(&layout)
        }))
        .await
    }

    /// Writes the whole of `body` to a file that is no object yet, and gives its SHA-256 too.
    async fn write(&self, body: &mut dyn ByteStream) -> Result<(Upload, String), Failure> {
        self.layout.writable()?;
        let layout = Arc::clone(&self.layout);
        let mut writing = Stage::begin(move || Upload::begin(&layout), Upload::write);
        let mut hashing = Stage::begin(|| Ok(Sha256::new()), hash);
        let hash = match take_in(body, &mut writing, &mut hashing).await {
            Ok(()) => hashing.finish().await,
            Err(failure) => Err(failure),
        };
        match hash {
            Ok(hash) => {
                let lost = || Failure::new(FailureKind::Unavailable, "write", "an object");
                let upload = writing.finish().await?.ok_or_else(lost)?;
                Ok((upload, hex(&hash.ok_or_else(lost)?.finalize())))
            }
            Err(failure) => {
                // Nothing is left of it when that is told.
                if let Some(upload) = writing.stop().await {
                    let dropped = move |_: &Layout| {
                        drop(upload);
                        Ok(())
                    };
                    self.blocking(dropped).await?;
                }
                Err(failure)
            }
        }
    }
}

/// Gives the whole of `body` to both, while they work.
async fn take_in(
    body: &mut dyn ByteStream,
    writing: &mut Stage<Upload>,
    hashing: &mut Stage<Sha256>,
) -> Result<(), Failure> {
    loop {
        let (pieces, is_last) = {
            let mut gathering = pin!(gather(body));
            loop {
                tokio::select! {
                    gathered = &mut gathering => break gathered?,
                    worked = writing.turn() => worked?,
                    worked = hashing.turn() => worked?,
                }
            }
        };
        writing.add(&pieces);
        hashing.add(&pieces);
        if is_last {
            return Ok(());
        }
        while writing.is_full() || hashing.is_full() {
            tokio::select! {
                worked = writing.turn() => worked?,
                worked = hashing.turn() => worked?,
            }
        }
    }
}

fn hash(mut hash: Sha256, pieces: &[Bytes]) -> Result<Sha256, Failure> {
    pieces.iter().for_each(|piece| hash.update(piece));
    Ok(hash)
}

#[async_trait]
impl Bucket for DirectoryBucket {
    async fn put_if(
        &self,
        key: &BucketKey,
        content_type: &str,
        body: &mut dyn ByteStream,
        precondition: &Precondition,
    ) -> Result<Option<ObjectMeta>, Failure> {
        let (upload, sha256) = self.write(body).await?;
        let (key, content_type, now) = (key.clone(), content_type.to_owned(), self.clock.now());
        let precondition = precondition.clone();
        self.blocking(move |layout| {
            upload.commit(layout, &key, content_type, sha256, now, &precondition)
        })
        .await
    }

    async fn get(
        &self,
        key: &BucketKey,
        range: Option<ByteRange>,
    ) -> Result<Option<Object>, Failure> {
        let key = key.clone();
        let opened = self.blocking(move |layout| meta::open(layout, &key)).await?;
        let Some((file, meta)) = opened else { return Ok(None) };
        let path = self.layout.root().join(meta.key.as_str());
        let body = FileBody::new(file, path, meta.bytes, range);
        Ok(Some(Object { meta, body: Box::new(body) }))
    }

    async fn head(&self, key: &BucketKey) -> Result<Option<ObjectMeta>, Failure> {
        let key = key.clone();
        self.blocking(move |layout| Ok(meta::open(layout, &key)?.map(|(_, meta)| meta))).await
    }

    async fn delete(&self, key: &BucketKey) -> Result<(), Failure> {
        let key = key.clone();
        self.blocking(move |layout| meta::delete(layout.writable()?, &key)).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&BucketKey>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, Failure> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |layout| list::list(layout, &prefix, after, limit)).await
    }

    async fn begin_upload(&self, key: &BucketKey, content_type: &str) -> Result<UploadId, Failure> {
        let (key, content_type, now) = (key.clone(), content_type.to_owned(), self.clock.now());
        self.blocking(move |layout| parts::begin(layout.writable()?, &key, content_type, now)).await
    }

    async fn put_part(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        number: PartNumber,
        body: &mut dyn ByteStream,
    ) -> Result<Option<Part>, Failure> {
        let (key, upload) = (key.clone(), upload.clone());
        let (its_key, its_upload) = (key.clone(), upload.clone());
        if !self.blocking(move |layout| parts::is_there(layout, &its_key, &its_upload)).await? {
            return Ok(None);
        }
        let (written, sha256) = self.write(body).await?;
        self.blocking(move |layout| parts::put(layout, &key, &upload, number, written, sha256))
            .await
    }

    async fn parts(
        &self,
        key: &BucketKey,
        upload: &UploadId,
    ) -> Result<Option<Vec<Part>>, Failure> {
        let (key, upload) = (key.clone(), upload.clone());
        self.blocking(move |layout| parts::list(layout, &key, &upload)).await
    }

    async fn finish_upload(
        &self,
        key: &BucketKey,
        upload: &UploadId,
        parts: &[PartNumber],
        precondition: &Precondition,
    ) -> Result<Finished, Failure> {
        let (key, upload, parts) = (key.clone(), upload.clone(), parts.to_vec());
        let (now, precondition) = (self.clock.now(), precondition.clone());
        self.blocking(move |layout| {
            parts::finish(layout.writable()?, &key, &upload, &parts, now, &precondition)
        })
        .await
    }

    async fn abandon_upload(&self, key: &BucketKey, upload: &UploadId) -> Result<(), Failure> {
        let (key, upload) = (key.clone(), upload.clone());
        self.blocking(move |layout| parts::abandon(layout.writable()?, &key, &upload)).await
    }
}

/// Waits for work on a blocking thread.
async fn finished<T>(
    work: impl Future<Output = Result<Result<T, Failure>, JoinError>>,
) -> Result<T, Failure> {
    work.await.map_err(|error| {
        let cause: Box<dyn Error + Send + Sync> = Box::from(error);
        Failure::new(FailureKind::Unavailable, "finish", "work on the bucket").because(cause)
    })?
}

/// The next pieces of a stream, [`PIECE_BYTES`] or a little more in all, and whether it ended.
async fn gather(body: &mut dyn ByteStream) -> Result<(Vec<Bytes>, bool), Failure> {
    let mut pieces = Vec::new();
    let mut bytes = 0;
    while bytes < PIECE_BYTES {
        let Some(piece) = body.next().await else { return Ok((pieces, true)) };
        let piece = piece?;
        bytes += piece.len();
        pieces.push(piece);
    }
    Ok((pieces, false))
}
