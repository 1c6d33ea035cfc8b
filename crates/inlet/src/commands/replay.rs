//! `inlet replay`: stored documents of a time range, read out again at a capped rate.

use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::ProgressBar;

use super::documents::{Selection, page};
use crate::cli::ReplayArgs;
use crate::client::Client;
use crate::config::Settings;
use crate::report::{self, Hinted};

/// How many documents one request asks for.
const PAGE: usize = 500;

/// Prints each document, or posts it.
pub(crate) fn run(settings: &Settings, args: &ReplayArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.remote, &settings.data)?;
    let selection =
        Selection { stream: args.stream.clone(), from: args.from.clone(), to: args.to.clone() };
    let sink = Sink::new(&args.to_url);
    let bar = ProgressBar::no_length().with_message("replayed");
    let begun = Instant::now();
    let mut replayed: u32 = 0;
    let mut after = None;
    loop {
        let page = page(&client, &selection, PAGE, after.as_deref())?;
        for document in &page.documents {
            let due = begun + Duration::from_secs(1) * replayed / args.rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            sink.take(document)?;
            replayed = replayed.saturating_add(1);
            bar.inc(1);
        }
        if !page.more {
            break;
        }
        after = page.next;
    }
    bar.finish_and_clear();
    report::say(format_args!("{replayed} documents replayed"));
    Ok(())
}

/// Where replayed documents go.
enum Sink {
    Output,
    Url(Box<ureq::Agent>, String),
}

impl Sink {
    fn new(to: &str) -> Self {
        if to == "-" {
            return Self::Output;
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Self::Url(Box::new(agent), to.to_owned())
    }

    fn take(&self, document: &serde_json::Value) -> anyhow::Result<()> {
        let id = document["id"].as_str().unwrap_or_default();
        let body = document["body"].as_str().unwrap_or_default();
        match self {
            // One line a document: the line breaks of JSON stand between tokens only.
            Self::Output => report::data(body.replace(['\n', '\r'], " ")),
            Self::Url(agent, url) => agent
                .post(url)
                .header("Content-Type", "application/json")
                .header("Idempotency-Key", id)
                .send(body)
                .map_err(|error| {
                    anyhow::Error::new(error).context(Hinted::new(
                        format!("{url} did not take document {id}"),
                        "the key is the document's id: run the same replay again",
                    ))
                })
                .map(|_| ())
                .context("the replay stopped"),
        }
    }
}
