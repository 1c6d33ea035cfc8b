//! `inlet send`: documents from NDJSON files, in batches, so that a file sent again adds nothing
//! twice.
//!
//! Each document has a key of its own, which follows from the file it is in, from its bytes, and
//! from how often they stood in the file before. So it does not matter into which batch it falls,
//! nor what stands before or behind it: of a file that was mended or has grown, only what is new is
//! added. See [`key`] for what is one sending.

mod key;
mod lines;

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use inlet_core::accept::KEYED;
use inlet_core::json;
use inlet_core::rejection::Rejection;
use serde::Deserialize;
use serde_json::{Value, json};

use self::key::Keys;
use self::lines::{Line, Lines};
use crate::cli::SendArgs;
use crate::client::{Answer, Client, encode};
use crate::config::Settings;
use crate::report::{self, Hinted};

/// The most bytes of one request; the server's own limit is larger by default.
const BATCH_BYTES_MAX: usize = 4 << 20;

#[derive(Debug, Deserialize)]
struct BatchAnswer {
    results: Vec<Value>,
}

/// The outcomes of the documents.
#[derive(Debug, Default)]
struct Tally {
    new: u64,
    there: u64,
    refused: u64,
}

/// A document on its way.
#[derive(Debug)]
struct Item {
    /// The number of its line in the file, from 1.
    line: u64,
    /// The line of the request: its key and the document.
    text: Vec<u8>,
    /// The range of the document in it.
    document: Range<usize>,
}

/// One file that is sent.
struct Sending<'a> {
    client: &'a Client,
    url: String,
    /// The file, as messages name it.
    name: String,
    tally: &'a mut Tally,
}

/// Sends every file.
pub(crate) fn run(settings: &Settings, args: &SendArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let mut tally = Tally::default();
    for path in &args.files {
        send_file(&client, args, path, &mut tally)?;
    }
    let Tally { new, there, refused } = tally;
    if args.remote.json.json {
        report::data(json!({"new": new, "already_there": there, "refused": refused}))?;
    } else {
        report::data(format_args!("{new} new, {there} already there, {refused} refused"))?;
    }
    if refused > 0 {
        let hint = "the lines are named above; mend them and send the file again: what is there \
                    is not added twice";
        let documents = if refused == 1 { "document was" } else { "documents were" };
        return Err(Hinted::new(format!("{refused} {documents} refused"), hint).into());
    }
    Ok(())
}

fn send_file(
    client: &Client,
    args: &SendArgs,
    path: &Path,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let (reader, bytes): (Box<dyn Read>, u64) = if is_stdin {
        (Box::new(std::io::stdin()), 0)
    } else {
        let file = File::open(path).with_context(|| format!("could not open {name}"))?;
        let bytes = file.metadata().map_or(0, |metadata| metadata.len());
        (Box::new(file), bytes)
    };
    let mut keys = Keys::of(args.run.as_deref(), (!is_stdin).then_some(path))?;
    let mut lines = Lines::new(BufReader::with_capacity(1 << 20, reader));
    let bar = progress_bar(&name, bytes);
    let url = format!("/api/save/batch?stream={}", encode(&args.stream));
    let mut sending = Sending { client, url, name: name.clone(), tally };
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    while let Some(line) = lines.next().with_context(|| format!("could not read {name}"))? {
        bar.inc(line.bytes_read());
        let (number, document) = match line {
            Line::Document { number, bytes, .. } => (number, bytes),
            Line::TooLong { number, .. } => {
                sending.refused(number, "it is longer than any document may be");
                continue;
            }
        };
        let key = keys.next(&document).with_context(|| name.clone())?;
        let item = Item::new(number, &key, &document);
        batch_bytes += item.text.len();
        batch.push(item);
        if batch.len() >= args.batch.get() || batch_bytes >= BATCH_BYTES_MAX {
            sending.send(&batch)?;
            batch.clear();
            batch_bytes = 0;
        }
    }
    sending.send(&batch)?;
    bar.finish_and_clear();
    Ok(())
}

impl Item {
    /// A line of a request, as [`KEYED`] has it.
    fn new(line: u64, key: &str, document: &[u8]) -> Self {
        let text = [b"{\"key\":\"", key.as_bytes(), b"\",\"document\":", document, b"}\n"].concat();
        let end = text.len() - 2;
        Self { line, text, document: end - document.len()..end }
    }

    /// The reason it was refused. A fault in its JSON is told by its place in the document, and not
    /// in the line of the request.
    fn refusal(&self, result: &Value) -> String {
        let fault = json::check(&self.text[self.document.clone()], usize::MAX).err();
        match fault.filter(|_| result["code"] == "JsonInvalid") {
            Some(fault) => Rejection::JsonInvalid(fault).to_string(),
            None => result["detail"].as_str().unwrap_or("refused").to_owned(),
        }
    }
}

fn progress_bar(name: &str, bytes: u64) -> ProgressBar {
    let bar = if bytes == 0 { ProgressBar::no_length() } else { ProgressBar::new(bytes) };
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(name.to_owned())
}

impl Sending<'_> {
    /// Sends a batch; in halves where it is too large for the limits of the server.
    fn send(&mut self, batch: &[Item]) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let body: Vec<u8> = batch.iter().flat_map(|item| &item.text).copied().collect();
        let headers = [("Content-Type", KEYED)];
        let answer = self.client.persistently(|client| client.post(&self.url, &headers, &body))?;
        match (answer.status, batch) {
            (413, [only]) => {
                self.refused(only.line, "it is larger than the server takes");
                Ok(())
            }
            (413, _) => {
                let (one, other) = batch.split_at(batch.len() / 2);
                self.send(one)?;
                self.send(other)
            }
            _ => self.judge(batch, answer),
        }
    }

    fn judge(&mut self, batch: &[Item], answer: Answer) -> anyhow::Result<()> {
        // 400 has results too, where it says that every document of the batch was refused.
        let answer: BatchAnswer = match answer.json() {
            Ok(results) if answer.status == 400 => results,
            _ => answer.success(&format!("send documents of {}", self.name))?.json()?,
        };
        if answer.results.len() != batch.len() {
            anyhow::bail!("the server answered {} of {}", answer.results.len(), batch.len());
        }
        for (result, item) in answer.results.iter().zip(batch) {
            if !result["MessageId"].is_string() {
                self.refused(item.line, &item.refusal(result));
            } else if result["replayed"] == true {
                self.tally.there += 1;
            } else {
                self.tally.new += 1;
            }
        }
        Ok(())
    }

    fn refused(&mut self, line: u64, why: &str) {
        self.tally.refused += 1;
        report::say(format_args!("{}:{line}: {why}", self.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_request_has_the_document_byte_for_byte() {
        let item = Item::new(7, "k", b"{ \"a\":1}");
        assert_eq!(item.text, b"{\"key\":\"k\",\"document\":{ \"a\":1}}\n");
        assert_eq!(&item.text[item.document], b"{ \"a\":1}");
    }

    #[test]
    fn a_fault_is_told_by_its_place_in_the_document() {
        let refused = json!({"code": "JsonInvalid", "detail": "at byte 99"});
        let alone = Rejection::JsonInvalid(json::check(b"[1,]", 8).unwrap_err()).to_string();
        assert_eq!(Item::new(1, "key", b"[1,]").refusal(&refused), alone);
        let other = json!({"code": "KeyConflict", "detail": "another body"});
        assert_eq!(Item::new(1, "key", b"[1]").refusal(&other), "another body");
    }
}
