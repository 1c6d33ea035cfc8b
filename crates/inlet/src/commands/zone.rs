//! `inlet zone`: takes a zone of a running `up` out of use, or back into it.

use crate::cli::ZoneCommand;
use crate::config::Settings;
use crate::{control, report};

/// Asks for it. The instances follow: `inlet status` shows how far they are.
pub(crate) fn run(settings: &Settings, command: &ZoneCommand) -> anyhow::Result<()> {
    let request = match command {
        ZoneCommand::Down { name } => format!("zone down {name}"),
        ZoneCommand::Up { name } => format!("zone up {name}"),
    };
    report::data(control::demand(&settings.data, &request)?)
}
