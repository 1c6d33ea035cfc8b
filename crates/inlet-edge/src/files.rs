//! A folder that is served: ETags, compression, and no way out of it.
//!
//! `GET` and `HEAD`, conditional by `If-None-Match` and `If-Modified-Since`; no ranges. A path
//! that ends in a slash is its `index.html`. Nothing is served whose name, or whose folder's name,
//! begins with a dot, and nothing that lies outside of the folder once symbolic links are
//! followed. Who can write into the folder decides what is served: the check and the opening are
//! two steps.
//!
//! A client that takes gzip gets `NAME.gz` from beside the file if that is not older than it; or
//! the file compressed on the way, if it is text and small enough, and not too many others are
//! being compressed at the moment. Reading happens off the runtime.

mod body;
mod lookup;

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Response, StatusCode};
use tokio::sync::Semaphore;

pub(crate) use body::FileBody;

use crate::body::EdgeBody;
use crate::options::FilesOptions;
use crate::problem::Problem;
use lookup::{Content, Found, Lookup, LookupError};

/// How many files are looked up at once; others wait.
const LOOKUPS_MAX: usize = 32;
/// How many files are compressed at once; others are sent as they are.
const COMPRESSIONS_MAX: usize = 2;

/// Why a folder can't be served.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It is not there, or can't be read.
    #[error("the folder {path} can't be served")]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The prefix is not one.
    #[error("`{0}` is no prefix for files: begin it with a slash and end it without one")]
    Prefix(String),
}

/// A folder that is served.
pub(crate) struct Files {
    lookup: Arc<Lookup>,
    prefix: String,
    cache_control: HeaderValue,
    lookups: Semaphore,
    compressions: Arc<Semaphore>,
}

impl Files {
    pub(crate) fn new(options: FilesOptions) -> Result<Self, FilesError> {
        let prefix = options.prefix;
        if !prefix.starts_with('/') || prefix.ends_with('/') {
            return Err(FilesError::Prefix(prefix));
        }
        let failed = |source| FilesError::Folder { path: options.folder.clone(), source };
        let folder = options.folder.canonicalize().map_err(failed)?;
        let cache_control = format!("public, max-age={}", options.cache_s);
        Ok(Self {
            lookup: Arc::new(Lookup::new(folder, options.gzip_bytes_max)),
            prefix,
            cache_control: HeaderValue::from_str(&cache_control).expect("digits and words"),
            lookups: Semaphore::new(LOOKUPS_MAX),
            compressions: Arc::new(Semaphore::new(COMPRESSIONS_MAX)),
        })
    }

    /// What comes behind the prefix, if a decoded path begins with it.
    pub(crate) fn relative<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&self.prefix)?.strip_prefix('/')
    }

    /// The answer to a request for the file at `relative`.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        relative: &str,
        headers: &HeaderMap,
    ) -> Result<Response<EdgeBody>, Problem> {
        if method != Method::GET && method != Method::HEAD {
            return Err(Problem::method_not_allowed("GET, HEAD".to_owned()));
        }
        let Ok(_turn) = self.lookups.acquire().await else { return Err(Problem::internal()) };
        let relative = relative.to_owned();
        let takes_gzip = takes_gzip(headers);
        let conditions = Conditions::of(headers);
        let lookup = self.lookup.clone();
        let compressions = self.compressions.clone();
        let found = tokio::task::spawn_blocking(move || {
            let mut found =
                lookup.find(&relative, takes_gzip, || compressions.try_acquire().ok())?;
            if conditions.is_unchanged(&found.etag, found.modified) {
                found.content = Content::Unchanged;
                return Ok(found);
            }
            found.read()?;
            Ok(found)
        });
        match found.await {
            Ok(Ok(found)) => Ok(self.found(found)),
            Ok(Err(LookupError::Absent)) => Err(Problem::not_found()),
            Ok(Err(LookupError::Io(error))) => {
                tracing::warn!(%error, "a file could not be served");
                Err(Problem::internal())
            }
            Err(error) => {
                tracing::error!(%error, "looking up a file broke off");
                Err(Problem::internal())
            }
        }
    }

    fn found(&self, found: Found) -> Response<EdgeBody> {
        let length = found.length;
        let (status, body) = match found.content {
            Content::Unchanged => (StatusCode::NOT_MODIFIED, None),
            Content::Kept(bytes) => (StatusCode::OK, Some(EdgeBody::from(bytes))),
            Content::Open(file) => {
                (StatusCode::OK, Some(EdgeBody::file(FileBody::new(file, length))))
            }
        };
        let has_body = body.is_some();
        let mut answer = Response::new(body.unwrap_or_else(|| EdgeBody::from(Bytes::new())));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, self.cache_control.clone());
        headers.insert(ETAG, found.etag);
        let modified = HeaderValue::try_from(httpdate::fmt_http_date(found.modified));
        headers.insert(LAST_MODIFIED, modified.expect("a date is ASCII"));
        if found.is_compressible {
            headers.insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
        }
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(found.kind));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            if found.is_gzip {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        answer
    }
}

/// What the client has already.
struct Conditions {
    etags: Option<String>,
    since: Option<SystemTime>,
}

impl Conditions {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name)?.to_str().ok();
        Self {
            etags: text(IF_NONE_MATCH).map(str::to_owned),
            since: text(IF_MODIFIED_SINCE).and_then(|date| httpdate::parse_http_date(date).ok()),
        }
    }

    fn is_unchanged(&self, etag: &HeaderValue, modified: SystemTime) -> bool {
        if let Some(etags) = &self.etags {
            let mut given = etags.split(',').map(str::trim);
            return given.any(|given| {
                given == "*" || given.trim_start_matches("W/").as_bytes() == etag.as_bytes()
            });
        }
        let seconds = |time: SystemTime| {
            time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
        };
        self.since.is_some_and(|since| seconds(modified) <= seconds(since))
    }
}

/// Whether a client takes gzip and does not rule it out.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight: Option<f32> = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
        is_gzip && weight.is_none_or(|weight| weight > 0.0)
    })
}
