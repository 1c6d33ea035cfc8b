//! PostgreSQL, opened and migrated.

use std::sync::Arc;

use anyhow::Context;
use inlet_adapters::store::{Password, PostgresOptions, PostgresStore};
use inlet_core::ports::{Secrets, Store};

use super::DatabasePassword;
use super::engines::{Open, opening};
use crate::cli::MigrateArgs;

/// Opens the store at `url`, once the secrets have told whether they have its password.
pub(super) fn store(
    url: &str,
    secrets: &Arc<dyn Secrets>,
    password: &DatabasePassword,
) -> Open<dyn Store> {
    let (url, secrets, password) = (url.to_owned(), Arc::clone(secrets), password.clone());
    opening(move || {
        let (url, secrets, password) = (url.clone(), Arc::clone(&secrets), password.clone());
        async move {
            password.refresh(&*secrets).await?;
            Ok(Arc::new(PostgresStore::open(&url, &options(&password)).await?) as Arc<dyn Store>)
        }
    })
}

/// The secret that holds the password of the role that reads and writes.
const APP: &str = "app";

/// Makes the schema or changes it, and says what ran. The role that is granted is made with the
/// password of the secret `app`, where the secrets have one.
pub(super) async fn migrate(
    url: &str,
    secrets: Option<&dyn Secrets>,
    asked: &MigrateArgs,
) -> anyhow::Result<Vec<String>> {
    let password = DatabasePassword::default();
    if let Some(secrets) = secrets {
        password.refresh(secrets).await?;
    }
    let options = options(&password);
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

fn options(password: &DatabasePassword) -> PostgresOptions {
    let password = password.clone();
    let password = Password::new(move || password.current());
    PostgresOptions { password: Some(password), ..PostgresOptions::default() }
}
