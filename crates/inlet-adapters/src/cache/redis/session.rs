//! One connection to one server process, and what is asked over it.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError,
    ServerErrorKind,
};

use super::owed::Debt;

const EPOCH: &str = "inlet:epoch:";
const ENTRY: &str = "inlet:entry:";
const VALUE: u8 = b'v';
const REMOVED: &[u8] = b"-";
/// Puts unless the entry was removed a moment ago, or the epoch is another: 2 where there is none.
/// It also keeps the epoch in use, which a server that evicts goes by.
const PUT: &str = "local epoch = redis.call('GET', KEYS[2]) \
                   if not epoch then return 2 end \
                   if epoch ~= ARGV[3] or redis.call('GETRANGE', KEYS[1], 0, 0) == '-' then \
                   return 0 end \
                   redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2]) return 1";
const NO_EPOCH: u8 = 2;

/// What entries must carry to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Epoch {
    /// These bytes.
    Is(Bytes),
    /// Nothing is there, and nothing may be put.
    Removed,
    /// Nothing is there; the next who puts begins one.
    None,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It took too long.
    Late,
    /// What the server or the driver said.
    Said(RedisError),
}

impl Trouble {
    /// For operators. The server's and the driver's own words hold no password.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Late => "no answer in time".to_owned(),
            Self::Said(error) => error.to_string(),
        }
    }

    /// Whether the password, or that none was given, is why.
    pub(super) fn is_password(&self) -> bool {
        let Self::Said(error) = self else { return false };
        error.kind() == ErrorKind::AuthenticationFailed
            || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
    }

    /// Returns true if the server took the request for one that can't be.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Said(error) = self else { return false };
        error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError)
    }

    /// Whether the server's keys are on several servers.
    pub(super) fn is_cluster(&self) -> bool {
        let Self::Said(error) = self else { return false };
        error.is_cluster_error() || error.code() == Some("CROSSSLOT")
    }

    /// Whether the server's certificate is why.
    pub(super) fn is_certificate(&self) -> bool {
        matches!(self, Self::Said(error) if is_untrusted(error))
    }

    /// Whether the server has no room, and evicts nothing.
    fn is_full(&self) -> bool {
        matches!(self, Self::Said(error) if error.code() == Some("OOM"))
    }
}

/// A connection, and the epoch that was seen last over it.
#[derive(Debug)]
pub(super) struct Session {
    connection: MultiplexedConnection,
    epoch_key: String,
    epoch: Mutex<Epoch>,
}

impl Session {
    /// Connects, within `within` in all.
    pub(super) async fn open(client: &Client, within: Duration) -> Result<Self, Trouble> {
        // The limits are our own, around each call.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(None);
        let opening = async {
            let mut connection =
                client.get_multiplexed_async_connection_with_config(&config).await?;
            let mut info = redis::cmd("INFO");
            info.arg("server");
            let told: String = info.query_async(&mut connection).await?;
            let run = told.lines().find_map(|line| line.strip_prefix("run_id:"));
            let session = Self {
                epoch_key: format!("{EPOCH}{}", run.unwrap_or("unknown").trim()),
                connection,
                epoch: Mutex::new(Epoch::None),
            };
            // A server that will not have this will have none of what follows.
            session.get("none").await?;
            Ok(session)
        };
        match tokio::time::timeout(within, opening).await {
            Ok(opened) => opened.map_err(Trouble::Said),
            Err(_) => Err(Trouble::Late),
        }
    }

