//! The edge in the process of `up`: its doors and the threads that serve them.

use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use inlet_edge::firewall::Route;
use inlet_edge::{Edge, EdgeBody, EdgeOptions, Peer};
use inlet_http::routes::{Endpoint, ROUTES};
use inlet_server::{
    Answered, Busy, ConnectionCounters, Lane, PacedBody, Refusal, Server, ServerOptions, Service,
    Shutdown, Transport, https_location,
};
use serde_json::json;
use tokio::task::JoinSet;

use super::metrics::Figures;
use crate::config::Settings;
use crate::data::DataDirectory;
use crate::roles::serve::{self, Doors, Listening};
use crate::roles::stop::Stop;
use crate::wire;

/// Where the figures of the edge and of all children are.
const FIGURES_PATH: &str = "/edge/metrics";
const FIGURES_TYPE: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
const PROBLEM_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

type AnswerBody = Either<EdgeBody, Full<Bytes>>;

/// A running edge.
pub(super) struct Front {
    pub(super) edge: Edge,
    pub(super) listening: Listening,
    threads: Vec<JoinHandle<()>>,
}

/// What answers at the doors.
struct Doorway {
    edge: Edge,
    figures: Figures,
    counters: ConnectionCounters,
}

impl Front {
    /// Starts the edge, without instances yet. It takes no more connections from the stop on, and
    /// answers what it has.
    pub(super) fn start(
        settings: &Settings,
        data: &DataDirectory,
        doors: Doors,
        figures: Figures,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let listening = doors.listening()?;
        let edge = Edge::new(EdgeOptions {
            lanes: settings.threads,
            routes: routes(),
            pages: settings.pages.clone(),
            ..EdgeOptions::default()
        })?;
        let counters = ConnectionCounters::default();
        let doorway = Doorway { edge: edge.clone(), figures, counters };
        let server = Server::new(Arc::new(doorway), options(settings));
        let mut open = Vec::new();
        if let Some(https) = listening.https {
            let certificates = serve::certificates(settings, data, &[https.ip()], stop)?;
            open.push((doors.https, Transport::Tls(certificates)));
            open.push((doors.http, Transport::Redirect { https_port: https.port() }));
        }
        open.push((doors.plain, Transport::Plain));
        let mut lanes: Vec<Vec<Lane<Doorway>>> =
            (0..settings.threads).map(|_| Vec::new()).collect();
        for (door, transport) in open {
            let Some(door) = door else { continue };
            for (thread, lane) in
                lanes.iter_mut().zip(server.lanes(door, transport, settings.threads)?)
            {
                thread.push(lane);
            }
        }
        let shutdown = Shutdown::new();
        tokio::spawn({
            let (shutdown, stop) = (shutdown.clone(), stop.clone());
            async move {
                stop.wait().await;
                shutdown.begin();
            }
        });
        let mut threads = Vec::new();
        for (index, lanes) in lanes.into_iter().enumerate() {
            let keeper = (index == 0).then(|| edge.clone());
            let (shutdown, runtime) = (shutdown.clone(), wire::runtime()?);
            let thread = std::thread::Builder::new()
                .name(format!("edge-{index}"))
                .spawn(move || runtime.block_on(serve(lanes, keeper, shutdown)))
                .context("could not start a thread of the edge")?;
            threads.push(thread);
        }
        Ok(Self { edge, listening, threads })
    }

    /// Waits until everything that was taken is answered, after the stop.
    pub(super) async fn ended(self) -> anyhow::Result<()> {
        for thread in self.threads {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await?;
            joined.map_err(|_| anyhow::anyhow!("a thread of the edge panicked"))?;
        }
        Ok(())
    }
}

impl Service for Doorway {
    type Body = AnswerBody;

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Busy,
    ) -> Answered<AnswerBody> {
        let address = connection.address().to_canonical();
        let (head, body) = request.into_parts();
        let own = match (connection.refusal_of(&head.method), connection.redirects_to()) {
            (Some(refusal), _) => Some(refused(refusal)),
            (None, Some(https_port)) => Some(redirected(&head, https_port)),
            // Of the whole machine, and so for this machine only.
            (None, None) if head.uri.path() == FIGURES_PATH && address.is_loopback() => {
                let text = self.figures.text(&self.edge, &self.counters);
                Some(answer(StatusCode::OK, FIGURES_TYPE, text))
            }
            (None, None) => None,
        };
        if let Some(own) = own {
            return Ok(connection.answer(own.map(Either::Right)));
        }
        let peer = Peer { address, is_tls: connection.is_secure() };
        let body = PacedBody::new(body, connection.deadlines());
        let answer = self.edge.call(Request::from_parts(head, body), peer).await;
        Ok(connection.answer(answer.map(Either::Left)))
    }

    fn counters(&self) -> &ConnectionCounters {
        &self.counters
    }
}

async fn serve(lanes: Vec<Lane<Doorway>>, keeper: Option<Edge>, shutdown: Shutdown) {
    if let Some(edge) = keeper {
        // It ends with the runtime, when everything is answered.
        tokio::spawn(async move { edge.run().await });
    }
    let mut serving = JoinSet::new();
    for lane in lanes {
        serving.spawn(lane.serve(shutdown.clone()));
    }
    while let Some(served) = serving.join_next().await {
        match served {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "a door of the edge can't be used"),
            Err(error) => tracing::error!(%error, "a door of the edge failed"),
        }
    }
}

/// As many connections as the settings allow and the process may open, of which instances need as
/// many again.
fn options(settings: &Settings) -> ServerOptions {
    let mut options = ServerOptions {
        connections_max: settings.connections_max.saturating_mul(2),
        connections_per_address_max: settings.connections_per_address_max,
        ..ServerOptions::default()
    }
    .within_file_limit();
    options.connections_max = (options.connections_max / 2).max(1);
    options.deadlines.drain = settings.shutdown;
    options
}

/// What instances answer, and nothing else. How large a body may be is theirs to say: a reload can
/// change it.
fn routes() -> Vec<Route> {
    let route = |route: &inlet_http::routes::Route| Route {
        method: route.method.clone(),
        path: route.path.to_owned(),
        content_types: Vec::new(),
        body_bytes_max: u64::MAX,
        is_keyed: route.endpoint == Endpoint::Save,
    };
    ROUTES.iter().map(route).collect()
}

fn answer(status: StatusCode, content_type: HeaderValue, text: String) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let (status, code, detail) = match refusal {
        Refusal::Malformed(why) => (StatusCode::BAD_REQUEST, "RequestMalformed", why),
        Refusal::Late => {
            (StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "the head came too slowly")
        }
    };
    let http_status = status.as_u16();
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": http_status,
        "detail": detail,
        "errorType": code,
        "httpStatus": http_status,
    });
    answer(status, PROBLEM_TYPE, problem.to_string())
}

/// To the same host, path and query with TLS.
fn redirected(head: &Parts, https_port: u16) -> Response<Full<Bytes>> {
    let Some(location) = https_location(head, https_port) else {
        return refused(Refusal::Malformed("there is no host to redirect to"));
    };
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    answer.headers_mut().insert(LOCATION, location);
    answer
}
