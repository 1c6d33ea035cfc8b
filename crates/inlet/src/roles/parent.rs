//! A process that is a child of `up`: what it tells its parent, and that it ends with it.
//!
//! On stdout it tells, as one line of JSON each, where it listens ([`Running`]), and a worker
//! once a second how the store keeps up ([`Figures`]) and which of its parts fail
//! ([`FailingPart`]). Its stdin is a pipe whose other end only the parent has: when the parent
//! ends, however it ends, the pipe does too. Over it an instance hears the secret of its edge, and
//! which parts of the worker fail, so that its readiness has them ([`ToChild`]).

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use inlet_core::failure::FailureKind;
use inlet_core::health::{Health, Part, State};
use inlet_http::Metrics;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::timeout;

use super::stop::{Reason, Stop};
use super::watched::Watched;
use crate::data::Running;
use crate::lines;

/// How often a worker tells how the store keeps up.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// How long a process may take beyond its shutdown time once the parent is gone. Nobody is there
/// to kill it.
const GRACE: Duration = Duration::from_secs(5);

/// The longest time an instance waits for the secret of its edge.
const SECRET_WITHIN: Duration = Duration::from_secs(1);

/// What a child tells its parent, a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// The parts of a worker that fail; told again when they change.
    Failing(Vec<FailingPart>),
    /// It has opened what it needs, and listens where it serves.
    Running(Running),
    /// How the store keeps up.
    Figures(Figures),
}

/// The messages from a parent to an instance, a line each.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToChild {
    /// The secret by which it knows its edge; the first line.
    EdgeSecret(String),
    /// The parts of the worker that fail; told again when they change.
    Failing(Vec<FailingPart>),
}

#[cfg(feature = "edge")]
impl ToChild {
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("texts are JSON") + "\n"
    }
}

/// A part of a worker that fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailingPart {
    pub(crate) name: String,
    /// `degraded` or `unready`.
    pub(crate) state: String,
    /// One word, as readiness has it.
    pub(crate) cause: String,
    /// The moment it began.
    pub(crate) since: String,
    /// The cause in full, for operators.
    pub(crate) detail: String,
}

/// The name of the part on an instance's board for all parts of the worker.
const WORKER: &str = "worker";

/// How the store keeps up, as a worker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The age of the oldest document that waits, in milliseconds; nothing where the queue can't
    /// tell.
    pub(crate) lag_ms: Option<u64>,
    /// Documents stored since the worker's start.
    pub(crate) stored: u64,
    /// Documents that became dead letters since then.
    pub(crate) dead: u64,
    /// Steps that failed and were tried again since then.
    pub(crate) failures: u64,
}

/// Tells the parent that this process runs.
pub(super) fn tell(running: &Running) -> anyhow::Result<()> {
    say(&Told::Running(running.clone())).context("could not tell the parent where it listens")
}

/// Tells the parent again and again how the store keeps up, and which parts fail.
pub(super) async fn tell_figures(metrics: Arc<Metrics>, health: Health, stop: Stop) {
    let mut known = Vec::new();
    loop {
        let persisted = metrics.persisted_so_far();
        let figures = Figures {
            lag_ms: persisted.lag.and_then(|lag| u64::try_from(lag.as_millis()).ok()),
            stored: persisted.stored,
            dead: persisted.dead,
            failures: persisted.failures,
        };
        let failing = failing_parts(&health);
        let changed = (failing != known).then(|| Told::Failing(failing.clone()));
        let mut told = changed.into_iter().chain([Told::Figures(figures)]);
        match told.try_for_each(|told| say(&told)) {
            Ok(()) => known = failing,
            Err(error) => tracing::debug!(%error, "the parent does not listen"),
        }
        tokio::select! {
            _ = stop.wait() => return,
            () = tokio::time::sleep(FIGURES_EVERY) => {}
        }
    }
}

fn failing_parts(health: &Health) -> Vec<FailingPart> {
    let failing = health.parts().into_iter().filter_map(|part| {
        Some(FailingPart {
            name: part.name,
            state: part.state.word().to_owned(),
            cause: part.cause?.to_owned(),
            since: part.since.to_string(),
            detail: part.detail,
        })
    });
    failing.collect()
}

/// Reports what the parent hears of the worker: an instance takes documents that the worker is to
/// store.
fn hear(line: &str, part: &Part, secret: &watch::Sender<Option<String>>) {
    let failing = match serde_json::from_str(line) {
        Ok(ToChild::Failing(failing)) => failing,
        Ok(ToChild::EdgeSecret(told)) => {
            secret.send_replace(Some(told));
            return;
        }
        Err(_) => return tracing::warn!("the parent says what this binary does not know"),
    };
    let worst = failing.iter().max_by_key(|part| part.state == State::Unready.word());
    match worst {
        None => part.works(),
        Some(worst) => {
            let is_unready = worst.state == State::Unready.word();
            let state = if is_unready { State::Unready } else { State::Degraded };
            let words = FailureKind::ALL.map(FailureKind::word);
            let cause = words.into_iter().find(|word| *word == worst.cause).unwrap_or("failing");
            part.fails_as(state, cause, &format!("{}: {}", worst.name, worst.detail), None);
        }
    }
}

/// The secret that the parent tells first; nothing where it tells none in time, as one of an older
/// version does.
pub(super) async fn edge_secret(mut told: watch::Receiver<Option<String>>) -> Option<String> {
    let told = timeout(SECRET_WITHIN, told.wait_for(Option::is_some)).await;
    told.ok()?.ok()?.clone()
}

/// Stops this process when the parent ends. Returns where the secret of the edge appears.
pub(super) fn end_with_it(
    watched: &Watched,
    health: &Health,
    stop: &Stop,
    shutdown: Duration,
) -> anyhow::Result<watch::Receiver<Option<String>>> {
    let (stop, part) = (stop.clone(), health.part(WORKER));
    let (secret, told) = watch::channel(None);
    // A thread, so that a runtime that hangs does not keep the process alive.
    watched.blocking_thread("parent", move || {
        let mut lines = io::stdin().lock().lines();
        while let Some(Ok(line)) = lines.next() {
            hear(&line, &part, &secret);
        }
        stop.now(Reason::Asked);
        std::thread::sleep(shutdown + GRACE);
        tracing::error!("the parent is gone and the time to finish is over");
        lines::flush();
        std::process::exit(1);
    })?;
    Ok(told)
}

fn say(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
