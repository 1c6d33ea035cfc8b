//! What answering a request needs: the ports, the instance's names, the counters and the pages.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use inlet_core::accept::Intake;
use inlet_core::auth::register::TokenRegister;
use inlet_core::document::Timestamp;
use inlet_core::health::Health;
use inlet_core::ports::{Bucket, Cache, Clock, Queue, Store};

use crate::damage::Damage;
use crate::edge::EdgeSecret;
use crate::metrics::Metrics;
use crate::pages::Pages;
use crate::site::landing::RecentFigures;
use crate::workers::Workers;

/// Everything a request may touch. One for a process, shared by all of its threads.
pub struct App {
    /// Takes documents.
    pub intake: Arc<Intake>,
    /// The tokens, to administer; `None` where this process can't reach the secrets.
    pub tokens: Option<Arc<TokenRegister>>,
    /// Where documents live.
    pub store: Arc<dyn Store>,
    /// Where accepted documents wait; dead letters are sent back to it.
    pub queue: Arc<dyn Queue>,
    /// Where summaries live.
    pub bucket: Arc<dyn Bucket>,
    /// Remembers documents that were read.
    pub cache: Arc<dyn Cache>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The board on which the parts of the process report their state.
    pub health: Health,
    /// Which instance this is.
    pub instance: Instance,
    /// The counters that `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The pages that browsers get.
    pub pages: Pages,
    /// The state that the handlers keep between requests; begins with its default.
    pub state: AppState,
}

/// The state that the handlers keep between requests.
#[derive(Default)]
pub struct AppState {
    /// Threads for what would hold up the serving ones.
    pub(crate) workers: Workers,
    /// The figures of the engines that `/`, `/readyz` and `/metrics` show.
    pub(crate) recent: RecentFigures,
    /// Damage that reads have found in the store.
    pub(crate) damage: Damage,
    /// The secret of the edge before this instance.
    pub(crate) edge: EdgeSecret,
}

impl AppState {
    /// The same for an instance behind an edge that knows this secret, and mints the ids of
    /// documents. Without it, ids are taken from nobody.
    pub fn behind_edge(self, secret: &str) -> Self {
        Self { edge: EdgeSecret::new(secret), ..self }
    }
}

/// Which instance this is, and since when it runs.
#[derive(Debug, Clone)]
pub struct Instance {
    id: String,
    zone: String,
    version: &'static str,
    started: Timestamp,
    running_since: Instant,
    header: HeaderValue,
}

impl Instance {
    /// The instance `id` in `zone`, of this version, started now (`started`, by the wall clock).
    ///
    /// In the `X-Instance-Id` header, characters that are not visible ASCII stand as `-`.
    pub fn new(id: &str, zone: &str, version: &'static str, started: Timestamp) -> Self {
        let visible: String =
            id.chars().map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect();
        let header = HeaderValue::from_str(&visible).expect("visible ASCII is a header value");
        Self {
            id: id.to_owned(),
            zone: zone.to_owned(),
            version,
            started,
            running_since: Instant::now(),
            header,
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The failure domain it is in.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The version of the binary.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// When it started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// How long it runs.
    pub fn uptime(&self) -> Duration {
        self.running_since.elapsed()
    }

    pub(crate) fn header(&self) -> HeaderValue {
        self.header.clone()
    }
}
