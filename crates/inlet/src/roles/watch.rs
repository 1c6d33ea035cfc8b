//! Takes up what changes while it runs: tokens, certificates, error pages.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use inlet_adapters::queue::LogQueue;
use inlet_core::auth::register::TokenRegister;
use inlet_core::health::{Part, State};
use inlet_core::ports::{Clock, Queue, Secrets, Store};
use inlet_http::Metrics;

use super::stop::Stop;
use crate::data::DataDirectory;
use crate::tokens::{self, Copy, Known};
use crate::wire::DatabasePassword;

/// How often is looked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often last uses of tokens are compared with those that are kept.
const KEEP_USES_EVERY: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
/// The longest time a log may be without a worker: one that is replaced is back by then.
const UNDRAINED_MAX: Duration = Duration::from_secs(5);

/// Keeps the tokens in force equal to those that are kept, removes the text of a first token that
/// was revoked, keeps when tokens were last used, and keeps a copy for a start without the secrets.
pub(crate) async fn tokens(
    register: Arc<TokenRegister>,
    data: DataDirectory,
    copy: Copy,
    clock: Arc<dyn Clock>,
    stop: Stop,
) {
    let (mut known, mut kept, mut copied) = (register.known(), Instant::now(), None);
    while pause(&stop).await {
        // Secrets that fail are on the board; the tokens that are in force stay so.
        if let Ok(list) = register.refresh().await {
            let now = clock.now();
            let has_changed = !Arc::ptr_eq(&list, &known);
            if has_changed {
                tracing::info!(tokens = list.tokens().len(), "the tokens have changed");
                if let Some(text) = data.token().filter(|text| !list.has(text, now))
                    && let Err(error) = data.forget_token(&text)
                {
                    tracing::warn!(error = %format!("{error:#}"), "a revoked token stays there");
                }
            }
            if has_changed || copied.is_none_or(|then| Copy::is_old(then, now)) {
                copy.write(&list, now).await;
                copied = Some(now);
            }
            known = list;
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

/// Makes the first token once the secrets can be read, where they could not be at the start.
pub(crate) async fn first_token(
    data: DataDirectory,
    url: String,
    secrets: Arc<dyn Secrets>,
    clock: Arc<dyn Clock>,
    stop: Stop,
) {
    while pause(&stop).await {
        match tokens::first(&data, &url, &*secrets, &*clock).await {
            Ok(Known::Text(_)) => {
                let kept = data.join("token");
                tracing::info!(kept = %kept.display(), "the first token is there");
            }
            Ok(_) => {}
            Err(_) => continue,
        }
        stop.wait().await;
        return;
    }
}

/// Reads the database's password again and again, for connections that are made from then on.
pub(crate) async fn password(secrets: Arc<dyn Secrets>, password: DatabasePassword, stop: Stop) {
    while pause(&stop).await {
        // Secrets that fail are on the board; the password that is known stays in use.
        if let Ok(true) = password.refresh(&*secrets).await {
            tracing::info!("the database's password has changed");
        }
    }
}

/// Notes the age of the oldest document that waits, again and again.
pub(crate) async fn lag(
    queue: Arc<dyn Queue>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    stop: Stop,
) {
    loop {
        match queue.depth().await {
            Ok(depth) => metrics.persist_lag(depth.oldest.age(clock.now())),
            Err(failure) => {
                tracing::debug!(failure = %failure.chain(), "the age of what waits is not known");
                metrics.persist_lag(None);
            }
        }
        if !pause(&stop).await {
            return;
        }
    }
}

/// Looks for the log's directory again and again; one that is gone ends what writes to it, and
/// that ends the process.
pub(crate) async fn place(log: Arc<LogQueue>, stop: Stop) {
    while pause(&stop).await {
        if let Err(failure) = log.check_place().await {
            tracing::debug!(failure = %failure.chain(), "the log's place is not known");
        }
    }
}

/// Reports a log that nobody drains: what is accepted is kept, and never stored.
pub(crate) async fn undrained(log: Arc<LogQueue>, part: Arc<Part>, stop: Stop) {
    let mut since = None;
    while pause(&stop).await {
        match log.is_drained().await {
            Ok(true) => {
                since = None;
                part.works();
            }
            Ok(false) if since.get_or_insert_with(Instant::now).elapsed() >= UNDRAINED_MAX => {
                let detail = "no worker stores what is accepted here; it is kept until the queue \
                              is full";
                let hint = "start `inlet persist` on this data directory, or run `inlet up`";
                part.fails_as(State::Unready, "undrained", detail, Some(hint));
            }
            Ok(false) => {}
            Err(failure) => part.degraded(&failure),
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

/// Calls `look` once a minute: the clock may be set meanwhile.
pub(crate) async fn every_minute(look: impl Fn(), stop: Stop) {
    loop {
        tokio::select! {
            _ = stop.wait() => return,
            () = tokio::time::sleep(MINUTE) => look(),
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
