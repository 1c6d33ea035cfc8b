//! Talks to a running server, for the commands that do.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use ureq::http::{Response, header::HeaderMap};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, RequestBuilder, SendBody};

use crate::cli::RemoteArgs;
use crate::data::DataDirectory;
use crate::report::Hinted;

/// The most bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// How often a request is tried while the server is busy or away.
const ATTEMPTS: u32 = 8;
/// How long a server may take to make a file of its parts, which it may have to copy.
const FINISH_MAX: Duration = Duration::from_secs(3_600);

/// A server, and a token for it.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// An answer whose body is read as it comes.
pub(crate) struct Coming {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ureq::BodyReader<'static>,
}

/// The members of a problem answer that a person needs.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
    code: Option<String>,
    #[serde(rename = "requestId")]
    request_id: Option<String>,
}

impl Client {
    /// A client for the server that the arguments name, or for the one on the data directory.
    pub(crate) fn new(remote: &RemoteArgs, data: &Path) -> anyhow::Result<Self> {
        let directory = DataDirectory::open(data).ok();
        let base = match (&remote.url, &directory) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(directory)) => base_of(directory)?,
            (None, None) => {
                return Err(Hinted::new(
                    format!("there is no data directory at {}", data.display()),
                    "start `inlet up`, or name a server with --url",
                )
                .into());
            }
        };
        // A line break at the end comes with a file or an `echo`, and can't be in a header.
        let given = remote.token.as_deref().map(|token| token.trim_end_matches(['\r', '\n']));
        let token =
            given.map(str::to_owned).or_else(|| directory.as_ref().and_then(DataDirectory::token));
        let own = directory.map(|directory| directory.join("tls/cert.pem"));
        let cacert = remote.cacert.clone().or_else(|| own.filter(|path| path.exists()));
        let roots = match cacert {
            Some(path) => RootCerts::Specific(Arc::new(certificates(&path)?)),
            None => RootCerts::WebPki,
        };
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Ok(Self { agent, base, token })
    }

    /// `GET` of a path.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let request = self.authorized(self.agent.get(format!("{}{path}", self.base)));
        self.answer(path, request.call())
    }

    /// `POST` of a body to a path.
    pub(crate) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut request = self.authorized(self.agent.post(format!("{}{path}", self.base)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(path, request.send(body))
    }

    /// `PUT` of a body that is at hand, to a path.
    pub(crate) fn put(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let mut request = self.authorized(self.agent.put(format!("{}{path}", self.base)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(path, request.send(body))
    }

    /// `PUT` of a body that is read as it is sent, of a size that is not known.
    pub(crate) fn put_stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &mut impl Read,
    ) -> anyhow::Result<Answer> {
        let mut request = self.authorized(self.agent.put(format!("{}{path}", self.base)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.answer(path, request.send(SendBody::from_reader(body)))
    }

    /// `POST` that the server may take long to answer.
    pub(crate) fn post_patiently(&self, path: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let request = self.authorized(self.agent.post(format!("{}{path}", self.base)));
        let request = request.config().timeout_recv_response(Some(FINISH_MAX)).build();
        self.answer(path, request.send(body))
    }

    /// `DELETE` of a path.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let request = self.authorized(self.agent.delete(format!("{}{path}", self.base)));
        self.answer(path, request.call())
    }

    /// `GET` of a path whose answer is read as it comes.
    pub(crate) fn open(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Coming> {
        let mut request = self.authorized(self.agent.get(format!("{}{path}", self.base)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = self.reached(path, request.call())?.into_parts();
        let body = body.into_with_config().limit(u64::MAX).reader();
        Ok(Coming { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// What the server is called in messages.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("X-Auth-Token", token),
            None => request,
        }
    }

    fn answer(
        &self,
        path: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Answer> {
        let (parts, mut body) = self.reached(path, response)?.into_parts();
        let body = body
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .with_context(|| format!("could not read the answer of {}{path}", self.base))?;
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    fn reached(
        &self,
        path: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Response<Body>> {
        response.map_err(|error| {
            anyhow::Error::new(error).context(Hinted::new(
                format!("could not reach {}{path}", self.base),
                "is the server running? `inlet up` starts one; --url names another",
            ))
        })
    }
}

/// Asks again while the server is busy or away, with a pause that grows.
pub(crate) fn persistently(
    mut ask: impl FnMut() -> anyhow::Result<Answer>,
) -> anyhow::Result<Answer> {
    let mut attempt = 1;
    loop {
        match ask() {
            Ok(answer) if !matches!(answer.status, 429 | 503) || attempt == ATTEMPTS => {
                return Ok(answer);
            }
            Ok(answer) => {
                let asked = answer.headers.get("retry-after").and_then(|value| value.to_str().ok());
                wait(asked.and_then(|value| value.parse().ok()), attempt);
            }
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => wait(None, attempt),
        }
        attempt += 1;
    }
}

/// Waits as long as the server asked for, or twice as long after each attempt; a minute at most.
fn wait(asked_s: Option<u64>, attempt: u32) {
    let seconds = asked_s.unwrap_or(1 << attempt.min(6)).min(60);
    std::thread::sleep(Duration::from_secs(seconds));
}

impl Answer {
    /// The answer if it is a success; else an error that says what the server said.
    pub(crate) fn success(self, attempted: &str) -> anyhow::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let problem: Option<Problem> = serde_json::from_slice(&self.body).ok();
        let (said, request_id) = problem.map_or((None, None), |problem| {
            (problem.detail.or(problem.title).or(problem.code), problem.request_id)
        });
        let message = match said {
            Some(said) => format!("could not {attempted}: {} ({said})", self.status),
            None => format!("could not {attempted}: the server answered {}", self.status),
        };
        let hint = match (self.status, request_id) {
            (401, _) => "give a token with --token or INLET_TOKEN".to_owned(),
            (403, _) => "use a token with that scope; `inlet token add` makes one".to_owned(),
            (404, _) => "check the name; `inlet list` lists documents".to_owned(),
            (500.., Some(id)) => format!("the server's log has more under request id {id}"),
            _ => String::new(),
        };
        Err(Hinted::new(message, hint).into())
    }

    /// The answer's JSON.
    pub(crate) fn json<T: for<'de> Deserialize<'de>>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).context("the server's answer is not what was expected")
    }
}

/// Percent-encodes a query value.
pub(crate) fn encode(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn base_of(directory: &DataDirectory) -> anyhow::Result<String> {
    let running = directory.running().ok_or_else(|| {
        Hinted::new(
            format!("nothing runs on the data directory {}", directory.path().display()),
            "start `inlet up`, or name a server with --url",
        )
    })?;
    let base = match (running.https, running.plain) {
        (Some(https), _) => format!("https://{}", reachable(https)),
        (None, Some(plain)) => format!("http://{}", reachable(plain)),
        (None, None) => {
            let message = "the instance on this data directory listens nowhere";
            return Err(Hinted::new(message, "start it with --https").into());
        }
    };
    Ok(base)
}

/// The address under which a listener is reached from this machine.
pub(crate) fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            std::net::SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

fn certificates(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let hint = "give a file with -----BEGIN CERTIFICATE-----";
        return Err(Hinted::new(format!("{} has no certificate", path.display()), hint).into());
    }
    Ok(certificates)
}
