//! `/healthz`, `/readyz` and `/metrics`.

use std::time::Duration;

use http::StatusCode;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::Depth;
use serde_json::json;

use crate::answer::{Answer, Handled, answer, json as json_answer};
use crate::app::App;
use crate::call::Call;
use crate::metrics::Scraped;

/// How long an engine may take to answer before it counts as away.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// The process is alive, and that is all that is asked.
pub(crate) fn alive() -> Answer {
    json_answer(StatusCode::OK, &json!({"status": "alive"}))
}

/// Whether documents are taken here.
///
/// `503` where the queue takes none. A store that is away makes the instance `degraded` and not
/// unready: the door stays open until the queue is full (G7), and to take every instance out of
/// service because the store they share is away would close it at once.
pub(crate) async fn ready(call: &Call<'_>) -> Handled {
    let queue = call.app.queue.has_room();
    let store = within(call.app.store.check()).await;
    let (status, word) = match (&queue, &store) {
        (Err(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
        (Ok(()), None | Some(Err(_))) => (StatusCode::OK, "degraded"),
        (Ok(()), Some(Ok(()))) => (StatusCode::OK, "ready"),
    };
    let body = json!({
        "status": word,
        "queue": queue.as_ref().map_or_else(state_of, |()| "ready"),
        "store": store.as_ref().map_or("slow", |store| {
            store.as_ref().map_or_else(state_of, |()| "ready")
        }),
    });
    Ok(json_answer(status, &body))
}

/// The counters.
pub(crate) async fn metrics(call: &Call<'_>) -> Handled {
    call.query()?;
    let app = call.app;
    let scraped = Scraped { depth: depth(app).await, ready: app.queue.has_room().is_ok() };
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

/// What is said of an engine that fails: its kind, and nothing of its text.
fn state_of(failure: &Failure) -> &'static str {
    match failure.kind() {
        FailureKind::Unavailable => "unavailable",
        FailureKind::Full => "full",
        FailureKind::Damaged => "damaged",
        FailureKind::Refused => "refused",
        FailureKind::Poisoned => "poisoned",
    }
}
