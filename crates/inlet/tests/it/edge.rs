//! `inlet edge` before two `inlet serve` and a worker on one data directory: real processes that
//! are killed, stopped and started again.

mod ailing;
mod doors;
mod faults;
mod names;
mod site;
mod tenants;

use std::collections::VecDeque;

use serde_json::Value;

use self::site::Site;
use crate::server::{TOKEN, inlet, until};

#[test]
fn both_instances_answer_in_turn_and_the_edge_tells_how_they_stand() {
    let site = Site::start(&[]);
    let id = site.edge.save("[1]");
    site.edge.wait_until_stored(&id);
    // One that was slow a moment ago is asked less for a while, so not all of them count.
    let mut last = VecDeque::new();
    until("of the last 20 requests each has answered 8", || {
        let landing = site.edge.get("/");
        assert_eq!(landing.headers["x-instance-id"].to_str().unwrap(), landing.json()["instance"]);
        assert!(landing.json()["store"]["documents"].is_u64());
        last.push_back(landing.json()["instance"].as_str().unwrap().to_owned());
        last.drain(..last.len().saturating_sub(20));
        ["one", "two"].iter().all(|id| last.iter().filter(|last| last == id).count() >= 8)
    });
    let status = site.edge.get("/edge/status").json();
    let backends = status["backends"].as_array().unwrap();
    let zones: Vec<_> = backends.iter().map(|backend| &backend["zone"]).collect();
    assert_eq!(zones, ["a", "b"]);
    assert!(backends.iter().all(|backend| backend["requests"].as_u64().unwrap() >= 8));
    let metrics = site.edge.get("/edge/metrics").text();
    assert!(metrics.contains("inlet_edge_backend_up{backend=\"one\",zone=\"a\"} 1"), "{metrics}");
    assert!(site.edge.stop().success());
}

