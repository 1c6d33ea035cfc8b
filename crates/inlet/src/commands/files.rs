//! `inlet file`: files of a running server.

mod get;
mod put;

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::FileCommand;
use crate::client::{Client, encode};
use crate::config::Settings;
use crate::report;

/// How many files one request asks for at most.
const PAGE: usize = 1_000;

#[derive(Debug, Deserialize)]
struct Page {
    files: Vec<Value>,
    next: Option<String>,
    more: bool,
}

/// Does what is asked.
pub(crate) fn run(settings: &Settings, command: &FileCommand) -> anyhow::Result<()> {
    match command {
        FileCommand::Put { file, key, content_type, new, remote } => {
            let client = Client::new(remote, &settings.data)?;
            let made = put::run(&client, file, key.as_deref(), content_type.as_deref(), *new)?;
            match remote.json.json {
                true => report::data(made),
                false => report::data(line(&made)),
            }
        }
        FileCommand::Get { key, output, remote } => {
            let client = Client::new(remote, &settings.data)?;
            get::run(&client, key, output.as_deref())
        }
        FileCommand::List { prefix, remote } => {
            let client = Client::new(remote, &settings.data)?;
            list(&client, prefix, remote.json.json)
        }
        FileCommand::Delete { key, remote } => {
            let client = Client::new(remote, &settings.data)?;
            let answer = client.delete(&path(key))?;
            let missing = "`inlet file list` lists those there are";
            answer.success_or(&format!("delete the file {key}"), missing)?;
            match remote.json.json {
                true => report::data(json!({"deleted": key})),
                false => report::data(format_args!("deleted {key}")),
            }
        }
    }
}

fn list(client: &Client, prefix: &str, as_json: bool) -> anyhow::Result<()> {
    let mut after: Option<String> = None;
    loop {
        let mut path = format!("/api/files?limit={PAGE}&prefix={}", encode(prefix));
        if let Some(after) = &after {
            path.push_str(&format!("&cursor={}", encode(after)));
        }
        let page: Page = client.get(&path)?.success("list files")?.json()?;
        for file in &page.files {
            match as_json {
                true => report::data(file)?,
                false => report::data(line(file))?,
            }
        }
        if !page.more || page.next.is_none() {
            return Ok(());
        }
        after = page.next;
    }
}

/// A file as a line: when it was put, its size, its key.
fn line(file: &Value) -> String {
    let text = |name: &str| file[name].as_str().unwrap_or_default().to_owned();
    let bytes = file["bytes"].as_u64().unwrap_or_default();
    format!("{}  {bytes:>14}  {}", text("modified"), text("key"))
}

/// The path of a file's URL.
fn path(key: &str) -> String {
    let segments: Vec<String> = key.split('/').map(encode).collect();
    format!("/api/files/{}", segments.join("/"))
}

fn progress_bar(path: &Path, bytes: Option<u64>) -> ProgressBar {
    let bar = bytes.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar.with_message(path.display().to_string())
}
