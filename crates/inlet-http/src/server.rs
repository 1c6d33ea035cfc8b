//! The server: its own accept loops, deadlines and caps around hyper's protocol.
//!
//! ```text
//! lane 0 accepts ─┬─ serves its share          one current-thread runtime a lane
//!                 ├─ hands sockets to lane 1 ─ serves
//!                 └─ …                         each to the lane with the fewest
//!
//! socket → (TLS) → GuardedIo: strict framing, stalled writes → hyper → service → answer
//!                       └ ConnectionState ┘
//!                              └ swept twice a second against the deadlines
//! ```
//!
//! One acceptor that hands sockets out was chosen over a listener a thread (`SO_REUSEPORT`):
//! those are filled by a hash, and with 64 connections on two threads one thread easily gets 40.
//!
//! Deadlines need no timer a request: a connection notes when it fell silent or was blocked, by a
//! coarse clock, and a sweeper a lane looks at all of them. Only a body that is not there with
//! its head gets a timer of its own.

mod census;
mod connection;
mod deadline;
mod guarded;
mod lane;
mod shutdown;
mod state;
mod strict;
mod tls;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

pub use self::deadline::Deadlines;
pub use self::lane::Lane;
pub use self::shutdown::Shutdown;
pub(crate) use self::state::{Busy, ConnectionState, Face};
pub use self::tls::{TlsCertificates, TlsError};

use self::census::Census;
use crate::app::App;

/// The limits of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// The most connections in all, over all listeners of the server. Default 20,000.
    pub connections_max: usize,
    /// The most connections of one address. Loopback addresses are not counted: a proxy on the
    /// same machine stands for many clients. Default 2,000.
    pub connections_per_address_max: usize,
    /// When what is late is closed.
    pub deadlines: Deadlines,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_address_max: 2_000,
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
    /// The whole API in plain text, HTTP/1.1 or HTTP/2 with prior knowledge: for behind a proxy
    /// that ends TLS.
    Plain,
    /// Plain text that only redirects to HTTPS (`308`, host from the `Host` header, path and
    /// query kept), and answers `/healthz` and `/readyz`.
    Redirect {
        /// The port of HTTPS.
        https_port: u16,
    },
}

/// Serves an [`App`] on any number of listeners, with one set of caps over all of them.
#[derive(Clone)]
pub struct Server {
    app: Arc<App>,
    options: Arc<ServerOptions>,
    census: Arc<Census>,
}

impl Server {
    /// A server of `app` within these limits.
    pub fn new(app: Arc<App>, options: ServerOptions) -> Self {
        let census =
            Arc::new(Census::new(options.connections_max, options.connections_per_address_max));
        Self { app, options: Arc::new(options), census }
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
    ) -> io::Result<Vec<Lane>> {
        listener.set_nonblocking(true)?;
        Ok(Lane::new(self, listener, &transport, count.max(1)))
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
}
