//! Engines that are away when a process starts: the door opens, says so, and recovers by itself.

use std::path::Path;

use inlet_testkit::proxy::{Act, Proxy};
use inlet_testkit::server::{Server as Engine, ServerKind, free_port};
use serde_json::{Value, json};

use super::servers::{AWS, Namespace, POSTGRES, Postgres, REDIS, start, try_migrate, variables_at};
use crate::server::{Server, TOKEN, inlet, until};

/// The state of a part of the process, by readiness.
fn part(server: &Server, name: &str) -> Value {
    let ready = server.get("/readyz").json();
    let parts = ready["parts"].as_array().unwrap();
    parts.iter().find(|part| part["name"] == name).cloned().unwrap_or_default()
}

/// The door is open though `name` fails for `cause`: documents are accepted, and readiness and
/// metrics say what fails and since when.
fn is_degraded(server: &Server, name: &str, cause: &str) {
    until("the cause is on the board", || part(server, name)["cause"] == cause);
    let failing = part(server, name);
    assert_eq!(failing["state"], "degraded", "{failing}");
    assert!(failing["since"].as_str().is_some_and(|since| since.starts_with("20")), "{failing}");
    let ready = server.get("/readyz");
    assert_eq!((ready.status, &ready.json()["status"]), (200, &json!("degraded")));
    let line = format!("inlet_part_state{{part=\"{name}\"}} 1");
    assert!(server.get("/metrics").text().lines().any(|found| found == line));
}

fn recovers(server: &Server, saved: &[String]) {
    for id in saved {
        server.wait_until_stored(id);
    }
    until("it is ready", || server.get("/readyz").json()["status"] == "ready");
    let dead = server.get("/api/dead-letters").json();
    assert_eq!(dead["dead_letters"].as_array().unwrap().len(), 0, "{dead}");
}

/// A database with the schema, on a server that this test may stop.
fn own_postgres() -> (Postgres, String) {
    let postgres = Postgres(Engine::start(ServerKind::Postgres));
    let url = postgres.empty_database();
    assert!(try_migrate(&["--store", &url]).status.success());
    (postgres, url)
}

#[test]
fn with_postgres_stopped_or_frozen_at_the_start_documents_are_accepted_and_stored_later() {
    let (mut postgres, url) = own_postgres();
    for is_frozen in [false, true] {
        if is_frozen {
            postgres.0.freeze()
        } else {
            postgres.0.stop(true)
        }
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let server = Server::start_with(&data, &["--store", &url], Some(TOKEN));
        let saved: Vec<String> = (0..5).map(|n| server.save(&format!("{{\"n\":{n}}}"))).collect();
        is_degraded(&server, "store", "unavailable");
        if is_frozen {
            postgres.0.thaw()
        } else {
            postgres.0.resume_or_start()
        }
        recovers(&server, &saved);
        assert!(server.stop().success());
    }
}

