//! `inlet get`, `list` and `tail`: documents as a running server gives them.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use inlet_core::id::DocumentId;
use inlet_core::ports::{Clock, SystemClock};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{GetArgs, ListArgs, TailArgs};
use crate::client::{Client, encode};
use crate::config::Settings;
use crate::report::{self, Hinted};

/// How many documents one request asks for at most.
const PAGE: usize = 500;
/// How long `tail` waits between two looks.
const TAIL_WAIT: Duration = Duration::from_millis(500);

/// A page of documents, as the API gives it.
#[derive(Debug, Deserialize)]
pub(super) struct Documents {
    pub(super) documents: Vec<Value>,
    pub(super) next: Option<String>,
    pub(super) more: bool,
}

/// Which documents are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    pub(super) stream: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

/// Prints one document.
pub(crate) fn get(settings: &Settings, args: &GetArgs) -> anyhow::Result<()> {
    let id: DocumentId = args
        .id
        .parse()
        .map_err(|error| Hinted::usage(format!("{:?} is no id: {error}", args.id), ""))?;
    let client = Client::new(&args.remote, &settings.data)?;
    let view = if args.full { "?view=full" } else { "" };
    let answer = client
        .get(&format!("/api/documents/{id}{view}"))?
        .success(&format!("get document {id}"))?;
    std::io::stdout().write_all(&answer.body).context("could not write to standard output")
}

/// Prints a list of documents.
pub(crate) fn list(settings: &Settings, args: &ListArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let selection =
        Selection { stream: args.stream.clone(), from: args.from.clone(), to: args.to.clone() };
    let mut left = args.limit;
    let mut after = None;
    while left > 0 {
        let page = page(&client, &selection, left.min(PAGE), after.as_deref())?;
        left = left.saturating_sub(page.documents.len());
        for document in &page.documents {
            print(document, args.remote.json.json)?;
        }
        if !page.more {
            break;
        }
        after = page.next;
    }
    Ok(())
}

/// Prints documents as they are stored, until it is stopped.
pub(crate) fn tail(settings: &Settings, args: &TailArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let from = args.from.clone().unwrap_or_else(|| SystemClock.now().to_string());
    let selection = Selection { stream: args.stream.clone(), from: Some(from), to: None };
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut after: Option<String> = None;
    while left > 0 {
        let page = page(&client, &selection, left.min(PAGE), after.as_deref())?;
        left = left.saturating_sub(page.documents.len());
        for document in &page.documents {
            print(document, args.remote.json.json)?;
        }
        after = page.next.or(after);
        if !page.more && left > 0 {
            std::thread::sleep(TAIL_WAIT);
        }
    }
    Ok(())
}

/// Asks for one page.
pub(super) fn page(
    client: &Client,
    selection: &Selection,
    limit: usize,
    after: Option<&str>,
) -> anyhow::Result<Documents> {
    let mut path = format!("/api/documents?limit={limit}");
    let given = [
        ("stream", selection.stream.as_deref()),
        ("from", selection.from.as_deref()),
        ("to", selection.to.as_deref()),
        ("cursor", after),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    client.get(&path)?.success("list documents")?.json()
}

fn print(document: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return report::data(document);
    }
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    let body: String = text("body").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let shown: String = body.chars().take(80).collect();
    let cut = if shown.len() < body.len() { "…" } else { "" };
    let (id, received, stream) = (text("id"), text("received"), text("stream"));
    report::data(format_args!("{id}  {received}  {stream:<16} {shown}{cut}"))
}
