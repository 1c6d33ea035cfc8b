//! The HTTP server that Inlet's front doors stand on: the API's and the edge's.
//!
//! It owns accept loops, caps, deadlines, TLS and HTTP/1; HTTP/2 is hyper's. It imports no other
//! crate of Inlet. Requests are answered by a [`Service`]: the server is generic over it, without
//! boxes or tables in between.
//!
//! ```text
//! let server = Server::new(Arc::new(service), ServerOptions::default());
//! let lanes = server.lanes(listener, Transport::Tls(certificates), threads)?;
//! // once on each thread, on a current-thread runtime with all drivers enabled:
//! runtime.block_on(lane.serve(shutdown.clone()));
//! ```
//!
//! [`Lane::serve`] returns once all that was accepted is answered, or the time for that is over.
//!
//! ```text
//! lane 0 accepts ─┬─ serves its share          one current-thread runtime a lane
//!                 ├─ hands sockets to lane 1 ─ serves
//!                 └─ …                         each to the lane with the fewest
//!
//! socket → (TLS) → http1: one buffer in, one out ─┬→ Service → answer
//!               └→ http2: hyper ──────────────────┘
//! ```
//!
//! One acceptor that hands sockets out was chosen over a listener a thread (`SO_REUSEPORT`):
//! those are filled by a hash, and with 64 connections on two threads one thread easily gets 40.
//!
//! A connection keeps its deadlines itself, with one timer that is not set for each request: it
//! goes off early, looks, and is set anew.
//!
//! Invariants:
//! - A request whose framing two servers could read in two ways is refused, and nothing after it is
//!   read as a request. The odd cases stand in a table in `http1.rs`.
//! - No connection, head, body, answer or silence lasts without a deadline.
//! - A connection whose answer is still being sent is not taken for idle.
//!
//! Start reading at `server.rs`, then `service.rs`, `lane.rs`, `connection.rs` and `http1.rs`.

mod body;
mod census;
mod client;
mod clock;
mod connection;
mod counters;
mod credential;
mod deadline;
mod error_class;
mod http1;
mod http2;
mod lane;
mod lines;
mod member;
mod pages;
mod peer;
mod pipe;
mod proxy;
mod redirect;
mod send_queue;
mod server;
mod service;
mod shutdown;
mod tls;

pub use body::{Body, BodyError};
pub use counters::{ConnectionCounters, Figure};
pub use credential::{TokensDiffer, token_of};
pub use deadline::Deadlines;
pub use error_class::{EDGE_CODES, error_class};
pub use lane::Lane;
pub use lines::{LOG_LINES_DROPPED, LineWriter, Lines, Loss};
pub use pages::{ErrorPages, PagesError, fill};
pub use peer::{Peer, Refusal};
pub use redirect::https_location;
pub use server::{Server, ServerOptions, Transport};
pub use service::Service;
pub use shutdown::Shutdown;
pub use tls::{TlsCertificates, TlsError};
