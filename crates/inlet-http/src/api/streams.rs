//! `GET /api/streams`.

use http::StatusCode;
use inlet_core::ports::StreamFigures;
use serde_json::{Value, json};

use crate::answer::{Handled, json as json_answer};
use crate::call::Call;

/// Lists the streams that the caller may use with their figures, in name order. There are at most
/// [`streams_max`](inlet_core::limits::Limits::streams_max) of them.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    call.query()?;
    let streams = call.app.store.streams().await?;
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
