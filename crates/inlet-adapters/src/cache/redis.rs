//! The cache in Redis, shared by all instances.
//!
//! | key | value |
//! | --- | --- |
//! | `inlet:epoch:RUN` | random bytes that each entry must carry to be there, or `-`: none is, and none may be put |
//! | `inlet:entry:KEY` | `v`, the epoch, the bytes that were put; or `-` for what was removed |
//!
//! What is removed from the store must be gone from here, whatever happens:
//!
//! - A removed key stays so for [`RedisOptions::removed_s`]: who had read the document before it
//!   was erased can't put it back behind the removal.
//! - `RUN` is the id of the server's process. A server that starts again from a snapshot, or the
//!   replica that takes over, may lack the last removals; none of the entries it brings is there.
//! - Where a removal does not get through, this instance asks the cache nothing more until it made
//!   up for it, in the background, also where nobody asks it anything. Other instances that still
//!   reach the server may give the document until then, for [`RedisOptions::entry_s`] at most:
//!   no entry lives longer.
//! - Of more than a thousand such removals only that there were is remembered: the whole epoch is
//!   removed in the way one key is.

mod address;
mod owed;
mod session;

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use inlet_core::circuit::Circuit;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::Part;
use inlet_core::ports::Cache;
use redis::{Client, RedisError};

use self::address::Address;
use self::owed::Owed;
use self::session::{Session, Trouble};

/// After how many answers in a row that came too late a connection is taken for dead.
const LATE_MAX: u32 = 3;

/// How a [`RedisCache`] behaves.
#[derive(Clone)]
pub struct RedisOptions {
    /// How long one call may take, in milliseconds; the store is asked instead. Default 50.
    pub call_ms: u64,
    /// How long connecting may take, in milliseconds; nobody but the start waits for it.
    /// Default 1,000.
    pub connect_ms: u64,
    /// For how long nothing is asked after a call failed, in milliseconds; it doubles with each
    /// failure in a row. Default 250.
    pub pause_ms: u64,
    /// The longest such pause, in milliseconds. Default 8,000.
    pub pause_ms_max: u64,
    /// How long an entry lives, in seconds. Default 300.
    pub entry_s: u64,
    /// How long a removed entry can't be put again, in seconds; longer than a request may take.
    /// Default 60.
    pub removed_s: u64,
    /// The largest value, in bytes; larger ones are not remembered. Default 1 MiB.
    pub value_bytes_max: usize,
    /// The part of the board that the cache reports to. Default `None`: to the log alone.
    pub part: Option<Arc<Part>>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            call_ms: 50,
            connect_ms: 1_000,
            pause_ms: 250,
            pause_ms_max: 8_000,
            entry_s: 300,
            removed_s: 60,
            value_bytes_max: 1 << 20,
            part: None,
        }
    }
}

/// A [`Cache`] in a Redis server, or in one that speaks its protocol: one primary, no cluster
/// whose keys are on several servers.
///
/// Nothing that is only here can be lost: while the server is away, slow or empty, `get` gives
/// nothing, after [`RedisOptions::call_ms`] at most for the calls that were under way and at once
/// for those that follow. How much it holds is the server's `maxmemory`; set a policy that evicts,
/// best `volatile-lru`: every entry expires, and the epoch does not.
pub struct RedisCache(Arc<Shared>);

struct Shared {
    client: Client,
    shown: String,
    options: RedisOptions,
    circuit: Circuit,
    owed: Owed,
    session: Mutex<Option<Arc<Session>>>,
    /// Whether a task connects, or makes up for removals.
    is_opening: AtomicBool,
    /// Whether a task sees to it that removals are made up for.
    is_pursuing: AtomicBool,
    /// Whether it was told that the cache is away.
    is_told: AtomicBool,
}

impl RedisCache {
    /// Opens the cache at `url`: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://`
    /// for TLS, where the server's certificate is checked against the authorities of this machine,
    /// or against those of the file that `?ca=FILE` names.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none, or the keys of the server are on
    /// several servers. A server that is away, or refuses the password, or has a certificate that
    /// is not trusted, is no failure: it is asked again, and the store is asked meanwhile.
    pub async fn open(url: &str, options: &RedisOptions) -> Result<Self, Failure> {
        let Address { client, shown } = Address::parse(url).await?;
        let shared = Shared {
            client,
            shown,
            circuit: Circuit::new(
                Duration::from_millis(options.pause_ms),
                Duration::from_millis(options.pause_ms_max),
            ),
            options: options.clone(),
            owed: Owed::default(),
            session: Mutex::new(None),
            is_opening: AtomicBool::new(false),
            is_pursuing: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
        };
        let within = Duration::from_millis(options.connect_ms);
        match Session::open(&shared.client, within).await {
            Ok(session) => *shared.session() = Some(Arc::new(session)),
            Err(trouble) if trouble.is_cluster() => return Err(shared.failure(&trouble)),
            Err(trouble) => shared.failed(&trouble),
        }
        Ok(Self(Arc::new(shared)))
    }
}

