//! From a request to its answer: route, authenticate, handle, and what every answer carries.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Collected};
use inlet_core::error::Error;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::rejection::Rejection;
use inlet_server::{Body, ConnectionCounters, Peer, Refusal, Service};

use crate::answer::{Answer, Content, Handled};
use crate::app::App;
use crate::call::Call;
use crate::metrics::Metrics;
use crate::problem::{Asked, Problem};
use crate::query::percent_decoded;
use crate::request_id::{RequestId, X_REQUEST_ID};
use crate::routes::{self, BodyLimit, Endpoint, Match, ROUTES, Route};
use crate::{api, site};

const X_INSTANCE_ID: HeaderName = HeaderName::from_static("x-instance-id");
/// The largest answer to a request that did not come over a connection, in bytes: a function may
/// give 6 MB, of which a third goes for base64.
/// Source: <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>.
const WHOLE_BYTES_MAX: u64 = 4 << 20;

/// How long an engine that hangs may hold up an answer that needs it.
const ANSWER_MAX: Duration = Duration::from_secs(10);

const CLOSE: HeaderValue = HeaderValue::from_static("close");

impl Service for App {
    type Body = Content;

    async fn answer(self: Arc<Self>, request: Request<Body>, peer: Peer) -> Answer {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let id = RequestId::of(&head.headers);
        let (row, handled) = match redirected(&peer, &head) {
            Some(handled) => (Metrics::NO_ROUTE, handled),
            None => handle(&self, peer.is_secure, &head, body, &id).await,
        };
        self.finished(begun, row, handled, &head, &id)
    }

    fn refuse(&self, refusal: Refusal, _: Peer) -> Answer {
        let head = Request::new(()).into_parts().0;
        let handled = refused(rejection(refusal));
        self.finished(Instant::now(), Metrics::NO_ROUTE, handled, &head, &RequestId::fresh())
    }

    fn counters(&self) -> &ConnectionCounters {
        self.metrics.connections()
    }
}

impl App {
    /// Answers a request that did not come over a connection, as a function gets them: whole, and
    /// over TLS that somebody else has ended.
    pub async fn answer_whole(&self, request: Request<Bytes>) -> Response<Bytes> {
        let begun = Instant::now();
        let (head, body) = request.into_parts();
        let id = RequestId::of(&head.headers);
        let (row, handled) = handle(self, true, &head, body.into(), &id).await;
        let answer = self.finished(begun, row, handled, &head, &id);
        let (parts, body) = if answer.body().size_hint().lower() > WHOLE_BYTES_MAX {
            let expected = "a range of at most 4 MiB; more does not fit into one answer here";
            let rejection = Rejection::ParameterInvalid { name: "Range", expected };
            self.finished(begun, row, refused(rejection), &head, &id).into_parts()
        } else {
            answer.into_parts()
        };
        match body.collect().await {
            Ok(body) => Response::from_parts(parts, body.to_bytes()),
            Err(failure) => {
                let refused = Err(Unhandled::Refused(failure.into()));
                let (parts, body) = self.finished(begun, row, refused, &head, &id).into_parts();
                let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
                Response::from_parts(parts, body)
            }
        }
    }

    /// The answer with what every answer carries, counted.
    fn finished(
        &self,
        begun: Instant,
        row: usize,
        handled: Result<Answer, Unhandled>,
        head: &Parts,
        id: &RequestId,
    ) -> Answer {
        let mut answer = match handled {
            Ok(answer) => answer,
            Err(outcome) => outcome.answer(self, head, id),
        };
        finish(&mut answer, self, head, id);
        self.metrics.answered(row, answer.status().as_u16(), begun.elapsed());
        answer
    }
}

/// What came in place of a good answer.
enum Unhandled {
    Refused(Error),
    Panicked,
}

impl Unhandled {
    /// Counts it, logs it where it is ours, and answers it.
    fn answer(self, app: &App, head: &Parts, id: &RequestId) -> Answer {
        let asked =
            Asked { method: &head.method, path: head.uri.path(), headers: &head.headers, id };
        let problem = match &self {
            Self::Refused(error) => Problem::of(error),
            Self::Panicked => Problem::internal(),
        };
        match &self {
            Self::Refused(Error::Rejected(_)) => {}
            Self::Refused(Error::Failed(failure)) => log_failure(app, failure, asked),
            Self::Panicked => {
                let (method, path) = (asked.method, asked.path);
                tracing::error!(request_id = id.as_str(), %method, path, "a handler panicked");
            }
        }
        let panicked = matches!(self, Self::Panicked);
        app.metrics.refused(if panicked { "Panic" } else { problem.code });
        let mut answer = problem.answer(asked, &app.pages);
        if panicked && head.version <= Version::HTTP_11 {
            answer.headers_mut().insert(CONNECTION, CLOSE);
        }
        answer
    }
}

/// Logs a failure under the request's id. One that may come with every request while an engine
/// is away or full is logged at most once a second.
fn log_failure(app: &App, failure: &inlet_core::failure::Failure, asked: Asked<'_>) {
    if failure.is_retryable() && !app.metrics.may_log_outage(app.instance.uptime()) {
        return;
    }
    tracing::error!(
        request_id = asked.id.as_str(),
        method = %asked.method,
        path = asked.path,
        error = failure.chain(),
        hint = failure.hint_text(),
        "a request failed"
    );
}

/// The way to HTTPS, where the request came to a listener that only redirects there.
fn redirected(peer: &Peer, head: &Parts) -> Option<Result<Answer, Unhandled>> {
    let https_port = peer.redirects_to?;
    match routes::find(&head.method, head.uri.path()) {
        Match::Route(route, _) if route.endpoint.is_health() => None,
        // The checks of load balancers, which often name no Host to redirect to.
        Match::Options => None,
        _ => match site::redirect(head, https_port) {
            Err(_) if head.method == Method::HEAD => None,
            redirected => Some(redirected.map_err(Unhandled::Refused)),
        },
    }
}

