//! Which engine stands behind which port: decided here, by URL, and nowhere else.

#[cfg(feature = "aws")]
mod aws;
mod password;
#[cfg(feature = "postgres")]
mod postgres;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context;
use inlet_adapters::bucket::DirectoryBucket;
use inlet_adapters::cache::MemoryCache;
#[cfg(feature = "redis")]
use inlet_adapters::cache::{RedisCache, RedisOptions};
use inlet_adapters::queue::{LogQueue, LogQueueOptions};
use inlet_adapters::secrets::FileSecrets;
use inlet_adapters::store::{SqliteOptions, SqliteStore};
use inlet_core::ports::{Bucket, Cache, Clock, Queue, Secrets, Store, SystemClock};
use inlet_http::Pages;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::MigrateArgs;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::owner;
use crate::report::Hinted;
use crate::roles::{Summarizer, log_panics};

pub(crate) use password::DatabasePassword;

/// The engines that every part of a process shares.
pub(crate) struct Engines {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) bucket: Arc<dyn Bucket>,
    pub(crate) cache: Arc<dyn Cache>,
    pub(crate) secrets: Arc<dyn Secrets>,
    /// The database's password, where the secrets have one.
    pub(crate) password: Option<DatabasePassword>,
    sqlite: Option<Arc<SqliteStore>>,
}

/// What a process does with the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QueueUse {
    Send,
    Receive,
    Both,
}

/// The queue, and what has to be driven for it.
pub(crate) struct WiredQueue {
    pub(crate) queue: Arc<dyn Queue>,
    /// The log that is appended to, where the queue is the embedded one and this process sends.
    pub(crate) log: Option<Arc<LogQueue>>,
    /// Gives back what was received and is not settled, where another worker waits for it.
    release: Option<Release>,
}

type Release = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

impl WiredQueue {
    /// Lets go of the queue, once nothing is received any more.
    pub(crate) async fn release(&self) {
        if let Some(release) = &self.release {
            release().await;
        }
    }
}

impl Engines {
    /// Opens the engines that the settings name.
    pub(crate) async fn open(settings: &Settings, data: &DataDirectory) -> anyhow::Result<Self> {
        let bucket = bucket(settings, data).await?;
        let secrets = secrets(settings, data).await?;
        let password = DatabasePassword::read(&*secrets).await?;
        let (store, sqlite) = match Url::of("store", &settings.store) {
            Url { scheme: "sqlite", rest, .. } => {
                let directory = or_in(data, "store", rest);
                let sqlite = Arc::new(SqliteStore::open(directory, &SqliteOptions::default())?);
                (Arc::clone(&sqlite) as Arc<dyn Store>, Some(sqlite))
            }
            Url { scheme: "postgres" | "postgresql", .. } => {
                #[cfg(feature = "postgres")]
                let store = postgres::open(&settings.store, password.as_ref()).await?;
                #[cfg(not(feature = "postgres"))]
                let store = left_out("store", "PostgreSQL", "postgres")?;
                (store, None)
            }
            Url { scheme: "dynamodb", .. } => {
                #[cfg(feature = "aws")]
                let store = aws::store(&settings.store, &bucket).await?;
                #[cfg(not(feature = "aws"))]
                let store = left_out("store", "Amazon's services", "aws")?;
                (store, None)
            }
            url => {
                return Err(url.unknown("sqlite:, postgres://HOST/DATABASE and dynamodb://TABLE"));
            }
        };
        Ok(Self { store, bucket, cache: cache(settings).await?, secrets, sqlite, password })
    }

    /// Finishes with the store, so that the next start has no write-ahead log to read. Nothing is
    /// lost without it.
    pub(crate) async fn close(&self) {
        let Some(sqlite) = &self.sqlite else { return };
        if let Err(failure) = sqlite.close().await {
            tracing::debug!(%failure, "the next start reads the write-ahead log");
        }
    }
}

/// What a setting names: an engine by its scheme, and the rest of the URL.
struct Url<'a> {
    setting: &'static str,
    scheme: &'a str,
    rest: &'a str,
}

impl<'a> Url<'a> {
    fn of(setting: &'static str, url: &'a str) -> Self {
        let (scheme, rest) = url.split_once(':').unwrap_or((url, ""));
        Self { setting, scheme, rest }
    }

    fn unknown(&self, known: &str) -> anyhow::Error {
        let Self { setting, scheme, .. } = self;
        let message = format!("{setting}: this binary knows no engine for `{scheme}:`");
        Hinted::usage(message, format!("it knows {known}")).into()
    }
}

