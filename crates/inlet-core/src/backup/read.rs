//! Reading: an object's bytes, decompressed, as checked lines.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use zstd::stream::raw::{DParameter, Decoder, Operation};

use super::line::{Item, Line, item};
use super::write::step_back;
use super::{BACKUP_FORMAT, BackupFault, BackupManifest, refused};
use crate::failure::Failure;
use crate::ports::{Bucket, BucketKey, ByteStream};

/// The largest window that is given room: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// The longest line. It bounds what a forged backup can make us hold; ours are far shorter.
const LINE_BYTES_MAX: usize = 1 << 30;
/// How much is decompressed at once.
const BUFFER_BYTES: usize = 64 << 10;
/// The largest manifest, in bytes.
const MANIFEST_BYTES_MAX: usize = 64 << 10;

/// The lines of a backup, checked as they come: the first, each item, the last, and the counts.
pub(super) struct Lines<'a> {
    key: &'a BucketKey,
    manifest: &'a BackupManifest,
    body: Box<dyn ByteStream>,
    decoder: Decoder<'static>,
    input: Bytes,
    frame_ended: bool,
    /// The buffer was filled, so that the decoder may have more without further input.
    holds_back: bool,
    buffer: Vec<u8>,
    /// What was decompressed and not yet read, from `plain_at`; no line feed is before `seen`.
    plain: Vec<u8>,
    plain_at: usize,
    seen: usize,
    number: u64,
    documents: u64,
    dead_letters: u64,
    ended: bool,
}

impl<'a> Lines<'a> {
    /// Opens the object and reads its first line.
    pub(super) async fn open(
        bucket: &dyn Bucket,
        key: &'a BucketKey,
        manifest: &'a BackupManifest,
    ) -> Result<Self, Failure> {
        let object = bucket
            .get(key, None)
            .await?
            .ok_or_else(|| refused(key, BackupFault::ObjectMissing(key.to_string())))?;
        let invalid = |error: std::io::Error| {
            refused(key, BackupFault::CompressionInvalid(error.to_string()))
        };
        let mut decoder = Decoder::new().map_err(invalid)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(invalid)?;
        let mut lines = Self {
            key,
            manifest,
            body: object.body,
            decoder,
            input: Bytes::new(),
            frame_ended: false,
            holds_back: false,
            buffer: vec![0; BUFFER_BYTES],
            plain: Vec::new(),
            plain_at: 0,
            seen: 0,
            number: 0,
            documents: 0,
            dead_letters: 0,
            ended: false,
        };
        lines.read_header().await?;
        Ok(lines)
    }

