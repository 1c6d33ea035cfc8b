//! `inlet get`, `list` and `tail`: documents as a running server gives them.

use std::time::Duration;

use anyhow::Context;
use inlet_core::id::{DocumentId, IdPrefix};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::{GetArgs, ListArgs, RangeArgs, TailArgs};
use crate::client::{self, Client, encode};
use crate::config::Settings;
use crate::moment;
use crate::report::{self, Hinted};

/// How many documents one request asks for at most.
const PAGE: usize = 500;
/// The time `tail` waits between two requests.
const TAIL_WAIT: Duration = Duration::from_millis(500);
/// The longest pause of `tail` while the server is away.
const TAIL_WAIT_MAX: Duration = Duration::from_secs(10);
/// The most ids shown where a prefix is that of several.
const SHOWN_MAX: usize = 5;

/// A page of documents, as the API gives it.
#[derive(Debug, Deserialize)]
pub(super) struct Documents {
    pub(super) documents: Vec<Value>,
    pub(super) next: Option<String>,
    pub(super) more: bool,
}

/// Which documents are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Selection {
    pub(super) stream: Option<String>,
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

impl Selection {
    /// The stream and the range that were typed, by the clock of the server and the time zone of
    /// the settings.
    pub(super) fn of(
        range: &RangeArgs,
        client: &Client,
        settings: &Settings,
    ) -> anyhow::Result<Self> {
        let calendar = &settings.calendar;
        let since =
            range.since.as_deref().map(|typed| moment::span("--since", typed)).transpose()?;
        let moment = |flag, typed: &Option<String>| {
            typed.as_deref().map(|typed| moment::parse(flag, typed, calendar)).transpose()
        };
        let (from, to) = (moment("--from", &range.from)?, moment("--to", &range.to)?);
        let from = match since {
            Some(since) => Some(moment::after(client.now()?, -since)),
            None => from,
        };
        Ok(Self {
            stream: range.stream.clone(),
            from: from.map(|moment| moment.to_string()),
            to: to.map(|moment| moment.to_string()),
        })
    }
}

/// Prints one document.
pub(crate) fn get(settings: &Settings, args: &GetArgs) -> anyhow::Result<()> {
    let usage = |_| {
        let hint = "give the whole id, or at least 8 of its first digits";
        Hinted::usage(format!("{:?} is no id and no beginning of one", args.id), hint)
    };
    let id: Result<DocumentId, _> = args.id.parse();
    let prefix: Option<IdPrefix> = match &id {
        Ok(_) => None,
        Err(_) => Some(args.id.parse().map_err(usage)?),
    };
    let client = Client::new(&args.remote, &settings.data)?;
    let id = match (id, prefix) {
        (Ok(id), _) => id,
        (Err(_), Some(_)) => id_of(&client, &args.id)?,
        (Err(error), None) => return Err(usage(error).into()),
    };
    let is_full = args.full || args.remote.json.json;
    let view = if is_full { "?view=full" } else { "" };
    let answer = client.get(&format!("/api/documents/{id}{view}"))?;
    if answer.status == 404 && answer.code().is_some() {
        return Err(whereabouts(&client, id)?);
    }
    let answer = answer.success(&format!("get document {id}"))?;
    report::bytes(&answer.body)?;
    // Output for people ends with its line; a document is given byte for byte.
    if is_full { report::bytes(b"\n") } else { Ok(()) }
}

/// The one document whose id begins with `prefix`.
fn id_of(client: &Client, prefix: &str) -> anyhow::Result<DocumentId> {
    let path = format!("/api/documents?prefix={}&limit={}", encode(prefix), SHOWN_MAX + 1);
    let page: Documents =
        client.get(&path)?.success(&format!("find a document by {prefix}"))?.json()?;
    let ids: Vec<&str> = page.documents.iter().filter_map(|it| it["id"].as_str()).collect();
    match ids[..] {
        [] => {
            let message = format!("there is no stored document whose id begins with {prefix}");
            let hint = "`inlet list` lists documents; of one that still waits, give the whole id";
            Err(Hinted::new(message, hint).into())
        }
        [id] => id.parse().context("the server's answer has no id of a document"),
        _ => {
            let shown = ids[..ids.len().min(SHOWN_MAX)].join("\n  ");
            let more = if ids.len() > SHOWN_MAX { "\n  …" } else { "" };
            let message = format!("several ids begin with {prefix}:\n  {shown}{more}");
            Err(Hinted::new(message, "give more digits").into())
        }
    }
}

