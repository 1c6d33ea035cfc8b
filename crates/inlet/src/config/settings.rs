//! Every setting: its name, its default, what it means, and its typed value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use inlet_core::calendar::Calendar;
use inlet_core::limits::Limits;
use inlet_core::log_filter;
use inlet_core::schedule::{Schedule, ScheduleError};
use tracing_subscriber::filter::Targets;

use super::memory;
use super::role::Role::{
    self, Days, Deploy, Directory, Edge, Engines, Persist, Secrets, Serve, Summarize, Up,
};
use super::sources::{ConfigError, Sources};

/// One setting. Its flag is the name with dashes, its variable `INLET_` and the name in capitals.
pub(crate) struct Setting {
    /// Its name in `inlet.toml`.
    pub(crate) name: &'static str,
    /// Placeholder of its value in `--help`.
    pub(crate) value: &'static str,
    /// The commands that honour it; all others refuse its flag.
    pub(crate) honoured_by: &'static [Role],
    /// The value in force where none is given; empty for none.
    pub(crate) default: &'static str,
    /// Its meaning, in one sentence.
    pub(crate) doc: &'static str,
    /// Takes any number of values: a repeated flag, an array in `inlet.toml`, separated by spaces
    /// elsewhere.
    pub(crate) is_list: bool,
}

const fn setting(
    name: &'static str,
    value: &'static str,
    honoured_by: &'static [Role],
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { name, value, honoured_by, default, doc, is_list: false }
}

const fn list(
    name: &'static str,
    value: &'static str,
    honoured_by: &'static [Role],
    doc: &'static str,
) -> Setting {
    Setting { name, value, honoured_by, default: "", doc, is_list: true }
}

/// The longest silence that can be set, in seconds.
const IDLE_S_MAX: u64 = 86_400;

/// Every command that reads a data directory.
const ALL: &[Role] = &[Up, Edge, Serve, Persist, Summarize, Engines, Secrets, Directory, Days];
/// Commands that open the store and the bucket.
const STORES: &[Role] = &[Up, Serve, Persist, Summarize, Engines];
/// Commands that listen for requests.
const DOORS: &[Role] = &[Up, Edge, Serve];
/// Commands that take documents.
const INTAKE: &[Role] = &[Up, Serve];
/// Commands that move documents from the queue to the store.
const WORKERS: &[Role] = &[Up, Persist];
/// Commands that forward requests to instances.
const EDGES: &[Role] = &[Up, Edge];

