//! `inlet migrate`: makes what the store needs, or brings it to what this binary needs.

use crate::cli::MigrateArgs;
use crate::config::Settings;
use crate::{report, wire};

/// Migrates, and says what ran.
pub(crate) fn run(settings: &Settings, args: &MigrateArgs) -> anyhow::Result<()> {
    wire::log_lines(settings)?;
    let applied = wire::runtime()?.block_on(wire::migrate(settings, args))?;
    if args.json.json {
        return report::data(serde_json::json!({ "applied": applied }));
    }
    for migration in &applied {
        report::data(migration)?;
    }
    report::say(match applied.len() {
        0 => "nothing to migrate".to_owned(),
        1 => "1 migration ran".to_owned(),
        more => format!("{more} migrations ran"),
    });
    Ok(())
}
