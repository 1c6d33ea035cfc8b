//! The engines behind the ports, opened for a part: only those that its role lets it use.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::S3Bucket;
use inlet_adapters::queue::{SqsOptions, SqsQueue};
use inlet_adapters::secrets::{SecretsManagerOptions, SecretsManagerSecrets};
use inlet_adapters::store::{DynamoOptions, DynamoStore};
use inlet_core::accept::Intake;
use inlet_core::auth::list::{OUTSIDE, unlisted};
use inlet_core::auth::register::TokenRegister;
use inlet_core::auth::{Token, TokenBook, Tokens, token_text};
use inlet_core::health::Health;
use inlet_core::ports::{Bucket, Cache, Clock, Queue, Secrets, Store, SystemClock};
use inlet_http::{App, AppState, Instance, Metrics, Pages};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::absent::Absent;
use crate::database::Database;
use crate::settings::Settings;

/// The longest time secrets that were read are used before they are read again.
const SECRETS_FRESH: Duration = Duration::from_secs(30);

/// The longest time a request waits for tokens that are being read again.
const REFRESH_WAIT: Duration = Duration::from_millis(50);

/// What answers the API.
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    refreshed: Option<Refreshed>,
}

/// The parts that are read again from the secrets while the function is warm.
#[derive(Clone)]
struct Refreshed {
    tokens: Arc<TokenRegister>,
    database: Option<Arc<Database>>,
    /// The moment of the last read; held by whoever reads it.
    looked: Arc<Mutex<Instant>>,
}

/// A store, and the password by which it is reached where that may change.
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) database: Option<Database>,
}

impl Api {
    /// Takes up tokens that were added or revoked since they were last read, and a database
    /// password that was rotated. Secrets that hang keep no request waiting: the reading goes on
    /// by itself, and the tokens that are known stay in force.
    pub(crate) async fn refresh(&self) {
        if let Some(refreshed) = &self.refreshed {
            refreshed.refresh().await;
        }
    }
}

impl Refreshed {
    async fn refresh(&self) {
        let Ok(mut looked) = Arc::clone(&self.looked).try_lock_owned() else { return };
        if looked.elapsed() < SECRETS_FRESH {
            return;
        }
        let this = self.clone();
        let reading = tokio::spawn(async move {
            this.read().await;
            *looked = Instant::now();
        });
        if tokio::time::timeout(REFRESH_WAIT, reading).await.is_err() {
            tracing::debug!("the secrets are slow; the tokens that are known stay in force");
        }
    }

    async fn read(&self) {
        if let Some(database) = &self.database {
            database.refresh().await;
        }
        if let Err(failure) = self.tokens.refresh().await {
            tracing::warn!(failure = %failure.chain(), "keeping the previous tokens");
        }
    }
}

/// What accepts: it may send, and read the tokens.
pub(crate) async fn intake(settings: &Settings) -> anyhow::Result<Api> {
    let aws = Aws::from_environment().await;
    // Only a document that is too large for the queue needs it.
    let bucket = bucket_or_absent(settings, &aws).await?;
    let queue = queue_to_send(settings, &aws, &bucket).await?;
    let absent = Arc::new(Absent);
    let nothing = Opened { store: absent.clone(), database: None };
    let secrets = secrets(settings, &aws).await?;
    api(settings, queue, nothing, bucket, absent, secrets).await
}

/// What reads: the store, summaries, and the tokens.
pub(crate) async fn read(settings: &Settings) -> anyhow::Result<Api> {
    let aws = Aws::from_environment().await;
    let bucket = bucket_or_absent(settings, &aws).await?;
    let secrets = secrets(settings, &aws).await?;
    let opened = store(settings, &aws, &bucket, secrets.as_ref()).await?;
    let cache = cache(settings).await?;
    api(settings, Arc::new(Absent), opened, bucket, cache, secrets).await
}

/// What erases, sends dead letters back, and keeps files: the store, the cache, the queue, the
/// bucket, and the tokens.
pub(crate) async fn admin(settings: &Settings) -> anyhow::Result<Api> {
    let aws = Aws::from_environment().await;
    let bucket = bucket_or_absent(settings, &aws).await?;
    let secrets = secrets(settings, &aws).await?;
    let opened = store(settings, &aws, &bucket, secrets.as_ref()).await?;
    let queue = queue_to_send(settings, &aws, &bucket).await?;
    let cache = cache(settings).await?;
    api(settings, queue, opened, bucket, cache, secrets).await
}

