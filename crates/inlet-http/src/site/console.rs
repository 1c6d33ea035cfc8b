//! `/console`: a page to look around with a token.

use http::StatusCode;

use crate::answer::{Answer, SCRIPT, asset, page as page_answer};

/// The page. What it shows, its script asks for with the token that is typed in.
pub(crate) fn page() -> Answer {
    page_answer(StatusCode::OK, include_str!("../pages/console.html"))
}

/// Its script.
pub(crate) fn script() -> Answer {
    asset(SCRIPT, include_str!("../pages/console.js"))
}
