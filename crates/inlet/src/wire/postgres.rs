//! PostgreSQL, opened and migrated.

use std::sync::Arc;

use anyhow::Context;
use inlet_adapters::store::{Password, PostgresOptions, PostgresStore};
use inlet_core::ports::{Secrets, Store};

use super::DatabasePassword;
use crate::cli::MigrateArgs;

/// Opens the store at `url`.
pub(super) async fn open(
    url: &str,
    password: Option<&DatabasePassword>,
) -> anyhow::Result<Arc<dyn Store>> {
    Ok(Arc::new(PostgresStore::open(url, &options(password)).await?))
}

/// The secret that holds the password of the role that reads and writes.
const APP: &str = "app";

/// Makes the schema or changes it, and says what ran. The role that is granted is made with the
/// password of the secret `app`, where the secrets have one.
pub(super) async fn migrate(
    url: &str,
    password: Option<&DatabasePassword>,
    secrets: Option<&dyn Secrets>,
    asked: &MigrateArgs,
) -> anyhow::Result<Vec<String>> {
    let options = options(password);
    let report = if asked.contract {
        PostgresStore::migrate_contract(url, &options).await?
    } else {
        PostgresStore::migrate(url, &options).await?
    };
    if let Some(role) = &asked.grant {
        let secret = match secrets {
            Some(secrets) => secrets.get(APP).await?,
            None => None,
        };
        if let Some(secret) = secret {
            let password = Password::in_secret(&secret)
                .with_context(|| format!("the secret `{APP}` is no text"))?;
            PostgresStore::make_role(url, &options, role, &password).await?;
        }
        PostgresStore::grant(url, &options, role).await?;
    }
    Ok(report.applied)
}

fn options(password: Option<&DatabasePassword>) -> PostgresOptions {
    let password = password.cloned().map(|password| Password::new(move || password.current()));
    PostgresOptions { password, ..PostgresOptions::default() }
}
