//! All routes on one screen, as data.
//!
//! Dispatch, authentication, the limit on a body, the `Allow` header of a 405, the labels of the
//! metrics and the OpenAPI description all come from [`ROUTES`]; nothing is routed that is not
//! here.

use http::Method;
use inlet_core::auth::Scope;
use inlet_core::limits::Limits;

/// What a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// Takes one document.
    Save,
    /// Takes many documents.
    SaveBatch,
    /// Tells the state of a receipt.
    Receipt,
    /// Gives a document.
    Document,
    /// Erases a document.
    Erase,
    /// Lists documents.
    Documents,
    /// Lists streams.
    Streams,
    /// Lists dead letters.
    DeadLetters,
    /// Sends dead letters back to the queue.
    Redrive,
    /// Lists summaries.
    Summaries,
    /// Gives a summary.
    Summary,
    /// Lists files.
    Files,
    /// Puts a file, or a part of one.
    FilePut,
    /// Gives a file, or the parts that were put of one.
    FileGet,
    /// Begins or finishes a file that is put in parts.
    FilePost,
    /// Deletes a file, or abandons one that is put in parts.
    FileDelete,
    /// Lists tokens.
    Tokens,
    /// Makes a token.
    TokenAdd,
    /// Revokes a token.
    TokenRevoke,
    /// Tells which instance this is.
    Landing,
    /// Says that the process is alive.
    Healthz,
    /// Says whether documents are taken.
    Readyz,
    /// Gives the counters.
    Metrics,
    /// Gives the description of the API.
    OpenApi,
    /// Shows the description of the API.
    Docs,
    /// Shows the console.
    Console,
    /// Gives the console's script.
    ConsoleScript,
    /// Gives the style of all pages.
    Style,
}

impl Endpoint {
    /// Whether its answer begins only once an engine has answered that may hang: a read, or the
    /// change of one thing. The others have deadlines of their own, or take as long as they take.
    pub(crate) fn asks_an_engine(self) -> bool {
        !matches!(
            self,
            Self::Save | Self::SaveBatch | Self::FilePut | Self::FilePost | Self::Redrive
        )
    }

    /// Whether it tells how the instance is, and is answered on every listener.
    pub fn is_health(self) -> bool {
        matches!(self, Self::Healthz | Self::Readyz)
    }

    /// Whether its handler keeps a caller to the streams of its token. A token that is limited to
    /// streams is refused everywhere else.
    pub fn is_about_streams(self) -> bool {
        matches!(
            self,
            Self::Save
                | Self::SaveBatch
                | Self::Receipt
                | Self::Document
                | Self::Erase
                | Self::Documents
                | Self::Streams
                | Self::DeadLetters
                | Self::Redrive
        )
    }
}

/// How much body a route reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLimit {
    /// None: a body that is sent is not read.
    None,
    /// One document: [`Limits::body_bytes_max`].
    Document,
    /// A batch of documents: [`Limits::batch_bytes_max`].
    Batch,
    /// A few settings: 64 KiB.
    Settings,
    /// A file, which is streamed: [`Limits::file_bytes_max`].
    File,
}

impl BodyLimit {
    /// The limit in bytes, before content decoding.
    pub fn bytes_max(self, limits: &Limits) -> usize {
        match self {
            Self::None => 0,
            Self::Document => limits.body_bytes_max,
            Self::Batch => limits.batch_bytes_max,
            Self::Settings => 64 << 10,
            Self::File => usize::try_from(limits.file_bytes_max).unwrap_or(usize::MAX),
        }
    }
}

/// One method on one path.
#[derive(Debug)]
pub struct Route {
    /// The method. `GET` answers `HEAD` as well.
    pub method: Method,
    /// The path; a segment in braces stands for any one segment that is not empty, and one with a
    /// `*` before the closing brace for one or more.
    pub path: &'static str,
    /// What it does.
    pub endpoint: Endpoint,
    /// The scope a token must have; `None` where no token is asked for.
    pub scope: Option<Scope>,
    /// The scope that is needed instead where the query has this parameter.
    pub scope_with: Option<(&'static str, Scope)>,
    /// How much body it reads.
    pub body: BodyLimit,
    /// The query parameters it knows; all others are refused.
    pub query: &'static [&'static str],
    /// What it does, in a few words.
    pub summary: &'static str,
}

#[rustfmt::skip]
mod table {
    use super::{BodyLimit, Endpoint as E, Method, Route, Scope};

