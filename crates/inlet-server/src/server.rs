//! A server: its limits, its listeners, and the lanes that serve them.

use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::census::Census;
use crate::client::Client;
use crate::connection::{self, Opened};
use crate::deadline::Deadlines;
use crate::lane::Lane;
use crate::member::LaneState;
use crate::peer::Peer;
use crate::service::Service;
use crate::shutdown::Shutdown;
use crate::tls::TlsCertificates;

/// The limits of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The most connections in all, over all listeners of the server. Default 20,000.
    pub connections_max: usize,
    /// The most connections of one address. Loopback addresses are not counted: a proxy on the
    /// same machine stands for many clients. Default 2,000.
    pub connections_per_address_max: usize,
    /// The largest head of a request, in bytes. Default 32 KiB.
    pub head_bytes_max: usize,
    /// The most header lines in a request. Default 100.
    pub head_lines_max: usize,
    /// Time limits.
    pub deadlines: Deadlines,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_address_max: 2_000,
            head_bytes_max: 32 << 10,
            head_lines_max: 100,
            deadlines: Deadlines::default(),
        }
    }
}

/// File descriptors that are left for everything but connections.
const SPARE_FILES: u64 = 256;

impl ServerOptions {
    /// Lowers the cap on connections to what the process may open, less 256 for other files (or
    /// less half, where that is not more than 512 in all).
    #[must_use]
    pub fn within_file_limit(mut self) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if let Some(files) = limit {
            let room = files.saturating_sub(SPARE_FILES).max(files / 2);
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            self.connections_max = self.connections_max.min(room);
        }
        self
    }
}

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub enum Transport {
    /// HTTPS: HTTP/2 and HTTP/1.1, as the client chooses by ALPN.
    Tls(TlsCertificates),
    /// Everything in plain text, HTTP/1.1 or HTTP/2 with prior knowledge: for behind a proxy
    /// that ends TLS.
    Plain,
    /// Plain text of which the service is told, by [`Peer::redirects_to`](crate::Peer), that it is
    /// only to redirect to HTTPS.
    Redirect {
        /// The port of HTTPS.
        https_port: u16,
    },
}

/// Serves a [`Service`] on any number of listeners, with one set of caps over all of them.
pub struct Server<S> {
    pub(crate) service: Arc<S>,
    pub(crate) options: Arc<ServerOptions>,
    pub(crate) census: Arc<Census>,
}

impl<S> Clone for Server<S> {
    fn clone(&self) -> Self {
        Self {
            service: Arc::clone(&self.service),
            options: Arc::clone(&self.options),
            census: Arc::clone(&self.census),
        }
    }
}

impl<S: Service> Server<S> {
    /// A server of `service` within these limits.
    pub fn new(service: Arc<S>, options: ServerOptions) -> Self {
        let census =
            Arc::new(Census::new(options.connections_max, options.connections_per_address_max));
        Self { service, options: Arc::new(options), census }
    }

    /// Spreads the connections of `listener`, which is bound and listens, over `count` lanes (at
    /// least 1). Each lane is served once, on a thread of its own; the first one accepts.
    ///
    /// # Errors
    /// Where the listener can't be made non-blocking.
    pub fn lanes(
        &self,
        listener: TcpListener,
        transport: Transport,
        count: usize,
    ) -> io::Result<Vec<Lane<S>>> {
        self.lanes_behind(Vec::new(), listener, transport, count)
    }

    /// The same for a listener behind `proxies`: a connection from one of these networks begins
    /// with a header of the PROXY protocol, version 1 or 2, and is that of the client which the
    /// header names. One without such a header is closed. From elsewhere no header is taken.
    ///
    /// # Errors
    /// As [`Server::lanes`].
    pub fn lanes_behind(
        &self,
        proxies: Vec<IpNet>,
        listener: TcpListener,
        transport: Transport,
        count: usize,
    ) -> io::Result<Vec<Lane<S>>> {
        listener.set_nonblocking(true)?;
        Ok(Lane::new(self, listener, &transport, &proxies.into(), count.max(1)))
    }

    /// Serves all connections of `listener` on the present runtime, until `shutdown` has begun
    /// and all that was accepted is answered.
    ///
    /// # Errors
    /// Where the listener can't be used by the runtime.
    pub async fn serve(
        &self,
        listener: TcpListener,
        transport: Transport,
        shutdown: Shutdown,
    ) -> io::Result<()> {
        for lane in self.lanes(listener, transport, 1)? {
            lane.serve(shutdown.clone()).await?;
        }
        Ok(())
    }

    /// Serves one connection in plain text that was accepted elsewhere, until its end, or until
    /// `shutdown` has begun and what it has asked is answered. No cap counts it.
    pub async fn serve_stream(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: IpAddr,
        shutdown: Shutdown,
    ) {
        let lane = Arc::new(LaneState::new(Arc::clone(&self.options)));
        let peer = Peer { address, is_secure: false, redirects_to: None };
        let service = Arc::clone(&self.service);
        let opened = Opened { stream: Client::new(stream), peer, member: lane.join() };
        let mut serving = pin!(connection::serve_plain(opened, service));
        tokio::select! {
            () = &mut serving => return,
            () = shutdown.begun() => lane.drain(),
        }
        if tokio::time::timeout(lane.deadlines().drain, &mut serving).await.is_err() {
            lane.close();
            serving.await;
        }
    }
}