/// The row for the metrics, and what came of the request.
async fn handle(
    app: &App,
    is_secure: bool,
    head: &Parts,
    body: Body,
    id: &RequestId,
) -> (usize, Result<Answer, Unhandled>) {
    let (route, parameter) = match routes::find(&head.method, head.uri.path()) {
        Match::Route(route, parameter) => (route, parameter),
        Match::Options => return (Metrics::NO_ROUTE, Ok(site::options(head.uri.path()))),
        Match::OtherMethods => {
            return (Metrics::NO_ROUTE, refused(Rejection::MethodNotAllowed));
        }
        Match::Nothing => return (Metrics::NO_ROUTE, refused(Rejection::NotFound)),
    };
    let row = row_of(route);
    let Some(parameter) = percent_decoded(parameter, false) else {
        let expected = "UTF-8, percent-encoded";
        return (row, refused(Rejection::ParameterInvalid { name: "path", expected }));
    };
    let call = Call::new(app, is_secure, route, parameter, head, id);
    let mut dispatched = pin!(dispatch(call, body));
    let handled = std::future::poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| dispatched.as_mut().poll(cx))) {
            Ok(Poll::Ready(handled)) => Poll::Ready(handled.map_err(Unhandled::Refused)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Err(Unhandled::Panicked)),
        }
    });
    (row, handled.await)
}

fn refused(rejection: Rejection) -> Result<Answer, Unhandled> {
    Err(Unhandled::Refused(rejection.into()))
}

fn rejection(refusal: Refusal) -> Rejection {
    match refusal {
        Refusal::Malformed(reason) => Rejection::RequestMalformed(reason),
        Refusal::HeadTooLarge => Rejection::HeadTooLarge,
        Refusal::Late => Rejection::RequestTimeout,
    }
}

fn row_of(route: &'static Route) -> usize {
    ROUTES.iter().position(|other| std::ptr::eq(other, route)).unwrap_or(Metrics::NO_ROUTE)
}

/// The one place where a route meets its handler.
async fn dispatch(mut call: Call<'_>, body: Body) -> Handled {
    call.authenticate()?;
    match call.route.endpoint {
        Endpoint::Save => api::save::save(&call, body).await,
        // All but the one above are boxed, so that a connection sets aside only what that needs.
        endpoint if endpoint.asks_an_engine() => {
            let answering = Box::pin(dispatch_others(&call, body));
            tokio::time::timeout(ANSWER_MAX, answering).await.unwrap_or_else(|_| {
                let path = call.head.uri.path();
                let cause = format!("an engine did not answer within {} s", ANSWER_MAX.as_secs());
                Err(Failure::new(FailureKind::Unavailable, "answer", path).because(cause).into())
            })
        }
        _ => Box::pin(dispatch_others(&call, body)).await,
    }
}

async fn dispatch_others(call: &Call<'_>, body: Body) -> Handled {
    if call.route.body == BodyLimit::None && !body.is_end_stream() {
        call.body(body).await?;
        return Err(Rejection::BodyTooLarge { limit_bytes: 0 }.into());
    }
    match call.route.endpoint {
        Endpoint::Save => api::save::save(call, body).await,
        Endpoint::SaveBatch => api::save::save_batch(call, body).await,
        Endpoint::Receipt => api::receipts::get(call).await,
        Endpoint::Document => api::documents::get(call).await,
        Endpoint::Erase => api::documents::erase(call).await,
        Endpoint::Documents => api::documents::list(call).await,
        Endpoint::Streams => api::streams::list(call).await,
        Endpoint::DeadLetters => api::dead_letters::list(call).await,
        Endpoint::Redrive => api::dead_letters::redrive(call, body).await,
        Endpoint::Summaries => api::summaries::list(call).await,
        Endpoint::Summary => api::summaries::get(call).await,
        Endpoint::Files => api::files::list(call).await,
        Endpoint::FilePut => api::files::put(call, body).await,
        Endpoint::FileGet => api::files::get(call).await,
        Endpoint::FilePost => api::files::post(call, body).await,
        Endpoint::FileDelete => api::files::delete(call).await,
        Endpoint::Tokens => api::tokens::list(call).await,
        Endpoint::TokenAdd => api::tokens::add(call, body).await,
        Endpoint::TokenRevoke => api::tokens::revoke(call).await,
        Endpoint::Landing => site::landing::show(call).await,
        Endpoint::Healthz => Ok(site::health::alive()),
        Endpoint::Readyz => site::health::ready(call).await,
        Endpoint::Metrics => site::health::metrics(call).await,
        Endpoint::OpenApi => Ok(site::docs::openapi(call)),
        Endpoint::Docs => Ok(site::docs::page(call)),
        Endpoint::Console => Ok(site::console::page()),
        Endpoint::ConsoleScript => Ok(site::console::script()),
        Endpoint::Style => Ok(site::style()),
    }
}

/// Adds what every answer carries.
fn finish(answer: &mut Answer, app: &App, head: &Parts, id: &RequestId) {
    let headers = answer.headers_mut();
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, id.header());
    }
    headers.insert(X_INSTANCE_ID, app.instance.header());
    if head.method == Method::HEAD {
        // Said here, and not left to the server: over HTTP/2 it would send the body.
        if !answer.headers().contains_key(CONTENT_LENGTH)
            && let Some(bytes) = answer.body().size_hint().exact()
        {
            answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(bytes));
        }
        *answer.body_mut() = Content::default();
    }
}