    const SAVE: Option<Scope> = Some(Scope::Save);
    const READ: Option<Scope> = Some(Scope::Read);
    const ADMIN: Option<Scope> = Some(Scope::Admin);
    const NONE: BodyLimit = BodyLimit::None;

    const fn get(
        path: &'static str,
        endpoint: E,
        scope: Option<Scope>,
        query: &'static [&'static str],
        summary: &'static str,
    ) -> Route {
        let scope_with = None;
        Route { method: Method::GET, path, endpoint, scope, scope_with, body: NONE, query, summary }
    }

    const fn delete(
        path: &'static str,
        endpoint: E,
        scope: Option<Scope>,
        summary: &'static str,
    ) -> Route {
        let (scope_with, query) = (None, &[]);
        Route { method: Method::DELETE, path, endpoint, scope, scope_with, body: NONE, query, summary }
    }

    const fn post(
        path: &'static str,
        endpoint: E,
        scope: Option<Scope>,
        body: BodyLimit,
        query: &'static [&'static str],
        summary: &'static str,
    ) -> Route {
        let scope_with = None;
        Route { method: Method::POST, path, endpoint, scope, scope_with, body, query, summary }
    }

    /// All routes. The first is the one nearly every request is for.
    pub static ROUTES: &[Route] = &[
        post("/api/save", E::Save, SAVE, BodyLimit::Document, &["stream"], "Accept one document"),
        post("/api/save/batch", E::SaveBatch, SAVE, BodyLimit::Batch, &["stream"], "Accept many documents"),
        get("/api/receipts/{id}", E::Receipt, READ, &[], "The state of a receipt"),
        get("/api/documents/{id}", E::Document, READ, &["view"], "A document, byte for byte"),
        delete("/api/documents/{id}", E::Erase, ADMIN, "Erase a document for good"),
        get("/api/documents", E::Documents, READ, &["stream", "from", "to", "limit", "cursor", "last", "prefix"], "A page of documents, newest last"),
        get("/api/streams", E::Streams, READ, &[], "Streams with their figures"),
        get("/api/dead-letters", E::DeadLetters, READ, &["where", "limit", "cursor"], "A page of dead letters, oldest first"),
        post("/api/dead-letters/redrive", E::Redrive, ADMIN, BodyLimit::Settings, &[], "Send dead letters back to the queue"),
        get("/api/summaries", E::Summaries, READ, &[], "The weekly summaries, newest first"),
        get("/api/summaries/{week}", E::Summary, READ, &[], "The summary of a week"),
        get("/api/files", E::Files, READ, &["prefix", "limit", "cursor"], "A page of files, in the order of their keys"),
        Route { method: Method::PUT, path: "/api/files/{key*}", endpoint: E::FilePut, scope: SAVE, scope_with: None, body: BodyLimit::File, query: &["uploadId", "partNumber"], summary: "Put a file, or a part of one" },
        get("/api/files/{key*}", E::FileGet, READ, &["uploadId"], "A file, or the parts that were put of one"),
        post("/api/files/{key*}", E::FilePost, SAVE, BodyLimit::Settings, &["uploads", "uploadId"], "Begin or finish a file that is put in parts"),
        Route { method: Method::DELETE, path: "/api/files/{key*}", endpoint: E::FileDelete, scope: ADMIN, scope_with: Some(("uploadId", Scope::Save)), body: NONE, query: &["uploadId"], summary: "Delete a file, or abandon one that is put in parts" },
        get("/api/admin/tokens", E::Tokens, ADMIN, &[], "Tokens with their rights"),
        post("/api/admin/tokens", E::TokenAdd, ADMIN, BodyLimit::Settings, &[], "Make a token"),
        Route { method: Method::DELETE, path: "/api/admin/tokens/{name}", endpoint: E::TokenRevoke, scope: ADMIN, scope_with: None, body: NONE, query: &["last"], summary: "Revoke a token" },
        get("/", E::Landing, None, &[], "Which instance this is, and its figures"),
        get("/healthz", E::Healthz, None, &[], "Whether the process is alive"),
        get("/readyz", E::Readyz, None, &[], "Whether documents are taken"),
        get("/metrics", E::Metrics, None, &[], "Counters, as Prometheus text"),
        get("/openapi.json", E::OpenApi, None, &[], "The description of this API"),
        get("/docs", E::Docs, None, &[], "The description of this API, as a page"),
        get("/console", E::Console, None, &[], "The console"),
        get("/console.js", E::ConsoleScript, None, &[], "The console's script"),
        get("/style.css", E::Style, None, &[], "The style of the pages"),
    ];
}

