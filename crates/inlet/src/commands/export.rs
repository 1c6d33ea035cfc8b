//! `inlet export`: documents as NDJSON, straight from the store.
//!
//! A line is an object of `id`, `stream`, `key` (left out where there is none), `received`,
//! `stored` and `body`, the document's text as a JSON string.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::Context;
use inlet_core::document::{IdempotencyKey, StoredDocument, StreamName};
use inlet_core::ports::{Clock, PageQuery, SystemClock};
use serde_json::{Map, Value};

use crate::cli::ExportArgs;
use crate::config::Settings;
use crate::moment;
use crate::report::{self, Hinted};
use crate::wire::{self, Engines};

/// How many documents are read at once.
const PAGE: usize = 500;

/// Writes every document that was asked for.
pub(crate) fn run(settings: Settings, args: &ExportArgs) -> anyhow::Result<()> {
    let mut query = query(args, &settings)?;
    // Made before this process acts as the owner of the data directory: the file is the user's.
    let mut output: BufWriter<Box<dyn Write>> = BufWriter::new(match &args.output {
        Some(path) => Box::new(
            File::create(path).with_context(|| format!("could not make {}", path.display()))?,
        ),
        None => Box::new(io::stdout()),
    });
    let data = wire::directory_to_change(&settings)?;
    let runtime = wire::runtime()?;
    let engines = runtime.block_on(Engines::open(&settings, &data))?;
    // Documents that come meanwhile are left out: under load there are always more.
    query.until = runtime.block_on(engines.store.cursor_of_last(None, 0))?;
    let mut exported: u64 = 0;
    while query.until.is_some() {
        let page = runtime.block_on(engines.store.page(&query))?;
        for stored in &page.items {
            exported += 1;
            match writeln!(output, "{}", line(stored)) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                written => written.context("could not write what is exported")?,
            }
        }
        if !page.more {
            break;
        }
        query.after = page.next;
    }
    runtime.block_on(engines.close());
    match output.flush() {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        flushed => flushed.context("could not write what is exported")?,
    }
    report::say(format_args!("{exported} documents exported"));
    Ok(())
}

fn query(args: &ExportArgs, settings: &Settings) -> anyhow::Result<PageQuery> {
    let range = &args.range;
    let moment = |flag, typed: &Option<String>| {
        typed.as_deref().map(|typed| moment::parse(flag, typed, &settings.calendar)).transpose()
    };
    let since = range.since.as_deref().map(|typed| moment::span("--since", typed)).transpose()?;
    let since = since.map(|span| moment::after(SystemClock.now(), -span));
    let stream = range.stream.as_deref().map(StreamName::new).transpose();
    Ok(PageQuery {
        stream: stream.map_err(|error| Hinted::usage(error.to_string(), ""))?,
        from: since.or(moment("--from", &range.from)?),
        to: moment("--to", &range.to)?,
        limit: PAGE,
        after: None,
        until: None,
    })
}

fn line(stored: &StoredDocument) -> Value {
    let document = &stored.document;
    let mut line = Map::new();
    let mut put = |name: &str, value: String| line.insert(name.to_owned(), Value::String(value));
    put("id", document.id.to_string());
    put("stream", document.stream.to_string());
    if let Some(key) = document.key.as_ref().map(IdempotencyKey::as_str) {
        put("key", key.to_owned());
    }
    put("received", document.received.to_string());
    put("stored", stored.stored.to_string());
    put("body", document.text().into_owned());
    Value::Object(line)
}
