//! Bad input gets a clear answer that names the thing, and harms nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::server::{Server, TOKEN, inlet};

/// A server, and the directory that goes when the test is over.
fn server() -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    (directory, server)
}

/// Sends bytes on a connection of their own and reads until the server closes it.
fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.plain_address()).unwrap();
    stream.set_read_timeout(Some(crate::server::PATIENCE)).unwrap();
    // The server may answer and close before it has all; that is an answer too.
    if stream.write_all(bytes).is_ok() {
        stream.shutdown(std::net::Shutdown::Write).unwrap_or_default();
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(token: &str, more: &str) -> String {
    format!(
        "POST /api/save HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}\
         Content-Type: application/json\r\n{more}\r\n"
    )
}

/// The body of an answer on the wire.
fn problem(answer: &str) -> Value {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

#[test]
fn a_token_that_is_missing_wrong_or_too_weak_is_refused_before_the_body_is_read() {
    let (directory, server) = server();
    let nothing = problem(&raw(&server, head("", "Content-Length: 2\r\n").as_bytes()));
    assert_eq!(
        (nothing["httpStatus"].as_u64(), &nothing["code"]),
        (Some(401), &"TokenMissing".into())
    );
    let wrong = head("X-Auth-Token: wrong\r\n", "Content-Length: 2\r\n");
    let unknown = problem(&raw(&server, wrong.as_bytes()));
    assert_eq!(
        (&unknown["errorType"], &unknown["code"]),
        (&json!("Unauthorized"), &json!("TokenUnknown"))
    );

    let made = inlet(directory.path())
        .args(["token", "add", "reader", "--scopes", "read", "--data", "data"])
        .output()
        .unwrap();
    let reader = String::from_utf8(made.stdout).unwrap();
    let weak = head(&format!("X-Auth-Token: {}\r\n", reader.trim()), "Content-Length: 2\r\n");
    // The running server takes the new token up by itself.
    crate::server::until("the new token is known", || {
        problem(&raw(&server, weak.as_bytes()))["code"] == "ScopeMissing"
    });
    let bearer =
        head(&format!("Authorization: Bearer {TOKEN}\r\n"), "Content-Length: 2\r\n") + "{}";
    assert!(raw(&server, bearer.as_bytes()).starts_with("HTTP/1.1 202 "));
}

#[test]
fn a_body_that_is_not_one_json_value_is_refused_by_name_and_place() {
    let (_directory, server) = server();
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let rows: &[(&[u8], u64, &str)] = &[
        (b"", 400, "BodyEmpty"),
        (b"{\"a\":", 400, "JsonInvalid"),
        (b"1 2", 400, "JsonInvalid"),
        (deep.as_bytes(), 400, "JsonInvalid"),
        (b"\"\\ud800\"", 400, "JsonInvalid"),
        (b"NaN", 400, "JsonInvalid"),
        (b"\"a\0b\"", 400, "JsonInvalid"),
        (b"\xff\xfe{\0}\0", 400, "JsonInvalid"),
        (b"\xef\xbb\xbf{}", 400, "JsonInvalid"),
        (b"\"\xc3\x28\"", 400, "JsonInvalid"),
        (b"{\"a\":1,\n \"a\":2}", 400, "JsonInvalid"),
    ];
    for (body, status, code) in rows {
        let answer = server.post("/api/save", &[], body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(30)]);
        assert_eq!(
            (u64::from(answer.status), answer.json()["code"].as_str()),
            (*status, Some(*code)),
            "{shown}"
        );
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{shown}");
    }
    let twice = server.post("/api/save", &[], b"{\"a\":1,\n \"a\":2}").json();
    assert_eq!((twice["line"].as_u64(), twice["column"].as_u64()), (Some(2), Some(2)), "{twice}");
    server.wait_until_stored(&server.save("{\"still\": \"here\"}"));
}

#[test]
fn a_body_that_is_too_large_is_refused_announced_sent_or_inflated() {
    let (_directory, server) = server();
    let large = vec![b' '; 2 << 20];
    assert_eq!(server.post("/api/save", &[], &large).status, 413);

    let token = format!("X-Auth-Token: {TOKEN}\r\n");
    let announced = head(&token, "Content-Length: 1073741824\r\n");
    assert!(raw(&server, announced.as_bytes()).starts_with("HTTP/1.1 413 "));

    // A chunked gibibyte: the server must hang up long before it is through.
    let mut stream = TcpStream::connect(server.plain_address()).unwrap();
    stream.write_all(head(&token, "Transfer-Encoding: chunked\r\n").as_bytes()).unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let sent = (0..16_384).take_while(|_| stream.write_all(&chunk).is_ok()).count();
    assert!(sent < 1_024, "{sent} chunks of 64 KiB were taken");

    let bomb = zstd::encode_all(std::io::repeat(b' ').take(64 << 20), 19).unwrap();
    let inflated = server.post("/api/save", &[("Content-Encoding", "zstd")], &bomb);
    assert_eq!((inflated.status, inflated.json()["code"].as_str()), (413, Some("BodyTooLarge")));
    let resident = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let peak = resident.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 128 * 1024, "{kib} KiB resident");
}

#[test]
fn what_is_not_json_by_its_type_or_encoding_is_refused() {
    let (_directory, server) = server();
    let form = server.post("/api/save", &[("Content-Type", "text/plain")], b"{}");
    assert_eq!(form.status, 415);
    let brotli = server.post("/api/save", &[("Content-Encoding", "br")], b"{}");
    assert_eq!((brotli.status, brotli.json()["code"].as_str()), (415, Some("EncodingUnsupported")));
    let torn = server.post("/api/save", &[("Content-Encoding", "gzip")], b"\x1f\x8b\x08");
    assert_eq!((torn.status, torn.json()["code"].as_str()), (400, Some("EncodingInvalid")));
}

