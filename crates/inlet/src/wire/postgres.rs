//! PostgreSQL, opened and migrated.

use std::sync::Arc;

use inlet_adapters::store::{Password, PostgresOptions, PostgresStore};
use inlet_core::ports::Store;

use super::DatabasePassword;
use crate::cli::MigrateArgs;

/// Opens the store at `url`.
pub(super) async fn open(
    url: &str,
    password: Option<&DatabasePassword>,
) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(PostgresStore::open(url, &options(password)).await?))
}

/// Makes the schema or changes it, and says what ran.
pub(super) async fn migrate(
    url: &str,
    password: Option<&DatabasePassword>,
    asked: &MigrateArgs,
) -> anyhow::Result<Vec<String>> {
    let options = options(password);
    let report = if asked.contract {
        PostgresStore::migrate_contract(url, &options).await?
    } else {
        PostgresStore::migrate(url, &options).await?
    };
    if let Some(role) = &asked.grant {
        PostgresStore::grant(url, &options, role).await?;
    }
    Ok(report.applied)
}

fn options(password: Option<&DatabasePassword>) -> PostgresOptions {
    let password = password.cloned().map(|password| Password::new(move || password.current()));
    PostgresOptions { password, ..PostgresOptions::default() }
}
