//! The command line and a server: whom it talks to, whom it trusts, and what it tells whom.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::server::{PATIENCE, Server, TOKEN, inlet};

/// A server of somebody else, who notes what is sent to it.
pub(crate) struct Stranger {
    pub(crate) url: String,
    requests: Receiver<Request>,
}

/// A request as a stranger saw it.
pub(crate) struct Request {
    pub(crate) at: Instant,
    /// In small letters.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Stranger {
    /// Answers always with `head`, and an empty object.
    pub(crate) fn answering(head: &str) -> Self {
        let head = head.to_owned();
        Self::with(move |_, _| head.clone())
    }

    /// Answers the `n`th request, from 0, with the head that `answer` gives for it.
    pub(crate) fn with(answer: impl Fn(usize, &Request) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (noted, requests) = channel();
        // It ends with the test: nobody waits for it.
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let mut stream = BufReader::new(stream.unwrap());
                let Some(request) = Request::read(&mut stream) else { continue };
                let head = answer(n, &request);
                let text = format!(
                    "HTTP/1.1 {head}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
                );
                stream.get_mut().write_all(text.as_bytes()).unwrap();
                if noted.send(request).is_err() {
                    return;
                }
            }
        });
        Self { url, requests }
    }

    /// The next request.
    pub(crate) fn request(&self) -> Request {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// The head of the next request.
    pub(crate) fn next(&self) -> String {
        self.request().head
    }

    /// All requests that came until now.
    pub(crate) fn all(&self) -> Vec<Request> {
        self.requests.try_iter().collect()
    }

    fn saw_nothing(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

impl Request {
    fn read(stream: &mut impl BufRead) -> Option<Self> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).unwrap() == 0 {
                return None;
            }
        }
        let at = Instant::now();
        head.make_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = String::new();
        let length = length.map_or(0, |length| length.parse().unwrap());
        stream.take(length).read_to_string(&mut body).unwrap();
        Some(Self { at, head, body })
    }
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    inlet(directory).args(arguments).args(["--data", "data"]).output().unwrap()
}

fn refused(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_token_of_a_directory_is_sent_to_its_own_server_alone() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Server::start_with(&directory.path().join("data"), &[], None);
    assert!(run(directory.path(), &["list"]).status.success(), "its own server");
    let elsewhere = Stranger::answering("200 OK");
    for arguments in [
        &["list"][..],
        &["streams"],
        &["get", "019aa2f0-1111-7222-8333-444455556666"],
        &["redrive"],
        &["token", "list"],
        &["token", "add", "x"],
        &["file", "delete", "x"],
        &["status"],
    ] {
        run(directory.path(), &[arguments, &["--url", &elsewhere.url]].concat());
        let head = elsewhere.next();
        assert!(!head.contains("x-auth-token") && !head.contains("authorization"), "{head}");
    }
    // One that is given is meant for it.
    run(directory.path(), &["list", "--url", &elsewhere.url, "--token", "inlet_given"]);
    assert!(elsewhere.next().contains("x-auth-token: inlet_given"));
}

#[test]
fn no_token_follows_a_redirect_to_another_place() {
    let directory = tempfile::tempdir().unwrap();
    let target = Stranger::answering("200 OK");
    let redirect = format!("307 Temporary Redirect\r\nLocation: {}/x", target.url);
    let sending = Stranger::answering(&redirect);
    for arguments in [&["list"][..], &["redrive"], &["file", "get", "x"]] {
        let arguments = [arguments, &["--url", &sending.url, "--token", "inlet_given"]].concat();
        let said = refused(directory.path(), &arguments);
        assert!(sending.next().contains("inlet_given"));
        assert!(said.contains(&format!("sends on to {}", target.url)), "{said}");
        assert!(said.contains("hint: a token is sent to no other place"), "{said}");
    }
    assert!(target.saw_nothing());
}

#[test]
fn an_address_without_a_scheme_is_https_and_the_own_server_is_known_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    let https = server.https().to_owned();
    let port = https.rsplit_once(':').unwrap().1;
    for url in [https.clone(), format!("localhost:{port}"), format!("https://{https}/")] {
        let output = run(directory.path(), &["list", "--url", &url]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{url}: {said}");
    }
}

