//! `GET /api/streams`.

use std::sync::Arc;

use http::StatusCode;
use inlet_core::ports::{Store, StreamFigures};
use serde_json::{Value, json};

use crate::answer::{Handled, json as json_answer};
use crate::call::Call;

/// Lists the streams that the caller may use with their figures, in name order. There are at most
/// [`streams_total_max`](inlet_core::limits::Limits::streams_total_max) of them.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    call.query()?;
    let read = |store: Arc<dyn Store>| async move { store.streams().await };
    let streams = call.app.read(read).await?;
    let used = streams.iter().filter(|figures| call.caller().may_use(&figures.stream));
    let streams: Vec<Value> = used.map(stream).collect();
    Ok(json_answer(StatusCode::OK, &json!({"streams": streams})))
}

fn stream(figures: &StreamFigures) -> Value {
    json!({
        "stream": figures.stream.as_str(),
        "documents": figures.documents,
        "bytes": figures.bytes,
        "first": figures.first.map(|moment| moment.to_string()),
        "last": figures.last.map(|moment| moment.to_string()),
    })
}