async fn api(
    settings: &Settings,
    queue: Arc<dyn Queue>,
    opened: Opened,
    bucket: Arc<dyn Bucket>,
    cache: Arc<dyn Cache>,
    secrets: Option<Arc<dyn Secrets>>,
) -> anyhow::Result<Api> {
    let outside: Vec<Token> = outside()?.iter().map(|text| unlisted(OUTSIDE, text)).collect();
    let register = match secrets {
        Some(secrets) => Some(Arc::new(TokenRegister::open(secrets, outside.clone()).await?)),
        None => None,
    };
    let tokens = match &register {
        Some(register) => register.tokens().clone(),
        None => Tokens::new(TokenBook::new(&outside)),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // The one part that accepts has no right to the store, and can't look there for a key.
    let intake =
        Intake::new(tokens, settings.limits.clone(), Arc::clone(&clock), Arc::clone(&queue), None);
    let Opened { store, database } = opened;
    let version = env!("CARGO_PKG_VERSION");
    let app = Arc::new(App {
        intake: Arc::new(intake),
        tokens: register,
        store,
        queue,
        bucket,
        cache,
        instance: Instance::new(&settings.instance, &settings.zone, version, clock.now()),
        health: Health::new(Arc::clone(&clock)),
        clock,
        metrics: Arc::new(Metrics::default()),
        pages: Pages::built_in(),
        state: AppState::default(),
    });
    let looked = Arc::new(Mutex::new(Instant::now()));
    let database = database.map(Arc::new);
    let refreshed = app.tokens.clone().map(|tokens| Refreshed { tokens, database, looked });
    Ok(Api { app, refreshed })
}

async fn queue_to_send(
    settings: &Settings,
    aws: &Aws,
    bucket: &Arc<dyn Bucket>,
) -> anyhow::Result<Arc<dyn Queue>> {
    let (overflow, options) = (Arc::clone(bucket), SqsOptions::default());
    let queue = SqsQueue::open_to_send(aws, &settings.queue, overflow, &options).await;
    Ok(Arc::new(queue.context("INLET_QUEUE")?))
}

/// Opens the store; `secrets` may have the database's password.
pub(crate) async fn store(
    settings: &Settings,
    aws: &Aws,
    overflow: &Arc<dyn Bucket>,
    secrets: Option<&Arc<dyn Secrets>>,
) -> anyhow::Result<Opened> {
    let scheme = settings.store.split(':').next().unwrap_or_default();
    match scheme {
        "postgres" | "postgresql" => crate::database::open(&settings.store, secrets).await,
        "dynamodb" => {
            let (overflow, options) = (Arc::clone(overflow), DynamoOptions::default());
            let store = DynamoStore::open(aws, &settings.store, overflow, &options).await;
            Ok(Opened { store: Arc::new(store.context("INLET_STORE")?), database: None })
        }
        _ => bail!("INLET_STORE = {scheme}: this function knows dynamodb:// and postgres://"),
    }
}

async fn cache(settings: &Settings) -> anyhow::Result<Arc<dyn Cache>> {
    match settings.cache.split(':').next().unwrap_or_default() {
        #[cfg(feature = "redis")]
        "redis" | "rediss" => {
            use inlet_adapters::cache::{RedisCache, RedisOptions};
            let cache = RedisCache::open(&settings.cache, &RedisOptions::default()).await;
            Ok(Arc::new(cache.context("INLET_CACHE")?))
        }
        // A function's memory is gone with it: nothing is worth remembering in it.
        "memory" => Ok(Arc::new(Absent)),
        other => bail!("INLET_CACHE = {other}: this function knows redis:// and rediss://"),
    }
}

/// Opens the bucket; without one what needs it fails by itself.
pub(crate) async fn bucket_or_absent(
    settings: &Settings,
    aws: &Aws,
) -> anyhow::Result<Arc<dyn Bucket>> {
    if settings.bucket.is_empty() {
        return Ok(Arc::new(Absent));
    }
    Ok(Arc::new(S3Bucket::open_unseen(aws, &settings.bucket).context("INLET_BUCKET")?))
}

pub(crate) async fn secrets(
    settings: &Settings,
    aws: &Aws,
) -> anyhow::Result<Option<Arc<dyn Secrets>>> {
    if settings.secrets.is_empty() {
        return Ok(None);
    }
    let options = SecretsManagerOptions::default();
    let secrets = SecretsManagerSecrets::open(aws, &settings.secrets, &options).await;
    Ok(Some(Arc::new(secrets.context("INLET_SECRETS")?)))
}

/// The token that the environment gives, if it gives one.
pub(crate) fn outside() -> anyhow::Result<Option<String>> {
    let Some(given) = std::env::var_os(OUTSIDE).filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    match token_text(&given.to_string_lossy()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(error) => bail!("{OUTSIDE} is no token: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use async_trait::async_trait;
    use inlet_core::auth::Scope;
    use inlet_core::document::Timestamp;
    use inlet_core::failure::Failure;
    use inlet_core::ports::Swapped;

    use super::*;

    /// Secrets that are empty, and from some time on answer no more.
    #[derive(Default)]
    struct Hanging(AtomicBool);

    #[async_trait]
    impl Secrets for Hanging {
        async fn get(&self, _: &str) -> Result<Option<Vec<u8>>, Failure> {
            match self.0.load(Relaxed) {
                true => std::future::pending().await,
                false => Ok(None),
            }
        }

        async fn swap(&self, _: &str, _: Option<&[u8]>, _: &[u8]) -> Result<Swapped, Failure> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn secrets_that_hang_hold_up_one_request_for_50_ms_and_no_other() {
        let secrets = Arc::new(Hanging::default());
        let token = unlisted(OUTSIDE, "a token of the environment");
        let tokens = TokenRegister::open(secrets.clone(), vec![token]).await.unwrap();
        let refreshed = Refreshed {
            tokens: Arc::new(tokens),
            database: None,
            looked: Arc::new(Mutex::new(Instant::now())),
        };
        secrets.0.store(true, Relaxed);
        tokio::time::advance(SECRETS_FRESH).await;
        let begun = Instant::now();
        for _ in 0..100 {
            refreshed.refresh().await;
        }
        assert_eq!(begun.elapsed(), REFRESH_WAIT);
        let known = Some("a token of the environment");
        let known = refreshed.tokens.tokens().authorize(known, Scope::Save, Timestamp::default());
        assert!(known.is_ok(), "the tokens that are known stay in force");
    }
}
