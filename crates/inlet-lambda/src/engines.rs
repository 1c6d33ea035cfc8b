//! The engines behind the ports, opened for a part: only those that its role lets it use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use inlet_adapters::aws::Aws;
use inlet_adapters::bucket::S3Bucket;
use inlet_adapters::queue::{SqsOptions, SqsQueue};
use inlet_adapters::secrets::{SecretsManagerOptions, SecretsManagerSecrets};
use inlet_adapters::store::{DynamoOptions, DynamoStore};
use inlet_core::accept::Intake;
use inlet_core::auth::{Scope, Token, TokenBook, Tokens};
use inlet_core::document::Timestamp;
use inlet_core::ports::{Bucket, Cache, Clock, Queue, Secrets, Store, SystemClock};
use inlet_http::{App, Instance, Metrics, Pages, RecentFigures};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::absent::Absent;
use crate::settings::Settings;

/// How long tokens that were read are used before they are looked for again.
const TOKENS_FRESH: Duration = Duration::from_secs(30);
/// The name of the token that the environment gives.
const OUTSIDE: &str = "INLET_TOKEN";

/// What answers the API.
pub(crate) struct Api {
    pub(crate) app: Arc<App>,
    tokens: Tokens,
    secrets: Option<Arc<dyn Secrets>>,
    looked: Mutex<Instant>,
}

/// The tokens as they are kept.
#[derive(Deserialize)]
struct TokenFile {
    #[serde(default)]
    tokens: Vec<Token>,
}

impl Api {
    /// Takes up tokens that were added or revoked since they were last looked for.
    pub(crate) async fn refresh_tokens(&self) {
        let Some(secrets) = &self.secrets else { return };
        let mut looked = self.looked.lock().await;
        if looked.elapsed() < TOKENS_FRESH {
            return;
        }
        match book(Some(&**secrets)).await {
            Ok(book) => self.tokens.replace(book),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "the tokens could not be read; the old ones stay in force");
            }
        }
        *looked = Instant::now();
    }
}

/// What accepts: it may send, and read the tokens.
pub(crate) async fn intake(settings: &Settings) -> anyhow::Result<Api> {
    let aws = Aws::from_environment().await;
    // Only a document that is too large for the queue needs it.
    let bucket = bucket_or_absent(settings, &aws).await?;
    let options = SqsOptions::default();
    let queue = SqsQueue::open_to_send(&aws, &settings.queue, Arc::clone(&bucket), &options)
        .await
        .context("INLET_QUEUE")?;
    let absent = Arc::new(Absent);
    api(settings, &aws, Arc::new(queue), absent.clone(), bucket, absent, false).await
}

/// What reads: the store, summaries, and the tokens.
pub(crate) async fn read(settings: &Settings) -> anyhow::Result<Api> {
    let aws = Aws::from_environment().await;
    let bucket = bucket_or_absent(settings, &aws).await?;
    let store = store(settings, &aws, &bucket).await?;
    let cache = cache(settings).await?;
    api(settings, &aws, Arc::new(Absent), store, bucket, cache, true).await
}

async fn api(
    settings: &Settings,
    aws: &Aws,
    queue: Arc<dyn Queue>,
    store: Arc<dyn Store>,
    bucket: Arc<dyn Bucket>,
    cache: Arc<dyn Cache>,
    reads: bool,
) -> anyhow::Result<Api> {
    let secrets = secrets(settings, aws).await?;
    let tokens = Tokens::new(book(secrets.as_deref()).await?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let known = reads.then(|| Arc::clone(&store));
    let intake = Intake::new(
        tokens.clone(),
        settings.limits.clone(),
        Arc::clone(&clock),
        Arc::clone(&queue),
        known,
    );
    let version = env!("CARGO_PKG_VERSION");
    let app = Arc::new(App {
        intake: Arc::new(intake),
        store,
        queue,
        bucket,
        cache,
        instance: Instance::new(&settings.instance, &settings.zone, version, clock.now()),
        clock,
        metrics: Arc::new(Metrics::default()),
        pages: Pages::built_in(),
        figures: RecentFigures::default(),
    });
    Ok(Api { app, tokens, secrets, looked: Mutex::new(Instant::now()) })
}

/// Opens the store.
pub(crate) async fn store(
    settings: &Settings,
    aws: &Aws,
    overflow: &Arc<dyn Bucket>,
) -> anyhow::Result<Arc<dyn Store>> {
    let scheme = settings.store.split(':').next().unwrap_or_default();
    match scheme {
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            use inlet_adapters::store::{PostgresOptions, PostgresStore};
            // A function has one event at a time, and many functions share the database.
            let options = PostgresOptions { connections_max: 2, ..PostgresOptions::default() };
            let store = PostgresStore::open(&settings.store, &options).await;
            Ok(Arc::new(store.context("INLET_STORE")?))
        }
        "dynamodb" => {
            let (overflow, options) = (Arc::clone(overflow), DynamoOptions::default());
            let store = DynamoStore::open(aws, &settings.store, overflow, &options).await;
            Ok(Arc::new(store.context("INLET_STORE")?))
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

async fn secrets(settings: &Settings, aws: &Aws) -> anyhow::Result<Option<Arc<dyn Secrets>>> {
    if settings.secrets.is_empty() {
        return Ok(None);
    }
    let options = SecretsManagerOptions::default();
    let secrets = SecretsManagerSecrets::open(aws, &settings.secrets, &options).await;
    Ok(Some(Arc::new(secrets.context("INLET_SECRETS")?)))
}

/// The tokens of the secrets, and the one that the environment gives.
async fn book(secrets: Option<&dyn Secrets>) -> anyhow::Result<TokenBook> {
    let mut tokens = Vec::new();
    if let Some(secrets) = secrets
        && let Some(bytes) = secrets.get("tokens").await?
    {
        let file: TokenFile = serde_json::from_slice(&bytes).context("the secret `tokens`")?;
        tokens = file.tokens;
    }
    if let Ok(text) = std::env::var(OUTSIDE)
        && !text.is_empty()
    {
        tokens.push(Token::new(OUTSIDE, &Scope::ALL, &text, Timestamp::default()));
    }
    Ok(TokenBook::new(tokens.iter()))
}
