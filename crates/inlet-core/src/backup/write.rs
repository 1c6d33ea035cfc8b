//! Writing: the store page by page, as lines, compressed, as a stream of bytes.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use zstd::stream::raw::{CParameter, Encoder, Operation, OutBuffer};

use super::line::Line;
use super::{BACKUP_FORMAT, BackupManifest};
use crate::dead_letter::{DeadLetter, DeadLetterFilter};
use crate::document::{StoredDocument, Timestamp, hex};
use crate::failure::{Failure, FailureKind};
use crate::ports::{BucketKey, ByteStream, PageQuery, Store};

/// zstd's own default: several hundred megabytes a second, and a window of 2 MiB.
const LEVEL: i32 = 3;
/// A piece is given on once it has this many bytes.
const PIECE_BYTES: usize = 64 << 10;
/// How many bytes are compressed before the stream steps back for others.
const STEP_BYTES_MAX: usize = 256 << 10;
/// A page is asked for with as many items as should have about this many bytes, but never more
/// than `PAGE_ITEMS_MAX`: what is held at worst is that many of the largest documents.
const PAGE_BYTES: u64 = 4 << 20;
const PAGE_ITEMS_MAX: u64 = 64;
/// How many items are asked for while their size is not known.
const PAGE_ITEMS_FIRST: u64 = 8;

/// Which line comes next.
enum Stage {
    Header,
    DeadLetters,
    Documents,
    End,
    Finish,
    Done,
}

/// A backup as it is written. Holds one page, one line and one piece at a time.
pub(super) struct BackupStream<'a> {
    store: &'a dyn Store,
    object: String,
    made: Timestamp,
    stage: Stage,
    dead_letters: VecDeque<DeadLetter>,
    documents: VecDeque<StoredDocument>,
    /// Where the page before ended, and whether it was the last one.
    after: Option<String>,
    last_page: bool,
    /// The end of the documents when they began to be read: under load there is always more.
    until: Option<String>,
    page_items: u64,
    line: Vec<u8>,
    line_at: usize,
    encoder: Encoder<'static>,
    buffer: Vec<u8>,
    piece: Vec<u8>,
    hasher: Sha256,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    documents: u64,
    dead_letters: u64,
    body_bytes: u64,
    bytes: u64,
}

impl<'a> BackupStream<'a> {
    /// The stream of a backup of `store`, begun at `made`; `object` is what failures name.
    pub(super) fn new(
        store: &'a dyn Store,
        made: Timestamp,
        object: &str,
    ) -> Result<Self, Failure> {
        let failed = |error| compress_failure(object, error);
        let mut encoder = Encoder::new(LEVEL).map_err(failed)?;
        encoder.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
        Ok(Self {
            store,
            object: object.to_owned(),
            made,
            stage: Stage::Header,
            dead_letters: VecDeque::new(),
            documents: VecDeque::new(),
            after: None,
            last_page: false,
            until: None,
            page_items: PAGE_ITEMS_FIRST,
            line: Vec::new(),
            line_at: 0,
            encoder,
            buffer: vec![0; PIECE_BYTES],
            piece: Vec::new(),
            hasher: Sha256::new(),
            counts: Counts::default(),
        })
    }

    /// What was written, once the stream has ended.
    pub(super) fn manifest(self, object: &BucketKey) -> BackupManifest {
        BackupManifest {
            format: BACKUP_FORMAT,
            object: object.as_str().to_owned(),
            made: self.made,
            documents: self.counts.documents,
            dead_letters: self.counts.dead_letters,
            body_bytes: self.counts.body_bytes,
            bytes: self.counts.bytes,
            sha256: hex(&self.hasher.finalize()),
        }
    }

    /// Works until there is a piece; `None` at the end.
    async fn step(&mut self) -> Result<Option<Bytes>, Failure> {
        let mut compressed = 0;
        loop {
            while self.line_at < self.line.len() {
                compressed += self.compress()?;
                if self.piece.len() >= PIECE_BYTES {
                    return Ok(Some(self.take_piece()));
                }
                if compressed >= STEP_BYTES_MAX {
                    compressed = 0;
                    step_back().await;
                }
            }
            self.line.clear();
            self.line_at = 0;
            match self.stage {
                Stage::Header => {
                    self.put(&Line::Header { format: BACKUP_FORMAT, made: self.made })?;
                    self.stage = Stage::DeadLetters;
                }
                Stage::DeadLetters => self.next_dead_letter().await?,
                Stage::Documents => self.next_document().await?,
                Stage::End => {
                    let Counts { documents, dead_letters, .. } = self.counts;
                    self.put(&Line::End { documents, dead_letters })?;
                    self.stage = Stage::Finish;
                }
                Stage::Finish => {
                    self.finish()?;
                    self.stage = Stage::Done;
                }
                Stage::Done if self.piece.is_empty() => return Ok(None),
                Stage::Done => return Ok(Some(self.take_piece())),
            }
        }
    }

