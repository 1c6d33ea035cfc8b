//! One request while it is being answered.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use inlet_core::auth::{Caller, Scope};
use inlet_core::document::StreamName;
use inlet_core::error::Error;
use inlet_core::rejection::Rejection;
use inlet_server::{Body, token_of};

use crate::app::App;
use crate::body;
use crate::query::Query;
use crate::request_id::RequestId;
use crate::routes::Route;

/// A request that met a route, and what it may use.
pub(crate) struct Call<'a> {
    pub(crate) app: &'a App,
    /// Whether it came over TLS to us; an edge before us says so in a header instead.
    pub(crate) is_secure: bool,
    pub(crate) route: &'static Route,
    /// The part of the path that stands for the segment in braces, decoded.
    pub(crate) parameter: Cow<'a, str>,
    pub(crate) head: &'a Parts,
    pub(crate) id: &'a RequestId,
    /// The holder of its token; `None` until it is authenticated, and where the route asks for no
    /// token.
    caller: Option<Caller>,
}

impl<'a> Call<'a> {
    /// A request that is not authenticated yet.
    pub(crate) fn new(
        app: &'a App,
        is_secure: bool,
        route: &'static Route,
        parameter: Cow<'a, str>,
        head: &'a Parts,
        id: &'a RequestId,
    ) -> Self {
        Self { app, is_secure, route, parameter, head, id, caller: None }
    }

    /// Checks that the request has a token with the scope of its route. A token that is limited to
    /// streams is good for routes that are about streams alone.
    pub(crate) fn authenticate(&mut self) -> Result<(), Error> {
        let Some(mut scope) = self.route.scope else { return Ok(()) };
        if let Some((name, other)) = self.route.scope_with
            && self.query().is_ok_and(|query| query.get(name).is_some())
        {
            scope = other;
        }
        let token = token_of(&self.head.headers).map_err(|_| Rejection::TokenAmbiguous)?;
        let caller = self.app.intake.authenticate(token.as_deref(), scope)?;
        if caller.streams().is_some() && !self.route.endpoint.is_about_streams() {
            return Err(Rejection::StreamsOnly.into());
        }
        self.caller = Some(caller);
        Ok(())
    }

    /// The holder of the request's token.
    pub(crate) fn caller(&self) -> &Caller {
        self.caller.as_ref().expect("a handler that asks has a route with a scope")
    }

    /// The stream that the query names, which the caller must be allowed to use. One that is
    /// limited to a single stream need not name it.
    pub(crate) fn stream(&self, query: &Query<'_>) -> Result<Option<StreamName>, Rejection> {
        let named = query.get("stream").map(StreamName::new).transpose()?;
        self.narrowed(named)
    }

    /// The stream that is asked for, `None` for all, as far as the caller may use them.
    pub(crate) fn narrowed(
        &self,
        asked: Option<StreamName>,
    ) -> Result<Option<StreamName>, Rejection> {
        match (asked, self.caller().streams()) {
            (Some(stream), _) => self.caller().check_stream(&stream).map(|()| Some(stream)),
            (None, None) => Ok(None),
            (None, Some([only])) => Ok(Some(only.clone())),
            (None, Some(_)) => Err(Rejection::ParameterInvalid {
                name: "stream",
                expected: "one of those that this token is limited to",
            }),
        }
    }

    /// The query, read against what the route knows.
    pub(crate) fn query(&self) -> Result<Query<'_>, Rejection> {
        Query::read(self.head.uri.query(), self.route.query)
    }

    /// The body, to the route's limit.
    pub(crate) async fn body(&self, body: Body) -> Result<bytes::Bytes, Error> {
        let bytes_max = self.route.body.bytes_max(self.app.intake.limits());
        if content_length(&self.head.headers).is_some_and(|length| length > bytes_max as u64) {
            return Err(Rejection::BodyTooLarge { limit_bytes: bytes_max }.into());
        }
        body::read(body, bytes_max, &mut self.app.intake.budget().share()).await
    }

    /// Whether the caller has that scope as well.
    pub(crate) fn may(&self, scope: Scope) -> bool {
        self.caller().may(scope)
    }
}

/// The `Content-Length`, in bytes.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
