//! The engines of a process. A command opens them and fails where one is away; a process that
//! serves or persists starts without those that are away, and opens them once they are there.
//!
//! | the first attempt to open | the process |
//! | --- | --- |
//! | fails for good: a URL that is none, a newer format, damage | does not start |
//! | names what is not there (a schema, a table, a queue, a bucket) | does not start, unless this data directory has used it before |
//! | fails otherwise, or takes longer than [`START_MAX`] | starts, and is degraded |

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use inlet_adapters::cache::MemoryCache;
#[cfg(feature = "redis")]
use inlet_adapters::cache::{RedisCache, RedisOptions};
use inlet_adapters::deferred::{Deferred, Opening};
use inlet_adapters::secrets::FileSecrets;
use inlet_adapters::store::{SqliteOptions, SqliteStore};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::Health;
use inlet_core::ports::{Bucket, Cache, Secrets, Store};

#[cfg(feature = "aws")]
use super::aws;
#[cfg(not(all(feature = "aws", feature = "postgres", feature = "redis")))]
use super::left_out;
#[cfg(feature = "postgres")]
use super::postgres;
use super::{DatabasePassword, STORE, Url, bucket_at, or_in};
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::roles::{Stop, Watched};

/// The longest time the start of a process waits for an engine.
pub(super) const START_MAX: Duration = Duration::from_secs(2);

/// A function that opens an engine, however often it is called.
pub(super) type Open<T> = Arc<dyn Fn() -> Opening<T> + Send + Sync>;

/// The engine that was opened, for what its port does not have.
pub(super) type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// The engines that every part of a process shares.
pub(crate) struct Engines {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) secrets: Arc<dyn Secrets>,
    /// The database's password, where the secrets have one.
    pub(crate) password: DatabasePassword,
    sqlite: Slot<SqliteStore>,
}

/// A process that starts, and what its engines report to.
pub(crate) struct Start<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) data: &'a DataDirectory,
    pub(crate) health: &'a Health,
    pub(crate) watched: &'a Watched,
    pub(crate) stop: &'a Stop,
}

impl Start<'_> {
    /// Begins to open an engine, and goes on until the stop. Fails where the first attempt tells
    /// that the process is not to start.
    pub(super) async fn begin<T: ?Sized + Send + Sync + 'static>(
        &self,
        setting: &'static str,
        url: &str,
        deferred: &Deferred<T>,
    ) -> anyhow::Result<()> {
        let was_used = self.data.has_used(setting, url);
        let (keeping, stop) = (deferred.clone(), self.stop.clone());
        self.watched.restarted_task(setting, move || {
            let (keeping, stop) = (keeping.clone(), stop.clone());
            async move {
                tokio::select! {
                    _ = stop.wait() => {}
                    () = keeping.keep() => {}
                }
            }
        });
        match deferred.first(START_MAX).await {
            Some(Err(failure)) if !starts_without(&failure, was_used) => Err(failure.into()),
            _ => Ok(()),
        }
    }

    /// The same opening, which notes that this data directory has used the engine.
    pub(super) fn noting<T: ?Sized + Send + Sync + 'static>(
        &self,
        setting: &'static str,
        url: &str,
        open: Open<T>,
    ) -> Open<T> {
        let (data, url) = (self.data.clone(), url.to_owned());
        opening(move || {
            let (data, url, opened) = (data.clone(), url.clone(), open());
            async move {
                let opened = opened.await?;
                let noted = tokio::task::spawn_blocking(move || data.note_used(setting, &url));
                match noted.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(setting, error = %format!("{error:#}"), "a restart may refuse to start without it")
                    }
                    Err(error) => {
                        tracing::error!(setting, %error, "a restart may refuse to start without it")
                    }
                }
                Ok(opened)
            }
        })
    }
}

/// Returns true if a process starts though the first attempt to open an engine came to this.
fn starts_without(failure: &Failure, was_used: bool) -> bool {
    match failure.kind() {
        FailureKind::Refused | FailureKind::Damaged => false,
        FailureKind::Missing => was_used,
        FailureKind::Unavailable
        | FailureKind::Full
        | FailureKind::Denied
        | FailureKind::Poisoned => true,
    }
}