impl Shared {
    /// The session, if the server can be asked now. Otherwise what is missing is begun, and nobody
    /// waits for it.
    fn usable(self: &Arc<Self>) -> Option<Arc<Session>> {
        if self.circuit.remaining().is_some() {
            return None;
        }
        let session = self.session().clone().filter(|_| !self.owed.is_any());
        if session.is_none() && !self.is_opening.swap(true, Ordering::AcqRel) {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                // Also where the runtime ends before the task does.
                let _opening = Reset(&shared.is_opening);
                // Whoever asks next tries again.
                drop(shared.reopen().await);
            });
        }
        session
    }

    /// Connects where there is no connection, and makes up for removals.
    async fn reopen(&self) -> Result<(), Trouble> {
        let within = Duration::from_millis(self.options.connect_ms);
        let there = self.session().clone();
        let opened = match there {
            Some(session) => Ok(session),
            None => Session::open(&self.client, within).await.map(Arc::new),
        };
        let session = opened.inspect_err(|trouble| self.failed(trouble))?;
        if self.owed.is_any() {
            let debt = self.owed.debt();
            let settling = session.settle(&debt, self.options.removed_s);
            self.heard(&session, within, settling).await?;
            self.owed.settled(&debt);
        }
        *self.session() = Some(session);
        self.answered();
        Ok(())
    }

    /// Asks, for as long as one call may take.
    async fn ask<T>(
        &self,
        session: &Arc<Session>,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Option<T> {
        let within = Duration::from_millis(self.options.call_ms);
        self.heard(session, within, call).await.ok()
    }

    async fn heard<T>(
        &self,
        session: &Arc<Session>,
        within: Duration,
        call: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, Trouble> {
        let trouble = match tokio::time::timeout(within, call).await {
            Ok(Ok(answer)) => {
                self.answered();
                return Ok(answer);
            }
            Ok(Err(error)) => Trouble::Said(error),
            Err(_) => Trouble::Late,
        };
        self.failed(&trouble);
        let is_dead = match &trouble {
            Trouble::Late => self.circuit.failed() >= LATE_MAX,
            // A replica that was the primary says so, and the name may lead to another by now.
            Trouble::Said(_) => true,
        };
        let mut current = self.session();
        if is_dead && current.as_ref().is_some_and(|current| Arc::ptr_eq(current, session)) {
            *current = None;
        }
        Err(trouble)
    }

    fn answered(&self) {
        if self.circuit.succeeded() && self.is_told.swap(false, Ordering::AcqRel) {
            match &self.options.part {
                Some(part) => part.works(),
                None => tracing::info!(cache = self.shown, "the cache answers again"),
            }
        }
    }

    fn failed(&self, trouble: &Trouble) {
        self.circuit.failed();
        let is_told = self.is_told.swap(true, Ordering::AcqRel);
        match &self.options.part {
            Some(part) => part.degraded(&self.failure(trouble)),
            None if is_told => {}
            None => {
                let error = trouble.text();
                tracing::warn!(cache = self.shown, error, "the cache is away; the store is asked");
            }
        }
    }

    /// Notes that `key` could not be removed, and sees to it that it will be.
    fn owe(self: &Arc<Self>, key: &str) {
        self.owed.add(key);
        if !self.is_pursuing.swap(true, Ordering::AcqRel) {
            tokio::spawn(pursue(Arc::downgrade(self)));
        }
    }

    fn session(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self, trouble: &Trouble) -> Failure {
        let (kind, hint) = if trouble.is_cluster() {
            (
                FailureKind::Refused,
                "its keys are on several servers; give one with cluster mode off",
            )
        } else if trouble.is_password() {
            (
                FailureKind::Denied,
                "check user and password of --cache; the user needs INFO, MGET, GET, GETRANGE, \
                 SET, DEL and EVAL on inlet:*",
            )
        } else if trouble.is_certificate() {
            (
                FailureKind::Denied,
                "is it a port with TLS? rediss://HOST?ca=FILE names the authority to trust",
            )
        } else if trouble.is_refusal() {
            (FailureKind::Refused, "check --cache; the store is asked meanwhile")
        } else {
            (FailureKind::Unavailable, "the store is asked meanwhile")
        };
        Failure::new(kind, "use the cache at", self.shown.clone())
            .because(trouble.text())
            .hint(hint)
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        let session = self.0.usable()?;
        let value = self.0.ask(&session, session.get(key)).await??;
        // Unless a removal failed while this was under way.
        (!self.0.owed.is_any()).then_some(value)
    }

    async fn put(&self, key: &str, value: Bytes) {
        if value.len() > self.0.options.value_bytes_max {
            // What may be there is older.
            return self.remove(key).await;
        }
        let Some(session) = self.0.usable() else { return };
        self.0.ask(&session, session.put(key, &value, self.0.options.entry_s)).await;
    }

    async fn remove(&self, key: &str) {
        let removed = match self.0.usable() {
            Some(session) => {
                self.0.ask(&session, session.remove(key, self.0.options.removed_s)).await
            }
            None => None,
        };
        if removed.is_none() {
            self.0.owe(key);
        }
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache").field("at", &self.0.shown).finish_non_exhaustive()
    }
}

/// Makes up for removals though nobody asks, until all are, or all entries have expired.
async fn pursue(cache: Weak<Shared>) {
    while let Some(shared) = cache.upgrade() {
        let options = &shared.options;
        shared.owed.forgive_after(Duration::from_secs(options.entry_s + options.removed_s));
        if !shared.owed.is_any() {
            shared.is_pursuing.store(false, Ordering::Release);
            // One more that failed between these two lines found a task that was about to end.
            if !shared.owed.is_any() || shared.is_pursuing.swap(true, Ordering::AcqRel) {
                return;
            }
            continue;
        }
        drop(shared.usable());
        let pause = Duration::from_millis(options.pause_ms.max(1));
        let pause = shared.circuit.remaining().map_or(pause, |left| left.max(pause));
        drop(shared);
        tokio::time::sleep(pause).await;
    }
}

/// Takes a flag back when it is dropped.
struct Reset<'a>(&'a AtomicBool);

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
