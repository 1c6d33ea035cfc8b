//! Error pages for browsers: from a folder, and one that is built in.
//!
//! They are read when the edge starts or is told to reload, so that they are there when no
//! instance and no disk is.

use std::path::Path;

use http::HeaderValue;
use inlet_server::{ErrorPages, PagesError, fill};

use crate::problem::Problem;

const BUILT_IN: &str = include_str!("pages/error.html");

/// The pages of errors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    replaced: ErrorPages,
}

impl Pages {
    /// The pages in `folder`, and the one built in for what is not there.
    ///
    /// `{{status}}`, `{{title}}`, `{{detail}}` and `{{request_id}}` are replaced.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, PagesError> {
        Ok(Self { replaced: ErrorPages::from_folder(folder)? })
    }

    /// The page for `problem`.
    pub(crate) fn page(&self, problem: &Problem, request_id: &str) -> String {
        let values = [
            ("status", problem.status.as_str()),
            ("title", &escaped(problem.title)),
            ("detail", &escaped(&problem.detail)),
            ("request_id", &escaped(request_id)),
        ];
        fill(self.replaced.template(problem.status).unwrap_or(BUILT_IN), &values)
    }
}

/// Whether a client names HTML and does not like JSON better. A wildcard names nothing: tools that
/// send `*/*` get JSON.
pub(crate) fn prefers_html(accept: Option<&HeaderValue>) -> bool {
    let mut html = 0.0f32;
    let mut json = 0.0f32;
    if let Some(value) = accept.and_then(|value| value.to_str().ok()) {
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
            let weight: f32 = weight.unwrap_or(1.0);
            if kind.eq_ignore_ascii_case("text/html") {
                html = html.max(weight);
            } else if kind.eq_ignore_ascii_case("application/json")
                || kind.eq_ignore_ascii_case("application/problem+json")
            {
                json = json.max(weight);
            }
        }
    }
    html > 0.0 && html >= json
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn browsers_get_html_and_tools_get_json() {
        let table = [
            ("text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("*/*", false),
            ("application/json, text/html;q=0.4", false),
            ("application/json;q=0.4, text/html;q=0.5", true),
            ("text/html;q=0", false),
        ];
        for (accept, html) in table {
            let value = HeaderValue::from_static(accept);
            assert_eq!(prefers_html(Some(&value)), html, "{accept}");
        }
        assert!(!prefers_html(None));
    }

    #[test]
    fn a_page_of_a_status_goes_before_one_of_its_class_and_both_before_ours() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("404.html"), "not here: {{detail}}").unwrap();
        fs::write(folder.path().join("4xx.html"), "class {{status}} {{request_id}}").unwrap();
        fs::write(folder.path().join("style.css"), "body {}").unwrap();
        let pages = Pages::from_folder(folder.path()).unwrap();
        assert_eq!(pages.page(&Problem::not_found(), "id"), "not here: there is nothing here");
        assert_eq!(pages.page(&Problem::forbidden(), "id<"), "class 403 id&lt;");
        let built_in = pages.page(&Problem::unavailable(), "id-7");
        assert!(built_in.contains("503") && built_in.contains("id-7"), "{built_in}");
        assert!(!built_in.contains("{{"), "{built_in}");
    }
}
