//! TLS on both sides, the redirect, and who is told to use HTTPS only.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::site::{Behind, Site};
use crate::server::{PATIENCE, Server, TOKEN, inlet, until};

/// An agent that trusts the certificates in a file and follows no redirects.
fn agent(trusted: &Path) -> Agent {
    let pem = std::fs::read(trusted).unwrap();
    let roots = RootCerts::Specific(Arc::new(vec![Certificate::from_pem(&pem).unwrap()]));
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .http_status_as_error(false)
        .max_redirects(0)
        .build()
        .new_agent()
}

fn address(site: &Site, door: &str) -> String {
    let running = std::fs::read(site.path("edge/run.json")).unwrap();
    let running: Value = serde_json::from_slice(&running).unwrap();
    running[door].as_str().unwrap().to_owned()
}

/// Writes an authority, and a certificate that it signed with its key.
fn write_signed(site: &Behind) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let signed = params.signed_by(&key, &authority).unwrap();
    std::fs::write(site.path("authority.pem"), authority.pem()).unwrap();
    std::fs::write(site.path("signed.pem"), signed.pem()).unwrap();
    std::fs::write(site.path("signed.key"), key.serialize_pem()).unwrap();
}

#[test]
fn plain_http_is_redirected_and_reaches_no_instance() {
    let site = Site::start(&[]);
    let (http, https) = (address(&site, "http"), address(&site, "https"));
    let agent = agent(&site.path("edge/tls/cert.pem"));
    let answer = agent.get(format!("http://{http}/api/documents?limit=3")).call().unwrap();
    assert_eq!(answer.status(), 308);
    let expected = format!("https://{https}/api/documents?limit=3");
    assert_eq!(answer.headers()["location"].to_str().unwrap(), expected);
    assert!(answer.headers().get("x-instance-id").is_none());
    let followed = agent.get(expected).header("X-Auth-Token", TOKEN).call().unwrap();
    assert_eq!(followed.status(), 200);
    let hsts = followed.headers().get("strict-transport-security");
    assert!(hsts.is_none(), "nobody trusts a self-signed certificate by itself");
}

#[test]
fn browsers_are_told_to_use_https_only_where_the_certificate_is_signed_by_another() {
    let site = Site::prepare();
    write_signed(&site);
    let (cert, key) = (site.path("signed.pem"), site.path("signed.key"));
    let site =
        site.before(&["--tls-cert", cert.to_str().unwrap(), "--tls-key", key.to_str().unwrap()]);
    let url = format!("https://{}/", address(&site, "https"));
    let answer = agent(&site.path("authority.pem")).get(url).call().unwrap();
    assert_eq!(answer.headers()["strict-transport-security"], "max-age=31536000");
    assert!(!site.edge.get("/").headers.contains_key("strict-transport-security"), "in plain text");
}

/// Writes a certificate of its own for `name`, and its key, as a folder of certificates has them.
fn write_for(name: &str, folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = folder.join(format!("{name}.key"));
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// Whether who asks for `name` is shown a certificate that `trusted` vouches for.
fn is_shown(site: &Site, name: &'static str, trusted: &CertificateDer<'static>) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from(name).unwrap();
    let mut connection = ClientConnection::new(config, name).unwrap();
    let mut stream = TcpStream::connect(address(site, "https")).unwrap();
    while connection.is_handshaking() {
        if connection.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}

#[test]
fn each_name_is_shown_its_own_certificate_also_after_that_was_replaced() {
    let site = Site::prepare();
    let folder = site.path("certificates");
    std::fs::create_dir(&folder).unwrap();
    let (a, b) = (write_for("a.example", &folder), write_for("b.example", &folder));
    let site = site.before(&["--tls-dir", folder.to_str().unwrap()]);
    assert!(is_shown(&site, "a.example", &a) && is_shown(&site, "b.example", &b));
    assert!(!is_shown(&site, "b.example", &a) && !is_shown(&site, "c.example", &a));
    let (new, c) = (write_for("a.example", &folder), write_for("c.example", &folder));
    until("the new ones are shown", || {
        is_shown(&site, "a.example", &new) && is_shown(&site, "c.example", &c)
    });
    assert!(!is_shown(&site, "a.example", &a) && is_shown(&site, "b.example", &b));
}

#[test]
fn instances_are_spoken_to_with_tls_and_only_if_they_are_who_they_say() {
    let site = Site::prepare();
    let data = site.path("data");
    let running: Value =
        serde_json::from_slice(&std::fs::read(data.join("run.json")).unwrap()).unwrap();
    let instance = running["https"].as_str().unwrap();
    let start = |name: &str| {
        let backend = format!("{instance},id=two,tls={name}");
        let ca = data.join("tls/cert.pem");
        let flags = ["--backend", &backend, "--backend-ca", ca.to_str().unwrap()];
        Server::start_as("edge", &site.path(name), &flags, Some(TOKEN))
    };
    let edge = start("localhost");
    let answer = edge.get("/");
    assert_eq!((answer.status, &answer.json()["instance"]), (200, &Value::from("two")));
    drop(edge);
    let answer = start("not-its-name.example").get("/");
    assert_eq!(answer.status, 503, "its certificate is for others");
}

#[test]
fn a_balancer_speaks_the_proxy_protocol_to_every_role_that_is_told_so() {
    const TEXT: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n";
    const BINARY: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x01\0\x50\x01\xbb";
    let said = |server: &Server, header: &[u8]| {
        let mut stream = TcpStream::connect(server.plain_address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(&[header, request].concat()).unwrap();
        let mut said = Vec::new();
        // One that is refused may be reset.
        stream.read_to_end(&mut said).map(drop).unwrap_or_default();
        String::from_utf8(said).unwrap()
    };
    for flags in [&[][..], &["--instances", "1", "--zones", "1"]] {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let flags = [flags, &["--proxy-protocol", "127.0.0.0/8"]].concat();
        let server = Server::start_with(&data, &flags, Some(TOKEN));
        for header in [TEXT, BINARY] {
            let answer = said(&server, header);
            assert!(answer.starts_with("HTTP/1.1 200 "), "{flags:?}: {answer:?}");
        }
        assert_eq!(said(&server, b""), "", "{flags:?}: without a header it is closed");
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = inlet(directory.path());
    let output = command.args(["up", "--plain", "127.0.0.1:0", "--proxy-protocol", "x"]);
    let output = output.args(["--https", "off", "--http", "off"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("proxy_protocol is no network"), "{said}");
}
