//! The cache in Redis, shared by all instances.
//!
//! | key | value |
//! | --- | --- |
//! | `inlet:epoch` | a number; entries of another one are not there |
//! | `inlet:ID` | `v`, the epoch as 8 bytes, the bytes that were put; or `-` for what was removed |
//!
//! An entry lives [`RedisOptions::entry_s`] at most. One that was removed stays so for
//! [`RedisOptions::removed_s`]: a reader that had read the document before it was erased can't put
//! it back behind the removal. Where a removal does not get through, this process asks the cache
//! nothing more until it has raised the epoch, which no instance's older entries outlive.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::{BufMut, Bytes, BytesMut};
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::Cache;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, FromRedisValue, RedisError};

const EPOCH: &str = "inlet:epoch";
const ENTRY: &str = "inlet:";
const VALUE: u8 = b'v';
const REMOVED: &[u8] = b"-";
/// Puts unless the entry was removed a moment ago.
const PUT: &str = "if redis.call('GETRANGE', KEYS[1], 0, 0) == '-' then return 0 end \
                   redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) return 1";
/// How long the first answer may take, at the start.
const OPEN_MAX: Duration = Duration::from_secs(3);

/// How a [`RedisCache`] behaves.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// How long one call may take, in milliseconds; the store is asked instead. Default 50.
    pub call_ms: u64,
    /// For how long nothing is asked after a call failed, in milliseconds. Default 500.
    pub pause_ms: u64,
    /// How long an entry lives, in seconds. Default 3,600.
    pub entry_s: u64,
    /// How long a removed entry can't be put again, in seconds; longer than a request may take.
    /// Default 60.
    pub removed_s: u64,
    /// The largest value, in bytes; larger ones are not remembered. Default 1 MiB.
    pub value_bytes_max: usize,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self { call_ms: 50, pause_ms: 500, entry_s: 3_600, removed_s: 60, value_bytes_max: 1 << 20 }
    }
}

/// A [`Cache`] in a Redis server, or in one that speaks its protocol (6.2 or newer).
///
/// Nothing that is only here can be lost: while the server is away, slow or empty, `get` gives
/// nothing, after [`RedisOptions::call_ms`] at most for the first call and at once for those that
/// follow. How much it holds is the server's `maxmemory`; set a policy that evicts
/// (`allkeys-lru`).
pub struct RedisCache {
    connection: ConnectionManager,
    options: RedisOptions,
    shown: String,
    begun: Instant,
    /// Until when nothing is asked, in milliseconds since `begun`.
    paused_until_ms: AtomicU64,
    /// Whether a removal may not have got through.
    removal_is_owed: AtomicBool,
    epoch: AtomicU64,
}

