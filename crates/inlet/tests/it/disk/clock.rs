//! Clocks that show another time than they should: before 1970, far ahead, and set back.

use std::fs;
use std::path::{Path, PathBuf};

use super::not_run;
use crate::server::{Server, TOKEN, inlet, until};

/// The path of the library of `faketime`.
pub(crate) fn library() -> Option<PathBuf> {
    let found = ["/usr/lib", "/usr/lib64"].iter().find_map(|root| {
        let direct = PathBuf::from(root).join("faketime/libfaketime.so.1");
        let arches = fs::read_dir(root).into_iter().flatten().flatten();
        let nested = arches.map(|arch| arch.path().join("faketime/libfaketime.so.1"));
        std::iter::once(direct).chain(nested).find(|path| path.exists())
    });
    if found.is_none() {
        not_run("libfaketime is not installed");
    }
    found
}

/// Starts a whole server whose clock shows that time.
fn start_at(data: &Path, library: &Path, time: &str) -> Server {
    start_with_clock(data, library, &format!("@{time}"), &[])
}

/// The same with more flags, and with a clock as `faketime` calls it: `@TIME`, `+5s`.
pub(crate) fn start_with_clock(data: &Path, library: &Path, clock: &str, flags: &[&str]) -> Server {
    let mut command = inlet(data.parent().unwrap());
    command.env("LD_PRELOAD", library).env("FAKETIME", clock);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("TZ", "UTC");
    Server::start_command(command, "up", data, flags, Some(TOKEN))
}

#[test]
fn a_server_works_whatever_its_clock_shows() {
    let Some(library) = library() else { return };
    for time in ["2040-01-02 03:04:05"] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let server = start_at(&data, &library, time);
        let id = server.save("{\"at\": 1}");
        server.wait_until_stored(&id);
        let found = server.get(&format!("/api/documents/{id}"));
        assert_eq!((found.status, found.text().as_str()), (200, "{\"at\": 1}"), "{time}");
        let year = &time[..4];
        let page = server.get("/api/documents?limit=10").text();
        assert!(page.contains(year), "{time}: {page}");
        for path in ["/", "/metrics", "/readyz", "/api/streams", "/api/receipts/x", "/console"] {
            assert!(server.get(path).status < 500, "{time}: {path}");
        }
        assert_eq!(server.put("/api/files/a", b"1").status, 201, "{time}");
        assert_eq!(server.get("/api/files/a").text(), "1", "{time}");
        // TLS too: the handshake, and a request over it.
        let tls = over_tls(&data, &server);
        assert!(tls.starts_with("HTTP/1.1 200"), "{time}: {tls}");
        assert!(server.stop().success(), "{time}");
        // The next start has the right time, and goes on with what there is.
        let server = Server::start(&data);
        assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200, "{time}");
        let later = server.save("{\"at\": 2}");
        server.wait_until_stored(&later);
        let page = server.get("/api/documents?limit=10").json();
        let ids: Vec<_> =
            page["documents"].as_array().unwrap().iter().map(|found| found["id"].clone()).collect();
        assert_eq!(ids, [id.as_str(), later.as_str()], "{time}: the order of storing");
        assert!(server.stop().success(), "{time}");
    }
}

/// The answer that curl, which judges no certificate here, gets over TLS.
fn over_tls(data: &Path, _server: &Server) -> String {
    let running: serde_json::Value =
        serde_json::from_slice(&fs::read(data.join("run.json")).unwrap()).unwrap();
    let url = format!("https://{}/healthz", running["https"].as_str().unwrap());
    let output =
        std::process::Command::new("curl").args(["-ski", "--http1.1", &url]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_certificate_made_while_the_clock_was_ahead_is_replaced_once_it_is_right() {
    let Some(library) = library() else { return };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let certificate = data.join("tls/cert.pem");
    let server = start_at(&data, &library, "2040-01-02 03:04:05");
    let id = server.save("[1]");
    server.wait_until_stored(&id);
    assert!(server.stop().success());
    let ahead = fs::read(&certificate).unwrap();
    let server = Server::start(&data);
    assert_ne!(fs::read(&certificate).unwrap(), ahead);
    // A client that trusts it, and judges its dates, gets an answer.
    let running: serde_json::Value =
        serde_json::from_slice(&fs::read(data.join("run.json")).unwrap()).unwrap();
    let url = format!("https://{}/healthz", running["https"].as_str().unwrap());
    until("curl trusts it", || {
        let curl = std::process::Command::new("curl")
            .args(["-sf", "--cacert"])
            .arg(&certificate)
            .arg(&url)
            .output()
            .unwrap();
        curl.status.success()
    });
    assert!(server.stop().success());
}