#[test]
fn with_postgres_refusing_the_password_at_the_start_documents_are_accepted_and_stored_later() {
    let (postgres, url) = own_postgres();
    let role = "late";
    let late = url.replace("inlet:inlet", &format!("{role}:rotated"));
    postgres.execute(&url, &format!("CREATE ROLE {role} LOGIN PASSWORD 'before'"));
    assert!(try_migrate(&["--store", &url, "--grant", role]).status.success());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--store", &late], Some(TOKEN));
    let saved = vec![server.save(r#"{"password":"not yet"}"#)];
    is_degraded(&server, "store", "denied");
    postgres.execute(&url, &format!("ALTER ROLE {role} PASSWORD 'rotated'"));
    recovers(&server, &saved);
}

#[test]
fn a_name_of_the_database_that_leads_nowhere_yet_keeps_no_door_closed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let url = "postgres://inlet:s3cret@no-such-host.invalid/inlet";
    let server = Server::start_with(&data, &["--store", url], Some(TOKEN));
    server.save(r#"{"name":"unknown"}"#);
    is_degraded(&server, "store", "unavailable");
    assert!(server.stop().success());
}

#[test]
fn with_sqlite_locked_at_the_start_documents_are_accepted_and_stored_later() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data);
    server.wait_until_stored(&server.save(r#"{"sqlite":"free"}"#));
    assert!(server.stop().success());
    let file = data.join("store/documents.sqlite3");
    let lock = rusqlite::Connection::open(file).unwrap();
    lock.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE").unwrap();
    let server = Server::start(&data);
    let saved = vec![server.save(r#"{"sqlite":"locked"}"#)];
    is_degraded(&server, "store", "unavailable");
    drop(lock);
    recovers(&server, &saved);
}

/// Starts behind a proxy that does this with every request, and lets it pass later.
fn behind_a_proxy(role: &str, flags: &[&str], act: &Act, degraded: &[(&str, &str)]) {
    let proxy = Proxy::start(AWS.0.port());
    proxy.always(act.clone());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start(role, &data, flags, variables_at(proxy.port()));
    let saved = vec![server.save(r#"{"aws":"away"}"#)];
    for (name, cause) in degraded {
        is_degraded(&server, name, cause);
    }
    proxy.set_away(false);
    if role == "up" {
        recovers(&server, &saved);
    } else {
        until("it is ready", || server.get("/readyz").json()["status"] == "ready");
    }
    assert!(server.stop().success());
}

/// Away, hanging, and refusing with an error of every kind that passes.
fn troubles() -> [(Act, &'static str); 4] {
    let answer =
        |status, code: &str| Act::Answer(status, json!({ "__type": code, "message": "m" }));
    [
        (Act::Close, "unavailable"),
        (Act::Hang, "unavailable"),
        (answer(400, "AccessDeniedException"), "denied"),
        (answer(503, "ServiceUnavailable"), "unavailable"),
    ]
}

#[test]
fn with_dynamodb_away_at_the_start_documents_are_accepted_and_stored_later() {
    let table = AWS.table();
    for (act, cause) in troubles() {
        behind_a_proxy("up", &["--store", &table], &act, &[("store", cause)]);
    }
}

#[test]
fn with_s3_away_at_the_start_documents_are_accepted_and_files_are_a_503_until_it_is_back() {
    let proxy = Proxy::start(AWS.0.port());
    let bucket = AWS.bucket();
    for act in
        [Act::Close, Act::Hang, Act::S3Error(403, "AccessDenied"), Act::S3Error(503, "SlowDown")]
    {
        proxy.always(act.clone());
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let server = start("up", &data, &["--bucket", &bucket], variables_at(proxy.port()));
        server.wait_until_stored(&server.save(r#"{"s3":"away"}"#));
        until("the cause is on the board", || part(&server, "bucket")["state"] == "degraded");
        let put = || {
            let url = format!("{}/api/files/a.txt", server.plain());
            ureq::put(url)
                .config()
                .http_status_as_error(false)
                .build()
                .header("X-Auth-Token", TOKEN)
                .send("text")
                .unwrap()
        };
        let refused = put();
        assert_eq!(refused.status(), 503, "{act:?}");
        assert!(refused.headers().contains_key("retry-after"));
        proxy.set_away(false);
        until("files are taken", || put().status() == 201);
        recovers(&server, &[]);
    }
}

#[test]
fn with_sqs_away_at_the_start_each_save_is_a_503_with_retry_after_until_it_is_back() {
    let queue = AWS.queue(&Namespace::new());
    let proxy = Proxy::start(AWS.0.port());
    for role in ["up", "serve"] {
        for (act, _) in troubles() {
            proxy.always(act);
            let directory = tempfile::tempdir().unwrap();
            let data = directory.path().join("data");
            let server = start(role, &data, &["--queue", &queue], variables_at(proxy.port()));
            let refused = server.post("/api/save", &[], b"{}");
            assert_eq!(refused.status, 503, "{}", refused.text());
            assert!(refused.headers.contains_key("retry-after"));
            assert_eq!(server.get("/readyz").status, 503);
            assert_eq!(server.get("/healthz").status, 200);
            proxy.set_away(false);
            until("documents are taken", || server.post("/api/save", &[], b"{}").status == 202);
            until("it is ready", || server.get("/readyz").json()["status"] == "ready");
            assert!(server.stop().success());
        }
    }
}

#[test]
fn without_the_secrets_a_start_knows_the_tokens_it_had_and_answers_503_for_others() {
    let secrets = AWS.secret();
    let proxy = Proxy::start(AWS.0.port());
    let variables = || variables_at(proxy.port());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let run = || {
        let mut command = inlet(directory.path());
        command.envs(variables());
        Server::start_command(command, "up", &data, &["--secrets", &secrets], None)
    };
    let save = |server: &Server, token: &str| {
        let url = format!("{}/api/save", server.plain());
        let sent = ureq::post(url)
            .config()
            .http_status_as_error(false)
            .build()
            .header("X-Auth-Token", token)
            .header("Content-Type", "application/json")
            .send("{}")
            .unwrap();
        (sent.status().as_u16(), sent.headers().contains_key("retry-after"))
    };

    // Away at the very first start: nothing is known, and nothing is refused for good.
    proxy.set_away(true);
    let server = run();
    assert_eq!(save(&server, "inlet_whatever"), (503, true));
    assert!(server.banner.contains("the secrets are away"), "{}", server.banner);
    proxy.set_away(false);
    until("the first token is made", || data.join("token").exists());
    let token = std::fs::read_to_string(data.join("token")).unwrap().trim().to_owned();
    until("the first token is in force", || save(&server, &token).0 == 202);
    assert_eq!(save(&server, "inlet_whatever").0, 401);
    until("its hash is known here", || data.join("tokens.json").exists());
    assert!(server.stop().success());

    // Away at a later start: what was known is, and what was not is not refused for good.
    for act in [Act::Close, Act::Hang] {
        proxy.always(act);
        let server = run();
        assert_eq!(save(&server, &token).0, 202);
        assert_eq!(save(&server, "inlet_whatever"), (503, true));
        proxy.set_away(false);
        until("the secrets are read", || save(&server, "inlet_whatever").0 == 401);
        assert_eq!(save(&server, &token).0, 202);
        assert!(server.stop().success());
    }
}

#[test]
fn with_redis_away_hanging_or_refusing_at_the_start_everything_works_without_it() {
    let own = Engine::start(ServerKind::Redis);
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = format!("redis://127.0.0.1:{}", hanging.local_addr().unwrap().port());
    own.freeze();
    let frozen = format!("redis://127.0.0.1:{}", own.port());
    let away = format!("redis://127.0.0.1:{}", free_port());
    let refusing = format!("redis://:s3cret@127.0.0.1:{}", REDIS.0.port());
    for url in [&hanging, &frozen, &away, &refusing] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let server = Server::start_with(&data, &["--cache", url], Some(TOKEN));
        let id = server.save(r#"{"redis":"away"}"#);
        server.wait_until_stored(&id);
        assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
        assert_eq!(part(&server, "cache")["state"], "degraded", "{url}");
        assert!(server.stop().success());
    }
}

#[test]
fn a_worker_that_starts_without_its_store_stores_once_it_is_there() {
    let (mut postgres, url) = own_postgres();
    postgres.0.stop(true);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--store", &url];
    let server = Server::start_as("serve", &data, &flags, Some(TOKEN));
    let saved = server.save(r#"{"worker":"waits"}"#);
    let mut worker = Worker::start(directory.path(), &data, &flags);
    is_degraded(&server, "store", "unavailable");
    postgres.0.resume_or_start();
    server.wait_until_stored(&saved);
    worker.stop();
}

struct Worker(std::process::Child);

impl Worker {
    fn start(directory: &Path, data: &Path, flags: &[&str]) -> Self {
        Self(inlet(directory).args(["persist", "--data"]).arg(data).args(flags).spawn().unwrap())
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }
}

#[test]
fn a_restart_while_what_was_used_before_is_missing_keeps_the_door_open() {
    let url = POSTGRES.empty_database();
    // At first it may be a mistake in the settings, and is told as one.
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let first = inlet(directory.path())
        .args(["up", "--https", "127.0.0.1:0", "--http", "off", "--store", &url, "--data"])
        .arg(&data)
        .output()
        .unwrap();
    assert_eq!(first.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&first.stderr).contains("inlet migrate"));
    assert!(try_migrate(&["--store", &url]).status.success());
    let server = Server::start_with(&data, &["--store", &url], Some(TOKEN));
    server.wait_until_stored(&server.save(r#"{"schema":"there"}"#));
    assert!(server.stop().success());
    POSTGRES.execute(&url, "ALTER SCHEMA inlet RENAME TO elsewhere");
    let server = Server::start_with(&data, &["--store", &url], Some(TOKEN));
    let saved = vec![server.save(r#"{"schema":"missing"}"#)];
    is_degraded(&server, "store", "missing");
    POSTGRES.execute(&url, "ALTER SCHEMA elsewhere RENAME TO inlet");
    recovers(&server, &saved);
}

#[test]
fn any_error_of_the_store_while_it_runs_is_told_and_passes() {
    let url = POSTGRES.empty_database();
    assert!(try_migrate(&["--store", &url]).status.success());
    let role = format!("writer_{}", Namespace::new().name());
    POSTGRES.execute(&url, &format!("CREATE ROLE {role} LOGIN PASSWORD 'w'"));
    assert!(try_migrate(&["--store", &url, "--grant", &role]).status.success());
    let writer = url.replace("inlet:inlet", &format!("{role}:w"));
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--store", &writer], Some(TOKEN));
    for (break_it, mend_it, cause) in [
        (
            format!("REVOKE INSERT ON inlet.documents FROM {role}"),
            format!("GRANT INSERT ON inlet.documents TO {role}"),
            "denied",
        ),
        (
            "ALTER TABLE inlet.documents RENAME TO elsewhere".to_owned(),
            "ALTER TABLE inlet.elsewhere RENAME TO documents".to_owned(),
            "missing",
        ),
    ] {
        POSTGRES.execute(&url, &break_it);
        let saved = vec![server.save(r#"{"right":"revoked"}"#)];
        is_degraded(&server, "persist", cause);
        POSTGRES.execute(&url, &mend_it);
        recovers(&server, &saved);
    }
}

#[test]
fn any_error_of_dynamodb_while_it_runs_is_told_and_passes() {
    let (table, proxy) = (AWS.table(), Proxy::start(AWS.0.port()));
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = start("up", &data, &["--store", &table], variables_at(proxy.port()));
    for (code, cause) in [
        ("AccessDeniedException", "denied"),
        ("ResourceNotFoundException", "missing"),
        ("ValidationException", "refused"),
        ("KMSInvalidStateException", "denied"),
        ("NobodyKnowsThis", "unavailable"),
    ] {
        proxy.rule(move |operation, _| match operation.contains("TransactWriteItems") {
            true => Act::Answer(400, json!({ "__type": code, "message": "told" })),
            false => Act::Forward,
        });
        let id = server.save(&format!("{{\"code\":\"{code}\"}}"));
        if code == "ValidationException" {
            // A document that the engine never takes is a dead letter, and holds up none.
            continue;
        }
        is_degraded(&server, "persist", cause);
        proxy.set_away(false);
        server.wait_until_stored(&id);
        until("it is ready", || server.get("/readyz").json()["status"] == "ready");
    }
}

#[test]
fn a_store_that_hangs_holds_up_neither_readiness_nor_a_save() {
    let (postgres, url) = own_postgres();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start_with(&data, &["--store", &url], Some(TOKEN));
    server.wait_until_stored(&server.save(r#"{"postgres":"there"}"#));
    postgres.0.freeze();
    is_degraded(&server, "store", "unavailable");
    let begun = std::time::Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get("/readyz").status, 200);
        server.save(r#"{"postgres":"hangs"}"#);
    }
    let each = begun.elapsed() / 20;
    assert!(each < std::time::Duration::from_millis(500), "{each:?}");
    // Nor does it hold up a stop.
    let begun = std::time::Instant::now();
    assert!(server.stop().success());
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    postgres.0.thaw();
}

#[test]
fn what_fails_in_the_worker_is_told_by_the_readiness_of_its_instances_and_by_status() {
    let url = POSTGRES.empty_database();
    assert!(try_migrate(&["--store", &url]).status.success());
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--instances", "1", "--zones", "1", "--store", &url];
    let server = Server::start_with(&data, &flags, Some(TOKEN));
    POSTGRES.execute(&url, "ALTER TABLE inlet.documents RENAME TO elsewhere");
    let saved = vec![server.save(r#"{"worker":"fails"}"#)];
    is_degraded(&server, "worker", "missing");
    let status = || {
        let mut command = inlet(directory.path());
        let output = command.args(["status", "--json", "--data"]).arg(&data).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let worker = status()["worker"].take();
    assert_eq!(worker["state"], "degraded", "{worker}");
    assert_eq!(worker["failing"][0]["name"], "persist", "{worker}");
    POSTGRES.execute(&url, "ALTER TABLE inlet.elsewhere RENAME TO documents");
    recovers(&server, &saved);
    until("the worker works", || status()["worker"]["state"] == "up");
}

/// The process ids of the instances that run under `server`.
fn instances(server: &Server) -> Vec<u32> {
    let children = format!("/proc/{0}/task/{0}/children", server.pid());
    let children = std::fs::read_to_string(children).unwrap();
    let serves = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).split('\0').any(|word| word == "serve")
    };
    children.split(' ').filter_map(|pid| pid.parse().ok()).filter(serves).collect()
}

#[test]
fn instances_that_start_or_are_killed_while_postgres_is_away_take_documents() {
    let (mut postgres, url) = own_postgres();
    postgres.0.stop(true);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--instances", "2", "--zones", "1", "--store", &url];
    let server = Server::start_with(&data, &flags, Some(TOKEN));
    let mut saved: Vec<String> =
        (0..4).map(|n| server.save(&format!("{{\"away\":{n}}}"))).collect();
    postgres.0.resume_or_start();
    recovers(&server, &saved);

    postgres.0.stop(true);
    let before = instances(&server);
    assert_eq!(before.len(), 2);
    for pid in &before {
        let pid = rustix::process::Pid::from_raw(i32::try_from(*pid).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    until("other instances serve", || {
        let now = instances(&server);
        now.len() == 2
            && now.iter().all(|pid| !before.contains(pid))
            && server.post("/api/save", &[], b"{}").status == 202
    });
    saved = (0..4).map(|n| server.save(&format!("{{\"again\":{n}}}"))).collect();
    postgres.0.resume_or_start();
    recovers(&server, &saved);
    assert!(server.stop().success());
}

#[test]
fn instances_that_start_without_their_queue_are_a_503_with_retry_after_until_it_is_there() {
    let queue = AWS.queue(&Namespace::new());
    let proxy = Proxy::start(AWS.0.port());
    proxy.set_away(true);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let flags = ["--instances", "2", "--zones", "1", "--queue", &queue];
    let server = start("up", &data, &flags, variables_at(proxy.port()));
    let refused = server.post("/api/save", &[], b"{}");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text());
    proxy.set_away(false);
    until("documents are taken", || server.post("/api/save", &[], b"{}").status == 202);
    assert!(server.stop().success());
}