/// What an engine answers that this binary was built without.
#[cfg(not(all(feature = "aws", feature = "postgres", feature = "redis")))]
fn left_out<T>(setting: &str, engine: &str, feature: &str) -> anyhow::Result<T> {
    let message = format!("{setting}: this binary was built without {engine}");
    let hint = format!("build it with `--features {feature}`, or with `--features full`");
    Err(Hinted::usage(message, hint).into())
}

/// Makes or changes what the store needs before it can be opened. No data directory is made.
pub(crate) async fn migrate(
    settings: &Settings,
    asked: &MigrateArgs,
) -> anyhow::Result<Vec<String>> {
    match Url::of("store", &settings.store) {
        Url { scheme: "sqlite", .. } => {
            // It is migrated by being opened.
            let data = directory_to_change(settings)?;
            Engines::open(settings, &data).await?.close().await;
            Ok(Vec::new())
        }
        Url { scheme: "postgres" | "postgresql", .. } => {
            #[cfg(feature = "postgres")]
            {
                let secrets = existing_secrets(settings).await?;
                let password = match &secrets {
                    Some(secrets) => DatabasePassword::read(&**secrets).await?,
                    None => None,
                };
                postgres::migrate(&settings.store, password.as_ref(), secrets.as_deref(), asked)
                    .await
            }
            #[cfg(not(feature = "postgres"))]
            {
                _ = asked;
                left_out("store", "PostgreSQL", "postgres")
            }
        }
        Url { scheme: "dynamodb", .. } => {
            #[cfg(feature = "aws")]
            return aws::make_table(&settings.store).await;
            #[cfg(not(feature = "aws"))]
            left_out("store", "Amazon's services", "aws")
        }
        url => Err(url.unknown("sqlite:, postgres://HOST/DATABASE and dynamodb://TABLE")),
    }
}

/// The directory that an embedded engine was given, or its own in the data directory.
fn or_in(data: &DataDirectory, name: &str, given: &str) -> PathBuf {
    if given.is_empty() { data.join(name) } else { given.into() }
}

async fn bucket(settings: &Settings, data: &DataDirectory) -> anyhow::Result<Arc<dyn Bucket>> {
    match Url::of("bucket", &settings.bucket) {
        Url { scheme: "file", rest, .. } => bucket_at(&or_in(data, "bucket", rest)),
        Url { scheme: "s3", .. } => {
            #[cfg(feature = "aws")]
            return aws::bucket(&settings.bucket).await;
            #[cfg(not(feature = "aws"))]
            left_out("bucket", "Amazon's services", "aws")
        }
        url => Err(url.unknown("file:, file:DIR and s3://BUCKET/PREFIX")),
    }
}

/// The bucket in a directory.
pub(crate) fn bucket_at(directory: &Path) -> anyhow::Result<Arc<dyn Bucket>> {
    Ok(Arc::new(DirectoryBucket::open(directory, Arc::new(SystemClock))?))
}

async fn cache(settings: &Settings) -> anyhow::Result<Arc<dyn Cache>> {
    match Url::of("cache", &settings.cache) {
        Url { scheme: "memory", rest: "", .. } => {
            Ok(Arc::new(MemoryCache::new(settings.cache_bytes_max)))
        }
        Url { scheme: "redis" | "rediss", .. } => {
            #[cfg(feature = "redis")]
            return Ok(Arc::new(
                RedisCache::open(&settings.cache, &RedisOptions::default()).await?,
            ));
            #[cfg(not(feature = "redis"))]
            left_out("cache", "Redis", "redis")
        }
        url => Err(url.unknown("memory:, redis://HOST and rediss://HOST")),
    }
}

/// Whether the secrets are in the data directory.
pub(crate) fn has_secrets_in_data(settings: &Settings) -> bool {
    settings.secrets == "file:"
}

/// The data directory for a command that changes what is kept, as its owner. It is never made
/// here: what would be in a new one is nothing that a server knows of. Where everything is kept
/// elsewhere, none is needed.
pub(crate) fn directory_to_change(settings: &Settings) -> anyhow::Result<DataDirectory> {
    let is_there = settings.data.join("FORMAT").exists();
    let kept = [&settings.store, &settings.bucket, &settings.secrets];
    if is_there || kept.into_iter().any(|url| matches!(url.as_str(), "sqlite:" | "file:")) {
        return DataDirectory::open_to_change(&settings.data);
    }
    Ok(DataDirectory::unused(&settings.data))
}

