//! `inlet file put`: in one request where the file is small, else in parts.
//!
//! What was begun is noted in the user's state directory, so that a put that broke off is gone on
//! with when it is run again: the parts that the server has, with the checksums that they have
//! here, are not sent again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use indicatif::ProgressBar;
use inlet_core::document::hex;
use inlet_core::media_type;
use inlet_core::ports::PARTS_MAX;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{path as url_path, progress_bar};
use crate::client::{Client, encode};
use crate::report::{self, Hinted};
use crate::state::Note;

/// The size of a part, in bytes, while no more than [`PARTS_MAX`] of them are needed; what is not
/// larger is put in one request. One part is held in memory.
const PART_BYTES: u64 = 16 << 20;

/// What is noted of a put that is under way.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Noted {
    server: String,
    key: String,
    file: PathBuf,
    bytes: u64,
    modified_us: u128,
    part_bytes: u64,
    upload: String,
}

#[derive(Debug, Deserialize)]
struct Begun {
    #[serde(rename = "uploadId")]
    upload: String,
}

#[derive(Debug, Default, Deserialize)]
struct Parts {
    parts: Vec<PutPart>,
}

#[derive(Debug, Deserialize)]
struct PutPart {
    #[serde(rename = "partNumber")]
    number: u64,
    sha256: String,
}

/// Puts `file`; gives what the server says of it.
pub(super) fn run(
    client: &Client,
    file: &Path,
    key: Option<&str>,
    content_type: Option<&str>,
    only_new: bool,
) -> anyhow::Result<Value> {
    let from_stdin = file == Path::new("-");
    let name = file.file_name().and_then(|name| name.to_str()).filter(|_| !from_stdin);
    let Some(key) = key.or(name) else {
        return Err(Hinted::usage("the key is missing", "name it behind the file").into());
    };
    let content_type = content_type.unwrap_or_else(|| media_type::of_name(key));
    let mut headers = vec![("Content-Type", content_type)];
    if only_new {
        headers.push(("If-None-Match", "*"));
    }
    let attempted = format!("put the file {key}");
    if from_stdin {
        let mut input = progress_bar(file, None).wrap_read(io::stdin().lock());
        let answer = client.put_stream(&url_path(key), &headers, &mut input)?;
        return answer.success(&attempted)?.json();
    }
    let mut opened =
        File::open(file).with_context(|| format!("could not open {}", file.display()))?;
    let about = opened.metadata().with_context(|| format!("could not read {}", file.display()))?;
    if !about.is_file() {
        let message = format!("{} is no file", file.display());
        return Err(Hinted::new(message, "name one file; a directory is put file by file").into());
    }
    let bar = progress_bar(file, Some(about.len()));
    if about.len() <= PART_BYTES {
        let bytes = read_part(&mut opened, file, PART_BYTES)?;
        let checksum = STANDARD.encode(Sha256::digest(&bytes));
        headers.push(("x-amz-checksum-sha256", &checksum));
        let answer = client.persistently(|client| client.put(&url_path(key), &headers, &bytes))?;
        bar.finish_and_clear();
        return answer.success(&attempted)?.json();
    }
    let part_bytes = about.len().div_ceil(u64::from(PARTS_MAX)).max(PART_BYTES);
    let modified = about.modified().ok().and_then(|moment| moment.duration_since(UNIX_EPOCH).ok());
    let wanted = Noted {
        server: client.address().to_string(),
        key: key.to_owned(),
        file: fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()),
        bytes: about.len(),
        modified_us: modified.map_or(0, |since| since.as_micros()),
        part_bytes,
        upload: String::new(),
    };
    let note = note_of(&wanted);
    let (upload, there) = match go_on(client, &wanted, note.as_ref()) {
        Some(found) => found,
        None => {
            let begin = format!("{}?uploads", url_path(key));
            let answer = client.persistently(|client| client.post(&begin, &headers, b""))?;
            let begun: Begun = answer.success(&attempted)?.json()?;
            if let Some(note) = &note {
                note.write(&Noted { upload: begun.upload.clone(), ..wanted });
            }
            (begun.upload, Parts::default())
        }
    };
    let place = format!("{}?uploadId={}", url_path(key), encode(&upload));
    send_parts(client, &mut opened, file, part_bytes, &place, &there, &bar)?;
    let made = client
        .persistently(|client| client.post_patiently(&place, &[], b""))?
        .success(&attempted)?;
    if let Some(note) = note {
        note.remove();
    }
    bar.finish_and_clear();
    made.json()
}

fn send_parts(
    client: &Client,
    opened: &mut File,
    file: &Path,
    part_bytes: u64,
    place: &str,
    there: &Parts,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    for number in 1.. {
        let bytes = read_part(opened, file, part_bytes)?;
        if bytes.is_empty() {
            break;
        }
        let digest = Sha256::digest(&bytes);
        let sha256 = hex(&digest);
        if !there.parts.iter().any(|part| part.number == number && part.sha256 == sha256) {
            let checksum = STANDARD.encode(digest);
            let headers = [("x-amz-checksum-sha256", checksum.as_str())];
            let part = format!("{place}&partNumber={number}");
            client
                .persistently(|client| client.put(&part, &headers, &bytes))?
                .success(&format!("put part {number} of {}", file.display()))?;
        }
        bar.inc(bytes.len() as u64);
    }
    Ok(())
}

fn read_part(opened: &mut File, file: &Path, bytes: u64) -> anyhow::Result<Vec<u8>> {
    let mut part = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
    opened
        .take(bytes)
        .read_to_end(&mut part)
        .with_context(|| format!("could not read {}", file.display()))?;
    Ok(part)
}

/// The upload that was begun for just this, and the parts that the server has of it.
fn go_on(client: &Client, wanted: &Noted, note: Option<&Note>) -> Option<(String, Parts)> {
    let noted: Noted = note?.read()?;
    let upload = noted.upload.clone();
    if (Noted { upload: String::new(), ..noted }) != *wanted {
        return None;
    }
    let place = format!("{}?uploadId={}", url_path(&wanted.key), encode(&upload));
    let parts = client.get(&place).ok()?.success("go on").and_then(|answer| answer.json());
    let parts: Parts = parts.ok()?;
    report::say(format_args!("going on with an upload that has {} parts", parts.parts.len()));
    Some((upload, parts))
}

/// The note of a put: of this file, to this server, under this key.
fn note_of(wanted: &Noted) -> Option<Note> {
    let subject = format!("{}\0{}\0{}", wanted.server, wanted.key, wanted.file.display());
    Note::of("uploads", &subject)
}
