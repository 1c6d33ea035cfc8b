//! Making one connection.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::Address;
use super::{Password, PostgresOptions};

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

/// Makes connections, each with the password of its moment.
pub(super) struct Connector {
    tls: MakeRustlsConnect,
    password: Option<Password>,
    reads_anywhere: bool,
}

impl Connector {
    pub(super) fn new(
        tls: MakeRustlsConnect,
        password: Option<Password>,
        address: &Address,
    ) -> Self {
        Self { tls, password, reads_anywhere: address.reads_anywhere }
    }
}

/// Returns true if a server that may only read may be there, after that error of a search for one
/// that may write. With several hosts the error is that of the last one alone.
fn may_be_read(config: &Config, error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let is_read_only = source.is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    is_read_only || config.get_hosts().len() > 1
}

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let mut config = config.clone();
        if let Some(password) = self.password.as_ref().and_then(Password::current) {
            config.password(password);
        }
        Box::pin(async move {
            let connected = match config.connect(self.tls.clone()).await {
                // None of them may write now. One that may only read serves what is read; what
                // writes fails there, and looks for one that may write anew.
                Err(error) if self.reads_anywhere && may_be_read(&config, &error) => {
                    config.target_session_attrs(TargetSessionAttrs::Any);
                    config.connect(self.tls.clone()).await
                }
                connected => connected,
            };
            let (client, connection) = connected?;
            let driver = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    let error = super::failure::chain(&error);
                    tracing::debug!(error, "a connection to PostgreSQL ended");
                }
            });
            Ok((client, driver))
        })
    }
}

/// The longest time that making a connection may take: each host has its time, and twice that if a
/// server that may only read will do.
pub(super) fn longest(address: &Address, options: &PostgresOptions) -> Duration {
    match u32::try_from(address.config.get_hosts().len()) {
        Ok(0 | 1) | Err(_) => options.connect(),
        Ok(hosts) => options.connect() * hosts.saturating_mul(2),
    }
}

/// The driver's settings for `address`, with the limits of `options`.
pub(super) fn config(address: &Address, options: &PostgresOptions) -> Config {
    let mut config = address.config.clone();
    config
        .connect_timeout(options.connect())
        .tcp_user_timeout(options.silence())
        .keepalives(true)
        .keepalives_idle(options.silence())
        .keepalives_interval(options.silence() / 3)
        .keepalives_retries(3);
    config
}
