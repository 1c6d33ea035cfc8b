//! Error pages of one's own: a folder, read once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use http::StatusCode;

/// The largest page that is taken from a folder, in bytes.
const PAGE_BYTES_MAX: u64 = 256 << 10;

/// The error pages of a folder, as templates for [`fill`]. The default has none.
///
/// They are read when a server starts or is told to reload, so that they are there when nothing
/// behind it is.
#[derive(Debug, Clone, Default)]
pub struct ErrorPages {
    /// By the name of the file without `.html`: `404`, `4xx`, `5xx`.
    templates: HashMap<String, String>,
}

/// Why a folder of pages can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PagesError {
    /// The folder or a page in it can't be read.
    #[error("could not read the error page {path}")]
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

impl ErrorPages {
    /// Reads the pages in `folder`: `404.html` stands for one status, `4xx.html` and `5xx.html`
    /// for all others of their class. Other files are left alone.
    ///
    /// # Errors
    /// Where the folder or a page can't be read, or a page has more than 256 KiB.
    pub fn from_folder(folder: &Path) -> Result<Self, PagesError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| PagesError::Read { path, source }
        };
        let mut templates = HashMap::new();
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
            templates.insert(name.to_owned(), text);
        }
        Ok(Self { templates })
    }

    /// The template for a status, if the folder has one for it or for its class.
    pub fn template(&self, status: StatusCode) -> Option<&str> {
        let class = if status.is_server_error() { "5xx" } else { "4xx" };
        let found = self.templates.get(status.as_str()).or_else(|| self.templates.get(class));
        found.map(String::as_str)
    }
}

/// `template` with each `{{name}}` replaced, as far as there is such a value. What is put in is not
/// looked at again, and is to be escaped already.
pub fn fill(template: &str, values: &[(&str, &str)]) -> String {
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

    #[test]
    fn a_page_of_a_status_goes_before_one_of_its_class() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("404.html"), "not here").unwrap();
        fs::write(folder.path().join("4xx.html"), "class").unwrap();
        fs::write(folder.path().join("style.css"), "body {}").unwrap();
        let pages = ErrorPages::from_folder(folder.path()).unwrap();
        assert_eq!(pages.template(StatusCode::NOT_FOUND), Some("not here"));
        assert_eq!(pages.template(StatusCode::FORBIDDEN), Some("class"));
        assert_eq!(pages.template(StatusCode::BAD_GATEWAY), None);
    }
}
