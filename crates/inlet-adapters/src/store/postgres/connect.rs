//! Making one connection.

use std::future::Future;
use std::pin::Pin;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
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
}

impl Connector {
    pub(super) fn new(tls: MakeRustlsConnect, password: Option<Password>) -> Self {
        Self { tls, password }
    }
}

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let mut config = config.clone();
        if let Some(password) = self.password.as_ref().and_then(Password::current) {
            config.password(password);
        }
        Box::pin(async move {
            let (client, connection) = config.connect(self.tls.clone()).await?;
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
