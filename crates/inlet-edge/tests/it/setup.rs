//! Edges, requests and waiting, in the fewest words.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use inlet_edge::{BackendOptions, Edge, EdgeOptions, HealthOptions, Peer};

use crate::instance::Instance;

pub(crate) const PEER: Peer =
    Peer { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), is_tls: true };

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answered {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The id of the instance that answered.
    pub(crate) fn from(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.text());
        self.text().split(' ').next().unwrap()
    }

    pub(crate) fn problem(&self) -> serde_json::Value {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Options without checks, before these instances, all in zone `a`.
pub(crate) fn unchecked(instances: &[&Instance]) -> EdgeOptions {
    EdgeOptions {
        backends: instances.iter().map(|instance| instance.options("a")).collect(),
        health: HealthOptions { checks: false, slow_start_ms: 0, ..HealthOptions::default() },
        ..EdgeOptions::default()
    }
}

/// Options with quick checks, before these backends.
pub(crate) fn checked(backends: Vec<BackendOptions>) -> EdgeOptions {
    EdgeOptions {
        backends,
        health: HealthOptions {
            check_interval_ms: 20,
            check_doubt_ms: 10,
            slow_start_ms: 0,
            ejection_ms: 100,
            ..HealthOptions::default()
        },
        ..EdgeOptions::default()
    }
}

/// An edge whose loop runs for as long as the runtime does, once all that pass are up.
pub(crate) async fn running(options: EdgeOptions, up: usize) -> Edge {
    let edge = Edge::new(options).unwrap();
    let kept = edge.clone();
    tokio::spawn(async move { kept.run().await });
    until("backends are up", || up_count(&edge) == up).await;
    edge
}

pub(crate) fn up_count(edge: &Edge) -> usize {
    let statuses = edge.status();
    let up = |standing| matches!(standing, inlet_edge::health::Standing::Up(_));
    statuses.iter().filter(|status| up(status.standing) && !status.is_draining).count()
}

pub(crate) async fn send(edge: &Edge, request: Request<Full<Bytes>>) -> Answered {
    send_from(edge, request, PEER).await
}

pub(crate) async fn send_from(edge: &Edge, request: Request<Full<Bytes>>, peer: Peer) -> Answered {
    let (head, body) = edge.call(request, peer).await.into_parts();
    let body = body.collect().await.expect("the answer is whole").to_bytes();
    Answered { status: head.status, headers: head.headers, body }
}

pub(crate) fn request(method: Method, target: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(target).header("host", "inlet.test");
    request.body(Full::from(body)).unwrap()
}

pub(crate) async fn get(edge: &Edge, target: &str) -> Answered {
    send(edge, request(Method::GET, target, "")).await
}

pub(crate) async fn post(edge: &Edge, target: &str, body: &'static str) -> Answered {
    send(edge, request(Method::POST, target, body)).await
}

/// Waits for a condition, five seconds at most.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(5), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
