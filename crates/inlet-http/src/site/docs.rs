//! `/openapi.json` and `/docs`.

use http::StatusCode;

use super::openapi;
use crate::answer::{Answer, JSON, answer, page as page_answer};
use crate::call::Call;

/// The description.
pub(crate) fn openapi(call: &Call<'_>) -> Answer {
    answer(StatusCode::OK, JSON, openapi::document(call.app).to_string())
}

/// The description as a page.
pub(crate) fn page(_call: &Call<'_>) -> Answer {
    page_answer(StatusCode::OK, "")
}
