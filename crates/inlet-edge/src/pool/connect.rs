//! Making a connection to a backend, and sending a request on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::outgoing::Outgoing;
use super::wire::{Stream, Wire, Written};
use crate::options::{BackendTls, ConnectionOptions};

/// Why TLS to a backend can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum BackendTlsError {
    /// A certificate is none.
    #[error("a root certificate for the backend `{backend}` is not valid")]
    Root {
        /// The backend's id.
        backend: String,
        /// Why.
        source: rustls::Error,
    },
    /// The name is neither a host name nor an address.
    #[error("`{server_name}` of the backend `{backend}` is no host name and no address")]
    ServerName {
        /// The backend's id.
        backend: String,
        /// What was given.
        server_name: String,
    },
    /// The library refuses the settings.
    #[error("TLS to the backend `{backend}` could not be set up")]
    Settings {
        /// The backend's id.
        backend: String,
        /// Why.
        source: rustls::Error,
    },
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    #[error("the connection failed")]
    Io(#[from] io::Error),
    #[error("HTTP could not begin")]
    Http(#[from] hyper::Error),
}

/// Makes connections to one backend.
pub(crate) struct Connector {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
    head_bytes_max: usize,
}

/// A connection to a backend, on which one request at a time is sent.
pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    written: Written,
    is_reused: bool,
}

impl Connector {
    pub(crate) fn new(
        backend: &str,
        address: SocketAddr,
        tls: Option<&BackendTls>,
        options: &ConnectionOptions,
    ) -> Result<Self, BackendTlsError> {
        Ok(Self {
            address,
            tls: tls.map(|tls| connector(backend, tls)).transpose()?,
            timeout: Duration::from_millis(options.connect_ms),
            head_bytes_max: options.head_bytes_max,
        })
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Connection, ConnectError> {
        match tokio::time::timeout(self.timeout, self.connect_untimed()).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Timeout(self.timeout)),
        }
    }

    async fn connect_untimed(&self) -> Result<Connection, ConnectError> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some((connector, name)) => {
                Stream::Tls(Box::new(connector.connect(name.clone(), stream).await?))
            }
        };
        let written = Written::default();
        let wire = Wire { stream, written: written.clone() };
        let (sender, driver) = http1::Builder::new()
            .max_header_size(self.head_bytes_max)
            .handshake(TokioIo::new(wire))
            .await?;
        tokio::spawn(async move {
            // Whoever waits for an answer on this connection is told of the error too.
            if let Err(error) = driver.await {
                tracing::trace!(%error, "a connection to a backend broke");
            }
        });
        Ok(Connection { sender, written, is_reused: false })
    }
}

impl Connection {
    /// Sends a request. When nothing of it was written, the error gives it back if it can.
    pub(crate) fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>> + use<>
    {
        self.sender.try_send_request(request)
    }

    /// How many bytes were written on it so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.get()
    }

    /// Whether it has carried a request before.
    pub(crate) fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    pub(crate) fn reused(self) -> Self {
        Self { is_reused: true, ..self }
    }
}

fn connector(
    backend: &str,
    tls: &BackendTls,
) -> Result<(TlsConnector, ServerName<'static>), BackendTlsError> {
    let backend = backend.to_owned();
    let mut roots = rustls::RootCertStore::empty();
    for root in &tls.roots {
        if let Err(source) = roots.add(root.clone()) {
            return Err(BackendTlsError::Root { backend, source });
        }
    }
    let Ok(name) = ServerName::try_from(tls.server_name.clone()) else {
        return Err(BackendTlsError::ServerName { backend, server_name: tls.server_name.clone() });
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| BackendTlsError::Settings { backend, source })?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}
