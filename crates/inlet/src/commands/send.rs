//! `inlet send`: documents from NDJSON files, in batches, so that a file sent again adds nothing
//! twice.
//!
//! Each batch carries an idempotency key that follows from the stream and from its lines' bytes
//! and place, so an interrupted `send` is resumed by running it again: what the server has is
//! recognised, what it lacks is added.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use inlet_core::document::hex;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cli::SendArgs;
use crate::client::{Client, encode};
use crate::config::Settings;
use crate::report::{self, Hinted};

/// The most bytes of one request; the server's own limit is larger.
const BATCH_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Deserialize)]
struct BatchAnswer {
    results: Vec<Value>,
}

/// What became of the lines.
#[derive(Debug, Default)]
struct Tally {
    accepted: u64,
    refused: u64,
}

/// Lines that go into one request.
#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// The number of each document's line in its file, from 1.
    lines: Vec<u64>,
}

/// Sends every file.
pub(crate) fn run(settings: &Settings, args: &SendArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let mut tally = Tally::default();
    for path in &args.files {
        send_file(&client, args, path, &mut tally)?;
    }
    if args.remote.json.json {
        report::data(json!({"accepted": tally.accepted, "refused": tally.refused}))?;
    } else {
        report::data(format_args!("{} accepted, {} refused", tally.accepted, tally.refused))?;
    }
    if tally.refused > 0 {
        let hint = "the lines are named above; mend them and send the file again";
        return Err(Hinted::new(format!("{} documents were refused", tally.refused), hint).into());
    }
    Ok(())
}

fn send_file(
    client: &Client,
    args: &SendArgs,
    path: &Path,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let standard_input = path == Path::new("-");
    let (reader, bytes): (Box<dyn Read>, u64) = if standard_input {
        (Box::new(std::io::stdin()), 0)
    } else {
        let file =
            File::open(path).with_context(|| format!("could not open {}", path.display()))?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(file), bytes)
    };
    let bar = progress_bar(path, bytes);
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let mut line_number = 0;
    let mut key = Sha256::new().chain_update(args.stream.as_bytes()).chain_update(b"\0");
    while let Some(chunk) = next_chunk(&mut reader, args.batch.max(1), &mut line_number)
        .with_context(|| format!("could not read {}", path.display()))?
    {
        // The key follows from all that came before, so equal lines in two places stay two.
        key.update(&chunk.bytes);
        let batch_key = hex(&key.clone().finalize()[..16]);
        send_chunk(client, args, path, &chunk, &batch_key, tally)?;
        bar.inc(chunk.bytes.len() as u64);
    }
    bar.finish_and_clear();
    Ok(())
}

fn progress_bar(path: &Path, bytes: u64) -> ProgressBar {
    let bar = if bytes == 0 { ProgressBar::no_length() } else { ProgressBar::new(bytes) };
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(path.display().to_string())
}

fn next_chunk(
    reader: &mut impl BufRead,
    documents_max: usize,
    line_number: &mut u64,
) -> anyhow::Result<Option<Chunk>> {
    let mut chunk = Chunk { bytes: Vec::new(), lines: Vec::new() };
    while chunk.lines.len() < documents_max && chunk.bytes.len() < BATCH_BYTES_MAX {
        let start = chunk.bytes.len();
        let limit = (inlet_core::limits::Limits::default().batch_bytes_max + 1) as u64;
        if reader.by_ref().take(limit).read_until(b'\n', &mut chunk.bytes)? == 0 {
            break;
        }
        *line_number += 1;
        let line = chunk.bytes[start..].trim_ascii();
        if line.is_empty() {
            chunk.bytes.truncate(start);
            continue;
        }
        if chunk.bytes.last() != Some(&b'\n') {
            chunk.bytes.push(b'\n');
        }
        chunk.lines.push(*line_number);
    }
    Ok(Some(chunk).filter(|chunk| !chunk.lines.is_empty()))
}

fn send_chunk(
    client: &Client,
    args: &SendArgs,
    path: &Path,
    chunk: &Chunk,
    key: &str,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let url = format!("/api/save/batch?stream={}", encode(&args.stream));
    let headers = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", key)];
    let answer = client.persistently(|client| client.post(&url, &headers, &chunk.bytes))?;
    // 400 has results too, where it says that every document of the batch was refused.
    let results: BatchAnswer = match answer.json() {
        Ok(results) if answer.status == 400 => results,
        _ => answer.success("send documents")?.json()?,
    };
    for (result, line) in results.results.iter().zip(&chunk.lines) {
        if result["MessageId"].is_string() {
            tally.accepted += 1;
            continue;
        }
        tally.refused += 1;
        let detail = result["detail"].as_str().unwrap_or("refused");
        report::say(format_args!("{}:{line}: {detail}", path.display()));
    }
    Ok(())
}
