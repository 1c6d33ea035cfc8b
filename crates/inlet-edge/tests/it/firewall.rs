//! The model and the rules, through the edge.

use std::fs;

use http::Method;
use inlet_edge::firewall::Route;
use inlet_edge::{Edge, Peer};

use crate::instance::Instance;
use crate::setup::{get, request, send, send_from, unchecked};

const BLOCK_X: &str = "[[rules]]\nname = \"x\"\naction = \"block\"\npath = '^/x'\n\
                       [[rules]]\nname = \"seen\"\naction = \"count\"\nmethods = [\"GET\"]\n";

#[tokio::test]
async fn a_rule_blocks_and_another_counts_and_both_show() {
    let instance = Instance::start("one").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("firewall.toml");
    fs::write(&path, BLOCK_X).unwrap();
    let mut options = unchecked(&[&instance]);
    options.firewall = Some(path);
    let edge = Edge::new(options).unwrap();
    assert_eq!(get(&edge, "/y").await.status, 200);
    let blocked = get(&edge, "/x").await;
    assert_eq!(blocked.status, 403);
    assert_eq!(blocked.problem()["code"], "Forbidden");
    assert_eq!(get(&edge, "/%78").await.status, 403, "encoding is no way around it");
    assert_eq!(instance.count(), 1);
    let metrics = edge.metrics();
    for line in [
        "inlet_edge_firewall_matches_total{rule=\"x\",action=\"block\"} 2\n",
        "inlet_edge_firewall_matches_total{rule=\"seen\",action=\"count\"} 1\n",
        "inlet_edge_problems_total{code=\"Forbidden\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_broken_file_leaves_the_old_rules_in_force_and_says_why() {
    let instance = Instance::start("one").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("firewall.toml");
    fs::write(&path, BLOCK_X).unwrap();
    let mut options = unchecked(&[&instance]);
    options.firewall = Some(path.clone());
    let edge = Edge::new(options.clone()).unwrap();
    assert_eq!(get(&edge, "/x").await.status, 403);

    fs::write(
        &path,
        format!("{BLOCK_X}\n[[rules]]\nname = \"y\"\naction = \"block\"\npath = '('\n"),
    )
    .unwrap();
    let error = edge.set_firewall(Some(&path)).unwrap_err();
    let text = format!("{error}");
    assert!(text.contains("firewall.toml: line 13: not a regular expression"), "{text}");
    assert_eq!(get(&edge, "/x").await.status, 403);
    assert!(Edge::new(options).is_err(), "nothing starts with a broken file");

    fs::remove_file(&path).unwrap();
    assert!(edge.set_firewall(Some(&path)).is_err());
    assert_eq!(get(&edge, "/x").await.status, 403);

    fs::write(&path, BLOCK_X.replace("'^/x'", "'^/z'")).unwrap();
    edge.set_firewall(Some(&path)).unwrap();
    assert_eq!(get(&edge, "/x").await.status, 200);
    assert_eq!(get(&edge, "/z").await.status, 403);
    let counted = "inlet_edge_firewall_matches_total{rule=\"x\",action=\"block\"} 4\n";
    assert!(edge.metrics().contains(counted), "counts go on: {}", edge.metrics());
}

#[tokio::test]
async fn a_rate_blocks_with_429_by_address() {
    let instance = Instance::start("one").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("firewall.toml");
    let rule =
        "[[rules]]\nname = \"r\"\naction = \"block\"\nrate = { requests = 2, seconds = 600 }\n";
    fs::write(&path, rule).unwrap();
    let mut options = unchecked(&[&instance]);
    options.firewall = Some(path);
    let edge = Edge::new(options).unwrap();
    let from = async |address: &str| {
        let peer = Peer { address: address.parse().unwrap(), is_tls: true };
        send_from(&edge, request(Method::GET, "/", ""), peer).await
    };
    assert_eq!(from("192.0.2.1").await.status, 200);
    assert_eq!(from("192.0.2.1").await.status, 200);
    let over = from("192.0.2.1").await;
    assert_eq!(over.status, 429);
    assert_eq!(over.headers["retry-after"], "300");
    assert_eq!(from("192.0.2.2").await.status, 200);
}

#[tokio::test]
async fn what_is_not_in_the_model_never_reaches_an_instance() {
    let instance = Instance::start("one").await;
    let mut options = unchecked(&[&instance]);
    options.routes = vec![Route {
        method: Method::POST,
        path: "/api/save".to_owned(),
        content_types: vec!["application/json".to_owned()],
        body_bytes_max: 16,
        is_keyed: true,
    }];
    let edge = Edge::new(options).unwrap();
    let ask = async |method: Method, target: &str, kind: &str, body: &'static str| {
        let mut request = request(method, target, body);
        request.headers_mut().insert("content-type", kind.parse().unwrap());
        send(&edge, request).await
    };
    let json = "application/json";
    assert_eq!(ask(Method::POST, "/api/save?stream=a", json, "{}").await.status, 200);
    let table = [
        (ask(Method::POST, "/api/other", json, "{}").await, 404, "NotFound"),
        (ask(Method::PUT, "/api/save", json, "{}").await, 405, "MethodNotAllowed"),
        (ask(Method::POST, "/api/save", "text/xml", "{}").await, 415, "MediaTypeUnsupported"),
        (ask(Method::POST, "/api/save", json, "{\"a\":\"0123456789\"}").await, 413, "BodyTooLarge"),
        (ask(Method::POST, "/api/../api/save", json, "{}").await, 400, "RequestMalformed"),
        (ask(Method::POST, "/api%2fsave", json, "{}").await, 400, "RequestMalformed"),
    ];
    for (answer, status, code) in table {
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.problem()["code"], code);
    }
    assert_eq!(instance.count(), 1);
}
