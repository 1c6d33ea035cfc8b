//! What goes through the edge, both ways.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use inlet_edge::firewall::Route;
use inlet_edge::{BackendTls, Edge, EdgeBodyError};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::instance::{Does, Instance};
use crate::setup::{PEER, get, post, request, send, unchecked, until};

type Piece = Result<Frame<Bytes>, std::io::Error>;

/// A body that is sent piece by piece.
struct Pieces(mpsc::UnboundedReceiver<Piece>);

fn pieces() -> (mpsc::UnboundedSender<Piece>, Pieces) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (sender, Pieces(receiver))
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.0.poll_recv(cx)
    }
}

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

#[tokio::test]
async fn a_request_reaches_an_instance_and_its_answer_comes_back() {
    let instance = Instance::start("one").await;
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let answer = post(&edge, "/api/save?stream=orders", "{}").await;
    assert_eq!(answer.text(), "one {}");
    let seen = &instance.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/api/save?stream=orders"));
    assert_eq!(seen.body.as_deref(), Some(b"{}".as_slice()));
    assert_eq!(seen.headers["host"], "inlet.test");
    assert_eq!(seen.headers["x-forwarded-for"], "192.0.2.7");
    assert_eq!(seen.headers["x-forwarded-proto"], "https");
    assert_eq!(seen.headers["content-length"], "2");
    assert_eq!(seen.headers["x-request-id"], answer.headers["x-request-id"]);
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let instance = Instance::start("one").await;
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    for _ in 0..20 {
        assert_eq!(get(&edge, "/").await.from(), "one");
        assert_eq!(send(&edge, request(Method::HEAD, "/", "")).await.body.len(), 0);
    }
    assert_eq!(instance.connections(), 1);
}

#[tokio::test]
async fn bodies_are_streamed_both_ways_at_once() {
    let instance = Instance::start("one").await;
    instance.does(Does::Echo);
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let (sender, body) = pieces();
    sender.send(piece("first")).unwrap();
    let answer = edge.call(Request::post("/").body(body).unwrap(), PEER).await;
    assert_eq!(answer.status(), 200);
    let mut back = answer.into_body();
    for next in ["first", "second", "third"] {
        let frame = back.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), next);
        // The next piece is sent only when this one has come back.
        match next {
            "first" => sender.send(piece("second")).unwrap(),
            "second" => sender.send(piece("third")).unwrap(),
            _ => {}
        }
    }
    drop(sender);
    assert!(back.frame().await.is_none());
}

#[tokio::test]
async fn a_body_of_unknown_length_is_cut_off_at_its_routes_limit() {
    let instance = Instance::start("one").await;
    let route = Route {
        method: Method::POST,
        path: "/api/save".to_owned(),
        content_types: Vec::new(),
        body_bytes_max: 10,
        is_keyed: false,
    };
    let mut options = unchecked(&[&instance]);
    options.routes = vec![route];
    let edge = Edge::new(options).unwrap();
    let (sender, body) = pieces();
    sender.send(piece("0123456789")).unwrap();
    let asking = tokio::spawn(async move {
        edge.call(Request::post("/api/save").body(body).unwrap(), PEER).await.status()
    });
    until("it arrives", || instance.arrivals() == 1).await;
    sender.send(piece("x")).unwrap();
    assert_eq!(asking.await.unwrap(), 413);
    until("the instance saw it", || instance.count() == 1).await;
    assert_eq!(instance.seen()[0].body, None, "it must not look whole");
}

