//! `inlet reload`: the instances of a running `up`, replaced one at a time.

use serde_json::json;

use crate::cli::JsonArgs;
use crate::config::Settings;
use crate::{control, report};

/// Asks for it and waits until it is through.
pub(crate) fn run(settings: &Settings, args: &JsonArgs) -> anyhow::Result<()> {
    let done = control::demand(&settings.data, "reload")?;
    if args.json { report::data(json!({ "done": done })) } else { report::data(done) }
}