impl RedisCache {
    /// Opens the cache at `url`: `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, or `rediss://`
    /// for TLS that is verified against this machine's authorities.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none, or the server refuses user,
    /// password or database. A server that is away is no failure.
    pub async fn open(url: &str, options: &RedisOptions) -> Result<Self, Failure> {
        let shown = shown(url);
        let refused = |error: &RedisError, hint: &'static str| {
            Failure::new(FailureKind::Refused, "open the cache at", shown.clone())
                .because(said(error))
                .hint(hint)
        };
        let client = Client::open(url).map_err(|error| {
            refused(&error, "write it as redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS")
        })?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(OPEN_MAX))
            .set_response_timeout(Some(OPEN_MAX));
        let connection =
            ConnectionManager::new_lazy_with_config(client, config).map_err(|error| {
                refused(&error, "write it as redis://:PASSWORD@HOST:6379/0, or rediss:// for TLS")
            })?;
        let cache = Self {
            connection,
            options: options.clone(),
            shown: shown.clone(),
            begun: Instant::now(),
            paused_until_ms: AtomicU64::new(0),
            removal_is_owed: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
        };
        match cache.ask::<()>(redis::cmd("PING"), OPEN_MAX).await {
            Ok(()) => {}
            Err(Some(error)) if error.kind() == ErrorKind::AuthenticationFailed => {
                return Err(refused(&error, "check user and password of --cache"));
            }
            Err(Some(error)) if !is_away(&error) => {
                return Err(refused(&error, "the server answers, and refuses; check --cache"));
            }
            Err(_) => tracing::warn!(cache = shown, "the cache is away; the store is asked"),
        }
        Ok(cache)
    }

    /// Asks the server; `None` as the error is a call that took too long.
    async fn ask<T: FromRedisValue>(
        &self,
        command: redis::Cmd,
        within: Duration,
    ) -> Result<T, Option<RedisError>> {
        let mut connection = self.connection.clone();
        match tokio::time::timeout(within, command.query_async(&mut connection)).await {
            Ok(answer) => answer.map_err(Some),
            Err(_) => Err(None),
        }
    }

    /// Asks unless it is away; after a failure nothing is asked for a while.
    async fn try_ask<T: FromRedisValue>(&self, command: redis::Cmd) -> Option<T> {
        let answer = self.ask(command, Duration::from_millis(self.options.call_ms)).await;
        if let Err(error) = &answer {
            let now_ms = self.now_ms();
            let until = now_ms.saturating_add(self.options.pause_ms);
            let before = self.paused_until_ms.swap(until, Ordering::AcqRel);
            // Said once an outage: what follows within it is not news.
            if before.saturating_add(10 * self.options.pause_ms) < now_ms || before == 0 {
                let error = error.as_ref().map_or("no answer in time".to_owned(), said);
                tracing::warn!(cache = self.shown, error, "the store is asked instead");
            }
        }
        answer.ok()
    }

    /// Whether the server can be asked now; a removal that is owed is made up for first.
    async fn is_usable(&self) -> bool {
        if self.now_ms() < self.paused_until_ms.load(Ordering::Acquire) {
            return false;
        }
        if !self.removal_is_owed.load(Ordering::Acquire) {
            return true;
        }
        // Everything of the epoch before is forgotten, and with it what could not be removed.
        self.removal_is_owed.store(false, Ordering::Release);
        let mut raise = redis::cmd("INCR");
        raise.arg(EPOCH);
        match self.try_ask::<u64>(raise).await {
            Some(epoch) => {
                self.epoch.store(epoch, Ordering::Release);
                true
            }
            None => {
                self.removal_is_owed.store(true, Ordering::Release);
                false
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn get(&self, key: &str) -> Option<Bytes> {
        if !self.is_usable().await {
            return None;
        }
        let mut command = redis::cmd("MGET");
        command.arg(EPOCH).arg(entry(key));
        let (epoch, value) = self.try_ask::<(Option<u64>, Option<Bytes>)>(command).await?;
        let epoch = epoch.unwrap_or(0);
        self.epoch.store(epoch, Ordering::Release);
        let value = value?;
        let is_current = value.len() > 8
            && value[0] == VALUE
            && value[1..9] == epoch.to_le_bytes()
            // A removal that failed while this was under way.
            && !self.removal_is_owed.load(Ordering::Acquire);
        is_current.then(|| value.slice(9..))
    }

    async fn put(&self, key: &str, value: Bytes) {
        if !self.is_usable().await {
            return;
        }
        if value.len() > self.options.value_bytes_max {
            // What was there before is older than this.
            let mut command = redis::cmd("DEL");
            command.arg(entry(key));
            self.try_ask::<()>(command).await;
            return;
        }
        let mut bytes = BytesMut::with_capacity(9 + value.len());
        bytes.put_u8(VALUE);
        bytes.put_u64_le(self.epoch.load(Ordering::Acquire));
        bytes.put_slice(&value);
        let mut command = redis::cmd("EVAL");
        command.arg(PUT).arg(1).arg(entry(key)).arg(&bytes[..]).arg(self.options.entry_s);
        self.try_ask::<()>(command).await;
    }

    async fn remove(&self, key: &str) {
        let mut command = redis::cmd("SET");
        command.arg(entry(key)).arg(REMOVED).arg("EX").arg(self.options.removed_s);
        if !self.is_usable().await || self.try_ask::<()>(command).await.is_none() {
            self.removal_is_owed.store(true, Ordering::Release);
        }
    }
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache").field("at", &self.shown).finish_non_exhaustive()
    }
}

fn entry(key: &str) -> String {
    format!("{ENTRY}{key}")
}

/// Whether the server did not answer, rather than refuse.
fn is_away(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_refusal()
        || error.is_connection_dropped()
}

/// What an error says, for operators; the server's own words hold no password.
fn said(error: &RedisError) -> String {
    match error.kind() {
        ErrorKind::AuthenticationFailed => format!("the server refused the password: {error}"),
        _ => error.to_string(),
    }
}

/// The URL without its password.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{place}"),
        _ => url.to_owned(),
    }
}
