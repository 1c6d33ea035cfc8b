//! The connections: how many, how they are checked, and when none is tried.

use std::ops::Deref;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, Pool, PoolError};
use deadpool_postgres::{RecyclingMethod, Runtime, TimeoutType};
use inlet_core::failure::{Failure, FailureKind};
use tokio::time::{Instant, timeout};
use tokio_postgres::Client;

use super::PostgresOptions;
use super::address::Address;
use super::connect::{self, Connector};
use super::failure::{self, Fault, Remedy};
use super::tls;

/// How long nobody tries to connect after the first failure; twice as long after each further
/// one.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A connection that was idle for this long is asked whether it still answers.
const IDLE_UNCHECKED_MAX: Duration = Duration::from_secs(5);
/// How long undoing a transaction may take before its connection is given up instead.
const ROLLBACK_MAX: Duration = Duration::from_secs(1);

/// The connections to one database.
pub(super) struct Sessions {
    pool: Pool,
    shown: String,
    transaction: Duration,
    closed: Mutex<Option<Closed>>,
}

/// Why nobody tries to connect now, and until when.
struct Closed {
    until: Instant,
    pause: Duration,
    kind: FailureKind,
    reason: String,
    hint: Option<String>,
}

impl Sessions {
    /// Reads the certificates the URL names; connects only when a session is asked for.
    pub(super) async fn open(
        address: &Address,
        options: &PostgresOptions,
    ) -> Result<Self, Failure> {
        let with_certificates = address.clone();
        let tls = tokio::task::spawn_blocking(move || tls::connector(&with_certificates))
            .await
            .map_err(|error| {
            failure::away("read the certificates for", &address.shown, error.to_string())
        })??;
        let connector = Connector::new(tls, options.password.clone(), address);
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let config = connect::config(address, options);
        let manager = Manager::from_connect(config, connector, recycling);
        let lifetime = options.lifetime();
        let pool = Pool::builder(manager)
            .max_size(options.connections_max.max(1))
            .wait_timeout(Some(options.wait()))
            .create_timeout(Some(connect::longest(address, options)))
            .recycle_timeout(Some(ROLLBACK_MAX))
            .pre_recycle(Hook::async_fn(move |client, metrics| {
                Box::pin(async move {
                    if metrics.age() > lifetime {
                        return Err(HookError::message("it is as old as it may get"));
                    }
                    if metrics.last_used() > IDLE_UNCHECKED_MAX {
                        client.simple_query("").await.map_err(HookError::Backend)?;
                    }
                    Ok(())
                })
            }))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given for the time-outs");
        Ok(Self {
            pool,
            shown: address.shown.clone(),
            transaction: options.transaction(),
            closed: Mutex::new(None),
        })
    }

    /// The URL without the password.
    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    /// A connection, a new one where there is none to be had and fewer than there may be.
    pub(super) async fn session(&self, attempted: &'static str) -> Result<Session, Failure> {
        if self.pool.status().available == 0 {
            self.is_worth_trying(attempted)?;
        }
        let failure = match self.pool.get().await {
            Ok(object) => {
                *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Ok(Session { object: Some(object), clean: true });
            }
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                let size = self.pool.status().max_size;
                let reason = format!("all {size} connections were busy for too long");
                return Err(failure::away(attempted, &self.shown, reason)
                    .hint("raise the number of connections, or look for what is slow there"));
            }
            Err(PoolError::Backend(error)) => failure::connect_failure(error, &self.shown),
            Err(error) => {
                let reason = match error {
                    PoolError::Timeout(_) => "it did not answer in time".to_owned(),
                    error => error.to_string(),
                };
                failure::away("connect to", &self.shown, reason)
                    .hint("check that the server runs there and can be reached")
            }
        };
        self.pause(&failure);
        Err(failure)
    }

    /// Ends the use of a session that had a transaction: it can be used again where the work was
    /// done, or could be undone. `Ok(None)` where the work is to be done again at once.
    pub(super) async fn settle<T>(
        &self,
        mut session: Session,
        attempted: &'static str,
        result: Result<Result<T, Fault>, tokio::time::error::Elapsed>,
    ) -> Result<Option<T>, Failure> {
        let fault = match result {
            Ok(Ok(value)) => {
                session.clean = true;
                return Ok(Some(value));
            }
            Ok(Err(fault)) => fault,
            Err(_) => {
                drop(session);
                let reason = format!("no answer within {} ms", self.transaction.as_millis());
                return Err(failure::away(attempted, &self.shown, reason));
            }
        };
        let remedy = failure::remedy(&fault);
        match remedy {
            Remedy::None | Remedy::Again => {
                let undone = timeout(ROLLBACK_MAX, session.batch_execute("ROLLBACK")).await;
                session.clean = matches!(undone, Ok(Ok(())));
            }
            Remedy::Reconnect => drop(session),
            Remedy::ReconnectAll => {
                drop(session);
                drop(self.pool.retain(|_, _| false));
            }
        }
        if remedy == Remedy::Again {
            return Ok(None);
        }
        Err(failure::failure(fault, attempted, &self.shown))
    }

    /// How long a transaction may take on our side.
    pub(super) fn transaction_max(&self) -> Duration {
        self.transaction
    }

    fn is_worth_trying(&self, attempted: &'static str) -> Result<(), Failure> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(closed) = &*closed else { return Ok(()) };
        let left = closed.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // Of the same kind as the attempt itself, so that one cause stays one cause.
        let failure = Failure::new(closed.kind, attempted, &*self.shown)
            .because(format!("the last attempt to connect failed: {}", closed.reason));
        Err(match &closed.hint {
            Some(hint) => failure.hint(hint.clone()),
            None => failure.hint(format!("it is tried again in {} ms", left.as_millis())),
        })
    }

    fn pause(&self, failure: &Failure) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let pause = match &*closed {
            // Those that tried at the same time count as one.
            Some(before) if before.until > now => return,
            Some(before) => (before.pause * 2).min(PAUSE_MAX),
            None => PAUSE_MIN,
        };
        let reason = failure::chain(failure);
        let hint = failure.hint_text().map(str::to_owned);
        *closed = Some(Closed { until: now + pause, pause, kind: failure.kind(), reason, hint });
    }
}

/// A connection in use. Dropped in the middle of a transaction it is closed, which undoes the
/// transaction; otherwise it goes back to the others.
pub(super) struct Session {
    object: Option<Object>,
    clean: bool,
}

impl Session {
    /// From here on it is in a transaction.
    pub(super) fn begin(&mut self) {
        self.clean = false;
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.object.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(object) = self.object.take()
            && !self.clean
        {
            drop(Object::take(object));
        }
    }
}