#[tokio::test]
async fn a_client_that_breaks_off_leaves_the_instance_no_whole_body() {
    let instance = Instance::start("one").await;
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let (sender, body) = pieces();
    sender.send(piece("half")).unwrap();
    let asking = tokio::spawn(async move {
        edge.call(Request::post("/").body(body).unwrap(), PEER).await.status()
    });
    until("it arrives", || instance.arrivals() == 1).await;
    sender.send(Err(std::io::ErrorKind::ConnectionReset.into())).unwrap();
    assert_eq!(asking.await.unwrap(), 400);
    until("the instance saw it", || instance.count() == 1).await;
    assert_eq!(instance.seen()[0].body, None, "it must not look whole");
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let instance = Instance::start("one").await;
    instance.does(Does::BreakOffInBody);
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let answer = edge.call(request(Method::GET, "/", ""), PEER).await;
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(matches!(error, EdgeBodyError::Backend(_)), "{error:?}");
}

#[tokio::test]
async fn an_answer_that_stops_is_given_up_on() {
    let instance = Instance::start("one").await;
    instance.does(Does::HangInBody);
    let mut options = unchecked(&[&instance]);
    options.connections.response_ms = 50;
    let edge = Edge::new(options).unwrap();
    let answer = edge.call(request(Method::GET, "/", ""), PEER).await;
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(matches!(error, EdgeBodyError::Silent(_)), "{error:?}");
    assert_eq!(edge.status()[0].outstanding, 0);
}

#[tokio::test]
async fn a_protocol_switch_nobody_asked_for_is_a_broken_answer() {
    let instance = Instance::start("one").await;
    instance.does(Does::Switch);
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let answer = post(&edge, "/", "").await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.problem()["code"], "InstanceFailed");
}

#[tokio::test]
async fn a_client_that_goes_away_frees_what_it_held() {
    let instance = Instance::start("one").await;
    instance.does(Does::Hang);
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    let asking = tokio::spawn({
        let edge = edge.clone();
        async move { get(&edge, "/").await }
    });
    until("it is asked", || instance.count() == 1).await;
    assert_eq!(edge.status()[0].outstanding, 1);
    asking.abort();
    until("it is let go", || edge.status()[0].outstanding == 0).await;
}

#[tokio::test]
async fn idle_connections_are_closed_after_their_time() {
    let instance = Instance::start("one").await;
    let mut options = unchecked(&[&instance]);
    options.connections.idle_ms = 30;
    let edge = crate::setup::running(options, 1).await;
    get(&edge, "/").await;
    assert_eq!(edge.status()[0].connections_idle, 1);
    until("it is closed", || edge.status()[0].connections_idle == 0).await;
    get(&edge, "/").await;
    assert_eq!(instance.connections(), 2);
}

#[tokio::test]
async fn an_instance_is_spoken_to_over_tls_with_the_given_root_and_no_other() {
    let certificate = rcgen::generate_simple_self_signed(["inlet.internal".to_owned()]).unwrap();
    let key =
        PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certificate.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let instance = Instance::start_with("one", Some(acceptor)).await;
    let with = |roots, server_name: &str| {
        let mut options = unchecked(&[&instance]);
        options.backends[0].tls = Some(BackendTls { roots, server_name: server_name.to_owned() });
        Edge::new(options).unwrap()
    };
    let right = vec![certificate.cert.der().clone()];
    let edge = with(right.clone(), "inlet.internal");
    assert_eq!(post(&edge, "/", "{}").await.text(), "one {}");
    assert_eq!(post(&edge, "/", "{}").await.text(), "one {}");
    assert_eq!(instance.connections(), 1, "kept");
    let other = rcgen::generate_simple_self_signed(["inlet.internal".to_owned()]).unwrap();
    for edge in [with(vec![other.cert.der().clone()], "inlet.internal"), with(right, "other.test")]
    {
        assert_eq!(get(&edge, "/").await.status, 503);
    }
    assert_eq!(instance.count(), 2);
}

#[tokio::test]
async fn what_takes_its_time_is_waited_for() {
    let instance = Instance::start("one").await;
    instance.does(Does::Slow(Duration::from_millis(450)));
    let edge = Edge::new(unchecked(&[&instance])).unwrap();
    assert_eq!(get(&edge, "/").await.from(), "one");
    assert!(edge.status()[0].latency_us > 400_000);
}
