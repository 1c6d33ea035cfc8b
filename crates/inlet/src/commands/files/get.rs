//! `inlet file get`: to standard output, or to a file that is there once it is whole.
//!
//! What came of it lies beside the file, under a name with the file's tag in it, so that a get
//! that broke off is gone on with, and never with the bytes of another version.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inlet_core::document::hex;
use sha2::{Digest, Sha256};

use super::{path as url_path, progress_bar};
use crate::client::{Client, Coming};
use crate::report::Hinted;

/// How many bytes are read and written at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Gets the file with that key.
pub(super) fn run(client: &Client, key: &str, output: Option<&Path>) -> anyhow::Result<()> {
    match output {
        None => {
            let coming = good(client.open(&url_path(key), &[])?, key)?;
            let expected = digest(&coming);
            let mut hash = Sha256::new();
            pour(coming, &mut io::stdout().lock(), Some(&mut hash), |_| {})?;
            check(expected, &hash.finalize())
        }
        Some(output) => to_file(client, key, output),
    }
}

fn to_file(client: &Client, key: &str, output: &Path) -> anyhow::Result<()> {
    // Only its head is looked at: what is to come is asked for once it is known what is here.
    let first = good(client.open(&url_path(key), &[])?, key)?;
    let tag = header(&first, "etag").unwrap_or_default();
    let bytes: u64 = header(&first, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let expected = digest(&first);
    let unfinished = unfinished_path(output, &tag);
    let here = fs::metadata(&unfinished).map_or(0, |about| about.len());
    let could = || format!("could not write {}", unfinished.display());
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&unfinished)
        .with_context(could)?;
    let bar = progress_bar(output, Some(bytes));
    if here > 0 && here < bytes {
        drop(first);
        let range = format!("bytes={here}-");
        let headers = [("Range", range.as_str()), ("If-Range", tag.as_str())];
        let rest = good(client.open(&url_path(key), &headers)?, key)?;
        if rest.status == 206 {
            file.seek(SeekFrom::Start(here)).with_context(could)?;
            bar.inc(here);
        } else {
            file.set_len(0).with_context(could)?;
        }
        pour(rest, &mut file, None, |n| bar.inc(n))?;
    } else if here != bytes || bytes == 0 {
        file.set_len(0).with_context(could)?;
        pour(first, &mut file, None, |n| bar.inc(n))?;
    }
    let came = file.metadata().with_context(could)?.len();
    if came != bytes {
        let message = format!("{came} of {bytes} bytes of {key} came");
        return Err(Hinted::new(message, "run it again; it goes on where it was").into());
    }
    if expected.is_some() {
        file.rewind().with_context(could)?;
        let mut hash = Sha256::new();
        io::copy(&mut file, &mut HashWriter(&mut hash)).with_context(could)?;
        if let Err(error) = check(expected, &hash.finalize()) {
            drop(fs::remove_file(&unfinished));
            return Err(error);
        }
    }
    file.sync_all().with_context(could)?;
    fs::rename(&unfinished, output)
        .with_context(|| format!("could not write {}", output.display()))?;
    bar.finish_and_clear();
    Ok(())
}

/// `a/b.pdf` and its tag give `a/.b.pdf.44136fa355b3678a.part`.
fn unfinished_path(output: &Path, tag: &str) -> PathBuf {
    let name = output.file_name().unwrap_or_default().to_string_lossy();
    let tag = hex(&Sha256::digest(tag)[..8]);
    output.with_file_name(format!(".{name}.{tag}.part"))
}

/// Writes what comes as it comes.
fn pour(
    mut coming: Coming,
    out: &mut dyn Write,
    mut hash: Option<&mut Sha256>,
    mut told: impl FnMut(u64),
) -> anyhow::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = coming.body.read(&mut piece).map_err(|error| {
            let hint = "run it again; with --output it goes on where it was";
            anyhow::Error::new(error).context(Hinted::new("the file broke off", hint))
        })?;
        if read == 0 {
            return out.flush().context("could not write the file");
        }
        out.write_all(&piece[..read]).context("could not write the file")?;
        if let Some(hash) = &mut hash {
            hash.update(&piece[..read]);
        }
        told(read as u64);
    }
}

fn good(coming: Coming, key: &str) -> anyhow::Result<Coming> {
    coming.success(&format!("get the file {key}"), "`inlet file list` lists those there are")
}

fn header(coming: &Coming, name: &str) -> Option<String> {
    Some(coming.headers.get(name)?.to_str().ok()?.to_owned())
}

/// The SHA-256 that the server says the file has (RFC 9530).
fn digest(coming: &Coming) -> Option<Vec<u8>> {
    let field = header(coming, "repr-digest")?;
    let digest = field.strip_prefix("sha-256=:")?.strip_suffix(':')?;
    STANDARD.decode(digest).ok()
}

fn check(expected: Option<Vec<u8>>, found: &[u8]) -> anyhow::Result<()> {
    match expected {
        Some(expected) if expected != found => {
            let message = "the bytes that came do not have the checksum of the file";
            Err(Hinted::new(message, "run it again").into())
        }
        _ => Ok(()),
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
