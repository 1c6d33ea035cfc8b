//! Takes up what changes while it runs: tokens, certificates, error pages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use inlet_adapters::queue::LogQueue;
use inlet_core::auth::Tokens;
use inlet_core::auth::list::TokenList;
use inlet_core::ports::{Secrets, Store};

use super::stop::Stop;
use crate::wire::DatabasePassword;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const DAY: Duration = Duration::from_secs(86_400);

/// Reads the tokens again and again and puts a changed book in force.
pub(crate) async fn tokens(
    secrets: Arc<dyn Secrets>,
    outside: Option<String>,
    book: Tokens,
    stop: Stop,
) {
    let mut known = None;
    loop {
        match TokenList::read(&*secrets).await {
            Ok(list) if known.as_ref() != Some(&list) => {
                book.replace(list.book(outside.as_deref()));
                if known.is_some() {
                    tracing::info!(tokens = list.tokens().len(), "the tokens have changed");
                }
                known = Some(list);
            }
            Ok(_) => {}
            Err(failure) => {
                tracing::warn!(failure = %failure.chain(), "keeping the previous tokens");
            }
        }
        if !pause(&stop).await {
            return;
        }
    }
}

/// Reads the database's password again and again, for connections that are made from then on.
pub(crate) async fn password(secrets: Arc<dyn Secrets>, password: DatabasePassword, stop: Stop) {
    while pause(&stop).await {
        match password.refresh(&*secrets).await {
            Ok(true) => tracing::info!("the database's password has changed"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "the old password stays in use");
            }
        }
    }
}

/// Tells the log again and again how far a worker elsewhere has stored it, so that there is room
/// again.
pub(crate) async fn drained(log: Arc<LogQueue>, store: Arc<dyn Store>, stop: Stop) {
    while pause(&stop).await {
        // A store that is away has stored nothing more; the worker is who says so.
        if let Err(failure) = log.note_drained(&*store).await {
            tracing::debug!(failure = %failure.chain(), "how far the log is stored is not known");
        }
    }
}

/// Calls `reload` whenever one of the files has changed, or others are to be looked at.
pub(crate) async fn changes(
    files: impl Fn() -> Vec<PathBuf>,
    reload: impl Fn() -> Result<(), String>,
    stop: Stop,
) {
    let mut known = moments(files());
    while pause(&stop).await {
        let now = moments(files());
        if now == known {
            continue;
        }
        let changed = now.iter().filter(|file| !known.contains(file));
        let names: Vec<String> = changed.map(|(file, _)| file.display().to_string()).collect();
        known = now;
        match reload() {
            Ok(()) => tracing::info!(files = names.join(", "), "taken up anew"),
            Err(error) => {
                tracing::warn!(files = names.join(", "), error, "what was in force stays");
            }
        }
    }
}

/// Calls `look` once a day.
pub(crate) async fn every_day(look: impl Fn(), stop: Stop) {
    loop {
        tokio::select! {
            _ = stop.wait() => return,
            () = tokio::time::sleep(DAY) => look(),
        }
    }
}

fn moments(files: Vec<PathBuf>) -> Vec<(PathBuf, Option<SystemTime>)> {
    let moment = |file: &PathBuf| std::fs::metadata(file).and_then(|file| file.modified()).ok();
    files
        .into_iter()
        .map(|file| {
            let moment = moment(&file);
            (file, moment)
        })
        .collect()
}

/// Waits until it is time to look again; false when it is time to stop.
async fn pause(stop: &Stop) -> bool {
    tokio::select! {
        _ = stop.wait() => false,
        () = tokio::time::sleep(LOOK_EVERY) => true,
    }
}
