//! The database, and its password: read before the first connection, and again while the function
//! is warm, so that a rotated one is used for new connections.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use inlet_adapters::store::{Password, PostgresOptions, PostgresStore};
use inlet_core::ports::Secrets;

use crate::engines::Opened;

/// The secret that holds the password of the user in the store's URL.
const DATABASE: &str = "database";
/// The secret that holds the name and the password of the user that reads and writes.
const APP: &str = "app";

/// Where the password is read, and what was read.
pub(crate) struct Database {
    secrets: Arc<dyn Secrets>,
    current: Arc<RwLock<String>>,
}

impl Database {
    /// Reads the password again. Where that fails the one that is known stays in use.
    pub(crate) async fn refresh(&self) {
        match password(&*self.secrets, DATABASE).await {
            Ok(Some(read)) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
            }
            Ok(None) => {}
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "the database password could not be read again");
            }
        }
    }
}

/// Opens the store at `url`, with the password of the secrets where they have one.
pub(crate) async fn open(url: &str, secrets: Option<&Arc<dyn Secrets>>) -> anyhow::Result<Opened> {
    let (options, database) = options(secrets).await?;
    let store = PostgresStore::open(url, &options).await.context("INLET_STORE")?;
    Ok(Opened { store: Arc::new(store), database })
}

/// Brings the schema of the database at `url` to what this executable needs, and gives the user
/// of the secret `app`, where there is one, the right to read and write in it and no other. Gives
/// the migrations that ran.
pub(crate) async fn migrate(
    url: &str,
    secrets: Option<&Arc<dyn Secrets>>,
) -> anyhow::Result<Vec<String>> {
    let (options, _database) = options(secrets).await?;
    let report = PostgresStore::migrate(url, &options).await.context("INLET_STORE")?;
    if let Some(secrets) = secrets
        && let Some(secret) = secrets.get(APP).await.context("INLET_SECRETS")?
    {
        let user = user(&secret).context("the secret `app`")?;
        let password = Password::in_secret(&secret).context("the secret `app` is no text")?;
        PostgresStore::make_role(url, &options, &user, &password).await?;
        PostgresStore::grant(url, &options, &user).await?;
    }
    Ok(report.applied)
}

async fn options(
    secrets: Option<&Arc<dyn Secrets>>,
) -> anyhow::Result<(PostgresOptions, Option<Database>)> {
    // A function has one event at a time, and many functions share the database.
    let options = PostgresOptions { connections_max: 2, ..PostgresOptions::default() };
    let Some(secrets) = secrets else { return Ok((options, None)) };
    let Some(read) = password(&**secrets, DATABASE).await? else { return Ok((options, None)) };
    let current = Arc::new(RwLock::new(read));
    let database = Database { secrets: Arc::clone(secrets), current: Arc::clone(&current) };
    let password =
        Password::new(move || Some(current.read().unwrap_or_else(PoisonError::into_inner).clone()));
    Ok((PostgresOptions { password: Some(password), ..options }, Some(database)))
}

async fn password(secrets: &dyn Secrets, name: &str) -> anyhow::Result<Option<String>> {
    let Some(secret) = secrets.get(name).await.context("INLET_SECRETS")? else { return Ok(None) };
    let password = Password::in_secret(&secret);
    Ok(Some(password.with_context(|| format!("the secret `{name}` is no text"))?))
}

/// The name beside the password.
fn user(secret: &[u8]) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct User {
        username: String,
    }
    // What is wrong with it is not said in its own words: they may hold the password.
    let user = serde_json::from_slice::<User>(secret)
        .map_err(|_| anyhow::anyhow!("it is no JSON with `username` and `password`"))?;
    Ok(user.username)
}
