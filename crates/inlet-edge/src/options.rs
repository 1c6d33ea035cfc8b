//! What an edge is told: plain data, with defaults that suit instances near by.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use http::header::HeaderValue;
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;

use crate::access::AccessLog;
use crate::firewall::Route;
use crate::limits::Plans;

/// Everything an [`Edge`](crate::Edge) is made from.
#[derive(Debug, Clone)]
pub struct EdgeOptions {
    /// The instances to begin with; [`Edge::set_backends`](crate::Edge::set_backends) changes them.
    pub backends: Vec<BackendOptions>,
    /// The zone this edge is in. Backends of the same zone come first while they are not
    /// overloaded. Without one all backends are equally near.
    pub zone: Option<String>,
    /// On how many runtime threads requests are served. Each keeps connections of its own, so
    /// that answering a request wakes no other thread.
    pub lanes: usize,
    /// How connections to backends are made and kept.
    pub connections: ConnectionOptions,
    /// How a backend is chosen.
    pub balance: BalanceOptions,
    /// When a backend is taken out and taken back in.
    pub health: HealthOptions,
    /// When a request is sent a second time.
    pub retry: RetryOptions,
    /// Ids for documents, before instances that take documents from this edge alone.
    pub document_ids: Option<DocumentIds>,
    /// What may be asked for. Nothing else is let through; with no route at all everything is.
    pub routes: Vec<Route>,
    /// The firewall's rules, in a file; see [`firewall`](crate::firewall) for its format.
    pub firewall: Option<PathBuf>,
    /// Usage plans, by token and by address.
    pub plans: Plans,
    /// Files that are served without asking a backend.
    pub files: Option<FilesOptions>,
    /// A folder of error pages: `404.html` for one status, `4xx.html` and `5xx.html` for the rest.
    pub pages: Option<PathBuf>,
    /// Proxies whose `X-Forwarded-For` is believed, such as a load balancer before this edge.
    pub trusted_proxies: Vec<IpNet>,
    /// For how many seconds browsers are told to use HTTPS only. Only for a certificate that
    /// clients trust: a browser lets nobody past a wrong one after that.
    pub hsts_s: Option<u32>,
    /// Where one line for each request goes.
    pub access_log: Option<AccessLog>,
    /// The wall clock, for the times in the access log. Nothing else rests on it.
    pub wall_clock: fn() -> SystemTime,
}

impl Default for EdgeOptions {
    fn default() -> Self {
        Self {
            backends: Vec::new(),
            zone: None,
            lanes: 1,
            connections: ConnectionOptions::default(),
            balance: BalanceOptions::default(),
            health: HealthOptions::default(),
            retry: RetryOptions::default(),
            document_ids: None,
            routes: Vec::new(),
            firewall: None,
            plans: Plans::default(),
            files: None,
            pages: None,
            trusted_proxies: Vec::new(),
            hsts_s: None,
            access_log: None,
            wall_clock: SystemTime::now,
        }
    }
}

/// Mints the ids of documents that come without an `Idempotency-Key`, so that each may be sent
/// to a second instance: the id makes it one document, and costs no look-up as a key does.
///
/// The instances take an id only beside the secret, which they share with this edge.
#[derive(Clone)]
pub struct DocumentIds {
    mint: fn() -> [u8; 36],
    secret: HeaderValue,
}

impl DocumentIds {
    /// Ids that `mint` makes, for instances that know `secret`; nothing where that has other
    /// characters than visible ASCII.
    pub fn new(mint: fn() -> [u8; 36], secret: &str) -> Option<Self> {
        let mut secret = HeaderValue::from_str(secret).ok()?;
        secret.set_sensitive(true);
        Some(Self { mint, secret })
    }

    pub(crate) fn mint(&self) -> HeaderValue {
        HeaderValue::from_bytes(&(self.mint)()).expect("digits and dashes make a header value")
    }

    pub(crate) fn secret(&self) -> HeaderValue {
        self.secret.clone()
    }
}

impl fmt::Debug for DocumentIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentIds").finish_non_exhaustive()
    }
}

/// One instance behind the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendOptions {
    /// The instance's id, unique among the backends.
    pub id: String,
    /// The zone it is in.
    pub zone: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How to speak TLS with it; plain text without.
    pub tls: Option<BackendTls>,
}

/// TLS to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendTls {
    /// The certificates that are trusted to sign the instance's, and no others.
    pub roots: Vec<CertificateDer<'static>>,
    /// The name or address its certificate must be for.
    pub server_name: String,
}

/// How connections to backends are made and kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// How long making a connection may take, TLS included, in milliseconds.
    pub connect_ms: u64,
    /// How long a backend may be silent while it owes an answer or the rest of one, in
    /// milliseconds. It counts from the last byte of the request that was sent.
    pub response_ms: u64,
    /// How long an idle connection is kept, in milliseconds. It must be shorter than the time
    /// after which instances close idle connections.
    pub idle_ms: u64,
    /// How many idle connections are kept for a backend on each lane.
    pub idle_max: usize,
    /// How many requests a backend may have outstanding. Past that others are asked, and when all
    /// are full the answer is `503`.
    pub outstanding_max: usize,
    /// The largest head of an answer, in bytes.
    pub head_bytes_max: usize,
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            connect_ms: 500,
            response_ms: 30_000,
            idle_ms: 20_000,
            idle_max: 256,
            outstanding_max: 2048,
            head_bytes_max: 64 << 10,
        }
    }
}

