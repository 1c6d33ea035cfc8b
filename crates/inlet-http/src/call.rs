//! One request while it is being answered.

use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use inlet_core::auth::Scope;
use inlet_core::error::Error;
use inlet_core::rejection::Rejection;

use crate::app::App;
use crate::body::{self, RequestBody};
use crate::query::Query;
use crate::request_id::RequestId;
use crate::routes::Route;

/// Where clients put their token. Names are parsed once, here and elsewhere: looking a header up
/// by its text would parse the text for each request.
const X_AUTH_TOKEN: HeaderName = HeaderName::from_static("x-auth-token");

/// A request that met a route, and what it may use.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// Whether it came over TLS to us; an edge before us says so in a header instead.
    pub(crate) is_secure: bool,
    pub(crate) route: &'static Route,
    /// What stands in the path for the segment in braces.
    pub(crate) parameter: &'a str,
    pub(crate) head: &'a Parts,
    pub(crate) id: &'a RequestId,
}

impl Call<'_> {
    /// The query, read against what the route knows.
    pub(crate) fn query(&self) -> Result<Query<'_>, Rejection> {
        Query::read(self.head.uri.query(), self.route.query)
    }

    /// The body, to the route's limit.
    pub(crate) async fn body(&self, body: RequestBody<'_>) -> Result<bytes::Bytes, Rejection> {
        let bytes_max = self.route.body.bytes_max(self.app.intake.limits());
        if content_length(&self.head.headers).is_some_and(|length| length > bytes_max as u64) {
            return Err(Rejection::BodyTooLarge { limit_bytes: bytes_max });
        }
        body::read(body, bytes_max).await
    }

    /// Checks that the request has a token with that scope.
    pub(crate) fn authorize(&self, scope: Scope) -> Result<(), Error> {
        self.app.intake.authenticate(token(&self.head.headers), scope)?;
        Ok(())
    }
}

/// The `Content-Length`, in bytes.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The token of a request: `X-Auth-Token`, else `Authorization: Bearer`.
fn token(headers: &HeaderMap) -> Option<&str> {
    if let Some(token) = headers.get(X_AUTH_TOKEN) {
        return token.to_str().ok();
    }
    let given = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = given.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
