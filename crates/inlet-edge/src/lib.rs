//! The reverse proxy before the instances of Inlet.
//!
//! It owns everything between a request that a server has taken from a client and the answer it
//! gets back: what is let through, how much, to which instance, and what happens when that one
//! fails. Of Inlet's other crates it imports `inlet-server` only, which listens, ends TLS and keeps
//! deadlines for clients, and calls [`EdgeService`] for each request. Wire it like this:
//!
//! ```text
//! let edge = Edge::new(EdgeOptions { backends, routes, lanes: threads, ..Default::default() })?;
//! // on one of the runtimes, once:
//! tokio::spawn({ let edge = edge.clone(); async move { edge.run().await } });
//! let service = Arc::new(EdgeService::new(edge, more_figures, token));
//! let server = Server::new(service, ServerOptions::default());
//! ```
//!
//! Invariants:
//! - Nothing is sent to an instance a second time that could be done twice ([`retry`](crate#retries)).
//! - No body is held in memory beyond what may be sent again (64 KiB); larger ones are streamed,
//!   both ways, as fast as the slower side takes them.
//! - Nothing grows with the number of clients: tables are of fixed size, queues are bounded.
//! - What a client says of where it comes from is not believed.
//!
//! # Retries
//!
//! A request goes to another instance when the first could not be reached, or not one byte was
//! written. When bytes were written and no answer came, only idempotent methods do, and requests
//! with an `Idempotency-Key` on a route that is marked for it. A `POST` without a key is answered
//! `502`, unless the edge mints the document's id ([`EdgeOptions::document_ids`], before instances
//! of its own) or a key ([`RetryOptions::mints_keys`]). Retries are held to a fifth of all
//! requests.
//!
//! Start reading at `service.rs`, then [`Edge::call`] and `forward.rs`, then [`health`] and
//! [`balance`](crate).

mod access;
mod backend;
mod balance;
mod body;
mod clock;
mod edge;
mod files;
pub mod firewall;
mod fleet;
mod forward;
mod headers;
pub mod health;
pub mod limits;
mod options;
mod padded;
mod pages;
mod path;
mod pool;
mod problem;
mod retry;
mod service;

pub use access::AccessLog;
pub use backend::BackendTlsError;
pub use body::{BoxError, EdgeBody, EdgeBodyError};
pub use edge::{BackendStatus, Edge, EdgeError};
pub use files::FilesError;
pub use headers::Peer;
pub use options::{
    BackendOptions, BackendTls, BalanceOptions, ConnectionOptions, DocumentIds, EdgeOptions,
    FilesOptions, HealthOptions, RetryOptions,
};
pub use service::{EdgeService, MoreFigures};
