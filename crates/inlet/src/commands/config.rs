//! `inlet config`: the settings in force, and where each came from.

use serde_json::json;

use inlet_core::redact;
use inlet_log::Durability;

use crate::cli::JsonArgs;
use crate::config::{Settings, Sources};
use crate::report;
use crate::wire::{self, BUCKET_ON_STORE_DISK};

/// Prints every setting, and what is in force that no setting decides.
pub(crate) fn run(settings: &Settings, sources: &Sources, args: &JsonArgs) -> anyhow::Result<()> {
    let warning = wire::is_bucket_on_store_disk(settings).then_some(BUCKET_ON_STORE_DISK);
    for (setting, value) in sources.iter() {
        let name = setting.name;
        let text = redact::url(&value.text);
        if args.json {
            report::data(json!({
                "name": name,
                "value": text,
                "origin": value.origin.to_string(),
                "default": setting.default,
                "doc": setting.doc,
                "warning": warning.filter(|_| name == "bucket"),
            }))?;
        } else {
            report::data(format_args!("{name:<28} {text:<24} {}", value.origin))?;
        }
    }
    if let Some(warning) = warning.filter(|_| !args.json) {
        report::say(format_args!("warning: bucket: {warning}"));
    }
    match wire::log_durability(settings)? {
        Some(durability) => print_durability(&durability, args.json),
        None => Ok(()),
    }
}

/// Prints how the log of the data directory is made durable, which follows from its file system.
fn print_durability(durability: &Durability, as_json: bool) -> anyhow::Result<()> {
    let (text, warning) = (durability.to_string(), durability.warning());
    if as_json {
        return report::data(json!({
            "name": "log durability",
            "value": text,
            "origin": "the file system",
            "warning": warning,
        }));
    }
    let note = warning.map_or_else(
        || "the file system".to_owned(),
        |warning| format!("not known to survive a power cut: {warning}"),
    );
    report::data(format_args!("{:<28} {text:<24} {note}", "log durability"))
}
