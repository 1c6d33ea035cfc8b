//! `inlet fsck`: looks through the logs of the queue for damage, and sets it aside.
//!
//! Whatever a start refuses about a log is listed here, and `--repair` makes the start work: by
//! setting damage aside, by going on without a log that is gone, or with another store. What is
//! lost by that is listed, and noted for receipts.

use std::path::Path;

use inlet_adapters::queue::{LogDirectory, LossNote, StoreView};
use inlet_core::ports::{Clock, SystemClock};
use inlet_log::fsck::{ProblemKind, Report};
use serde_json::json;

use crate::cli::FsckArgs;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::report::{self, Hinted};
use crate::wire;

/// Looks through every log of the data directory. Fails where something was wrong, repaired or
/// not.
pub(crate) fn run(settings: &Settings, args: &FsckArgs) -> anyhow::Result<()> {
    // To look at the store is to open it, which makes files.
    let data = DataDirectory::open_to_change(&settings.data)?;
    let logs = wire::logs_at(data.path());
    let store = match wire::runtime()?.block_on(wire::store_view(settings, &data)) {
        Ok(store) => Some(store),
        Err(error) => {
            report::say(format_args!("the store can't be asked, only the logs are: {error:#}"));
            None
        }
    };
    let look = Look { logs, store, repair: args.repair, json: args.json.json };
    let mut wrong = Vec::new();
    for log in look.logs.logs()? {
        if look.at_log(&log)? {
            wrong.push(log.display().to_string());
        }
    }
    for missing in look.logs.missing()? {
        wrong.push(missing.dir.display().to_string());
        let what = format!("the log {} is not here any more", missing.id);
        look.print_problem("missing", &missing.dir, &what)?;
        if look.repair {
            look.logs.forget(&missing, SystemClock.now())?;
            let note = "what was in it and not stored is lost";
            look.print_done(&missing.dir, "forgotten", note)?;
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let wrong = wrong.join(", ");
    let (message, hint) = if look.repair {
        (
            format!("there was damage in {wrong}; it is set aside"),
            "the lines above say what is lost; a start goes on with the rest",
        )
    } else {
        (
            format!("there is damage in {wrong}"),
            "`inlet fsck --repair` sets it aside, keeps the rest, and says what is lost",
        )
    };
    Err(Hinted::new(message, hint).into())
}

/// A look through the logs of a data directory.
struct Look {
    logs: LogDirectory,
    /// The store, where it could be asked; `None` in it where there is none yet.
    store: Option<Option<StoreView>>,
    repair: bool,
    json: bool,
}

impl Look {
    /// Looks through a log, and repairs it where that is asked for; whether anything was wrong.
    fn at_log(&self, log: &Path) -> anyhow::Result<bool> {
        let view = self.store.as_ref().and_then(Option::as_ref);
        let found = self.logs.check(log, view)?;
        self.print_found(log, &found)?;
        let mut wrong = found.is_damaged();
        if wrong && self.repair {
            let (done, losses) = self.logs.repair(log, view, SystemClock.now())?;
            for taken in &done.taken {
                self.print_taken(log, taken)?;
            }
            losses.iter().try_for_each(|loss| self.print_loss(log, loss))?;
            if self.json {
                report::data(json!({
                    "log": log,
                    "kind": "repaired",
                    "records": done.records,
                    "appended_again": done.salvaged,
                }))?;
            } else {
                report::data(format_args!(
                    "{}: {} records are readable, {} of them appended again",
                    log.display(),
                    done.records,
                    done.salvaged
                ))?;
            }
        }
        if let Some(why) = self.misfit(log)? {
            wrong = true;
            self.print_problem("misfit", log, &why)?;
            if self.repair {
                let loss = self.logs.adopt(log, view, SystemClock.now())?;
                self.print_loss(log, &loss)?;
                let note = match view {
                    Some(store) => format!("it goes on with the store {}", store.id),
                    None => "it goes on with the store that the next start makes".to_owned(),
                };
                self.print_done(log, "adopted", &note)?;
            }
        }
        Ok(wrong)
    }

    /// The reason a log does not belong to the store that is here.
    fn misfit(&self, log: &Path) -> anyhow::Result<Option<String>> {
        Ok(match &self.store {
            None => None,
            Some(Some(store)) => self.logs.misfit(log, store)?.map(|failure| failure.chain()),
            Some(None) => self
                .logs
                .recorded_store_of(log)
                .map(|store| format!("it was stored in the store {store}, and there is none here")),
        })
    }

    fn print_found(&self, log: &Path, found: &Report) -> anyhow::Result<()> {
        let Report { segments, records, bytes, removed, problems, more } = found;
        for problem in problems {
            let torn = problem.kind == ProblemKind::Torn;
            if self.json {
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
        if self.json {
            return report::data(json!({
                "log": log,
                "kind": "report",
                "segments": segments,
                "records": records,
                "bytes": bytes,
                "removed": removed,
                "problems": problems.len() as u64 + more,
            }));
        }
        report::data(format_args!(
            "{}: {records} records in {segments} segments, {bytes} bytes, {}",
            log.display(),
            if found.is_damaged() { "damaged" } else { "sound" },
        ))
    }

    fn print_problem(&self, kind: &str, log: &Path, what: &str) -> anyhow::Result<()> {
        if self.json {
            return report::data(json!({"log": log, "kind": kind, "what": what}));
        }
        report::data(format_args!("{kind}: {}: {what}", log.display()))
    }

    fn print_done(&self, log: &Path, kind: &str, what: &str) -> anyhow::Result<()> {
        if self.json {
            return report::data(json!({"log": log, "kind": kind, "what": what}));
        }
        report::data(format_args!("{}: {kind}: {what}", log.display()))
    }

    fn print_taken(&self, log: &Path, taken: &inlet_log::fsck::Taken) -> anyhow::Result<()> {
        if self.json {
            return report::data(json!({
                "log": log,
                "kind": "taken",
                "file": taken.path,
                "offset": taken.offset,
                "bytes": taken.bytes,
                "kept": taken.kept,
            }));
        }
        report::data(format_args!(
            "{}: {} bytes at offset {} are kept in {}",
            taken.path.display(),
            taken.bytes,
            taken.offset,
            taken.kept.display()
        ))
    }

    fn print_loss(&self, log: &Path, loss: &LossNote) -> anyhow::Result<()> {
        let LossNote { what, documents, ids, after, before, .. } = loss;
        let id = |neighbour: &Option<(String, i64)>| neighbour.as_ref().map(|(id, _)| id.clone());
        let (after, before) = (id(after), id(before));
        if self.json {
            return report::data(json!({
                "log": log,
                "kind": "lost",
                "documents": documents,
                "after": after,
                "before": before,
                "ids": ids,
                "what": what,
            }));
        }
        let number = match documents {
            Some(1) => "1 document".to_owned(),
            Some(number) => format!("{number} documents"),
            None => "documents".to_owned(),
        };
        let range = match (after, before) {
            (Some(after), Some(before)) => format!("accepted between {after} and {before}"),
            (Some(after), None) => format!("accepted after {after}"),
            (None, Some(before)) => format!("accepted before {before}"),
            (None, None) => "with no other beside them".to_owned(),
        };
        let known = match ids.is_empty() {
            true => String::new(),
            false => format!(", among them {}", ids.join(" ")),
        };
        report::data(format_args!("lost: {}: {number} {range}{known}: {what}", log.display()))
    }
}