/// All settings, in the order in which `inlet config` prints them.
#[rustfmt::skip]
pub(crate) const SETTINGS: &[Setting] = &[
    setting("data", "DIR", ALL, "./inlet-data", "The directory in which everything embedded lives"),
    setting("https", "ADDR", DOORS, "127.0.0.1:8443", "Where the API listens, with TLS"),
    setting("http", "ADDR", DOORS, "127.0.0.1:8080", "Where plain HTTP is redirected; `off` for nowhere"),
    setting("plain", "ADDR", DOORS, "off", "Where the API listens without TLS, behind a proxy that ends it"),
    setting("queue", "URL", &[Up, Serve, Persist], "log:", "Where accepted documents wait"),
    setting("store", "URL", STORES, "sqlite:", "Where documents live"),
    setting("bucket", "URL", STORES, "file:", "Where summaries and backups live"),
    setting("cache", "URL", STORES, "memory:", "Cache of documents that were read"),
    setting("secrets", "URL", &[Up, Serve, Persist, Summarize, Engines, Secrets], "file:", "Where tokens and keys are kept"),
    setting("zone", "NAME", DOORS, "local", "The failure domain this instance is in"),
    setting("instance", "NAME", &[Up, Serve, Persist], "", "This instance's id; made at the first start where none is given"),
    setting("instances", "N", &[Up], "", "Instances that `up` runs behind an edge in each zone, up to 16"),
    setting("zones", "N", &[Up], "", "Zones in which `up` runs instances, up to 8"),
    setting("hang_s", "SECONDS", &[Up], "10", "Time without an answer after which `up` kills an instance and starts it again"),
    setting("tls_cert", "FILE", DOORS, "", "A certificate chain in PEM; a self-signed one where none is given"),
    setting("tls_key", "FILE", DOORS, "", "The private key of tls_cert, in PEM"),
    setting("tls_dir", "DIR", DOORS, "", "More certificates, for the names in them: X.pem with X.key beside it"),
    setting("pages", "DIR", DOORS, "", "Error pages of your own: 404.html, 4xx.html, 5xx.html"),
    setting("threads", "N", DOORS, "0", "Threads that serve requests; 0 for one a core, at most 8"),
    setting("body_bytes_max", "SIZE", DOORS, "1MiB", "The largest document"),
    setting("depth_max", "N", INTAKE, "128", "The deepest nesting in a document"),
    setting("batch_bytes_max", "SIZE", DOORS, "16MiB", "The largest batch request"),
    setting("batch_documents_max", "N", INTAKE, "10000", "The most documents in a batch request"),
    setting("file_bytes_max", "SIZE", DOORS, "5TiB", "The largest file"),
    setting("streams_max", "N", INTAKE, "1000", "The most streams that one token may begin"),
    setting("streams_total_max", "N", INTAKE, "10000", "The most streams there may be, whoever began them; `default` is always open"),
    setting("bodies_bytes_max", "SIZE", INTAKE, "", "Memory for bodies in flight before 503 is answered [default: a quarter of the memory, at most 1 GiB]"),
    setting("attempts_max", "N", WORKERS, "3", "Attempts before a document that is refused is a dead letter"),
    setting("queue_bytes_max", "SIZE", INTAKE, "4GiB", "The most that may wait in the queue before 503 is answered"),
    setting("cache_bytes_max", "SIZE", INTAKE, "8MiB", "The most that the in-process cache holds"),
    list("proxy_protocol", "NETWORK", DOORS, "A network of balancers whose connections begin with a PROXY header, version 1 or 2"),
    setting("connections_max", "N", DOORS, "20000", "The most open connections"),
    setting("connections_per_address_max", "N", DOORS, "20000", "The most open connections of one address"),
    setting("idle_s", "SECONDS", DOORS, "620", "Silence until a connection is closed; longer than clients and balancers keep one"),
    setting("shutdown_s", "SECONDS", &[Up, Edge, Serve, Persist], "30", "Time that a stop may take to answer what was accepted"),
    list("backend", "HOST:PORT[,zone=ZONE][,id=ID][,tls[=NAME]]", &[Edge], "An instance behind `edge`; a name stands for all of its addresses"),
    setting("backend_ca", "FILE", &[Edge], "", "Who may have signed the certificates of instances, in PEM"),
    setting("firewall", "FILE", &[Up, Edge, Deploy], "", "The edge's rules beside its model, in TOML"),
    setting("plans", "FILE", EDGES, "", "The edge's usage plans for tokens and addresses, in TOML"),
    setting("static", "DIR", EDGES, "", "Files that the edge serves under /static"),
    setting("access_log", "FILE", EDGES, "", "Where the edge writes a line for each request; - for stdout"),
    list("trusted_proxy", "NETWORK", EDGES, "A network of proxies before the edge whose X-Forwarded-For is believed"),
    setting("hsts_s", "SECONDS", EDGES, "31536000", "Time for which browsers shall use HTTPS only, if tls_cert is not self-signed; 0 for none"),
    setting("mint_keys", "BOOL", EDGES, "false", "The edge gives documents without an Idempotency-Key one, to send them again"),
    setting("summary_cron", "CRON", &[Up, Summarize], "0 6 * * 1", "When the weekly summary is written"),
    setting("backups_max", "N", &[Up, Summarize], "8", "The most weekly backups that are kept; 0 for all"),
    setting("time_zone", "ZONE", &[Up, Persist, Summarize, Engines, Secrets, Days], "UTC", "The time zone of days, weeks and summary_cron"),
    setting("log_format", "FORMAT", &[Up, Edge, Serve, Persist, Engines], "text", "The form of log lines on stderr: text or json"),
    setting("log_level", "FILTER", &[Up, Edge, Serve, Persist, Engines], "info", "The log lines to write: error, warn, info, debug, trace, off, or a filter"),
];

/// The settings in force, each of its own type.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) data: PathBuf,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) plain: Option<SocketAddr>,
    pub(crate) queue: String,
    pub(crate) store: String,
    pub(crate) bucket: String,
    pub(crate) cache: String,
    pub(crate) secrets: String,
    pub(crate) zone: String,
    pub(crate) instance: Option<String>,
    pub(crate) fleet: Option<FleetOptions>,
    pub(crate) tls_files: Option<(PathBuf, PathBuf)>,
    pub(crate) tls_dir: Option<PathBuf>,
    pub(crate) pages: Option<PathBuf>,
    pub(crate) edge: EdgeSettings,
    pub(crate) threads: usize,
    pub(crate) limits: Limits,
    pub(crate) queue_bytes_max: u64,
    pub(crate) cache_bytes_max: u64,
    /// Networks of balancers that speak the PROXY protocol, as they are given.
    pub(crate) proxy_protocol: Vec<String>,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    /// Silence between requests until a connection is closed.
    pub(crate) idle: Duration,
    pub(crate) shutdown: Duration,
    pub(crate) schedule: Schedule,
    /// The most backups that are kept; 0 for all.
    pub(crate) backups_max: usize,
    pub(crate) calendar: Calendar,
    pub(crate) log_json: bool,
    pub(crate) log_filter: Targets,
    /// A setting that was given and means nothing without HTTPS.
    pub(crate) needs_https: Option<String>,
}

