//! The HTTP face of Inlet: routes, answers, pages, the console, and the server that guards them.
//!
//! It imports `inlet-core` only. Wire it like this:
//!
//! ```text
//! let app = Arc::new(App {
//!     intake, store, queue, bucket, cache, clock, instance,
//!     metrics: Arc::default(), pages: Pages::built_in(), figures: RecentFigures::default(),
//! });
//! let server = Server::new(app, ServerOptions::default());
//! let lanes = server.lanes(listener, Transport::Tls(certificates), threads)?;
//! // once on each thread, on a current-thread runtime with all drivers enabled:
//! runtime.block_on(lane.serve(shutdown.clone()));
//! ```
//!
//! [`Lane::serve`] returns once all that was accepted is answered, or the time for that is over.
//!
//! Invariants:
//! - A request is checked for its framing before hyper sees it, and for its token before its body
//!   is read.
//! - No connection, head, body, answer or silence lasts without a deadline.
//! - An answer never carries the text of a failure of ours.
//!
//! Start reading at [`routes`], then `service.rs`, then `server.rs`.

mod accept_header;
mod answer;
mod api;
mod app;
mod body;
mod call;
mod escape;
mod metrics;
mod pages;
mod problem;
mod query;
mod request_id;
pub mod routes;
mod server;
mod service;
mod site;

pub use app::{App, Instance};
pub use metrics::{Metrics, Persisted};
pub use pages::{Pages, PagesError};
pub use server::{
    Deadlines, Lane, Server, ServerOptions, Shutdown, TlsCertificates, TlsError, Transport,
};
pub use site::landing::RecentFigures;