/// Opens the secrets to change them, as their owner. They are never made here: a token in new ones
/// is a token that no server knows.
pub(crate) async fn secrets_to_change(settings: &Settings) -> anyhow::Result<Arc<dyn Secrets>> {
    let data = match Url::of("secrets", &settings.secrets) {
        Url { scheme: "file", rest: "", .. } => DataDirectory::open_to_change(&settings.data)?,
        Url { scheme: "file", rest, .. } => {
            let directory = Path::new(rest);
            if !directory.is_dir() {
                let message = format!("there are no secrets in {}", directory.display());
                let hint = "the first start with --secrets makes them; --secrets names others";
                return Err(Hinted::new(message, hint).into());
            }
            owner::act_as_owner(directory, directory)?;
            DataDirectory::unused(&settings.data)
        }
        _ => DataDirectory::unused(&settings.data),
    };
    secrets(settings, &data).await
}

/// Opens the secrets to read them; `None` where they are in a directory that is not there.
#[cfg(feature = "postgres")]
async fn existing_secrets(settings: &Settings) -> anyhow::Result<Option<Arc<dyn Secrets>>> {
    let is_there = match Url::of("secrets", &settings.secrets) {
        Url { scheme: "file", rest: "", .. } => settings.data.join("secrets").exists(),
        Url { scheme: "file", rest, .. } => Path::new(rest).exists(),
        _ => true,
    };
    if !is_there {
        return Ok(None);
    }
    secrets_to_change(settings).await.map(Some)
}

/// Opens what the secrets are kept in.
pub(crate) async fn secrets(
    settings: &Settings,
    data: &DataDirectory,
) -> anyhow::Result<Arc<dyn Secrets>> {
    match Url::of("secrets", &settings.secrets) {
        Url { scheme: "file", rest, .. } => {
            Ok(Arc::new(FileSecrets::open(or_in(data, "secrets", rest))?))
        }
        Url { scheme: "aws-secrets-manager", .. } => {
            #[cfg(feature = "aws")]
            return aws::secrets(&settings.secrets).await;
            #[cfg(not(feature = "aws"))]
            left_out("secrets", "Amazon's services", "aws")
        }
        url => Err(url.unknown("file:, file:DIR and aws-secrets-manager://NAME")),
    }
}

/// Opens the queue for what this process does with it.
pub(crate) async fn queue(
    settings: &Settings,
    data: &DataDirectory,
    instance: &str,
    engines: &Engines,
    queue_use: QueueUse,
) -> anyhow::Result<WiredQueue> {
    match Url::of("queue", &settings.queue) {
        Url { scheme: "log", rest: "", .. } => {
            log_queue(settings, data, instance, &engines.store, queue_use).await
        }
        Url { scheme: "sqs" | "https" | "http", .. } => {
            #[cfg(feature = "aws")]
            return aws::queue(&settings.queue, &engines.bucket, queue_use).await;
            #[cfg(not(feature = "aws"))]
            left_out("queue", "Amazon's services", "aws")
        }
        url => {
            Err(url.unknown("log:, sqs://NAME and https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"))
        }
    }
}

async fn log_queue(
    settings: &Settings,
    data: &DataDirectory,
    instance: &str,
    store: &Arc<dyn Store>,
    queue_use: QueueUse,
) -> anyhow::Result<WiredQueue> {
    let root = data.join("log");
    let mut options = LogQueueOptions::default();
    options.log.queue_bytes_max = settings.queue_bytes_max;
    let queue = match queue_use {
        QueueUse::Both => LogQueue::open(&root, instance, Arc::clone(store), &options).await?,
        QueueUse::Send => LogQueue::open_to_send(&root, instance, &**store, &options).await?,
        QueueUse::Receive => LogQueue::open_to_receive(&root, Arc::clone(store), &options),
    };
    if let Some(method) = queue.sync_method() {
        tracing::debug!(method, "the log is open");
    }
    let queue = Arc::new(queue);
    let sends = !matches!(queue_use, QueueUse::Receive);
    Ok(WiredQueue {
        queue: Arc::clone(&queue) as Arc<dyn Queue>,
        log: sends.then_some(queue),
        release: None,
    })
}