#[test]
fn a_server_with_a_certificate_of_an_authority_is_trusted_on_its_own_machine() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // Signed by nobody that is trusted, and for a name that this machine is not reached by.
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-days", "2", "-subj", "/CN=inlet.example.com"])
        .args(["-addext", "subjectAltName=DNS:inlet.example.com"])
        .args(["-keyout", &path("key.pem"), "-out", &path("cert.pem")])
        .output()
        .unwrap();
    assert!(made.status.success());
    let flags = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    let server = Server::start_with(&directory.path().join("data"), &flags, None);
    assert!(run(directory.path(), &["list"]).status.success());
    // Elsewhere its authority has to be named, and its name used.
    let url = format!("https://{}", server.https());
    let arguments = ["list", "--url", &url, "--token", "x", "--data", "elsewhere"];
    let output = inlet(directory.path()).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: no authority that is trusted here has signed"), "{said}");
    let output =
        inlet(directory.path()).args(arguments).args(["--cacert", "cert.pem"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("hint: its certificate is for other names"), "{said}");
}

#[test]
fn what_can_not_be_reached_is_told_with_its_cause() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(&directory.path().join("data"), &[], None);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let https = format!("https://{}", server.https());
    for (url, hint) in [
        (format!("http://{nobody}"), "is the server running?"),
        (https.clone(), "no authority that is trusted here has signed its certificate"),
        (format!("https://{}", server.plain_address()), "does it speak HTTP without TLS?"),
        (https.replace("https", "http"), "does it speak TLS?"),
        ("https://nosuch.invalid".to_owned(), "check the name in --url"),
    ] {
        let arguments = ["list", "--url", &url, "--token", "x", "--data", "elsewhere"];
        let output = inlet(directory.path()).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{url}: {said}");
        assert!(said.contains(&format!("error: could not reach {url}/api/documents")), "{said}");
        assert!(said.contains(&format!("hint: {hint}")), "{url}: {said}");
    }
    let stranger = Stranger::answering("404 Not Found");
    let said = refused(directory.path(), &["list", "--url", &stranger.url]);
    assert!(said.contains("hint: is it an Inlet that answers there?"), "{said}");
}

#[test]
fn an_address_with_a_password_in_it_is_refused_without_showing_it() {
    let directory = tempfile::tempdir().unwrap();
    for url in ["https://me:geheim@127.0.0.1:1", "me:geheim@127.0.0.1:1"] {
        let output = run(directory.path(), &["list", "--url", url]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(!said.contains("geheim"), "{said}");
    }
}

#[test]
fn a_token_that_is_not_in_force_is_told_by_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    let url = server.plain();
    for (arguments, hint) in [
        (
            &["list", "--url", url, "--token", "inlet_wrong"][..],
            "the token of --token or INLET_TOKEN",
        ),
        (&["list", "--url", url, "--data", "elsewhere"], "give a token with --token"),
    ] {
        let output = inlet(directory.path()).args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("401") && said.contains(&format!("hint: {hint}")), "{said}");
    }
    let output = run(directory.path(), &["list", "--token", "with a space"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_note_of_a_server_that_was_killed_is_not_taken_for_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    Server::start_with(&data, &[], None).kill();
    assert!(data.join("run.json").exists());
    let said = refused(directory.path(), &["list"]);
    assert!(said.contains("nothing runs on the data directory"), "{said}");
    // Tokens are then changed in the directory itself.
    assert!(run(directory.path(), &["token", "add", "ci"]).status.success());
    let server = Server::start_with(&data, &[], None);
    assert!(run(directory.path(), &["list"]).status.success());
    assert!(server.stop().success());
    assert!(!data.join("run.json").exists());
}

#[test]
fn a_server_with_a_token_from_outside_is_administered_from_its_own_machine() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"));
    server.save("{}");
    assert!(run(directory.path(), &["list"]).status.success());
    assert!(run(directory.path(), &["token", "add", "ci"]).status.success());
    let noted = std::fs::read_to_string(directory.path().join("data/run.json")).unwrap();
    assert!(!noted.contains(TOKEN));
}