/// The whereabouts of a document that is not stored.
fn whereabouts(client: &Client, id: DocumentId) -> anyhow::Result<anyhow::Error> {
    let answer = client.get(&format!("/api/receipts/{id}"))?;
    if answer.status == 404 {
        let message = format!("there is no document {id}");
        let hint = "`inlet list` lists documents; an erased one is gone for good";
        return Ok(Hinted::new(message, hint).into());
    }
    let receipt: Value = answer.success(&format!("look for document {id}"))?.json()?;
    let text = |name: &str| receipt[name].as_str().unwrap_or_default().to_owned();
    let (message, hint) = match text("state").as_str() {
        "dead" => (
            format!("document {id} is a dead letter: {}", cause(&receipt)),
            format!(
                "`inlet dead-letters --where id={id}` shows it, `inlet redrive --where id={id}` \
                 sends it to the queue again"
            ),
        ),
        "queued" => (
            format!("document {id} waits in the queue, and is not stored yet"),
            "try again; `inlet status` shows what waits".to_owned(),
        ),
        "stored" => (format!("document {id} was just stored"), "try again".to_owned()),
        state => {
            (format!("document {id} is {state}"), "`inlet fsck` says more about damage".to_owned())
        }
    };
    Ok(Hinted::new(message, hint).into())
}

/// The cause of a dead letter, with its detail where it has one.
pub(super) fn cause(letter: &Value) -> String {
    let text = |name: &str| letter[name].as_str().unwrap_or_default();
    match text("detail") {
        "" => text("cause").to_owned(),
        detail => format!("{}: {detail}", text("cause")),
    }
}

/// Prints a list of documents.
pub(crate) fn list(settings: &Settings, args: &ListArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let selection = Selection::of(&args.range, &client, settings)?;
    let mut left = args.last.map_or(args.limit, usize::from);
    let mut after = None;
    while left > 0 {
        let page = match (args.last, &after) {
            (Some(last), None) => last_page(&client, selection.stream.as_deref(), last.into())?,
            _ => page(&client, &selection, left.min(PAGE), after.as_deref())?,
        };
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

/// Prints documents as they are stored, until it is stopped. While the server is away it is tried
/// again, and goes on where it was.
pub(crate) fn tail(settings: &Settings, args: &TailArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let selection = Selection::of(&args.range, &client, settings)?;
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut after: Option<String> = None;
    // Without a moment it begins where the server is at the end: the clocks of both may differ, and
    // documents that were received before are still being stored.
    if selection.from.is_none() {
        after = last_page(&client, selection.stream.as_deref(), 0)?.next;
    }
    let mut pause = TAIL_WAIT;
    while left > 0 {
        let page = match page(&client, &selection, left.min(PAGE), after.as_deref()) {
            Ok(page) => page,
            Err(error) if client::is_passing(&error) => {
                if pause == TAIL_WAIT {
                    report::say(format_args!("{error}; trying again until it is back"));
                }
                pause = (pause * 2).min(TAIL_WAIT_MAX);
                std::thread::sleep(pause);
                continue;
            }
            Err(error) => return Err(error),
        };
        pause = TAIL_WAIT;
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

/// Asks for the newest documents, and the cursor of what is still to come.
fn last_page(client: &Client, stream: Option<&str>, last: usize) -> anyhow::Result<Documents> {
    let mut path = format!("/api/documents?last={last}");
    if let Some(stream) = stream {
        path.push_str(&format!("&stream={}", encode(stream)));
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