/// How a backend is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct BalanceOptions {
    /// Over which time old response times are forgotten, in milliseconds.
    pub decay_ms: u64,
    /// Response times below this count as this, in microseconds: smaller differences are noise,
    /// and equal backends then take turns.
    pub latency_floor_us: u64,
    /// Below so many outstanding requests a backend of the own zone is not overloaded.
    pub spill_outstanding: usize,
    /// How many times the load of the other zones' best the own zone's best must have before
    /// requests go there.
    pub spill_ratio: f64,
}

impl Default for BalanceOptions {
    fn default() -> Self {
        Self { decay_ms: 5_000, latency_floor_us: 5_000, spill_outstanding: 8, spill_ratio: 2.0 }
    }
}

/// When a backend is taken out and taken back in.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthOptions {
    /// Whether backends are asked for `check_path`. Without, all count as alive.
    pub checks: bool,
    /// What is asked for; a status from 200 to 299 is a pass.
    pub check_path: String,
    /// How long after a check the next one begins, in milliseconds, give or take a tenth.
    pub check_interval_ms: u64,
    /// The same while checks contradict what is believed of the backend.
    pub check_doubt_ms: u64,
    /// How long a check may take, in milliseconds.
    pub check_timeout_ms: u64,
    /// How many checks in a row must fail before a backend is down.
    pub checks_failed: u32,
    /// How many checks in a row must pass before a backend is up again.
    pub checks_passed: u32,
    /// How many connects in a row must fail before a backend is ejected.
    pub connect_errors: u32,
    /// How many answers in a row must be errors (500, 502, 504, none, or broken) before a backend
    /// is ejected.
    pub answer_errors: u32,
    /// How long the windows are in which backends are compared, in milliseconds.
    pub window_ms: u64,
    /// With fewer answers than this in a window a backend is not compared.
    pub window_answers_min: u32,
    /// How many times the median response time of the others is too slow.
    pub slow_ratio: f64,
    /// Below this a backend is never too slow, in milliseconds.
    pub slow_ms: u64,
    /// How many slow windows in a row get a backend ejected.
    pub slow_windows: u32,
    /// For how long a backend is ejected the first time, in milliseconds; each further time it is
    /// twice as long.
    pub ejection_ms: u64,
    /// The longest ejection, in milliseconds, and the time after which an ejection is forgotten.
    pub ejection_ms_max: u64,
    /// The greatest share of all backends that may be ejected. One always may if there are two.
    pub ejected_share_max: f64,
    /// Over which time a backend that comes back gets its full share, in milliseconds.
    pub slow_start_ms: u64,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self {
            checks: true,
            check_path: "/readyz".to_owned(),
            check_interval_ms: 400,
            check_doubt_ms: 100,
            check_timeout_ms: 400,
            checks_failed: 2,
            checks_passed: 2,
            connect_errors: 2,
            answer_errors: 5,
            window_ms: 1_000,
            window_answers_min: 20,
            slow_ratio: 4.0,
            slow_ms: 200,
            slow_windows: 3,
            ejection_ms: 1_000,
            ejection_ms_max: 60_000,
            ejected_share_max: 0.5,
            slow_start_ms: 5_000,
        }
    }
}

/// When a request is sent a second time.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryOptions {
    /// How many backends are tried for one request.
    pub attempts_max: u32,
    /// The share of requests that may be retries.
    pub budget_share: f64,
    /// How many retries may be saved up, and how many there are to begin with.
    pub budget_reserve: u32,
    /// How many retries a second there are even without requests.
    pub budget_per_second: u32,
    /// Bodies up to this size are read before they are sent, so that they can be sent again, in
    /// bytes. Larger ones are streamed.
    pub kept_bytes_max: usize,
    /// Whether a request without an `Idempotency-Key` on a route that takes one gets one from the
    /// edge, so that it too may be sent again. An instance looks for each key among those it has
    /// seen, so documents without one are accepted a little faster. Without effect beside
    /// [`EdgeOptions::document_ids`].
    pub mints_keys: bool,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempts_max: 3,
            budget_share: 0.2,
            budget_reserve: 500,
            budget_per_second: 10,
            kept_bytes_max: 64 << 10,
            mints_keys: false,
        }
    }
}

/// A folder that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesOptions {
    /// The folder.
    pub folder: PathBuf,
    /// The path under which it is served, such as `/static`; it begins with a slash and does not
    /// end in one.
    pub prefix: String,
    /// For how many seconds clients may keep a file without asking again.
    pub cache_s: u32,
    /// The largest file that is compressed while it is served, in bytes. Larger ones are sent as
    /// they are, unless there is a `.gz` file beside them.
    pub gzip_bytes_max: u64,
}
