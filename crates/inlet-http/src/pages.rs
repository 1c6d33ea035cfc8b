//! The pages that browsers get: errors (replaceable by files in a folder), and the frame that all
//! of our own pages share.

use std::path::Path;
use std::sync::LazyLock;

use inlet_server::{ErrorPages, PagesError, fill};

use crate::answer::{Answer, HTML, answer, page};
use crate::escape::html;
use crate::problem::Problem;

/// What our pages add to the style of the summaries.
const MORE_STYLE: &str = include_str!("pages/style.css");

const ERROR: &str = include_str!("pages/error.html");
const FRAME: &str = include_str!("pages/frame.html");

/// The pages of errors.
#[derive(Debug, Clone, Default)]
pub struct Pages {
    replaced: ErrorPages,
}

impl Pages {
    /// The pages that are built in.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// The pages in `folder`, and those built in for what is not there.
    ///
    /// `{{status}}`, `{{title}}`, `{{detail}}` and `{{request_id}}` are replaced. Pages of a folder
    /// are sent without a content security policy.
    ///
    /// # Errors
    /// As [`ErrorPages::from_folder`].
    pub fn from_folder(folder: &Path) -> Result<Self, PagesError> {
        Ok(Self { replaced: ErrorPages::from_folder(folder)? })
    }

    /// The page for a problem.
    pub(crate) fn error(&self, problem: &Problem, request_id: &str) -> Answer {
        let status = problem.status;
        let text = match self.replaced.template(status) {
            Some(text) => return answer(status, HTML, filled(text, problem, request_id)),
            None => filled(ERROR, problem, request_id),
        };
        page(status, framed(problem.title, &text))
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
