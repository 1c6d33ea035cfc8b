//! The pages that browsers get: errors (replaceable by files in a folder), and the frame that all
//! of our own pages share.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use http::StatusCode;

use crate::answer::{Answer, HTML, answer, page};
use crate::escape::html;
use crate::problem::Problem;

/// What our pages add to the style of the summaries.
const MORE_STYLE: &str = include_str!("pages/style.css");

const ERROR: &str = include_str!("pages/error.html");
const FRAME: &str = include_str!("pages/frame.html");

/// The largest page that is taken from a folder, in bytes.
const PAGE_BYTES_MAX: u64 = 256 << 10;

/// The pages of errors.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    /// By the name of the file without `.html`: `404`, `4xx`, `5xx`.
    replaced: HashMap<String, String>,
}

/// Why a folder of pages can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The folder or a file in it can't be read.
    #[error("could not read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A page is too large.
    #[error("{path} is larger than {PAGE_BYTES_MAX} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
    },
}

impl Pages {
    /// The pages that are built in.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// The pages in `folder`, and those built in for what is not there.
    ///
    /// `404.html` stands for one status, `4xx.html` and `5xx.html` for all others of their class.
    /// `{{status}}`, `{{title}}`, `{{detail}}` and `{{request_id}}` are replaced. Other files are
    /// left alone. Pages of a folder are sent without a content security policy.
    pub fn from_folder(folder: &Path) -> Result<Self, PagesError> {
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

    /// The page for a problem.
    pub(crate) fn error(&self, problem: &Problem, request_id: &str) -> Answer {
        let status = problem.status;
        let text = match self.replacement(status) {
            Some(text) => return answer(status, HTML, filled(text, problem, request_id)),
            None => filled(ERROR, problem, request_id),
        };
        page(status, framed(problem.title, &text))
    }

    fn replacement(&self, status: StatusCode) -> Option<&str> {
        let class = if status.is_server_error() { "5xx" } else { "4xx" };
        self.replaced.get(status.as_str()).or_else(|| self.replaced.get(class)).map(String::as_str)
    }
}

/// The style of all pages: that of the summaries, and what only these pages need.
pub(crate) fn style() -> &'static str {
    static STYLE: LazyLock<String> =
        LazyLock::new(|| format!("{}{MORE_STYLE}", inlet_core::summary::STYLE));
    &STYLE
}

/// A page of ours around `content`, which is HTML.
pub(crate) fn framed(title: &str, content: &str) -> String {
    fill(FRAME, &[("title", &html(title)), ("content", content)])
}

/// `template` with each `{{name}}` replaced. What is put in is not looked at again.
pub(crate) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + 256);
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let value = tail.find("}}").and_then(|end| {
            let name = tail[2..end].trim();
            let value = values.iter().find(|(known, _)| *known == name)?;
            Some((value.1, end + 2))
        });
        match value {
            Some((value, end)) => {
                out.push_str(value);
                rest = &tail[end..];
            }
            None => {
                out.push_str("{{");
                rest = &tail[2..];
            }
        }
    }
    out.push_str(rest);
    out
}

fn filled(template: &str, problem: &Problem, request_id: &str) -> String {
    let values = [
        ("status", problem.status.as_str()),
        ("title", &html(problem.title)),
        ("detail", &html(&sentence(&problem.detail))),
        ("request_id", &html(request_id)),
    ];
    fill(template, &values)
}

/// A detail as a sentence: with a capital letter and a full stop.
fn sentence(detail: &str) -> String {
    let mut rest = detail.chars();
    rest.next()
        .map_or_else(String::new, |first| format!("{}{}.", first.to_uppercase(), rest.as_str()))
}

fn is_status(name: &str) -> bool {
    matches!(name, "4xx" | "5xx")
        || (name.len() == 3
            && name.starts_with(['4', '5'])
            && name.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_into_a_page_is_not_looked_at_again() {
        let values = [("a", "{{b}}"), ("b", "x")];
        assert_eq!(fill("{{a}} {{ b }} {{c}} {{", &values), "{{b}} x {{c}} {{");
    }

    #[test]
    fn only_names_of_errors_are_pages() {
        for (name, fits) in [("404", true), ("5xx", true), ("200", false), ("40", false)] {
            assert_eq!(is_status(name), fits, "{name}");
        }
    }
}
