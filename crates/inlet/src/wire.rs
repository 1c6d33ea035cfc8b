//! Which engine stands behind which port: decided here, by URL, and nowhere else.

#[cfg(feature = "aws")]
mod aws;
mod engines;
mod password;
#[cfg(feature = "postgres")]
mod postgres;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
#[cfg(feature = "aws")]
use std::sync::PoisonError;

use anyhow::Context;
use inlet_adapters::bucket::DirectoryBucket;
#[cfg(feature = "aws")]
use inlet_adapters::deferred::Deferred;
use inlet_adapters::queue::{LogDirectory, LogQueue, LogQueueOptions, StoreView};
use inlet_adapters::store::SqliteStore;
use inlet_core::failure::Failure;
use inlet_core::ports::{Bucket, Clock, Queue, Secrets, Store, SystemClock};
use inlet_http::Pages;
use inlet_log::{Durability, RealDisk};
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

pub(crate) use engines::{Engines, Start};
pub(crate) use password::DatabasePassword;

/// The names of the embedded engines in a data directory; see [`DataDirectory`].
const LOG: &str = "log";
const LOG_KNOWN: &str = "log.known";
const LOG_LOSSES: &str = "log.losses";
const STORE: &str = "store";

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
                postgres::migrate(&settings.store, secrets.as_deref(), asked).await
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

/// The bucket in a directory.
fn bucket_at(directory: &Path) -> Result<Arc<dyn Bucket>, Failure> {
    Ok(Arc::new(DirectoryBucket::open(directory, Arc::new(SystemClock))?))
}

/// A directory as a bucket that is only read.
pub(crate) fn bucket_to_read(directory: &Path) -> anyhow::Result<Arc<dyn Bucket>> {
    Ok(Arc::new(DirectoryBucket::read_only(directory, Arc::new(SystemClock))?))
}

