//! The roles a process can have, and the loops that call the steps of core.

mod instance;
mod persist;
mod serve;
mod stop;
mod summary;
mod watch;

use crate::config::Settings;

use self::instance::Parts;
pub(crate) use self::summary::Summarizer;

/// Everything on this machine.
pub(crate) fn up(settings: Settings) -> anyhow::Result<()> {
    instance::run(settings, Parts { serve: true, persist: true, summarize: true, alone: true })
}

/// One API instance.
pub(crate) fn serve(settings: Settings) -> anyhow::Result<()> {
    instance::run(settings, Parts { serve: true, persist: false, summarize: false, alone: false })
}

/// One persist worker.
pub(crate) fn persist(settings: Settings) -> anyhow::Result<()> {
    instance::run(settings, Parts { serve: false, persist: true, summarize: false, alone: false })
}
