//! Error pages for browsers: from a folder, and one that is built in.
//!
//! They are read when the edge starts or is told to reload, so that they are there when no
//! instance and no disk is.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use http::HeaderValue;

use crate::problem::Problem;

const BUILT_IN: &str = include_str!("pages/error.html");

/// The largest page that is taken from a folder, in bytes.
const PAGE_BYTES_MAX: u64 = 256 << 10;

/// The pages of errors.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    /// By the name of the file without `.html`: `404`, `4xx`, `5xx`.
    replaced: HashMap<String, String>,
}

/// Why a folder of pages can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The folder or a page in it can't be read.
    #[error("the error page {path} could not be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A page is too large.
    #[error("the error page {path} is larger than {PAGE_BYTES_MAX} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

impl Pages {
    /// The pages in `folder`, and the one built in for what is not there.
    ///
    /// `404.html` stands for one status, `4xx.html` and `5xx.html` for all others of their class.
    /// `{{status}}`, `{{title}}`, `{{detail}}` and `{{request_id}}` are replaced. Other files are
    /// left alone.
    pub(crate) fn from_folder(folder: &Path) -> Result<Self, PagesError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PagesError::Read { path, source }
        };
        let mut replaced = HashMap::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = name.strip_suffix(".html").filter(|name| is_status(name)) else {
                continue;
            };
            if fs::metadata(&path).map_err(failed(&path))?.len() > PAGE_BYTES_MAX {
                return Err(PagesError::TooLarge { path });
            }
            let text = fs::read_to_string(&path).map_err(failed(&path))?;
            replaced.insert(name.to_owned(), text);
        }
        Ok(Self { replaced })
    }

    /// The page for `problem`.
    pub(crate) fn page(&self, problem: &Problem, request_id: &str) -> String {
        let status = problem.status.as_str();
        let class = if problem.status.is_client_error() { "4xx" } else { "5xx" };
        let replaced = self.replaced.get(status).or_else(|| self.replaced.get(class));
        let members = [
            ("{{status}}", status),
            ("{{title}}", problem.title),
            ("{{detail}}", &problem.detail),
            ("{{request_id}}", request_id),
        ];
        let template = replaced.map_or(BUILT_IN, String::as_str);
        members
            .iter()
            .fold(template.to_owned(), |page, (name, value)| page.replace(name, &escaped(value)))
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

fn is_status(name: &str) -> bool {
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    matches!(name, "4xx" | "5xx")
        || (name.len() == 3 && is_number(name) && (name.starts_with('4') || name.starts_with('5')))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
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