    async fn next_dead_letter(&mut self) -> Result<(), Failure> {
        if let Some(letter) = self.dead_letters.pop_front() {
            self.counts.dead_letters += 1;
            self.counts.body_bytes += letter.body.len() as u64;
            return self.put(&Line::of_dead_letter(&letter));
        }
        if self.last_page {
            (self.after, self.last_page, self.page_items) = (None, false, PAGE_ITEMS_FIRST);
            self.until = self.store.cursor_of_last(None, 0).await?;
            self.stage = if self.until.is_some() { Stage::Documents } else { Stage::End };
            return Ok(());
        }
        let (filter, limit) = (DeadLetterFilter::default(), self.limit());
        let page = self.store.dead_letters(&filter, limit, self.after.as_deref()).await?;
        self.size_next_page(page.items.iter().map(|letter| letter.body.len()));
        self.last_page = !page.more;
        self.after = page.next;
        self.dead_letters = page.items.into();
        Ok(())
    }

    async fn next_document(&mut self) -> Result<(), Failure> {
        if let Some(stored) = self.documents.pop_front() {
            self.counts.documents += 1;
            self.counts.body_bytes += stored.document.body.len() as u64;
            return self.put(&Line::of_document(&stored));
        }
        if self.last_page {
            self.stage = Stage::End;
            return Ok(());
        }
        // No bound in time: a document from a clock that ran ahead belongs to the backup too.
        let (after, until) = (self.after.take(), self.until.clone());
        let query = PageQuery { limit: self.limit(), after, until, ..PageQuery::default() };
        let page = self.store.page(&query).await?;
        self.size_next_page(page.items.iter().map(|stored| stored.document.body.len()));
        self.last_page = !page.more;
        self.after = page.next;
        self.documents = page.items.into();
        Ok(())
    }

    fn limit(&self) -> usize {
        usize::try_from(self.page_items).unwrap_or(1)
    }

    fn size_next_page(&mut self, bodies: impl Iterator<Item = usize>) {
        let (items, bytes) =
            bodies.fold((0u64, 0u64), |(items, bytes), body| (items + 1, bytes + body as u64));
        let mean = bytes / items.max(1);
        self.page_items = (PAGE_BYTES / mean.max(1)).clamp(1, PAGE_ITEMS_MAX);
    }

    fn put(&mut self, line: &Line<'_>) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.line, line).map_err(|error| {
            Failure::new(FailureKind::Refused, "write backup", &*self.object).because(error)
        })?;
        self.line.push(b'\n');
        Ok(())
    }

    /// Compresses some of the line; returns how many bytes of it.
    fn compress(&mut self) -> Result<usize, Failure> {
        let end = self.line.len().min(self.line_at + PIECE_BYTES);
        let status = self
            .encoder
            .run_on_buffers(&self.line[self.line_at..end], &mut self.buffer)
            .map_err(|error| compress_failure(&self.object, error))?;
        self.piece.extend_from_slice(&self.buffer[..status.bytes_written]);
        self.line_at += status.bytes_read;
        Ok(status.bytes_read)
    }

    /// Ends the frame. What the encoder still holds is at most a block.
    fn finish(&mut self) -> Result<(), Failure> {
        loop {
            let mut out = OutBuffer::around(&mut self.buffer[..]);
            let remaining = self
                .encoder
                .finish(&mut out, true)
                .map_err(|error| compress_failure(&self.object, error))?;
            let written = out.pos();
            self.piece.extend_from_slice(&self.buffer[..written]);
            if remaining == 0 {
                return Ok(());
            }
        }
    }

    fn take_piece(&mut self) -> Bytes {
        let piece = std::mem::take(&mut self.piece);
        self.hasher.update(&piece);
        self.counts.bytes += piece.len() as u64;
        piece.into()
    }
}

#[async_trait]
impl ByteStream for BackupStream<'_> {
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        self.step().await.transpose()
    }
}

/// Lets others have the thread once.
pub(super) async fn step_back() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn compress_failure(object: &str, error: std::io::Error) -> Failure {
    Failure::new(FailureKind::Refused, "compress backup", object).because(error)
}