    /// What is there under `key`, of this epoch.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, RedisError> {
        let mut command = redis::cmd("MGET");
        command.arg(&self.epoch_key).arg(entry(key));
        let (epoch, value): (Option<Bytes>, Option<Bytes>) = self.ask(&command).await?;
        let epoch = self.note(epoch);
        let (Epoch::Is(epoch), Some(value)) = (epoch, value) else { return Ok(None) };
        let is_current = value.first() == Some(&VALUE) && value[1..].starts_with(&epoch);
        Ok(is_current.then(|| value.slice(1 + epoch.len()..)))
    }

    /// Puts `value` for `entry_s` seconds, unless the key was removed a moment ago.
    pub(super) async fn put(
        &self,
        key: &str,
        value: &Bytes,
        entry_s: u64,
    ) -> Result<(), RedisError> {
        let known = self.epoch();
        if known == Epoch::None || self.put_in(&known, key, value, entry_s).await? == NO_EPOCH {
            let begun = self.begin_epoch().await?;
            self.put_in(&begun, key, value, entry_s).await?;
        }
        Ok(())
    }

    async fn put_in(
        &self,
        epoch: &Epoch,
        key: &str,
        value: &Bytes,
        entry_s: u64,
    ) -> Result<u8, RedisError> {
        let Epoch::Is(epoch) = epoch else { return Ok(0) };
        let mut bytes = Vec::with_capacity(1 + epoch.len() + value.len());
        bytes.push(VALUE);
        bytes.extend_from_slice(epoch);
        bytes.extend_from_slice(value);
        let mut command = redis::cmd("EVAL");
        command.arg(PUT).arg(2).arg(entry(key)).arg(&self.epoch_key);
        command.arg(bytes).arg(entry_s).arg(&epoch[..]);
        match self.ask(&command).await {
            // It may forget anything.
            Err(error) if Trouble::Said(error.clone()).is_full() => Ok(0),
            said => said,
        }
    }

    /// Removes `key`, and keeps it from being put for `removed_s` seconds.
    pub(super) async fn remove(&self, key: &str, removed_s: u64) -> Result<(), RedisError> {
        let mut command = redis::cmd("SET");
        command.arg(entry(key)).arg(REMOVED).arg("EX").arg(removed_s);
        match self.ask(&command).await {
            Err(error) if Trouble::Said(error.clone()).is_full() => {
                // Nothing can be put there either.
                self.ask(redis::cmd("DEL").arg(entry(key))).await
            }
            said => said,
        }
    }

    /// Makes up for all removals of `debt`.
    pub(super) async fn settle(&self, debt: &Debt, removed_s: u64) -> Result<(), RedisError> {
        let mut removals = Pipeline::new();
        let mut names = redis::cmd("DEL");
        for (key, _) in &debt.keys {
            removals.cmd("SET").arg(entry(key)).arg(REMOVED).arg("EX").arg(removed_s).ignore();
            names.arg(entry(key));
        }
        if debt.everything.is_some() {
            let key = &self.epoch_key;
            removals.cmd("SET").arg(key).arg(REMOVED).arg("EX").arg(removed_s).ignore();
            names.arg(key);
            *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) = Epoch::Removed;
        }
        let said = removals.query_async::<()>(&mut self.connection.clone()).await;
        match said {
            Err(error) if Trouble::Said(error.clone()).is_full() => self.ask(&names).await,
            said => said,
        }
    }

    /// Begins an epoch, unless another instance was quicker.
    async fn begin_epoch(&self) -> Result<Epoch, RedisError> {
        let mut fresh = [0; 16];
        getrandom::fill(&mut fresh).map_err(io::Error::other)?;
        let mut both = Pipeline::new();
        both.cmd("SET").arg(&self.epoch_key).arg(&fresh).arg("NX").ignore();
        both.cmd("GET").arg(&self.epoch_key);
        let (epoch,) = both.query_async(&mut self.connection.clone()).await?;
        Ok(self.note(epoch))
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        command.query_async(&mut self.connection.clone()).await
    }

    fn epoch(&self) -> Epoch {
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, seen: Option<Bytes>) -> Epoch {
        let epoch = match seen {
            None => Epoch::None,
            Some(seen) if seen == REMOVED => Epoch::Removed,
            Some(seen) => Epoch::Is(seen),
        };
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&epoch);
        epoch
    }
}

fn entry(key: &str) -> String {
    format!("{ENTRY}{key}")
}

/// Whether TLS failed for what a setting can mend: the certificate, or that the server has none.
fn is_untrusted(error: &RedisError) -> bool {
    use rustls::Error::{InvalidCertificate, InvalidMessage};
    // The driver gives its cause within an `Arc`, which hides what that is.
    let cause =
        error.source().and_then(|cause| cause.downcast_ref::<Arc<dyn Error + Send + Sync>>());
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let tls = io.and_then(io::Error::get_ref).and_then(|inner| inner.downcast_ref());
    matches!(tls, Some(InvalidCertificate(_) | InvalidMessage(_)))
}
