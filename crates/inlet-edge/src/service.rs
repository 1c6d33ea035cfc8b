//! The edge as what a server calls.
//!
//! Beside what [`Edge::call`] answers it answers three things itself: a door that only redirects,
//! requests that the server refuses, and the paths under `/edge/`, which are of the edge and never
//! reach an instance:
//!
//! | path | |
//! | --- | --- |
//! | `/edge/status` | how the edge and its instances stand, as JSON |
//! | `/edge/metrics` | their figures, as Prometheus text |
//!
//! Those are for clients of this machine and for who brings the token that [`EdgeService`] was
//! given; for all others there is nothing there. Who a request is from is what the access log says,
//! so behind a proxy on this machine that is not among the trusted ones, everyone is of this
//! machine.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Request, Response, StatusCode, request};
use inlet_server::{Body, ConnectionCounters, Refusal, Service, https_location, token_of};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::body::EdgeBody;
use crate::clock::now;
use crate::edge::{BackendStatus, Edge};
use crate::headers::Peer;
use crate::health::Standing;
use crate::problem::Problem;

/// The paths that are the edge's own begin with this.
const OWN: &str = "/edge/";

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const FIGURES: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Figures besides those of the edge and of its connections, as Prometheus text.
pub type MoreFigures = Box<dyn Fn() -> String + Send + Sync>;

/// An [`Edge`] as the service of an [`inlet_server::Server`].
pub struct EdgeService {
    edge: Edge,
    more_figures: MoreFigures,
    token: Option<[u8; 32]>,
    counters: ConnectionCounters,
    began: Instant,
}

impl EdgeService {
    /// `edge`, with what else there is to be told, and with the token that opens what is told to
    /// those who are not on this machine.
    pub fn new(edge: Edge, more_figures: MoreFigures, token: Option<&str>) -> Self {
        let token = token.map(|token| Sha256::digest(token).into());
        let counters = ConnectionCounters::default();
        Self { edge, more_figures, token, counters, began: now() }
    }

    /// The answer for a path of the edge's own, if the client may have it.
    fn own(&self, head: &request::Parts, peer: &Peer) -> Result<Response<EdgeBody>, Problem> {
        let client = self.edge.client_address(peer, &head.headers);
        if !client.is_loopback() && !self.has_token(&head.headers) {
            return Err(Problem::not_found());
        }
        let (kind, text) = match head.uri.path() {
            "/edge/status" => (JSON, self.status().to_string()),
            "/edge/metrics" => (FIGURES, self.metrics()),
            _ => return Err(Problem::not_found()),
        };
        if !matches!(head.method, Method::GET | Method::HEAD) {
            return Err(Problem::method_not_allowed("GET, HEAD".to_owned()));
        }
        let mut answer = Response::new(EdgeBody::from(Bytes::from(text)));
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer.headers_mut().insert(CACHE_CONTROL, NO_STORE);
        Ok(answer)
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        let given = token_of(headers).ok().flatten();
        // Hashes are compared, so that the time it takes says nothing of the token.
        self.token.is_some_and(|token| {
            given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given.as_bytes())) == token)
        })
    }

    fn status(&self) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": now().saturating_duration_since(self.began).as_secs(),
            "connections_open": self.counters.open(),
            "is_failing_open": self.edge.is_failing_open(),
            "backends": self.edge.status().iter().map(backend).collect::<Vec<_>>(),
        })
    }

    fn metrics(&self) -> String {
        let mut text = self.edge.metrics();
        for figure in self.counters.figures() {
            let inlet_server::Figure { name, kind, help, value } = figure;
            text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"));
        }
        text.push_str(&(self.more_figures)());
        text
    }
}

impl Service for EdgeService {
    type Body = EdgeBody;

    async fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        peer: inlet_server::Peer,
    ) -> Response<EdgeBody> {
        let redirects_to = peer.redirects_to;
        let peer = Peer { address: peer.address, is_tls: peer.is_secure };
        if let Some(port) = redirects_to {
            return redirect(&self.edge, &request.into_parts().0, peer, port);
        }
        if request.uri().path().starts_with(OWN) {
            let head = request.into_parts().0;
            let answer = self.own(&head, &peer);
            return answer.unwrap_or_else(|problem| self.edge.refuse(&head, peer, &problem));
        }
        self.edge.call(request, peer).await
    }

    fn refuse(&self, refusal: Refusal, peer: inlet_server::Peer) -> Response<EdgeBody> {
        let problem = match refusal {
            Refusal::Malformed(reason) => Problem::malformed(reason),
            Refusal::HeadTooLarge => Problem::head_too_large(),
            Refusal::Late => Problem::request_timeout(),
        };
        let head = Request::new(()).into_parts().0;
        let peer = Peer { address: peer.address, is_tls: peer.is_secure };
        self.edge.refuse(&head, peer, &problem)
    }

    fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }
}

/// Sends the client to the same place over HTTPS.
fn redirect(edge: &Edge, head: &request::Parts, peer: Peer, port: u16) -> Response<EdgeBody> {
    let Some(location) = https_location(head, port) else {
        let problem = Problem::malformed("there is no Host to redirect to");
        return edge.refuse(head, peer, &problem);
    };
    let mut answer = Response::new(EdgeBody::from(Bytes::new()));
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, location);
    edge.answer(head, peer, answer)
}

fn backend(status: &BackendStatus) -> Value {
    let share = match status.standing {
        Standing::Unknown => 1.0,
        Standing::Up(share) => share,
        Standing::Down | Standing::Ejected(_) => 0.0,
    };
    let ejections = status.ejections.iter();
    let ejections: serde_json::Map<String, Value> =
        ejections.map(|(cause, count)| (cause.as_str().to_owned(), json!(count))).collect();
    json!({
        "id": status.id,
        "zone": status.zone,
        "address": status.address,
        "health": status.standing.as_str(),
        "share": share,
        "is_draining": status.is_draining,
        "in_flight": status.outstanding,
        "latency_us": status.latency_us,
        "connections_idle": status.connections_idle,
        "requests": status.requests,
        "retries": status.retries,
        "connects": status.connects,
        "connect_errors": status.connect_errors,
        "answer_errors": status.answer_errors,
        "checks_failed": status.checks_failed,
        "ejections": ejections,
    })
}
