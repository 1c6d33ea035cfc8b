//! `/api/summaries`: the weekly summaries, as they lie in the bucket.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, VARY};
use inlet_core::calendar::Week;
use inlet_core::rejection::Rejection;
use inlet_core::summary::{html_key, json_key, list_summaries};
use serde_json::{Value, json};

use crate::accept_header::prefers_html;
use crate::answer::{
    HTML, Handled, JSON, STORED_PAGE_POLICY, guard_page, json as json_answer, object as streamed,
};
use crate::call::Call;

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
    let name = &*call.parameter;
    let (week, html) = match (name.strip_suffix(".html"), name.strip_suffix(".json")) {
        (Some(week), _) => (week, true),
        (_, Some(week)) => (week, false),
        _ => (name, prefers_html(&call.head.headers)),
    };
    let week: Week = week.parse()?;
    let key = if html { html_key(week) } else { json_key(week) };
    let object = call.app.bucket.get(&key, None).await?.ok_or(Rejection::NotFound)?;
    let tag = HeaderValue::from_str(&format!("\"{}\"", object.meta.sha256));
    let bytes = object.meta.bytes;
    let mut answer = streamed(object, bytes);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, if html { HTML } else { JSON });
    headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    if html {
        guard_page(&mut answer, STORED_PAGE_POLICY);
    }
    if let Ok(tag) = tag {
        answer.headers_mut().insert(ETAG, tag);
    }
    answer.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(answer)
}
