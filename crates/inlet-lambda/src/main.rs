//! Inlet as functions of AWS Lambda: the shell in which the core's steps run there.
//!
//! One executable, and the function's handler says which part it plays:
//!
//! | handler | event | does |
//! | --- | --- | --- |
//! | `intake` | API Gateway (REST, HTTP), a function URL, a load balancer | `POST /api/save` and `/api/save/batch`: accepts, and sends to the queue |
//! | `read` | the same | every `GET` of the API |
//! | `admin` | the same | `DELETE /api/documents/ID`, `POST /api/dead-letters/redrive`, and what writes `/api/files/KEY` |
//! | `persist` | a batch of SQS | stores, and reports those that are to be delivered again; what comes from the dead-letter queue becomes dead letters of the store |
//! | `summary` | a schedule | writes the summaries that are due |
//! | `migrate` | any | brings the database's schema to what this release needs, and makes the user that the others sign in as |
//!
//! Settings are the variables that `inlet` reads: `INLET_QUEUE`, `INLET_STORE`, `INLET_BUCKET`,
//! `INLET_CACHE`, `INLET_SECRETS` and the others in [`settings`].
//!
//! May import `inlet-core`, `inlet-adapters` and `inlet-http`.
//!
//! Invariants: before the first poll for an event nothing is asked of any service; engines are
//! opened by the first event that needs them, and only those that its part may use; a document is
//! answered with `202` only after SQS took it.
//!
//! Start reading at [`part`].

mod absent;
#[cfg(feature = "postgres")]
mod database;
#[cfg(not(feature = "postgres"))]
#[path = "database_absent.rs"]
mod database;
mod engines;
mod event;
mod migrate;
mod part;
mod persist;
mod settings;
mod summary;

use std::process::ExitCode;

use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::Value;

use crate::part::Part;
use crate::settings::Settings;

fn main() -> ExitCode {
    let outcome = Settings::from_environment().and_then(run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the function can't run");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    settings.log_lines()?;
    // Events come one at a time: one thread is all there is to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let part = Part::new(settings)?;
    let part = &part;
    runtime
        .block_on(lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| async move {
            part.answer(event.payload).await
        })))
        .map_err(|error| anyhow::anyhow!("the runtime ended: {error}"))
}
