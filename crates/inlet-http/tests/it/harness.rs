//! A server with engines in memory.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::accept::Intake;
use inlet_core::auth::register::TokenRegister;
use inlet_core::auth::{Scope, Token};
use inlet_core::calendar::Calendar;
use inlet_core::document::{StreamName, Timestamp};
use inlet_core::health::Health;
use inlet_core::limits::Limits;
use inlet_core::persist::{Persister, persist_batch};
use inlet_core::ports::{Cache, Clock, PageQuery, Queue, Store, SystemClock};
use inlet_http::{App, AppState, Instance, Metrics, Pages, StoreLookAhead};
use inlet_server::{Deadlines, Server, ServerOptions, Shutdown, Transport};
use inlet_testkit::memory::{MemoryBucket, MemoryQueue, MemorySecrets, MemoryStore};
use tokio::task::JoinHandle;

/// A token for each scope, and one for all.
pub(crate) const SAVE: &str = "save-token";
pub(crate) const READ: &str = "read-token";
pub(crate) const ADMIN: &str = "admin-token";
pub(crate) const ALL: &str = "all-token";
/// With all scopes, for the stream `orders` alone.
pub(crate) const ORDERS: &str = "orders-token";
/// With all scopes, for the streams `orders` and `returns`.
pub(crate) const TWO: &str = "two-token";

/// A cache without a bound, for tests.
#[derive(Debug, Default)]
pub(crate) struct TestCache(pub(crate) Mutex<HashMap<String, Bytes>>);

#[async_trait]
impl Cache for TestCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        self.0.lock().unwrap().get(key).cloned()
    }

    async fn put(&self, key: &str, value: Bytes) {
        self.0.lock().unwrap().insert(key.to_owned(), value);
    }

    async fn remove(&self, key: &str) {
        self.0.lock().unwrap().remove(key);
    }
}

/// What a server is made of before it is started.
pub(crate) struct Setup {
    pub(crate) limits: Limits,
    pub(crate) options: ServerOptions,
    pub(crate) pages: Pages,
    pub(crate) transport: Transport,
    pub(crate) queue: Option<Arc<dyn Queue>>,
    pub(crate) store: Option<Arc<dyn Store>>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            options: ServerOptions::default(),
            pages: Pages::built_in(),
            transport: Transport::Plain,
            queue: None,
            store: None,
        }
    }
}

impl Setup {
    /// With these deadlines.
    pub(crate) fn deadlines(change: impl FnOnce(&mut Deadlines)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.options.deadlines);
        setup
    }
}

/// A running server.
pub(crate) struct Harness {
    pub(crate) address: SocketAddr,
    pub(crate) app: Arc<App>,
    pub(crate) queue: MemoryQueue,
    pub(crate) store: MemoryStore,
    pub(crate) bucket: MemoryBucket,
    pub(crate) cache: Arc<TestCache>,
    pub(crate) shutdown: Shutdown,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    pub(crate) async fn start_with(setup: Setup) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let queue = MemoryQueue::new(64 << 20);
        let store = MemoryStore::default();
        let bucket = MemoryBucket::new(Arc::clone(&clock));
        let cache = Arc::new(TestCache::default());
        let queue_used = setup.queue.unwrap_or_else(|| Arc::new(queue.clone()));
        let store_used = setup.store.unwrap_or_else(|| Arc::new(store.clone()));
        let secrets = MemorySecrets::default();
        let register = TokenRegister::open(Arc::new(secrets), tokens()).await.unwrap();
        let intake = Intake::new(
            register.tokens().clone(),
            setup.limits,
            Arc::clone(&clock),
            Arc::clone(&queue_used),
            Some(Arc::new(StoreLookAhead::new(Arc::clone(&store_used)))),
        );
        let health = Health::new(Arc::clone(&clock));
        let app = Arc::new(App {
            intake: Arc::new(intake),
            tokens: Some(Arc::new(register)),
            store: store_used,
            queue: queue_used,
            bucket: Arc::new(bucket.clone()),
            cache: Arc::clone(&cache) as Arc<dyn Cache>,
            instance: Instance::new("test-1", "zone-a", "0.0.0-test", clock.now()),
            health,
            clock,
            metrics: Arc::new(Metrics::default()),
            pages: setup.pages,
            state: AppState::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::new(Arc::clone(&app), setup.options);
        let shutdown = Shutdown::new();
        let serving = {
            let shutdown = shutdown.clone();
            tokio::spawn(async move { server.serve(listener, setup.transport, shutdown).await })
        };
        Self { address, app, queue, store, bucket, cache, shutdown, serving }
    }

    /// The id of the one document in a stream beside `id`.
    pub(crate) async fn only_other_in(&self, stream: &str, id: &str) -> String {
        let stream = Some(StreamName::new(stream).unwrap());
        let query = PageQuery { stream, limit: 10, ..PageQuery::default() };
        let page = self.app.store.page(&query).await.unwrap();
        let mut ids = page.items.iter().map(|stored| stored.document.id.to_string());
        ids.find(|other| other != id).unwrap()
    }

    /// Moves all that is queued to the store.
    pub(crate) async fn persist(&self) {
        let persister = Persister {
            queue: Arc::clone(&self.app.queue),
            store: Arc::clone(&self.app.store),
            clock: Arc::clone(&self.app.clock),
            calendar: Calendar::utc(),
            limits: self.app.intake.limits().clone(),
        };
        loop {
            let report = persist_batch(&persister, Duration::ZERO).await.unwrap();
            if report.received == 0 {
                return;
            }
        }
    }
}

fn tokens() -> Vec<Token> {
    let token = |text: &str, scopes: &[Scope]| Token::new(text, scopes, text, Timestamp::default());
    let limited = |text: &str, streams: &[&str]| {
        let streams = streams.iter().map(|name| StreamName::new(name).unwrap()).collect();
        Token { streams: Some(streams), ..token(text, &Scope::ALL) }
    };
    vec![
        token(SAVE, &[Scope::Save]),
        token(READ, &[Scope::Read]),
        token(ADMIN, &[Scope::Admin]),
        token(ALL, &Scope::ALL),
        limited(ORDERS, &["orders"]),
        limited(TWO, &["orders", "returns"]),
    ]
}