#[test]
fn a_batch_with_one_bad_line_keeps_the_others_and_names_the_bad_one() {
    let (_directory, server) = server();
    let batch = b"{\"n\":1}\n{\"n\":\n{\"n\":3}\n";
    let headers = [("Content-Type", "application/x-ndjson")];
    let answer = server.post("/api/save/batch", &headers, batch);
    assert_eq!(answer.status, 207);
    let results = answer.json()["results"].clone();
    assert_eq!(results[1]["code"], "JsonInvalid", "{results}");
    for index in [0, 2] {
        server.wait_until_stored(results[index]["MessageId"].as_str().unwrap());
    }
    let whole = server.post("/api/save/batch", &[], b"[{\"n\":1}, 2]");
    assert_eq!(whole.status, 202, "{}", whole.text());
}

#[test]
fn a_stream_name_with_slashes_or_dots_is_refused() {
    let (_directory, server) = server();
    for name in ["a/b", "..", "a.b", "%2e%2e%2f", "", "-x", &"n".repeat(65)] {
        let answer = server.post(&format!("/api/save?stream={name}"), &[], b"{}");
        assert_eq!(answer.json()["code"], "StreamNameInvalid", "{name:?}: {}", answer.text());
    }
}

#[test]
fn a_key_used_again_with_another_body_is_a_conflict() {
    let (_directory, server) = server();
    let key = [("Idempotency-Key", "order-1")];
    let first = server.post("/api/save", &key, b"{\"n\":1}").json();
    let again = server.post("/api/save", &key, b"{\"n\":1}").json();
    assert_eq!(first["MessageId"], again["MessageId"]);
    let other = server.post("/api/save", &key, b"{\"n\":2}");
    assert_eq!((other.status, other.json()["code"].as_str()), (409, Some("KeyConflict")));
    server.wait_until_drained();
    assert_eq!(server.get("/api/streams").json()["streams"][0]["documents"], 1);
}

#[test]
fn a_client_that_disconnects_in_the_middle_of_the_body_harms_nothing() {
    let (_directory, server) = server();
    let token = format!("X-Auth-Token: {TOKEN}\r\n");
    let half = head(&token, "Content-Length: 100\r\n") + "{\"half\":";
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.plain_address()).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
    }
    server.wait_until_stored(&server.save("{\"whole\": true}"));
    server.wait_until_drained();
    assert_eq!(server.get("/api/streams").json()["streams"][0]["documents"], 1);
}

/// Runs `inlet up` where it can't work, and gives what it says.
fn refusal(directory: &std::path::Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = inlet(directory)
        .args(["up", "--https", "127.0.0.1:0", "--http", "off"])
        .args(flags)
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_token_from_outside_that_is_no_secret_is_a_usage_error_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let good = "0123456789abcdef";
    let roles: [&[&str]; 3] = [&["up"], &["serve"], &["up", "--instances", "1", "--zones", "1"]];
    for given in ["abc", "\n", " ", &format!("{good} "), &format!("{good}\n{good}")] {
        for role in roles {
            let output = inlet(directory.path())
                .args(role)
                .args(["--https", "127.0.0.1:0", "--http", "off"])
                .env("INLET_TOKEN", given)
                .output()
                .unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{given:?} {role:?}: {said}");
            assert!(said.contains("INLET_TOKEN") && said.contains("hint:"), "{said}");
            assert!(!said.contains(good) && !said.contains("abc"), "{said}");
        }
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_token_from_outside_may_end_in_a_line_break_and_goes_wherever_a_client_can_put_it() {
    let directory = tempfile::tempdir().unwrap();
    let given = format!("{TOKEN}\n");
    let server = Server::start_with(&directory.path().join("data"), &[], Some(&given));
    // webhook:inlet_test_token
    let basic = "Authorization: Basic d2ViaG9vazppbmxldF90ZXN0X3Rva2Vu\r\n".to_owned();
    let own = format!("X-Auth-Token: {TOKEN}\r\n");
    for token in [&own, &basic, &format!("{own}{basic}")] {
        let answer = raw(&server, (head(token, "Content-Length: 2\r\n") + "{}").as_bytes());
        assert!(answer.starts_with("HTTP/1.1 202 "), "{token}: {answer}");
    }
    let two = format!("{own}X-Auth-Token: another\r\n");
    let answer = raw(&server, head(&two, "Content-Length: 2\r\n").as_bytes());
    assert_eq!(problem(&answer)["code"], "TokenAmbiguous");
    let listed = inlet(directory.path())
        .args(["streams", "--data", "data"])
        .env("INLET_TOKEN", &given)
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
}

#[test]
fn a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = refusal(directory.path(), &["--plain", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("hint:"), "{said}");
}

#[test]
fn two_processes_on_one_data_directory_are_refused_and_the_first_goes_on() {
    let (directory, server) = server();
    let (code, said) = refusal(directory.path(), &["--data", "data"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("process {}", server.pid())), "{said}");
    server.wait_until_stored(&server.save("[]"));
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("FORMAT"), "7\n").unwrap();
    let (code, said) = refusal(directory.path(), &["--data", "data"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("format 7") && said.contains("hint:"), "{said}");
    assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "something was made in it");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data");
    std::fs::write(&file, "a file").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    let (code, said) = refusal(directory.path(), &["--data", "data"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("data") && said.contains("hint:"), "{said}");
    let (_, said) = refusal(directory.path(), &["--data", "/proc/inlet"]);
    assert!(said.contains("/proc/inlet"), "{said}");
}
