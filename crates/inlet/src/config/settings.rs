//! Every setting: its name, its default, what it means, and its typed value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use inlet_core::calendar::Calendar;
use inlet_core::limits::Limits;

use super::sources::{ConfigError, Sources};

/// One setting. Its flag is the name with dashes, its variable `INLET_` and the name in capitals.
pub(crate) struct Setting {
    /// Its name in `inlet.toml`.
    pub(crate) name: &'static str,
    /// What `--help` calls its value.
    pub(crate) value: &'static str,
    /// What is used where nothing is given; empty for none.
    pub(crate) default: &'static str,
    /// What it means, in one sentence.
    pub(crate) doc: &'static str,
    /// Whether it has any number of values: a flag again and again, an array in `inlet.toml`,
    /// with spaces between them elsewhere.
    pub(crate) is_list: bool,
}

const fn setting(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Setting {
    Setting { name, value, default, doc, is_list: false }
}

const fn list(name: &'static str, value: &'static str, doc: &'static str) -> Setting {
    Setting { name, value, default: "", doc, is_list: true }
}

/// All settings, in the order in which `inlet config` prints them.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("data", "DIR", "./inlet-data", "The directory in which everything embedded lives"),
    setting("https", "ADDR", "127.0.0.1:8443", "Where the API listens, with TLS"),
    setting("http", "ADDR", "127.0.0.1:8080", "Where plain HTTP is redirected; `off` for nowhere"),
    setting(
        "plain",
        "ADDR",
        "off",
        "Where the API listens without TLS, behind a proxy that ends it",
    ),
    setting("queue", "URL", "log:", "Where accepted documents wait"),
    setting("store", "URL", "sqlite:", "Where documents live"),
    setting("bucket", "URL", "file:", "Where summaries and backups live"),
    setting("cache", "URL", "memory:", "What remembers documents that were read"),
    setting("secrets", "URL", "file:", "Where tokens and keys are kept"),
    setting("zone", "NAME", "local", "The failure domain this instance is in"),
    setting(
        "instance",
        "NAME",
        "",
        "This instance's id; made at the first start where none is given",
    ),
    setting("instances", "N", "", "How many instances a zone `up` runs behind an edge, up to 16"),
    setting("zones", "N", "", "In how many zones `up` runs instances, up to 8"),
    setting(
        "hang_s",
        "SECONDS",
        "10",
        "After how long without an answer an instance of `up` is killed and started again",
    ),
    setting(
        "tls_cert",
        "FILE",
        "",
        "A certificate chain in PEM; a self-signed one where none is given",
    ),
    setting("tls_key", "FILE", "", "The private key of tls_cert, in PEM"),
    setting(
        "tls_dir",
        "DIR",
        "",
        "More certificates, for the names in them: X.pem with X.key beside it",
    ),
    setting("pages", "DIR", "", "Error pages of your own: 404.html, 4xx.html, 5xx.html"),
    setting("threads", "N", "0", "Threads that serve requests; 0 for one a core, at most 8"),
    setting("body_bytes_max", "SIZE", "1MiB", "The largest document"),
    setting("depth_max", "N", "128", "The deepest nesting in a document"),
    setting("batch_bytes_max", "SIZE", "16MiB", "The largest batch request"),
    setting("batch_documents_max", "N", "10000", "The most documents in a batch request"),
    setting("file_bytes_max", "SIZE", "5TiB", "The largest file"),
    setting("streams_max", "N", "1000", "The most streams there may be"),
    setting(
        "attempts_max",
        "N",
        "3",
        "Attempts before a document that is refused is a dead letter",
    ),
    setting(
        "queue_bytes_max",
        "SIZE",
        "4GiB",
        "How much may wait in the queue before 503 is answered",
    ),
    setting("cache_bytes_max", "SIZE", "8MiB", "How much the in-process cache holds"),
    setting("connections_max", "N", "20000", "The most open connections"),
    setting(
        "connections_per_address_max",
        "N",
        "20000",
        "The most open connections of one address",
    ),
    setting("shutdown_s", "SECONDS", "30", "How long a stop may take to answer what was accepted"),
    list(
        "backend",
        "HOST:PORT[,zone=ZONE][,id=ID][,tls[=NAME]]",
        "An instance behind `edge`; a name stands for all of its addresses",
    ),
    setting("backend_ca", "FILE", "", "Who may have signed the certificates of instances, in PEM"),
    setting("firewall", "FILE", "", "The edge's rules beside its model, in TOML"),
    setting("plans", "FILE", "", "The edge's usage plans for tokens and addresses, in TOML"),
    setting("static", "DIR", "", "Files that the edge serves under /static"),
    setting(
        "access_log",
        "FILE",
        "",
        "Where the edge writes a line for each request; - for stdout",
    ),
    list(
        "trusted_proxy",
        "NETWORK",
        "A network of proxies before the edge whose X-Forwarded-For is believed",
    ),
    setting(
        "hsts_s",
        "SECONDS",
        "31536000",
        "For how long browsers shall use HTTPS only, if tls_cert is not self-signed; 0 for not",
    ),
    setting(
        "mint_keys",
        "BOOL",
        "false",
        "Whether the edge gives documents without an Idempotency-Key one, to send them again",
    ),
    setting("summary_cron", "CRON", "0 6 * * 1", "When the weekly summary is written"),
    setting("time_zone", "ZONE", "UTC", "The time zone of days, weeks and summary_cron"),
    setting("log_format", "FORMAT", "text", "What log lines on stderr look like: text or json"),
    setting("log_level", "FILTER", "info", "What is logged: error, warn, info, debug, or a filter"),
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
    pub(crate) connections_max: usize,
    pub(crate) connections_per_address_max: usize,
    pub(crate) shutdown: Duration,
    pub(crate) summary_cron: String,
    pub(crate) calendar: Calendar,
    pub(crate) log_json: bool,
    pub(crate) log_level: String,
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

/// How many instances `up` runs, where it runs more than itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FleetOptions {
    /// How many in each zone.
    pub(crate) instances: usize,
    /// In how many zones.
    pub(crate) zones: usize,
    /// After how long without an answer an instance is killed.
    pub(crate) hang: Duration,
}