impl Engines {
    /// Opens the engines that the settings name, for a command.
    pub(crate) async fn open(settings: &Settings, data: &DataDirectory) -> anyhow::Result<Self> {
        let bucket = bucket(settings, data)?().await?;
        let secrets = match Url::of("secrets", &settings.secrets) {
            Url { scheme: "file", rest, .. } if !or_in(data, "secrets", rest).is_dir() => {
                Arc::new(FileSecrets::unmade(or_in(data, "secrets", rest)))
            }
            _ => secrets(settings, data)?().await?,
        };
        let (password, sqlite) = (DatabasePassword::default(), Slot::default());
        let store = store(settings, data, &bucket, &secrets, &password, &sqlite)?().await?;
        Ok(Self { store, bucket, cache: cache(settings, None).await?, secrets, sqlite, password })
    }

    /// Begins to open the engines that the settings name, for a process that serves or persists.
    pub(crate) async fn begin(start: &Start<'_>) -> anyhow::Result<Self> {
        let Start { settings, data, health, .. } = start;
        let open = start.noting("bucket", &settings.bucket, bucket(settings, data)?);
        let bucket = Deferred::bucket(health.part("bucket"), move || open());
        let open = secrets(settings, data)?;
        let secrets = Deferred::secrets(health.part("secrets"), move || open());
        let (password, sqlite) = (DatabasePassword::default(), Slot::default());
        let (bucket_port, secrets_port): (Arc<dyn Bucket>, Arc<dyn Secrets>) =
            (Arc::new(bucket.clone()), Arc::new(secrets.clone()));
        let open = store(settings, data, &bucket_port, &secrets_port, &password, &sqlite)?;
        let open = start.noting("store", &settings.store, open);
        let store = Deferred::store(health.part("store"), move || open());
        let (_, _, cache) = tokio::try_join!(
            start.begin("bucket", &settings.bucket, &bucket),
            start.begin("secrets", &settings.secrets, &secrets),
            cache(settings, Some(health)),
        )?;
        // The password is asked of the secrets first.
        start.begin("store", &settings.store, &store).await?;
        let store = Arc::new(store);
        Ok(Self { store, bucket: bucket_port, cache, secrets: secrets_port, password, sqlite })
    }

    /// Finishes with the store, so that the next start has no write-ahead log to read. Nothing is
    /// lost without it.
    pub(crate) async fn close(&self) {
        let sqlite = self.sqlite.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(sqlite) = sqlite else { return };
        if let Err(failure) = sqlite.close().await {
            tracing::debug!(%failure, "the next start reads the write-ahead log");
        }
    }
}

/// An opening that calls `open` each time.
pub(super) fn opening<T, F>(open: impl Fn() -> F + Send + Sync + 'static) -> Open<T>
where
    T: ?Sized,
    F: Future<Output = Result<Arc<T>, Failure>> + Send + 'static,
{
    Arc::new(move || Box::pin(open()) as Pin<Box<_>>)
}

/// Opens what blocks while it opens, in `directory`.
async fn blocking<T: Send + 'static>(
    directory: PathBuf,
    open: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(open).await.map_err(|error| {
        let directory = directory.display().to_string();
        Failure::new(FailureKind::Unavailable, "open", directory).because(error)
    })?
}

/// Keeps what was opened in `slot`.
pub(super) fn keep<T>(slot: &Slot<T>, opened: &Arc<T>) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(opened));
}

fn bucket(settings: &Settings, data: &DataDirectory) -> anyhow::Result<Open<dyn Bucket>> {
    match Url::of("bucket", &settings.bucket) {
        Url { scheme: "file", rest, .. } => {
            let directory = or_in(data, "bucket", rest);
            Ok(opening(move || {
                let directory = directory.clone();
                blocking(directory.clone(), move || bucket_at(&directory))
            }))
        }
        Url { scheme: "s3", .. } => {
            #[cfg(feature = "aws")]
            return Ok(aws::bucket(&settings.bucket));
            #[cfg(not(feature = "aws"))]
            left_out("bucket", "Amazon's services", "aws")
        }
        url => Err(url.unknown("file:, file:DIR and s3://BUCKET/PREFIX")),
    }
}