pub use table::ROUTES;

/// The target of an `OPTIONS` that asks about the server as a whole (RFC 9110, 9.3.7).
const EVERY_PATH: &str = "*";

/// The outcome of [`find`].
#[derive(Debug, Clone, Copy)]
pub enum Match<'a> {
    /// A route, and what stands in place of the segment in braces (empty where there is none).
    Route(&'static Route, &'a str),
    /// `OPTIONS` of a path that is there: answered with the methods it takes.
    Options,
    /// The path, but not for that method.
    OtherMethods,
    /// Nothing.
    Nothing,
}

/// The route for a method and a path. `HEAD` is answered by the route for `GET`.
pub fn find<'a>(method: &Method, path: &'a str) -> Match<'a> {
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let is_options = *method == Method::OPTIONS;
    let mut path_known = is_options && path == EVERY_PATH;
    for route in ROUTES {
        if let Some(parameter) = parameter_of(route.path, path) {
            if route.method == *method {
                return Match::Route(route, parameter);
            }
            path_known = true;
        }
    }
    match path_known {
        true if is_options => Match::Options,
        true => Match::OtherMethods,
        false => Match::Nothing,
    }
}

/// The methods that `path` takes, as an `Allow` header lists them; those of all paths for `*`.
pub fn allowed(path: &str) -> String {
    let mut methods = Vec::new();
    let mut add = |method: &'static str| {
        if !methods.contains(&method) {
            methods.push(method);
        }
    };
    for route in ROUTES {
        if path == EVERY_PATH || parameter_of(route.path, path).is_some() {
            add(route.method.as_str());
            if route.method == Method::GET {
                add("HEAD");
            }
        }
    }
    add("OPTIONS");
    methods.join(", ")
}

/// What stands for the braces of `pattern` in `path`, if it fits. Only the last segment of a
/// pattern may be in braces.
fn parameter_of<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    match pattern.find('{') {
        None => (pattern == path).then_some(""),
        Some(at) => {
            let parameter = path.strip_prefix(&pattern[..at])?;
            let fits = pattern.ends_with("*}") || !parameter.contains('/');
            (fits && !parameter.is_empty()).then_some(parameter)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_route_and_parameter() {
        let found = find(&Method::GET, "/api/documents/abc");
        assert!(
            matches!(found, Match::Route(route, "abc") if route.endpoint == Endpoint::Document)
        );
        let found = find(&Method::DELETE, "/api/documents/abc");
        assert!(matches!(found, Match::Route(route, _) if route.endpoint == Endpoint::Erase));
        let found = find(&Method::HEAD, "/");
        assert!(matches!(found, Match::Route(route, "") if route.endpoint == Endpoint::Landing));
    }

    #[test]
    fn a_path_that_is_not_there_is_nothing_and_a_wrong_method_is_told_apart() {
        let found = find(&Method::PUT, "/api/files/a/b%2Fc");
        assert!(
            matches!(found, Match::Route(route, "a/b%2Fc") if route.endpoint == Endpoint::FilePut)
        );
        for path in
            ["/api/files/", "/api/save/", "/api/documents/", "/api/documents/a/b", "", "*", "/x"]
        {
            assert!(matches!(find(&Method::GET, path), Match::Nothing), "{path}");
        }
        assert!(matches!(find(&Method::PUT, "/api/save"), Match::OtherMethods));
        assert_eq!(allowed("/api/documents/abc"), "GET, HEAD, DELETE, OPTIONS");
        assert_eq!(allowed("/api/save"), "POST, OPTIONS");
        assert_eq!(allowed("*"), "POST, GET, HEAD, DELETE, PUT, OPTIONS");
        for path in ["*", "/", "/api/save", "/api/documents/abc"] {
            assert!(matches!(find(&Method::OPTIONS, path), Match::Options), "{path}");
        }
        assert!(matches!(find(&Method::OPTIONS, "/x"), Match::Nothing));
    }

    #[test]
    fn only_the_last_segment_of_a_pattern_is_in_braces_and_no_route_stands_twice() {
        for (index, route) in ROUTES.iter().enumerate() {
            if let Some(at) = route.path.find('{') {
                assert!(route.path.ends_with('}'), "{}", route.path);
                assert!(!route.path[at..].contains('/'), "{}", route.path);
            }
            let twin = ROUTES[index + 1..]
                .iter()
                .find(|other| other.path == route.path && other.method == route.method);
            assert!(twin.is_none(), "{} {}", route.method, route.path);
        }
    }
}