#[test]
fn the_status_of_an_edge_tells_how_its_instances_stand() {
    let mut site = Site::start(&[]);
    let print = |flags: &[&str]| {
        let mut command = inlet(&site.path(""));
        let output = command.arg("status").args(flags).env("INLET_TOKEN", TOKEN).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let data = site.path("edge");
    let here = print(&["--data", data.to_str().unwrap()]);
    assert!(here.starts_with("edge "), "{here}");
    assert_eq!(here.lines().filter(|line| line.contains("127.0.0.1:")).count(), 2, "{here}");
    let told = print(&["--json", "--url", site.edge.plain()]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["backends"][1]["id"], "two");
    let two = site.behind.two.take().unwrap();
    two.kill();
    until("it is known to be down", || site.health("two") == "down");
    let mut command = inlet(&site.path(""));
    let output = command.args(["status", "--data"]).arg(&data).output().unwrap();
    let here = String::from_utf8(output.stdout).unwrap();
    let line = here.lines().find(|line| line.starts_with("two ")).unwrap();
    assert!(line.contains(" down "), "{here}");
}

#[test]
fn what_instances_do_not_answer_is_refused_at_the_edge() {
    let site = Site::start(&["--body-bytes-max", "1KiB"]);
    let table = [
        ("GET", "/nothing", None, "", 404),
        ("POST", "/api/documents", None, "", 405),
        ("POST", "/api/save", Some("text/plain"), "{}", 415),
        ("POST", "/api/save", Some("application/json"), &"1".repeat(1025), 413),
        ("GET", "/api/../metrics", None, "", 400),
    ];
    for (method, path, kind, body, status) in table {
        let answer = match method {
            "GET" => site.edge.get(path),
            _ => site.edge.post(
                path,
                &[("Content-Type", kind.unwrap_or("text/plain"))],
                body.as_bytes(),
            ),
        };
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(
            !answer.headers.contains_key("x-instance-id"),
            "{method} {path}: an instance said so"
        );
    }
    let Value::Object(_) = site.edge.post("/api/save", &[], b"{}").json() else {
        panic!("what is in the model passes");
    };
}

#[test]
fn rules_plans_and_instances_are_taken_up_while_it_runs() {
    let site = Site::prepare();
    let (rules, plans) = (site.path("firewall.toml"), site.path("plans.toml"));
    std::fs::write(&rules, "").unwrap();
    std::fs::write(&plans, "").unwrap();
    let (rules_text, plans_text) = (rules.to_str().unwrap(), plans.to_str().unwrap());
    let site = site.before(&["--firewall", rules_text, "--plans", plans_text]);
    let status = |path: &str| site.edge.get(path).status;
    assert_eq!(status("/docs"), 200);
    let rule = "[[rules]]\nname = \"no-docs\"\naction = \"block\"\npath = '^/docs$'\n";
    std::fs::write(&rules, rule).unwrap();
    until("the rule is in force", || status("/docs") == 403);
    // A broken file leaves the old rules in force; the one after it is the proof that it was read.
    std::fs::write(&rules, "[[rules]]\nname = 7\n").unwrap();
    let plan = "address_plan = \"few\"\n[plans.few]\nrequests_per_second = 1\nrequests_burst = 3\n";
    std::fs::write(&plans, plan).unwrap();
    until("the plan is in force", || status("/healthz") == 429);
    let limited = site.edge.get("/healthz");
    assert_eq!(limited.status, 429);
    assert!(limited.headers.contains_key("retry-after"));
    assert!(limited.headers.contains_key("ratelimit-policy"));
    std::fs::write(&plans, "").unwrap();
    until("the plan is gone", || status("/healthz") == 200);
    assert_eq!(status("/docs"), 403);
    let matches = "inlet_edge_firewall_matches_total{rule=\"no-docs\",action=\"block\"}";
    assert!(site.edge.get("/edge/metrics").text().contains(matches));

    // The list of instances is a setting, and is read again when the edge is told to.
    site.configure(&["two"]);
    site.edge.signal(rustix::process::Signal::HUP);
    until("one instance is left", || {
        site.edge.get("/edge/status").json()["backends"].as_array().unwrap().len() == 1
    });
    assert_eq!(site.edge.get("/").json()["instance"], "two");
}

#[test]
fn the_access_log_has_a_line_a_request_and_can_be_moved_away() {
    let site = Site::prepare();
    let (log, moved) = (site.path("access.log"), site.path("access.log.1"));
    let rules = site.path("firewall.toml");
    let rule = |name: &str, action: &str| {
        format!("[[rules]]\nname = \"{name}\"\naction = \"{action}\"\npath = '^/docs$'\n")
    };
    std::fs::write(&rules, rule("seen", "count") + &rule("no-docs", "block")).unwrap();
    let (log_text, rules_text) = (log.to_str().unwrap(), rules.to_str().unwrap());
    let site = site.before(&["--access-log", log_text, "--firewall", rules_text]);
    assert_eq!(site.edge.get("/docs").status, 403);
    let id = site.edge.save("{\"secret\": true}");
    let lines = |path: &std::path::Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let whole = text.lines().filter(|line| line.ends_with('}'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    until("the line is there", || lines(&log).iter().any(|line| line["path"] == "/api/save"));
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains("secret") && !text.contains(TOKEN), "{text}");
    let all = lines(&log);
    let blocked = all.iter().find(|line| line["path"] == "/docs").unwrap();
    assert_eq!(blocked["rules"], serde_json::json!(["seen", "no-docs"]), "{blocked}");
    assert!(all.iter().all(|line| line["path"] == "/docs" || line.get("rules").is_none()));
    std::fs::rename(&log, &moved).unwrap();
    until("a new file is written to", || {
        site.edge.get(&format!("/api/receipts/{id}"));
        !lines(&log).is_empty()
    });
    let written = lines(&log).pop().unwrap();
    assert_eq!((&written["method"], &written["status"]), (&"GET".into(), &200.into()));
    assert!(["one", "two"].contains(&written["backend"].as_str().unwrap()), "{written}");
}
