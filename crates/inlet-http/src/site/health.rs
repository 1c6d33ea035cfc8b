//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use inlet_core::health::{PartHealth, State};
use inlet_core::ports::Depth;
use serde_json::{Value, json};

use crate::answer::{Answer, Handled, answer, json as json_answer};
use crate::app::App;
use crate::call::Call;
use crate::damage::STORE_READS;
use crate::metrics::Scraped;
use crate::problem::RETRY_AFTER_UNAVAILABLE_S;
use crate::recent::FIGURE_WAIT_MAX;

/// The longest readiness waits for the store: those who ask for it ask often, and a store that
/// hangs must not make an instance look dead.
const READY_WAIT_MAX: Duration = Duration::from_millis(50);
/// The part of the health board that stands for the store's connection, where it has one.
const STORE: &str = "store";

/// The process is alive, and that is all that is asked.
pub(crate) fn alive() -> Answer {
    json_answer(StatusCode::OK, &json!({"status": "alive"}))
}

/// Readiness: `200` where documents are accepted, `503` where they are not, with the state of
/// each part of the process.
///
/// A store that is away makes the instance `degraded` and not unready: the door stays open until
/// the queue is full (G7), and taking every instance out of service because the store they share
/// is away would close it at once.
pub(crate) async fn ready(call: &Call<'_>) -> Handled {
    let app = call.app;
    let queue = app.queue.has_room().map_err(|failure| failure.kind().word());
    let parts = app.health.parts();
    let store = store(app, &parts).await;
    let own = match (queue, store) {
        (Err(_), _) => State::Unready,
        (Ok(()), Err(_)) => State::Degraded,
        (Ok(()), Ok(())) => State::Ready,
    };
    let state = own.max(app.health.state());
    let word = |part: Result<(), &'static str>| part.err().unwrap_or(State::Ready.word());
    let body = json!({
        "status": state.word(),
        "queue": word(queue),
        "store": word(store),
        "parts": parts.iter().map(part).collect::<Vec<Value>>(),
    });
    if state != State::Unready {
        return Ok(json_answer(StatusCode::OK, &body));
    }
    let mut answer = json_answer(StatusCode::SERVICE_UNAVAILABLE, &body);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_UNAVAILABLE_S));
    Ok(answer)
}

/// Checks that the store answers; a word for the cause if it does not. What the board knows goes
/// first, as a read that found damage knows better than the check, which is a cheap one. A store
/// that does not answer at once is as its part of the board says.
async fn store(app: &App, parts: &[PartHealth]) -> Result<(), &'static str> {
    let connection = parts.iter().find(|part| part.name == STORE);
    let reads = parts.iter().find(|part| part.name == STORE_READS);
    if let Some(cause) = reads.into_iter().chain(connection).find_map(|part| part.cause) {
        return Err(cause);
    }
    let store = Arc::clone(&app.store);
    let check = async move { store.check().await.map_err(|failure| failure.kind().word()) };
    let checked = app.state.recent.check.get(Duration::ZERO, READY_WAIT_MAX, check).await;
    checked.unwrap_or(if connection.is_some() { Ok(()) } else { Err("slow") })
}

/// A part of the process as clients may see it: nothing of an engine's text.
fn part(part: &PartHealth) -> Value {
    let mut shown = json!({
        "name": part.name,
        "state": part.state.word(),
        "since": part.since.to_string(),
    });
    if let Some(cause) = part.cause {
        shown["cause"] = json!(cause);
    }
    if let Some(at) = part.last_success {
        shown["lastSuccess"] = json!(at.to_string());
    }
    shown
}

/// The counters.
pub(crate) async fn metrics(call: &Call<'_>) -> Handled {
    call.query()?;
    let app = call.app;
    let ready = app.queue.has_room().is_ok() && app.health.state() != State::Unready;
    let (parts, restarts) = (app.health.parts(), app.health.restarts());
    let (depth, bodies) = (depth(app, Duration::ZERO).await, Some(app.intake.budget().clone()));
    let lag = depth.and_then(|depth| depth.oldest.age(app.clock.now()));
    let scraped = Scraped { depth, lag, ready, bodies, parts, restarts };
    let text = app.metrics.text(&app.instance, &scraped);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(answer(StatusCode::OK, HeaderValue::from_static(content_type), text))
}

/// The amount waiting in the queue, as of a moment at most `age_max` ago, if it tells in time.
pub(super) async fn depth(app: &App, age_max: Duration) -> Option<Depth> {
    let queue = Arc::clone(&app.queue);
    let depth = async move { queue.depth().await.ok() };
    app.state.recent.depth.get(age_max, FIGURE_WAIT_MAX, depth).await.flatten()
}