    /// The next document or dead letter; `None` once the last line has been read and everything
    /// adds up.
    pub(super) async fn next_item(&mut self) -> Result<Option<Item>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let Some(line) = self.next_line().await? else {
            return Err(self.line_fault("the line that ends a backup is missing"));
        };
        let parsed = match serde_json::from_slice::<Line<'_>>(&self.plain[line]) {
            Ok(Line::End { documents, dead_letters }) => Ok(Err((documents, dead_letters))),
            Ok(line) => item(line).map(Ok),
            Err(error) => Err(error.to_string()),
        };
        match parsed.map_err(|reason| self.line_fault(reason))? {
            Ok(item) => {
                match item {
                    Item::Document(_) => self.documents += 1,
                    Item::DeadLetter(_) => self.dead_letters += 1,
                }
                Ok(Some(item))
            }
            Err(said) => self.end(said).await.map(|()| None),
        }
    }

    async fn read_header(&mut self) -> Result<(), Failure> {
        let foreign = "it is not the line that begins a backup of Inlet";
        let Some(line) = self.next_line().await? else { return Err(self.line_fault(foreign)) };
        match serde_json::from_slice(&self.plain[line]) {
            Ok(Line::Header { format, .. }) => check_format(self.key, format),
            _ => Err(self.line_fault(foreign)),
        }
    }

    async fn end(&mut self, said: (u64, u64)) -> Result<(), Failure> {
        if self.next_line().await?.is_some() {
            return Err(self.line_fault("it comes after the line that ends a backup"));
        }
        let found = (self.documents, self.dead_letters);
        if found != said || found != (self.manifest.documents, self.manifest.dead_letters) {
            let (documents, dead_letters) = found;
            return Err(refused(self.key, BackupFault::CountsDiffer { documents, dead_letters }));
        }
        self.ended = true;
        Ok(())
    }

    /// Where the next line is in `plain`, without its line feed; `None` at the end.
    async fn next_line(&mut self) -> Result<Option<std::ops::Range<usize>>, Failure> {
        self.number += 1;
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.plain[self.seen..]) {
                let line = self.plain_at..self.seen + length;
                (self.plain_at, self.seen) = (line.end + 1, line.end + 1);
                return Ok(Some(line));
            }
            self.plain.drain(..self.plain_at);
            (self.plain_at, self.seen) = (0, self.plain.len());
            if self.plain.len() > LINE_BYTES_MAX {
                return Err(self.line_fault("it is longer than any line of a backup"));
            }
            if !self.decompress().await? {
                if self.plain.is_empty() {
                    return Ok(None);
                }
                return Err(self.line_fault("it is cut"));
            }
        }
    }

    /// Decompresses a little more into `plain`; false at the end of a whole frame.
    async fn decompress(&mut self) -> Result<bool, Failure> {
        loop {
            if self.input.is_empty() && !self.holds_back {
                match self.body.next().await {
                    Some(piece) => self.input = piece?,
                    None if self.frame_ended => return Ok(false),
                    None => return Err(self.compression_fault("it ends before its frame does")),
                }
                step_back().await;
                continue;
            }
            if self.frame_ended {
                return Err(self.compression_fault("something follows its frame"));
            }
            let status = self
                .decoder
                .run_on_buffers(&self.input, &mut self.buffer)
                .map_err(|error| self.compression_fault(error.to_string()))?;
            self.input = self.input.slice(status.bytes_read..);
            self.frame_ended = status.remaining == 0;
            self.holds_back = status.bytes_written == self.buffer.len() && !self.frame_ended;
            if status.bytes_written > 0 {
                self.plain.extend_from_slice(&self.buffer[..status.bytes_written]);
                return Ok(true);
            }
        }
    }

    fn line_fault(&self, reason: impl Into<String>) -> Failure {
        let fault = BackupFault::LineInvalid { line: self.number, reason: reason.into() };
        refused(self.key, fault)
    }

    fn compression_fault(&self, reason: impl Into<String>) -> Failure {
        refused(self.key, BackupFault::CompressionInvalid(reason.into()))
    }
}

/// The manifest under `key`, if it is one that is understood here.
pub(crate) async fn read_manifest(
    bucket: &dyn Bucket,
    key: &BucketKey,
) -> Result<BackupManifest, Failure> {
    let Some(mut object) = bucket.get(key, None).await? else {
        return Err(refused(key, BackupFault::ManifestMissing(key.to_string())));
    };
    let invalid = |reason: String| refused(key, BackupFault::ManifestInvalid(reason));
    let mut bytes = Vec::new();
    while let Some(piece) = object.body.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(invalid("it is too large".to_owned()));
        }
    }
    /// The one member that tells whether the others can be understood.
    #[derive(serde::Deserialize)]
    struct Version {
        format: u32,
    }
    let version: Version =
        serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
    check_format(key, version.format)?;
    serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))
}

/// The size and the SHA-256 of an object.
pub(super) async fn digest(
    bucket: &dyn Bucket,
    key: &BucketKey,
) -> Result<(u64, [u8; 32]), Failure> {
    let Some(mut object) = bucket.get(key, None).await? else {
        return Err(refused(key, BackupFault::ObjectMissing(key.to_string())));
    };
    let (mut bytes, mut hasher) = (0u64, Sha256::new());
    while let Some(piece) = object.body.next().await {
        let piece = piece?;
        hasher.update(&piece);
        bytes += piece.len() as u64;
        step_back().await;
    }
    Ok((bytes, hasher.finalize().into()))
}

fn check_format(key: &BucketKey, found: u32) -> Result<(), Failure> {
    if found > BACKUP_FORMAT {
        return Err(refused(key, BackupFault::FormatNewer { found, known: BACKUP_FORMAT }));
    }
    Ok(())
}
