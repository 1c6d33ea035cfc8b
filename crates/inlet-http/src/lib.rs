//! The HTTP face of Inlet: routes, answers, pages and the console.
//!
//! It imports `inlet-core` and `inlet-server`, which takes the connections and guards them. Wire it like this:
//!
//! ```text
//! let app = Arc::new(App {
//!     intake, store, queue, bucket, cache, clock, instance,
//!     health: Health::new(clock), metrics: Arc::default(), pages: Pages::built_in(), state: AppState::default(),
//! });
//! let server = Server::new(app, ServerOptions::default());
//! let lanes = server.lanes(listener, Transport::Tls(certificates), threads)?;
//! // once on each thread, on a current-thread runtime with all drivers enabled:
//! runtime.block_on(lane.serve(shutdown.clone()));
//! ```
//!
//! Invariants:
//! - A request's token is checked before its body is read.
//! - No body lasts without a deadline; for all else `inlet-server` has one.
//! - An answer never carries the text of a failure of ours.
//!
//! Start reading at [`routes`], then `service.rs`.

mod accept_header;
mod answer;
mod api;
mod app;
mod body;
mod call;
mod damage;
mod edge;
mod erasures;
mod escape;
mod look_ahead;
mod metrics;
mod pages;
mod problem;
mod query;
mod recent;
mod request_id;
pub mod routes;
mod service;
mod site;
mod workers;

pub use app::{App, AppState, Instance};
pub use erasures::more_erasures;
pub use inlet_server::error_class;
pub use look_ahead::StoreLookAhead;
pub use metrics::{Metrics, Persisted, parts_text};
pub use pages::Pages;
