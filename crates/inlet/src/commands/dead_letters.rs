//! `inlet dead-letters` and `inlet redrive`.

use inlet_core::dead_letter::DeadLetterFilter;
use serde::Deserialize;
use serde_json::{Value, json};

use super::documents::cause;
use crate::cli::{DeadLettersArgs, RedriveArgs};
use crate::client::{Client, encode};
use crate::config::Settings;
use crate::report::{self, Hinted};

/// How many dead letters one request asks for at most.
const PAGE: usize = 500;

#[derive(Debug, Deserialize)]
struct DeadLetters {
    dead_letters: Vec<Value>,
    next: Option<String>,
    more: bool,
}

#[derive(Debug, Deserialize)]
struct Redriven {
    matched: u64,
    redriven: u64,
    skipped: u64,
}

/// Prints dead letters with their causes.
pub(crate) fn list(settings: &Settings, args: &DeadLettersArgs) -> anyhow::Result<()> {
    check(&args.filter)?;
    let client = Client::new(&args.remote, &settings.data)?;
    let mut left = args.limit;
    let mut after: Option<String> = None;
    while left > 0 {
        let mut path = format!("/api/dead-letters?limit={}", left.min(PAGE));
        for (name, value) in [("where", Some(args.filter.as_str())), ("cursor", after.as_deref())] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                path.push_str(&format!("&{name}={}", encode(value)));
            }
        }
        let page: DeadLetters = client.get(&path)?.success("list dead letters")?.json()?;
        left = left.saturating_sub(page.dead_letters.len());
        for letter in &page.dead_letters {
            print(letter, args.remote.json.json)?;
        }
        if !page.more {
            break;
        }
        after = page.next;
    }
    Ok(())
}

/// Sends dead letters back to the queue, or counts them.
pub(crate) fn redrive(settings: &Settings, args: &RedriveArgs) -> anyhow::Result<()> {
    check(&args.filter)?;
    let client = Client::new(&args.remote, &settings.data)?;
    let body = serde_json::to_vec(&json!({"where": args.filter, "dry_run": args.dry_run}))?;
    let answer = client
        .post("/api/dead-letters/redrive", &[("Content-Type", "application/json")], &body)?
        .success("redrive dead letters")?;
    if args.remote.json.json {
        return report::data(answer.json::<Value>()?);
    }
    let Redriven { matched, redriven, skipped } = answer.json()?;
    if args.dry_run {
        report::data(format_args!("{redriven} of {matched} would go back to the queue"))?;
    } else {
        report::data(format_args!("{redriven} of {matched} went back to the queue"))?;
    }
    if skipped > 0 {
        report::say(format_args!("{skipped} can't be sent: their bytes are no document"));
    }
    Ok(())
}

fn check(filter: &str) -> anyhow::Result<()> {
    let read: Result<DeadLetterFilter, _> = filter.parse();
    read.map(|_| ()).map_err(|error| {
        Hinted::usage(error.to_string(), "conditions look like stream=orders,cause=refused").into()
    })
}

fn print(letter: &Value, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        return report::data(letter);
    }
    let text = |name: &str| letter[name].as_str().unwrap_or_default().to_owned();
    let cause = cause(letter);
    report::data(format_args!(
        "{}  {}  {:<16} {} attempts  {cause}",
        text("id"),
        text("died"),
        text("stream"),
        letter["attempts"].as_u64().unwrap_or(0),
    ))
}
