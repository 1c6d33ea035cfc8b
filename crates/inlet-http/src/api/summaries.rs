//! `/api/summaries`: the weekly summaries, as they lie in the bucket.

use http::StatusCode;
use http::header::{ETAG, HeaderValue, VARY};
use inlet_core::calendar::Week;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::Object;
use inlet_core::rejection::Rejection;
use inlet_core::summary::{html_key, json_key, list_summaries};
use serde_json::{Value, json};

use crate::accept_header::prefers_html;
use crate::answer::{
    HTML, Handled, JSON, STORED_PAGE_POLICY, answer, guard_page, json as json_answer,
};
use crate::call::Call;

/// The largest summary that is given, in bytes.
const SUMMARY_BYTES_MAX: u64 = 64 << 20;

/// Lists the weeks that have a summary, newest first.
pub(crate) async fn list(call: &Call<'_>) -> Handled {
    call.query()?;
    let weeks = list_summaries(&*call.app.bucket).await?;
    let summaries: Vec<Value> = weeks
        .iter()
        .map(|week| {
            json!({
                "week": week.to_string(),
                "json": format!("/api/summaries/{week}.json"),
                "html": format!("/api/summaries/{week}.html"),
            })
        })
        .collect();
    Ok(json_answer(StatusCode::OK, &json!({"summaries": summaries})))
}

/// Gives a week's summary: as JSON or as a page by the ending of the path, else by `Accept`.
pub(crate) async fn get(call: &Call<'_>) -> Handled {
    call.query()?;
    let name = call.parameter;
    let (week, html) = match (name.strip_suffix(".html"), name.strip_suffix(".json")) {
        (Some(week), _) => (week, true),
        (_, Some(week)) => (week, false),
        _ => (name, prefers_html(&call.head.headers)),
    };
    let week: Week = week.parse()?;
    let key = if html { html_key(week) } else { json_key(week) };
    let object = call.app.bucket.get(&key, None).await?.ok_or(Rejection::NotFound)?;
    let tag = HeaderValue::from_str(&format!("\"{}\"", object.meta.sha256));
    let body = read_whole(object).await?;
    let mut answer = answer(StatusCode::OK, if html { HTML } else { JSON }, body);
    if html {
        guard_page(&mut answer, STORED_PAGE_POLICY);
    }
    if let Ok(tag) = tag {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(answer)
}

async fn read_whole(mut object: Object) -> Result<Vec<u8>, Failure> {
    if object.meta.bytes > SUMMARY_BYTES_MAX {
        return Err(Failure::new(FailureKind::Refused, "give summary", object.meta.key.as_str())
            .because(format!("it has more than {SUMMARY_BYTES_MAX} bytes")));
    }
    let mut whole = Vec::new();
    while let Some(piece) = object.body.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole)
}