/// The bucket at `s3://BUCKET/PREFIX`, which is read.
pub(crate) async fn s3_to_read(url: &str) -> anyhow::Result<Arc<dyn Bucket>> {
    #[cfg(feature = "aws")]
    return Ok(aws::bucket(url)().await?);
    #[cfg(not(feature = "aws"))]
    left_out(url, "Amazon's services", "aws")
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
    let kept = [&settings.store, &settings.bucket];
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

/// Opens what the secrets are kept in, for a command.
pub(crate) async fn secrets(
    settings: &Settings,
    data: &DataDirectory,
) -> anyhow::Result<Arc<dyn Secrets>> {
    Ok(engines::secrets(settings, data)?().await?)
}

/// Opens the queue for what this process does with it; one elsewhere that is away is opened once
/// it is there.
pub(crate) async fn queue(
    start: &Start<'_>,
    instance: &str,
    engines: &Engines,
    queue_use: QueueUse,
) -> anyhow::Result<WiredQueue> {
    let settings = start.settings;
    match Url::of("queue", &settings.queue) {
        Url { scheme: "log", rest: "", .. } => {
            log_queue(start, instance, &engines.store, queue_use).await
        }
        Url { scheme: "sqs" | "https" | "http", .. } => {
            #[cfg(feature = "aws")]
            {
                let sqs = engines::Slot::default();
                let open = aws::queue(&settings.queue, &engines.bucket, queue_use, &sqs);
                let open = start.noting("queue", &settings.queue, open);
                let queue = Deferred::queue(start.health.part("queue"), move || open());
                start.begin("queue", &settings.queue, &queue).await?;
                let release: Release = Box::new(move || {
                    let sqs = sqs.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    Box::pin(async move {
                        if let Some(sqs) = sqs {
                            sqs.close().await;
                        }
                    })
                });
                Ok(WiredQueue { queue: Arc::new(queue), log: None, release: Some(release) })
            }
            #[cfg(not(feature = "aws"))]
            left_out("queue", "Amazon's services", "aws")
        }
        url => {
            Err(url.unknown("log:, sqs://NAME and https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"))
        }
    }
}

async fn log_queue(
    start: &Start<'_>,
    instance: &str,
    store: &Arc<dyn Store>,
    queue_use: QueueUse,
) -> anyhow::Result<WiredQueue> {
    let Start { settings, data, health, .. } = *start;
    let root = data.join(LOG);
    let mut options = LogQueueOptions {
        known: Some(data.join(LOG_KNOWN)),
        losses: Some(data.join(LOG_LOSSES)),
        health: Some(health.clone()),
        ..LogQueueOptions::default()
    };
    options.log.queue_bytes_max = settings.queue_bytes_max;
    let queue = match queue_use {
        QueueUse::Both => LogQueue::open(&root, instance, Arc::clone(store), &options).await?,
        QueueUse::Send => LogQueue::open_to_send(&root, instance, &**store, &options).await?,
        QueueUse::Receive => LogQueue::open_to_receive(&root, Arc::clone(store), &options),
    };
    if let Some(durability) = queue.durability() {
        tracing::info!(by = %durability, dir = %root.display(), "the log is open");
        if let Some(warning) = durability.warning() {
            let dir = root.display();
            tracing::warn!(%dir, "what is acknowledged may not survive a power cut: {warning}");
        }
    }
    let queue = Arc::new(queue);
    let sends = !matches!(queue_use, QueueUse::Receive);
    Ok(WiredQueue {
        queue: Arc::clone(&queue) as Arc<dyn Queue>,
        log: sends.then_some(queue),
        release: None,
    })
}

/// Refuses to go on where the embedded store is not there and a log here was stored in it: a new
/// one would be made in its place, and what the log has let go of would be nowhere.
pub(crate) fn check_store_is_there(settings: &Settings) -> anyhow::Result<()> {
    let (Url { scheme: "log", .. }, Url { scheme: "sqlite", rest, .. }) =
        (Url::of("queue", &settings.queue), Url::of("store", &settings.store))
    else {
        return Ok(());
    };
    let given = if rest.is_empty() { settings.data.join(STORE) } else { rest.into() };
    if given.join(SqliteStore::FILE).exists() {
        return Ok(());
    }
    // Logs that can't be looked at say nothing here: opening their directory is refused, and says of
    // the directory itself what is wrong with it.
    let Ok(Some((log, store))) = logs_at(&settings.data).recorded_store() else { return Ok(()) };
    Err(Hinted::new(
        format!(
            "there is no store in {}, and the log {} was stored in the store {store}",
            given.display(),
            log.display()
        ),
        "put it back (is a volume not mounted?); if it is gone for good, `inlet restore` fills a \
         new one from a backup, and `inlet fsck --repair` has the log go on with that",
    )
    .into())
}

/// The logs in the data directory at `path`.
pub(crate) fn logs_at(path: &Path) -> LogDirectory {
    LogDirectory::new(path.join(LOG), path.join(LOG_KNOWN), path.join(LOG_LOSSES))
}

/// The durability of the embedded queue in the data directory; `None` where there is none, or
/// nothing may be tried in it.
pub(crate) fn log_durability(settings: &Settings) -> anyhow::Result<Option<Durability>> {
    let log = settings.data.join(LOG);
    let is_log = matches!(Url::of("queue", &settings.queue), Url { scheme: "log", .. });
    if !is_log || !log.is_dir() {
        return Ok(None);
    }
    let found = Durability::probe(&RealDisk, &log, inlet_log::Sync::Auto);
    Ok(Some(found.with_context(|| format!("could not look at {}", log.display()))?))
}

/// The store's account of itself, for a command that looks at the logs; `None` where it was not
/// made yet.
pub(crate) async fn store_view(
    settings: &Settings,
    data: &DataDirectory,
) -> anyhow::Result<Option<StoreView>> {
    if let Url { scheme: "sqlite", rest, .. } = Url::of("store", &settings.store)
        && !or_in(data, STORE, rest).join(SqliteStore::FILE).exists()
    {
        return Ok(None);
    }
    let engines = Engines::open(settings, data).await?;
    let store = &engines.store;
    let view = StoreView { id: store.identity().await?, cursors: store.cursors().await? };
    engines.close().await;
    Ok(Some(view))
}

/// What writes summaries, by the settings.
pub(crate) fn summarizer(
    settings: &Settings,
    engines: &Engines,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Summarizer> {
    if is_bucket_on_store_disk(settings) {
        let hint = "--bucket names a directory on another disk, or s3://BUCKET";
        tracing::warn!(bucket = settings.bucket, hint, "{BUCKET_ON_STORE_DISK}");
    }
    Ok(Summarizer {
        store: Arc::clone(&engines.store),
        bucket: Arc::clone(&engines.bucket),
        clock: Arc::clone(clock),
        schedule: settings.schedule.clone(),
        backups_max: NonZeroUsize::new(settings.backups_max),
    })
}

/// The warning about a bucket on the disk that its backups are to protect.
pub(crate) const BUCKET_ON_STORE_DISK: &str =
    "it is on the same disk as the store: a backup there does not survive the loss of that disk";

/// Returns true if the bucket is on the disk of the store, as far as both are on this machine.
pub(crate) fn is_bucket_on_store_disk(settings: &Settings) -> bool {
    let place = |url: &str, scheme: &str, own: &str| match url.split_once(':') {
        Some((given, "")) if given == scheme => Some(settings.data.join(own)),
        Some((given, path)) if given == scheme => Some(PathBuf::from(path)),
        _ => None,
    };
    let store = place(&settings.store, "sqlite", "store").and_then(|path| device(&path));
    let bucket = place(&settings.bucket, "file", "bucket").and_then(|path| device(&path));
    store.is_some() && store == bucket
}

/// The device of a path, or of the nearest directory around it that is there.
fn device(path: &Path) -> Option<u64> {
    let there = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        Some(std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(path).ok()?))
    };
    path.ancestors().find_map(there)
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

/// The commands that this binary was built without.
#[cfg(feature = "deploy")]
pub(crate) const COMMANDS_MISSING: &[&str] = &[];

/// The commands that this binary was built without.
#[cfg(not(feature = "deploy"))]
pub(crate) const COMMANDS_MISSING: &[&str] = &["plan", "deploy", "destroy", "template"];

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
    Err(Hinted::usage("this build can't look at AWS", "a build with --features full can").into())
}