/// Opens the secrets that the settings name.
pub(super) fn secrets(
    settings: &Settings,
    data: &DataDirectory,
) -> anyhow::Result<Open<dyn Secrets>> {
    match Url::of("secrets", &settings.secrets) {
        Url { scheme: "file", rest, .. } => {
            let directory = or_in(data, "secrets", rest);
            Ok(opening(move || {
                let directory = directory.clone();
                blocking(directory.clone(), || {
                    Ok(Arc::new(FileSecrets::open(directory)?) as Arc<dyn Secrets>)
                })
            }))
        }
        Url { scheme: "aws-secrets-manager", .. } => {
            #[cfg(feature = "aws")]
            return Ok(aws::secrets(&settings.secrets));
            #[cfg(not(feature = "aws"))]
            left_out("secrets", "Amazon's services", "aws")
        }
        url => Err(url.unknown("file:, file:DIR and aws-secrets-manager://NAME")),
    }
}

fn store(
    settings: &Settings,
    data: &DataDirectory,
    bucket: &Arc<dyn Bucket>,
    secrets: &Arc<dyn Secrets>,
    password: &DatabasePassword,
    sqlite: &Slot<SqliteStore>,
) -> anyhow::Result<Open<dyn Store>> {
    match Url::of("store", &settings.store) {
        Url { scheme: "sqlite", rest, .. } => {
            let (directory, sqlite) = (or_in(data, STORE, rest), Arc::clone(sqlite));
            Ok(opening(move || {
                let (directory, sqlite) = (directory.clone(), Arc::clone(&sqlite));
                blocking(directory.clone(), move || {
                    let opened = Arc::new(SqliteStore::open(directory, &SqliteOptions::default())?);
                    keep(&sqlite, &opened);
                    Ok(opened as Arc<dyn Store>)
                })
            }))
        }
        Url { scheme: "postgres" | "postgresql", .. } => {
            #[cfg(feature = "postgres")]
            return Ok(postgres::store(&settings.store, secrets, password));
            #[cfg(not(feature = "postgres"))]
            {
                let _unused = (secrets, password);
                left_out("store", "PostgreSQL", "postgres")
            }
        }
        Url { scheme: "dynamodb", .. } => {
            #[cfg(feature = "aws")]
            return Ok(aws::store(&settings.store, bucket));
            #[cfg(not(feature = "aws"))]
            {
                let _unused = bucket;
                left_out("store", "Amazon's services", "aws")
            }
        }
        url => Err(url.unknown("sqlite:, postgres://HOST/DATABASE and dynamodb://TABLE")),
    }
}

/// Opens the cache. One that is away, or refuses, is asked again while the process runs, and is on
/// the board as `cache`.
async fn cache(settings: &Settings, health: Option<&Health>) -> anyhow::Result<Arc<dyn Cache>> {
    match Url::of("cache", &settings.cache) {
        Url { scheme: "memory", rest: "", .. } => {
            Ok(Arc::new(MemoryCache::new(settings.cache_bytes_max)))
        }
        Url { scheme: "redis" | "rediss", .. } => {
            #[cfg(feature = "redis")]
            {
                let part = health.map(|health| Arc::new(health.part("cache")));
                let options = RedisOptions { part, ..RedisOptions::default() };
                Ok(Arc::new(RedisCache::open(&settings.cache, &options).await?))
            }
            #[cfg(not(feature = "redis"))]
            {
                let _unused = health;
                left_out("cache", "Redis", "redis")
            }
        }
        url => Err(url.unknown("memory:, redis://HOST and rediss://HOST")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_refused_for_what_never_works_and_at_first_for_what_is_not_there() {
        for kind in FailureKind::ALL {
            let failure = Failure::new(kind, "open", "it");
            let starts = [false, true].map(|was_used| starts_without(&failure, was_used));
            let expected = match kind {
                FailureKind::Refused | FailureKind::Damaged => [false, false],
                FailureKind::Missing => [false, true],
                _ => [true, true],
            };
            assert_eq!(starts, expected, "{kind:?}");
        }
    }
}
