//! What is written down: the access log and the metrics, and pages for people.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::Method;
use inlet_edge::{AccessLog, Edge};

use crate::instance::{Does, Instance};
use crate::setup::{get, request, send, unchecked};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn each_request_leaves_one_line_without_token_query_or_body() {
    let instance = Instance::start("one").await;
    let sink = Sink::default();
    let (log, writer) = AccessLog::new();
    let writer = std::thread::spawn({
        let sink = sink.clone();
        move || writer.run(sink)
    });
    let mut options = unchecked(&[&instance]);
    options.access_log = Some(log);
    options.wall_clock = || SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let edge = Edge::new(options).unwrap();
    let mut save = request(Method::POST, "/api/save?stream=private", "{\"body\":1}");
    save.headers_mut().insert("x-auth-token", "inlet_secret".parse().unwrap());
    save.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
    send(&edge, save).await;
    get(&edge, "/a/../b").await;
    drop(edge);
    writer.join().unwrap();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    for secret in ["inlet_secret", "private", "body"] {
        assert!(!text.contains(secret), "{text}");
    }
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    let saved = &lines[0];
    assert_eq!(saved["time"], "2027-01-15T08:00:00Z");
    assert_eq!(saved["request_id"], "r-1");
    assert_eq!(saved["client"], "192.0.2.7");
    assert_eq!((&saved["method"], &saved["path"]), (&"POST".into(), &"/api/save".into()));
    assert_eq!((&saved["status"], &saved["attempts"]), (&200.into(), &1.into()));
    assert_eq!((&saved["bytes_in"], &saved["bytes_out"]), (&10.into(), &14.into()));
    assert_eq!((&saved["backend"], &saved["zone"]), (&"one".into(), &"a".into()));
    assert!(saved["duration_us"].as_u64().unwrap() > 0);
    assert_eq!(
        (&lines[1]["status"], &lines[1]["refused"]),
        (&400.into(), &"RequestMalformed".into())
    );
    assert!(lines[1].get("backend").is_none());
}

#[tokio::test]
async fn metrics_show_each_backend() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let mut options = unchecked(&[&one, &two]);
    options.health.connect_errors = 1;
    let edge = Edge::new(options).unwrap();
    two.is_killed();
    for _ in 0..10 {
        get(&edge, "/").await;
    }
    let metrics = edge.metrics();
    for line in [
        "inlet_edge_backend_up{backend=\"one\",zone=\"a\"} 1\n",
        "inlet_edge_backend_up{backend=\"two\",zone=\"a\"} 0\n",
        "inlet_edge_backend_outstanding{backend=\"one\",zone=\"a\"} 0\n",
        "inlet_edge_backend_requests_total{backend=\"one\",zone=\"a\"} 10\n",
        "inlet_edge_backend_retries_total{backend=\"one\",zone=\"a\"} 1\n",
        "inlet_edge_backend_connect_errors_total{backend=\"two\",zone=\"a\"} 1\n",
        "inlet_edge_backend_ejections_total{backend=\"two\",zone=\"a\",cause=\"connect\"} 1\n",
        "inlet_edge_answers_total{class=\"2xx\"} 10\n",
        "inlet_edge_failing_open 0\n",
        "# TYPE inlet_edge_backend_latency_seconds gauge\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
}

#[tokio::test]
async fn a_browser_gets_the_operators_page_also_when_no_instance_is_alive() {
    let instance = Instance::start("one").await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("5xx.html"), "<p>{{status}} {{request_id}}</p>").unwrap();
    let mut options = unchecked(&[&instance]);
    options.pages = Some(folder.path().to_owned());
    options.hsts_s = Some(86_400);
    let edge = Edge::new(options).unwrap();
    instance.is_killed();
    let browse = async |target: &str| {
        let mut request = request(Method::GET, target, "");
        request.headers_mut().insert("accept", "text/html, */*;q=0.8".parse().unwrap());
        request.headers_mut().insert("x-request-id", "r-1".parse().unwrap());
        send(&edge, request).await
    };
    let page = browse("/").await;
    assert_eq!((page.status.as_u16(), page.text()), (503, "<p>503 r-1</p>"));
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["strict-transport-security"], "max-age=86400");
    let built_in = browse("/a//b").await;
    assert!(built_in.text().contains("<h1>The request is not well-formed</h1>"));
    std::fs::write(folder.path().join("5xx.html"), "changed").unwrap();
    edge.set_pages(Some(folder.path())).unwrap();
    assert_eq!(browse("/").await.text(), "changed");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_marked_in_its_line() {
    let instance = Instance::start("one").await;
    instance.does(Does::BreakOffInBody);
    let sink = Sink::default();
    let (log, writer) = AccessLog::new();
    let writer = std::thread::spawn({
        let sink = sink.clone();
        move || writer.run(sink)
    });
    let mut options = unchecked(&[&instance]);
    options.access_log = Some(log);
    let edge = Edge::new(options).unwrap();
    let answer = edge.call(request(Method::GET, "/", ""), crate::setup::PEER).await;
    assert!(http_body_util::BodyExt::collect(answer.into_body()).await.is_err());
    drop(edge);
    writer.join().unwrap();
    let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!(line["broken"], true);
    assert_eq!(line["bytes_out"], 10);
}