/// What is the edge's alone, as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EdgeSettings {
    /// Instances, each as the setting's value says.
    pub(crate) backends: Vec<String>,
    /// Certificates in PEM that may have signed those of instances.
    pub(crate) backend_ca: Option<PathBuf>,
    /// The firewall's rules.
    pub(crate) firewall: Option<PathBuf>,
    /// The usage plans.
    pub(crate) plans: Option<PathBuf>,
    /// The folder that is served.
    pub(crate) files: Option<PathBuf>,
    /// The access log; `-` for stdout.
    pub(crate) access_log: Option<PathBuf>,
    /// Networks of proxies before the edge.
    pub(crate) trusted_proxies: Vec<String>,
    /// For how long browsers shall use HTTPS only.
    pub(crate) hsts_s: u32,
    /// Whether documents get a key.
    pub(crate) mints_keys: bool,
}

/// The instances that `up` runs behind an edge, where it runs any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FleetOptions {
    /// Instances in each zone.
    pub(crate) instances: usize,
    /// Zones.
    pub(crate) zones: usize,
    /// Time without an answer after which an instance is killed.
    pub(crate) hang: Duration,
    /// The setting that asks for the edge.
    pub(crate) asked_by: &'static str,
}

impl Settings {
    /// Reads every setting from its source, for `role`.
    ///
    /// # Errors
    /// The first value that does not fit its setting.
    pub(crate) fn read(sources: &Sources, role: Role) -> Result<Self, ConfigError> {
        let limits = Limits {
            body_bytes_max: sources.size("body_bytes_max", 1)?,
            depth_max: sources.number("depth_max", 0)?,
            batch_bytes_max: sources.size("batch_bytes_max", 1)?,
            batch_documents_max: sources.number("batch_documents_max", 1)?,
            file_bytes_max: sources.size("file_bytes_max", 0)?,
            streams_max: sources.number("streams_max", 1)?,
            streams_total_max: sources.number("streams_total_max", 1)?,
            bodies_bytes_max: bodies_bytes_max(sources)?,
            attempts_max: sources.number("attempts_max", 1)?,
            ..Limits::default()
        };
        let schedule = schedule(sources)?;
        Ok(Self {
            data: PathBuf::from(sources.text("data")),
            https: sources.address("https")?,
            http: sources.address("http")?,
            plain: sources.address("plain")?,
            queue: sources.text("queue").to_owned(),
            store: sources.text("store").to_owned(),
            bucket: sources.text("bucket").to_owned(),
            cache: sources.text("cache").to_owned(),
            secrets: sources.text("secrets").to_owned(),
            zone: sources.name("zone")?.unwrap_or_default(),
            instance: sources.name("instance")?,
            fleet: if role == Up { fleet(sources)? } else { None },
            tls_files: tls_files(sources)?,
            tls_dir: sources.path("tls_dir"),
            pages: sources.path("pages"),
            edge: edge(sources)?,
            threads: threads(sources)?,
            limits,
            queue_bytes_max: sources.size("queue_bytes_max", 1)?,
            cache_bytes_max: sources.size("cache_bytes_max", 0)?,
            proxy_protocol: sources.list("proxy_protocol"),
            connections_max: sources.number("connections_max", 1)?,
            connections_per_address_max: sources.number("connections_per_address_max", 1)?,
            idle: match sources.number("idle_s", 1)? {
                seconds @ ..=IDLE_S_MAX => Duration::from_secs(seconds),
                _ => return Err(sources.invalid("idle_s", "a number from 1 to 86400")),
            },
            shutdown: Duration::from_secs(sources.number("shutdown_s", 0)?),
            calendar: schedule.calendar().clone(),
            schedule,
            backups_max: sources.number("backups_max", 0)?,
            log_json: match sources.text("log_format") {
                "text" => false,
                "json" => true,
                _ => return Err(sources.invalid("log_format", "text or json")),
            },
            log_filter: log_filter(sources)?,
            needs_https: needs_https(sources),
        })
    }
}

fn edge(sources: &Sources) -> Result<EdgeSettings, ConfigError> {
    Ok(EdgeSettings {
        backends: sources.list("backend"),
        backend_ca: sources.path("backend_ca"),
        firewall: sources.path("firewall"),
        plans: sources.path("plans"),
        files: sources.path("static"),
        access_log: sources.path("access_log"),
        trusted_proxies: sources.list("trusted_proxy"),
        hsts_s: sources.number("hsts_s", 0)?,
        mints_keys: match sources.text("mint_keys") {
            "true" => true,
            "false" => false,
            _ => return Err(sources.invalid("mint_keys", "true or false")),
        },
    })
}