/// What writes summaries, by the settings.
pub(crate) fn summarizer(
    settings: &Settings,
    engines: &Engines,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Summarizer> {
    Ok(Summarizer {
        store: Arc::clone(&engines.store),
        bucket: Arc::clone(&engines.bucket),
        clock: Arc::clone(clock),
        schedule: settings.schedule.clone(),
    })
}

/// The pages that browsers get.
pub(crate) fn pages(settings: &Settings) -> anyhow::Result<Pages> {
    match &settings.pages {
        Some(folder) => Pages::from_folder(folder).with_context(|| {
            Hinted::new(format!("could not use the pages in {}", folder.display()), "see --pages")
        }),
        None => Ok(Pages::built_in()),
    }
}

/// A runtime on the calling thread alone.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start a runtime")
}

/// Runs `work` on a runtime on the calling thread. Blocking calls that hang, as a look-up of a name
/// may, are left behind and do not keep the process.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> anyhow::Result<T> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    Ok(done)
}

/// Reads which threads `FAILPOINTS` lets panic, as in `persist=1*panic`; for as long as the value
/// lives.
#[cfg(feature = "fail-points")]
pub(crate) fn fail_points() -> impl Sized {
    fail::FailScenario::setup()
}

/// Nothing, in a build without fail points.
#[cfg(not(feature = "fail-points"))]
pub(crate) fn fail_points() -> impl Sized {}

/// A place where a test lets the thread or task `name` panic.
#[cfg(feature = "fail-points")]
pub(crate) fn fail_point(name: &str) {
    fail::fail_point!(name);
}

/// Nothing, in a build without fail points.
#[cfg(not(feature = "fail-points"))]
pub(crate) fn fail_point(_name: &str) {}

/// Sends log lines to stderr, as the settings want them.
pub(crate) fn log_lines(settings: &Settings) -> anyhow::Result<()> {
    // It warns with each object in parts that it can't check; we check those that we cut.
    let filter = settings.log_filter.clone();
    let filter = filter.with_target("aws_sdk_s3::http_response_checksum", LevelFilter::ERROR);
    crate::lines::start(settings.log_json)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(crate::lines::Stderr);
    let started = if settings.log_json {
        tracing_subscriber::registry().with(lines.json().with_filter(filter)).try_init()
    } else {
        let lines = lines.with_target(false).with_filter(filter);
        tracing_subscriber::registry().with(lines).try_init()
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("could not initialise logging")?;
    log_panics();
    Ok(())
}

/// An edge before instances elsewhere, where this binary has an edge.
#[cfg(feature = "edge")]
pub(crate) use crate::roles::edge::run as edge;

/// An edge before instances elsewhere, where this binary has an edge.
#[cfg(not(feature = "edge"))]
pub(crate) fn edge(settings: Settings, _given: crate::cli::Given) -> anyhow::Result<()> {
    let hint = match settings.edge.backends.first() {
        Some(first) => format!("build with --features edge, or send to {first} directly"),
        None => "build with --features edge".to_owned(),
    };
    Err(Hinted::usage("this binary has no edge", hint).into())
}

/// An edge and its instances, where this binary has an edge.
#[cfg(feature = "edge")]
pub(crate) use crate::roles::supervise::run as supervise;

/// An edge and its instances, where this binary has an edge.
#[cfg(not(feature = "edge"))]
pub(crate) fn supervise(
    _settings: Settings,
    _given: crate::cli::Given,
    size: crate::config::FleetOptions,
) -> anyhow::Result<()> {
    let message = format!("{} needs the edge, which this binary was built without", size.asked_by);
    Err(Hinted::usage(message, "build with --features edge, or leave it out").into())
}

/// The commands for AWS, where this binary has them.
#[cfg(feature = "deploy")]
pub(crate) use crate::deploy::{run as deploy, status as status_on_aws};

/// The commands for AWS, where this binary has them.
#[cfg(not(feature = "deploy"))]
pub(crate) fn deploy(
    _command: crate::cli::deploy::DeployCommand,
    _firewall: Option<std::path::PathBuf>,
) -> anyhow::Result<()> {
    Err(Hinted::usage("this binary can't deploy", "build with --features deploy").into())
}

/// How an environment stands on AWS, where this binary can ask.
#[cfg(not(feature = "deploy"))]
pub(crate) fn status_on_aws(_args: &crate::cli::StatusArgs) -> anyhow::Result<()> {
    Err(Hinted::usage("this binary can't look at AWS", "build with --features deploy").into())
}
