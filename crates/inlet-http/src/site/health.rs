//! `/healthz`, `/readyz` and `/metrics`.

use std::time::Duration;

use http::StatusCode;
use inlet_core::health::{PartHealth, State};
use inlet_core::ports::Depth;
use serde_json::{Value, json};

use crate::answer::{Answer, Handled, answer, json as json_answer};
use crate::app::App;
use crate::call::Call;
use crate::metrics::Scraped;

/// The longest readiness waits for the store: those who ask for it ask often, and a store that
/// hangs must not make an instance look dead.
const READY_TIMEOUT: Duration = Duration::from_millis(50);
/// How long an engine may take to give a figure.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

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
    let queue = app.queue.has_room();
    let store = store(app).await;
    let own = match (&queue, store) {
        (Err(_), _) => State::Unready,
        (Ok(()), "ready") => State::Ready,
        (Ok(()), _) => State::Degraded,
    };
    let state = own.max(app.health.state());
    let status = match state {
        State::Ready | State::Degraded => StatusCode::OK,
        State::Unready => StatusCode::SERVICE_UNAVAILABLE,
    };
    let parts: Vec<Value> = app.health.parts().iter().map(part).collect();
    let body = json!({
        "status": state.word(),
        "queue": queue.as_ref().map_or_else(|failure| failure.kind().word(), |()| "ready"),
        "store": store,
        "parts": parts,
    });
    Ok(json_answer(status, &body))
}

/// The word for the store. One that does not answer at once is as its part of the board says,
/// which is told when it has not answered for longer.
async fn store(app: &App) -> &'static str {
    match tokio::time::timeout(READY_TIMEOUT, app.store.check()).await {
        Ok(Ok(())) => "ready",
        Ok(Err(failure)) => failure.kind().word(),
        Err(_) => {
            let part = app.health.parts().into_iter().find(|part| part.name == "store");
            part.map_or("slow", |part| part.cause.unwrap_or("ready"))
        }
    }
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
    shown
}

/// The counters.
pub(crate) async fn metrics(call: &Call<'_>) -> Handled {
    call.query()?;
    let app = call.app;
    let ready = app.queue.has_room().is_ok() && app.health.state() != State::Unready;
    let (parts, restarts) = (app.health.parts(), app.health.restarts());
    let (depth, bodies) = (depth(app).await, Some(app.intake.budget().clone()));
    let scraped = Scraped { depth, ready, bodies, parts, restarts };
    let text = app.metrics.text(&app.instance, &scraped);
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(answer(StatusCode::OK, http::HeaderValue::from_static(content_type), text))
}

/// How much waits in the queue, if it tells in time.
pub(super) async fn depth(app: &App) -> Option<Depth> {
    within(app.queue.depth()).await.and_then(Result::ok)
}

/// What `asked` comes to, unless it takes too long.
pub(super) async fn within<T>(asked: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(CHECK_TIMEOUT, asked).await.ok()
}
