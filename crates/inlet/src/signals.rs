//! Signals, held back from the first moment of the process until something waits for them.
//!
//! A signal that arrives before its handler does what it does by default: SIGHUP ends the process,
//! and SIGTERM is lost where the process is the first one of a container. So `main` blocks them
//! before anything else, and the system keeps those that arrive. A role lets them through once it
//! listens; every other command lets them through at once, with their default action.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{SignalKind, signal};

use crate::roles::{Reason, Stop, Watched};

/// The hangups that arrive while a role runs. Those that arrive between two looks count as one.
pub(crate) type Hangups = tokio::signal::unix::Signal;

fn awaited() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

/// Holds signals back. To be called before there is a second thread: each thread begins with what
/// the one before it holds back.
pub(crate) fn hold() -> anyhow::Result<()> {
    awaited().thread_block().context("could not hold signals back")
}

/// Lets signals through, with those that arrived meanwhile.
pub(crate) fn release() -> anyhow::Result<()> {
    awaited().thread_unblock().context("could not let signals through")
}

/// Listens for signals, and lets them through. SIGTERM and SIGINT are reasons to stop, also while
/// the process starts. To be called on a role's runtime, before anything that takes time.
pub(crate) fn listen(watched: &Watched, stop: &Stop) -> anyhow::Result<Hangups> {
    let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;
    let hangups = signal(SignalKind::hangup()).context("could not listen for SIGHUP")?;
    release()?;
    let stop = stop.clone();
    watched.essential_task("signals", move || async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.now(Reason::Asked);
    });
    Ok(hangups)
}
