//! What is not under `/api`, the redirects, and what all answers share.

use std::fs;
use std::sync::Arc;

use inlet_core::failure::{Failure, FailureKind};
use inlet_core::health::State;
use inlet_http::Pages;
use inlet_server::Transport;
use inlet_testkit::fault::{FailingStore, Faults};
use inlet_testkit::memory::{MemoryQueue, MemoryStore};
use serde_json::json;

use crate::client::{Connection, ask, json_headers, request};
use crate::harness::{Harness, READ, SAVE, Setup};

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

#[tokio::test]
async fn the_landing_page_tells_who_serves_and_what_is_stored() {
    let server = Harness::start().await;
    ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"{}").await;
    server.persist().await;
    let json = ask(server.address, "GET", "/", &[], b"").await.json();
    assert_eq!(
        (json["instance"].as_str(), json["zone"].as_str()),
        (Some("test-1"), Some("zone-a"))
    );
    assert_eq!(
        (json["store"]["documents"].as_u64(), json["accepted"].as_u64()),
        (Some(1), Some(1))
    );
    assert_eq!(json["warnings"], serde_json::json!([]));
    server.app.metrics.bucket_on_store_disk(true);
    let json = ask(server.address, "GET", "/", &[], b"").await.json();
    assert!(json["warnings"][0].as_str().unwrap().contains("disk"), "{json}");
    // And the console shows them.
    for (path, part) in [("/console", "id=\"warnings\""), ("/console.js", "{ warnings }")] {
        let answer = ask(server.address, "GET", path, &[], b"").await;
        assert!(answer.text().contains(part), "{path}");
    }
    let page = ask(server.address, "GET", "/", &[BROWSER], b"").await;
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("test-1") && page.text().contains("zone-a"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    // The line to paste is that of the client's side of a proxy.
    assert!(
        page.text().contains("http://") && !page.text().contains("https://"),
        "{}",
        page.text()
    );
    let forwarded = [BROWSER, ("X-Forwarded-Proto", "https")];
    let page = ask(server.address, "GET", "/", &forwarded, b"").await;
    assert!(page.text().contains("https://"), "{}", page.text());
}

#[tokio::test]
async fn readiness_and_metrics_tell_the_state_of_each_part_and_no_text_of_an_engine() {
    let server = Harness::start().await;
    let part = server.app.health.part("persist");
    let failure = Failure::new(FailureKind::Refused, "write to", "postgres://secret-host");
    part.degraded(&failure.because("permission denied"));
    let degraded = ask(server.address, "GET", "/readyz", &[], b"").await;
    assert_eq!((degraded.status, &degraded.json()["status"]), (200, &json!("degraded")));
    let shown = &degraded.json()["parts"][0];
    assert_eq!((&shown["name"], &shown["cause"]), (&json!("persist"), &json!("refused")));
    assert!(shown["since"].is_string() && !degraded.text().contains("secret"));
    let metrics = ask(server.address, "GET", "/metrics", &[], b"").await;
    let metrics = metrics.text();
    assert!(metrics.contains("inlet_part_state{part=\"persist\"} 1"), "{metrics}");
    assert!(metrics.contains("inlet_part_failures_total{part=\"persist\"} 1"), "{metrics}");
    part.fails_as(State::Unready, "poisoned", "a sync failed", None);
    assert_eq!(ask(server.address, "GET", "/readyz", &[], b"").await.status, 503);
    part.works();
    assert_eq!(ask(server.address, "GET", "/readyz", &[], b"").await.json()["status"], "ready");
}

#[tokio::test]
async fn a_store_that_is_away_leaves_the_instance_ready_and_a_full_queue_does_not() {
    let faults = Faults::default();
    let store = Arc::new(FailingStore::new(MemoryStore::default(), faults.clone()));
    let server = Harness::start_with(Setup { store: Some(store), ..Setup::default() }).await;
    assert_eq!(ask(server.address, "GET", "/readyz", &[], b"").await.json()["status"], "ready");
    faults.set_away(true);
    let degraded = ask(server.address, "GET", "/readyz", &[], b"").await;
    assert_eq!((degraded.status, degraded.json()["status"].as_str()), (200, Some("degraded")));
    let landing = ask(server.address, "GET", "/", &[], b"").await;
    assert_eq!((landing.status, landing.json()["store"].is_null()), (200, true));
    let away = ask(server.address, "GET", "/api/streams", &[("X-Auth-Token", READ)], b"").await;
    assert_eq!((away.status, away.code().as_str()), (503, "Unavailable"));

    let queue = MemoryQueue::new(1);
    queue.send_raw("full");
    let server =
        Harness::start_with(Setup { queue: Some(Arc::new(queue)), ..Setup::default() }).await;
    let full = ask(server.address, "GET", "/readyz", &[], b"").await;
    assert_eq!((full.status, full.json()["queue"].as_str()), (503, Some("full")));
    assert_eq!(ask(server.address, "GET", "/healthz", &[], b"").await.status, 200);
}