fn tls_files(sources: &Sources) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (sources.path("tls_cert"), sources.path("tls_key")) {
        (Some(cert), Some(key)) => Ok(Some((cert, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(sources.invalid("tls_key", "the key that belongs to tls_cert")),
        (None, Some(_)) => Err(sources.invalid("tls_cert", "the certificate that tls_key is for")),
    }
}

/// Both counts are 1 where only the other is given, and where a setting of the edge asks for one.
fn fleet(sources: &Sources) -> Result<Option<FleetOptions>, ConfigError> {
    let count = |name, max, expected| match sources.text(name) {
        "" => Ok(None),
        text => match text.parse() {
            Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
            _ => Err(sources.invalid(name, expected)),
        },
    };
    let instances = count("instances", 16, "a number from 1 to 16")?;
    let zones = count("zones", 8, "a number from 1 to 8")?;
    let hang = Duration::from_secs(sources.number("hang_s", 1)?);
    let is_asked_for = |setting: &&Setting| {
        setting.is_of_edges() && setting.is_honoured_by(Up) && sources.is_given(setting.name)
    };
    let Some(asked_by) = SETTINGS.iter().find(is_asked_for) else { return Ok(None) };
    if sources.is_given("zone") {
        return Err(ConfigError::NoEffect {
            name: "zone",
            origin: sources.origin("zone").clone(),
            why: format!("with {} `up` names its zones a, b, …", asked_by.name),
        });
    }
    let (instances, zones) = (instances.unwrap_or(1), zones.unwrap_or(1));
    Ok(Some(FleetOptions { instances, zones, hang, asked_by: asked_by.name }))
}

/// The most memory that bodies in flight get where the setting says nothing, in bytes.
const BODIES_BYTES_DEFAULT_MAX: usize = 1 << 30;

/// The memory for bodies in flight of one process. Where none is given, a quarter of the memory
/// there is, divided among the instances of `up`. A batch of the largest size must fit, compressed
/// and inflated, while the last of it is moved.
fn bodies_bytes_max(sources: &Sources) -> Result<usize, ConfigError> {
    let largest: usize = sources.size("batch_bytes_max", 0)?;
    let least = largest.max(sources.size("body_bytes_max", 0)?).saturating_mul(4);
    if !sources.text("bodies_bytes_max").is_empty() {
        let given = sources.size("bodies_bytes_max", 0)?;
        let expected = "at least four times batch_bytes_max, so that the largest batch fits";
        return match given < least {
            true => Err(sources.invalid("bodies_bytes_max", expected)),
            false => Ok(given),
        };
    }
    let instances = fleet(sources)?.map_or(1, |fleet| fleet.instances * fleet.zones);
    let quarter = memory::bytes().map_or(BODIES_BYTES_DEFAULT_MAX, |bytes| {
        usize::try_from(bytes / 4).unwrap_or(usize::MAX) / instances
    });
    Ok(quarter.min(BODIES_BYTES_DEFAULT_MAX).max(least))
}

fn threads(sources: &Sources) -> Result<usize, ConfigError> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match sources.number("threads", 0)? {
        0 => Ok(cores.min(8)),
        asked @ 1..=64 => Ok(asked),
        _ => Err(sources.invalid("threads", "a number from 0 to 64")),
    }
}

fn schedule(sources: &Sources) -> Result<Schedule, ConfigError> {
    let (cron, zone) = (sources.text("summary_cron"), sources.text("time_zone"));
    Schedule::new(cron, zone).map_err(|source| {
        let name = match source {
            ScheduleError::Zone { .. } => "time_zone",
            ScheduleError::Expression { .. } | ScheduleError::NeverFires { .. } => "summary_cron",
        };
        ConfigError::Schedule { name, origin: sources.origin(name).clone(), source }
    })
}

fn log_filter(sources: &Sources) -> Result<Targets, ConfigError> {
    let parsed = log_filter::parse(sources.text("log_level"));
    let (default, parts) =
        parsed.ok_or_else(|| sources.invalid("log_level", log_filter::EXPECTED))?;
    Ok(Targets::new().with_default(default).with_targets(parts))
}

/// The first setting that was given and means nothing without HTTPS, with its origin.
fn needs_https(sources: &Sources) -> Option<String> {
    let is_given =
        |name: &'static str, nothing: &str| sources.is_given(name) && sources.text(name) != nothing;
    [("tls_cert", ""), ("tls_key", ""), ("tls_dir", ""), ("hsts_s", "0"), ("http", "off")]
        .into_iter()
        .find(|(name, nothing)| is_given(name, nothing))
        .map(|(name, _)| format!("{name} ({})", sources.origin(name)))
}
