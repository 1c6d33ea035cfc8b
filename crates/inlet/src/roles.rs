//! The roles a process can have, and the loops that call the steps of core.

mod doors;
#[cfg(feature = "edge")]
pub(crate) mod edge;
mod erasures;
#[cfg(feature = "edge")]
mod front;
mod instance;
mod parent;
mod persist;
mod serve;
mod stop;
mod summary;
#[cfg(feature = "edge")]
pub(crate) mod supervise;
mod watch;
mod watched;

use crate::cli::{ChildArgs, Given};
use crate::config::Settings;
use crate::wire;

use self::instance::Parts;
pub(crate) use self::parent::{FailingPart, Figures};
pub(crate) use self::stop::{Reason, Stop};
pub(crate) use self::summary::Summarizer;
pub(crate) use self::watched::{Watched, log_panics};

/// Everything on this machine: in this process, or in instances behind an edge.
pub(crate) fn up(settings: Settings, given: Given) -> anyhow::Result<()> {
    wire::check_store_is_there(&settings)?;
    match settings.fleet {
        Some(size) => wire::supervise(settings, given, size),
        None => instance::run(
            settings,
            Parts { serve: true, persist: true, summarize: true, alone: true, ..Parts::default() },
        ),
    }
}

/// One API instance.
pub(crate) fn serve(settings: Settings, args: &ChildArgs) -> anyhow::Result<()> {
    wire::check_store_is_there(&settings)?;
    instance::run(settings, Parts { serve: true, supervised: args.supervised, ..Parts::default() })
}

/// One persist worker.
pub(crate) fn persist(settings: Settings, args: &ChildArgs) -> anyhow::Result<()> {
    wire::check_store_is_there(&settings)?;
    let supervised = args.supervised;
    instance::run(settings, Parts { persist: true, supervised, ..Parts::default() })
}
