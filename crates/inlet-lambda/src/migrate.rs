//! The schema of the database is changed. The one part that may; its role goes when it has run.

use anyhow::bail;
use inlet_adapters::aws::Aws;
use serde_json::Value;

use crate::engines;
use crate::settings::Settings;

/// Brings the schema to what this executable needs, and says what ran. Called twice it changes
/// nothing the second time.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Value> {
    let aws = Aws::from_environment().await;
    let secrets = engines::secrets(settings, &aws).await?;
    match settings.store.split(':').next().unwrap_or_default() {
        "postgres" | "postgresql" => {
            let applied = crate::database::migrate(&settings.store, secrets.as_ref()).await?;
            tracing::info!(?applied, "the schema is what this release needs");
            Ok(serde_json::json!({ "applied": applied }))
        }
        other => bail!("INLET_STORE = {other}: this function migrates postgres://"),
    }
}