#[tokio::test]
async fn metrics_count_what_happened() {
    let server = Harness::start().await;
    ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"{}").await;
    ask(server.address, "POST", "/api/save", &json_headers(SAVE), b"{").await;
    let answer = ask(server.address, "GET", "/metrics", &[("X-Auth-Token", READ)], b"").await;
    let text = answer.text();
    for line in [
        "inlet_accepted_documents_total 1",
        "inlet_accepted_bytes_total 2",
        "inlet_requests_total{method=\"POST\",path=\"/api/save\",status=\"2xx\"} 1",
        "inlet_requests_total{method=\"POST\",path=\"/api/save\",status=\"4xx\"} 1",
        "inlet_refused_total{code=\"JsonInvalid\"} 1",
        "inlet_request_duration_seconds_count 2",
        "inlet_ready 1",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("inlet_queue_bytes "));
    assert_eq!(ask(server.address, "GET", "/metrics", &[], b"").await.status, 200);
}

#[tokio::test]
async fn a_browser_gets_a_page_for_an_error_and_it_can_be_replaced() {
    let server = Harness::start().await;
    let page = ask(server.address, "GET", "/none", &[BROWSER], b"").await;
    assert_eq!((page.status, page.header("content-type")), (404, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("There is nothing here."));

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("4xx.html"), "<p>{{status}} {{detail}} {{request_id}}</p>")
        .unwrap();
    fs::write(folder.path().join("404.html"), "<p>lost</p>").unwrap();
    fs::write(folder.path().join("notes.txt"), "no page").unwrap();
    let pages = Pages::from_folder(folder.path()).unwrap();
    let server = Harness::start_with(Setup { pages, ..Setup::default() }).await;
    assert_eq!(ask(server.address, "GET", "/none", &[BROWSER], b"").await.text(), "<p>lost</p>");
    let headers = [BROWSER, ("X-Request-Id", "r-1")];
    let page = ask(server.address, "PUT", "/api/save", &headers, b"").await;
    assert!(page.text().starts_with("<p>405 ") && page.text().ends_with(" r-1</p>"));
    assert_eq!(page.header("allow"), Some("POST, OPTIONS"));
    let json = ask(server.address, "GET", "/none", &[], b"").await;
    assert_eq!(json.header("content-type"), Some("application/problem+json"));
}

#[tokio::test]
async fn the_default_checks_of_load_balancers_are_answered_at_every_door() {
    let checks = [
        "OPTIONS / HTTP/1.0\r\n\r\n",
        "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS * HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "OPTIONS /api/save HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for transport in [Transport::Plain, Transport::Redirect { https_port: 8443 }] {
        let redirects = matches!(transport, Transport::Redirect { .. });
        let server = Harness::start_with(Setup { transport, ..Setup::default() }).await;
        for check in checks {
            let mut connection = Connection::open(server.address).await;
            connection.send(check).await;
            let answer = connection.answer_to("HEAD").await.unwrap();
            assert!((200..400).contains(&answer.status), "{check} {redirects} {}", answer.status);
            if check.starts_with("OPTIONS") {
                assert!(answer.header("allow").unwrap().ends_with("OPTIONS"), "{check}");
            }
        }
    }
    let server = Harness::start().await;
    assert_eq!(ask(server.address, "OPTIONS", "/none", &[], b"").await.status, 404);
}

#[tokio::test]
async fn own_pages_load_nothing_from_elsewhere() {
    let server = Harness::start().await;
    for path in ["/", "/docs", "/console", "/console.js", "/style.css", "/openapi.json"] {
        let answer = ask(server.address, "GET", path, &[BROWSER], b"").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body.len() > 100, "{path}");
        let text = answer.text().replace("http://www.w3.org/", "");
        for outside in ["src=\"http", "href=\"http", "url(http", "@import", "<script>", "style=\""]
        {
            assert!(!text.contains(outside), "{path} has {outside}");
        }
    }
}

#[tokio::test]
async fn the_description_has_every_route() {
    let server = Harness::start().await;
    let json = ask(server.address, "GET", "/openapi.json", &[], b"").await.json();
    assert_eq!(json["openapi"], "3.1.0");
    for route in inlet_http::routes::ROUTES {
        let method = route.method.as_str().to_ascii_lowercase();
        let operation = &json["paths"][route.path.replace("*}", "}")][&method];
        assert_eq!(operation["summary"], route.summary, "{method} {}", route.path);
    }
    let page = ask(server.address, "GET", "/docs", &[BROWSER], b"").await;
    assert!(page.text().contains("id=\"JsonInvalid\""), "each code has its anchor");
}

#[tokio::test]
async fn plain_http_redirects_and_answers_health_only() {
    let transport = Transport::Redirect { https_port: 8443 };
    let server = Harness::start_with(Setup { transport, ..Setup::default() }).await;
    let mut connection = Connection::open(server.address).await;
    connection.send("GET /api/streams?a=b HTTP/1.1\r\nHost: inlet.example:8080\r\n\r\n").await;
    let answer = connection.answer().await.unwrap();
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://inlet.example:8443/api/streams?a=b"));
    connection.send(request("POST", "/api/save", &json_headers(SAVE), b"{}")).await;
    assert_eq!(connection.answer().await.unwrap().status, 308);
    let answer = ask(server.address, "GET", "/none", &[], b"").await;
    assert_eq!(answer.status, 308, "whether it is there is told over there");
    assert_eq!(ask(server.address, "GET", "/healthz", &[], b"").await.status, 200);
    assert_eq!(ask(server.address, "GET", "/readyz", &[], b"").await.status, 200);
    assert!(server.queue.is_empty());
}
