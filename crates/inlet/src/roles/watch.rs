//! Takes up what changes while it runs: tokens, certificates, error pages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use inlet_adapters::queue::LogQueue;
use inlet_core::auth::register::TokenRegister;
use inlet_core::ports::{Clock, Secrets, Store};

use super::stop::Stop;
use crate::data::DataDirectory;
use crate::wire::DatabasePassword;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const DAY: Duration = Duration::from_secs(86_400);
/// How often last uses of tokens are compared with those that are kept.
const KEEP_USES_EVERY: Duration = Duration::from_secs(60);

/// Keeps the tokens in force equal to those that are kept, removes the text of a first token that
/// was revoked, and keeps when tokens were last used.
pub(crate) async fn tokens(
    register: Arc<TokenRegister>,
    data: DataDirectory,
    clock: Arc<dyn Clock>,
    stop: Stop,
) {
    let (mut known, mut kept) = (register.known(), Instant::now());
    while pause(&stop).await {
        match register.refresh().await {
            Ok(list) if Arc::ptr_eq(&list, &known) => {}
            Ok(list) => {
                tracing::info!(tokens = list.tokens().len(), "the tokens have changed");
                if let Some(text) = data.token().filter(|text| !list.has(text, clock.now()))
                    && let Err(error) = data.forget_token(&text)
                {
                    tracing::warn!(error = %format!("{error:#}"), "a revoked token stays there");
                }
                known = list;
            }
            Err(failure) => {
                tracing::warn!(failure = %failure.chain(), "keeping the previous tokens");
            }
        }
        if kept.elapsed() >= KEEP_USES_EVERY {
            keep_uses(&register).await;
            kept = Instant::now();
        }
    }
}

/// Keeps when tokens were last used here, where the secrets may be changed; elsewhere that is known
/// to this instance alone.
pub(super) async fn keep_uses(register: &TokenRegister) {
    if let Err(failure) = register.keep_uses().await {
        tracing::debug!(failure = %failure.chain(), "last uses of tokens are not kept");
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
