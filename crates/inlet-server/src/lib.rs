//! The HTTP server that Inlet's faces stand on: the API's and the edge's.
//!
//! It owns accept loops, caps, deadlines, TLS, and a strict check of the bytes of HTTP/1 before
//! hyper sees them. It imports no other crate of Inlet. What answers is a [`Service`]; the server
//! is compiled for each, and calls it without a box or a table in between. Use it like this:
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
//! socket → (TLS) → GuardedIo: strict framing, stalled writes → hyper → Service → answer
//!                       └ ConnectionState ┘
//!                              └ swept twice a second against the deadlines
//! ```
//!
//! One acceptor that hands sockets out was chosen over a listener a thread (`SO_REUSEPORT`):
//! those are filled by a hash, and with 64 connections on two threads one thread easily gets 40.
//!
//! Deadlines need no timer a request: a connection notes when it fell silent or was blocked, by a
//! coarse clock, and a sweeper a lane looks at all of them. Only a body that is not there with
//! its head gets a timer of its own ([`PacedBody`]).
//!
//! Invariants:
//! - A request's framing is checked before hyper sees it.
//! - No connection, head, answer or silence lasts without a deadline; a body has one where its
//!   reader sees to it ([`PacedBody`]).
//! - A connection whose answer is still being sent is busy, and is not taken for idle.
//!
//! Start reading at `server.rs`, then `service.rs`, then `lane.rs`.

mod body;
mod census;
mod connection;
mod counters;
mod credential;
mod deadline;
mod error_class;
mod guarded;
mod lane;
mod pages;
mod redirect;
mod server;
mod service;
mod shutdown;
mod state;
mod strict;
mod tls;

pub use body::{PacedBody, PacedBodyError};
pub use counters::{ConnectionCounters, Figure};
pub use credential::{TokensDiffer, token_of};
pub use deadline::Deadlines;
pub use error_class::error_class;
pub use lane::Lane;
pub use pages::{ErrorPages, PagesError, fill};
pub use redirect::https_location;
pub use server::{Server, ServerOptions, Transport};
pub use service::{AnswerBody, Answered, Service};
pub use shutdown::Shutdown;
pub use state::{Busy, ConnectionState, Refusal};
pub use tls::{TlsCertificates, TlsError};
