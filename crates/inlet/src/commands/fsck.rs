//! `inlet fsck`: looks through the logs of the queue for damage, and sets it aside.

use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use inlet_log::RealDisk;
use inlet_log::fsck::{self, ProblemKind, Report};
use serde_json::json;

use crate::cli::FsckArgs;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::{self, Hinted};

/// Checks every log of the data directory.
pub(crate) fn run(settings: &Settings, args: &FsckArgs) -> anyhow::Result<()> {
    let data = match args.repair {
        true => DataDirectory::open_to_change(&settings.data)?,
        false => DataDirectory::open(&settings.data)?,
    };
    let mut damaged = Vec::new();
    for log in logs(&data)? {
        if args.repair {
            repair(&log, args.json.json)?;
        } else if check(&log, args.json.json)? {
            damaged.push(log.display().to_string());
        }
    }
    if damaged.is_empty() {
        return Ok(());
    }
    Err(Hinted::new(
        format!("there is damage in {}", damaged.join(", ")),
        "`inlet fsck --repair` sets damaged records aside and keeps the rest",
    )
    .into())
}

/// The directories that hold a log, in name order.
fn logs(data: &DataDirectory) -> anyhow::Result<Vec<PathBuf>> {
    let root = data.join("log");
    let entries = match fs::read_dir(&root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("could not list {}", root.display()))?,
    };
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("could not list {}", root.display()))?.path();
        if path.is_dir() {
            logs.push(path);
        }
    }
    logs.sort();
    Ok(logs)
}

/// Prints what is wrong with a log; returns whether it is damaged.
fn check(log: &PathBuf, as_json: bool) -> anyhow::Result<bool> {
    let found = fsck::check(&RealDisk, log)?;
    let Report { segments, records, bytes, removed, problems, more } = &found;
    for problem in problems {
        let torn = problem.kind == ProblemKind::Torn;
        if as_json {
            report::data(json!({
                "log": log,
                "kind": if torn { "torn" } else { "damage" },
                "file": problem.path,
                "offset": problem.offset,
                "bytes": problem.bytes,
                "what": problem.what,
            }))?;
        } else {
            let kind = if torn { "torn write" } else { "damage" };
            report::data(format_args!("{kind}: {problem}"))?;
        }
    }
    if *more > 0 {
        report::say(format_args!("{}: and {more} more problems", log.display()));
    }
    if as_json {
        return report::data(json!({
            "log": log,
            "kind": "report",
            "segments": segments,
            "records": records,
            "bytes": bytes,
            "removed": removed,
            "problems": problems.len() as u64 + more,
        }))
        .map(|()| found.is_damaged());
    }
    report::data(format_args!(
        "{}: {records} records in {segments} segments, {bytes} bytes, {}",
        log.display(),
        if found.is_damaged() { "damaged" } else { "sound" },
    ))?;
    Ok(found.is_damaged())
}

fn repair(log: &PathBuf, as_json: bool) -> anyhow::Result<()> {
    let done = fsck::repair(&RealDisk, log)?;
    for taken in &done.taken {
        if as_json {
            report::data(json!({
                "log": log,
                "kind": "taken",
                "file": taken.path,
                "offset": taken.offset,
                "bytes": taken.bytes,
                "kept": taken.kept,
            }))?;
        } else {
            report::data(format_args!(
                "{}: {} bytes at offset {} are kept in {}",
                taken.path.display(),
                taken.bytes,
                taken.offset,
                taken.kept.display()
            ))?;
        }
    }
    if as_json {
        return report::data(json!({"log": log, "kind": "report", "records": done.records}));
    }
    report::data(format_args!("{}: {} records are readable", log.display(), done.records))
}
