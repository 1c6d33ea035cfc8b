//! Finding a file and getting it ready. Everything here blocks.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;

/// Files up to this size are read whole before they are sent, in bytes.
const READ_BYTES_MAX: u64 = 64 << 10;

/// Why there is no file.
#[derive(Debug)]
pub(super) enum LookupError {
    /// There is none, or none that is served.
    Absent,
    Io(io::Error),
}

impl From<io::Error> for LookupError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::InvalidFilename => Self::Absent,
            _ => Self::Io(error),
        }
    }
}

/// Where files are looked for.
pub(super) struct Lookup {
    /// Without symbolic links.
    folder: PathBuf,
    gzip_bytes_max: u64,
}

/// A file that was found.
pub(super) struct Found {
    pub(super) content: Content,
    pub(super) length: u64,
    pub(super) modified: SystemTime,
    pub(super) etag: HeaderValue,
    pub(super) kind: &'static str,
    pub(super) is_compressible: bool,
    pub(super) is_gzip: bool,
}

/// What is sent of it.
pub(super) enum Content {
    Unchanged,
    Kept(Bytes),
    /// The file, to be read while it is sent.
    Open(File),
}

impl Lookup {
    pub(super) fn new(folder: PathBuf, gzip_bytes_max: u64) -> Self {
        Self { folder, gzip_bytes_max }
    }

    /// The file at `relative`, or its compressed form where the client takes that. What `permit`
    /// gives is held while a file is compressed.
    pub(super) fn find<P>(
        &self,
        relative: &str,
        takes_gzip: bool,
        permit: impl FnOnce() -> Option<P>,
    ) -> Result<Found, LookupError> {
        let mut path = self.folder.clone();
        for segment in relative.split('/') {
            if segment.starts_with('.') {
                return Err(LookupError::Absent);
            }
            path.push(segment);
        }
        if relative.is_empty() || relative.ends_with('/') {
            path.push("index.html");
        }
        let (file, length, modified) = self.open(&path)?;
        let (kind, is_compressible) = kind(&path);
        let mut found = Found {
            content: Content::Open(file),
            length,
            modified,
            etag: etag(modified, length, false),
            kind,
            is_compressible,
            is_gzip: false,
        };
        if !takes_gzip || !is_compressible {
            return Ok(found);
        }
        let mut beside = path.into_os_string();
        beside.push(".gz");
        if let Ok((file, gz_length, gz_modified)) = self.open(Path::new(&beside))
            && gz_modified >= modified
        {
            found.content = Content::Open(file);
            found.length = gz_length;
            found.is_gzip = true;
        } else if length <= self.gzip_bytes_max
            && let Some(permit) = permit()
            && let Content::Open(file) = found.content
        {
            let compressed = compress(file, length)?;
            drop(permit);
            found.length = compressed.len() as u64;
            found.content = Content::Kept(compressed);
            found.is_gzip = true;
        }
        if found.is_gzip {
            found.etag = etag(modified, length, true);
        }
        Ok(found)
    }

    /// Opens a file that lies in the folder, and gives its length and when it was changed.
    fn open(&self, path: &Path) -> Result<(File, u64, SystemTime), LookupError> {
        // A name that leads nowhere, or round in a circle, is no file.
        let path = path.canonicalize().map_err(|_| LookupError::Absent)?;
        let Ok(inside) = path.strip_prefix(&self.folder) else { return Err(LookupError::Absent) };
        // A link may lead to a name that is not served.
        let is_hidden = |part: std::path::Component<'_>| {
            part.as_os_str().as_encoded_bytes().first() == Some(&b'.')
        };
        if inside.components().any(is_hidden) || !fs::metadata(&path)?.is_file() {
            return Err(LookupError::Absent);
        }
        let file = File::open(&path)?;
        let metadata = file.metadata()?;
        Ok((file, metadata.len(), metadata.modified()?))
    }
}

impl Found {
    /// Reads a small file whole.
    pub(super) fn read(&mut self) -> Result<(), LookupError> {
        if let Content::Open(file) = &mut self.content
            && self.length <= READ_BYTES_MAX
        {
            self.content = Content::Kept(Bytes::from(read_exactly(file, self.length)?));
        }
        Ok(())
    }
}

fn read_exactly(file: &mut File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn compress(mut file: File, length: u64) -> io::Result<Bytes> {
    let bytes = read_exactly(&mut file, length)?;
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), Compression::default());
    encoder.write_all(&bytes)?;
    Ok(Bytes::from(encoder.finish()?))
}

fn etag(modified: SystemTime, length: u64, is_gzip: bool) -> HeaderValue {
    let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let suffix = if is_gzip { "-gz" } else { "" };
    let etag = format!("\"{:x}-{length:x}{suffix}\"", since.as_nanos());
    HeaderValue::try_from(etag).expect("digits and quotes")
}

/// The content type of a file by its name, and whether compressing such a file is worth it.
fn kind(path: &Path) -> (&'static str, bool) {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "html" | "htm" => ("text/html; charset=utf-8", true),
        "css" => ("text/css; charset=utf-8", true),
        "js" | "mjs" => ("text/javascript; charset=utf-8", true),
        "json" | "map" => ("application/json", true),
        "txt" | "md" => ("text/plain; charset=utf-8", true),
        "xml" => ("application/xml", true),
        "svg" => ("image/svg+xml", true),
        "wasm" => ("application/wasm", true),
        "webmanifest" => ("application/manifest+json", true),
        "png" => ("image/png", false),
        "jpg" | "jpeg" => ("image/jpeg", false),
        "gif" => ("image/gif", false),
        "webp" => ("image/webp", false),
        "avif" => ("image/avif", false),
        "ico" => ("image/x-icon", false),
        "woff" => ("font/woff", false),
        "woff2" => ("font/woff2", false),
        "pdf" => ("application/pdf", false),
        _ => ("application/octet-stream", false),
    }
}