impl Settings {
    /// Reads every setting from its source.
    pub(crate) fn read(sources: &Sources) -> Result<Self, ConfigError> {
        let limits = Limits {
            body_bytes_max: sources.size("body_bytes_max")?,
            depth_max: sources.number("depth_max")?,
            batch_bytes_max: sources.size("batch_bytes_max")?,
            batch_documents_max: sources.number("batch_documents_max")?,
            file_bytes_max: sources.size("file_bytes_max")?,
            streams_max: sources.number("streams_max")?,
            attempts_max: sources.number("attempts_max")?,
            ..Limits::default()
        };
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
            fleet: fleet(sources)?,
            tls_files: tls_files(sources)?,
            tls_dir: sources.path("tls_dir"),
            pages: sources.path("pages"),
            edge: edge(sources)?,
            threads: threads(sources.number("threads")?),
            limits,
            queue_bytes_max: sources.size("queue_bytes_max")?,
            cache_bytes_max: sources.size("cache_bytes_max")?,
            connections_max: sources.number("connections_max")?,
            connections_per_address_max: sources.number("connections_per_address_max")?,
            shutdown: Duration::from_secs(sources.number("shutdown_s")?),
            summary_cron: sources.text("summary_cron").to_owned(),
            calendar: Calendar::new(sources.text("time_zone")).map_err(|_| {
                sources.invalid("time_zone", "the IANA name of a time zone, as in Europe/Berlin")
            })?,
            log_json: match sources.text("log_format") {
                "text" => false,
                "json" => true,
                _ => return Err(sources.invalid("log_format", "text or json")),
            },
            log_level: sources.text("log_level").to_owned(),
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
        hsts_s: sources.number("hsts_s")?,
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

/// Both are 1 where only the other is given.
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
    let hang = Duration::from_secs(sources.number::<u64>("hang_s")?.max(1));
    Ok(match (instances, zones) {
        (None, None) => None,
        (instances, zones) => {
            let (instances, zones) = (instances.unwrap_or(1), zones.unwrap_or(1));
            Some(FleetOptions { instances, zones, hang })
        }
    })
}

fn threads(asked: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if asked == 0 { cores.min(8) } else { asked.min(64) }
}
