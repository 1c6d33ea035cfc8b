//! A process that is a child of `up`: what it tells its parent, and that it ends with it.
//!
//! On stdout it tells, as one line of JSON each, where it listens ([`Running`]), and a worker
//! once a second how the store keeps up ([`Figures`]). Its stdin is a pipe whose other end only
//! the parent has: when the parent ends, however it ends, the pipe does too.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use inlet_core::health::{Health, State};
use inlet_http::Metrics;
use serde::{Deserialize, Serialize};

use super::stop::{Reason, Stop};
use super::watched::Watched;
use crate::data::Running;
use crate::lines;

/// How often a worker tells how the store keeps up.
const FIGURES_EVERY: Duration = Duration::from_secs(1);
/// How long a process may take beyond its shutdown time once the parent is gone. Nobody is there
/// to kill it.
const GRACE: Duration = Duration::from_secs(5);

/// What a child tells its parent, a line each.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// It has opened what it needs, and listens where it serves.
    Running(Running),
    /// How the store keeps up.
    Figures(Figures),
    /// Its health.
    Health(ToldHealth),
}

/// The health of a child as it tells it: its state, and the first part that causes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToldHealth {
    /// `ready`, `degraded` or `unready`.
    pub(crate) state: String,
    /// The failure and a hint, for operators; `None` while all works.
    pub(crate) reason: Option<String>,
}

impl ToldHealth {
    fn of(health: &Health) -> Self {
        let state = health.state();
        let parts = health.parts();
        let worst = parts.iter().find(|part| part.state == state && state != State::Ready);
        let reason = worst.map(|part| {
            let hint = part.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
            format!("{}: {}{hint}", part.name, part.detail)
        });
        Self { state: state.word().to_owned(), reason }
    }
}

/// How the store keeps up, as a worker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// For how long the oldest document of the last step had waited, in milliseconds.
    pub(crate) lag_ms: u64,
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

/// Tells the parent again and again how the store keeps up, and how healthy this process is.
pub(super) async fn tell_figures(metrics: Arc<Metrics>, health: Health, stop: Stop) {
    let mut told = None;
    loop {
        let now = ToldHealth::of(&health);
        if told.as_ref() != Some(&now) {
            if let Err(error) = say(&Told::Health(now.clone())) {
                tracing::debug!(%error, "the parent does not listen");
            }
            told = Some(now);
        }
        let persisted = metrics.persisted_so_far();
        let figures = Figures {
            lag_ms: u64::try_from(persisted.lag.as_millis()).unwrap_or(u64::MAX),
            stored: persisted.stored,
            dead: persisted.dead,
            failures: persisted.failures,
        };
        if let Err(error) = say(&Told::Figures(figures)) {
            tracing::debug!(%error, "the parent does not listen");
        }
        tokio::select! {
            _ = stop.wait() => return,
            () = tokio::time::sleep(FIGURES_EVERY) => {}
        }
    }
}

/// Stops this process when the parent ends.
pub(super) fn end_with_it(
    watched: &Watched,
    stop: &Stop,
    shutdown: Duration,
) -> anyhow::Result<()> {
    let stop = stop.clone();
    // A thread, so that a runtime that hangs does not keep the process alive.
    watched.blocking_thread("parent", move || {
        let mut byte = [0];
        loop {
            match io::stdin().read(&mut byte) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        stop.now(Reason::Asked);
        std::thread::sleep(shutdown + GRACE);
        tracing::error!("the parent is gone and the time to finish is over");
        lines::flush();
        std::process::exit(1);
    })
}

fn say(told: &Told) -> io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}
