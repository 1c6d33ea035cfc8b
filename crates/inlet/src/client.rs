//! Talks to a running server, for the commands that do.
//!
//! A credential goes to the server that it is for and to no other: redirects are not followed,
//! and the token of a data directory is sent to what runs on that directory alone.

pub(crate) mod address;
mod fault;
pub(crate) mod tls;

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use inlet_core::document::Timestamp;
use inlet_core::ports::{Clock, SystemClock};
use rustls::ClientConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{Response, header::HeaderMap};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body, RequestBuilder, SendBody};

use self::address::Address;
use self::fault::Fault;
use self::tls::TlsConnector;
use crate::cli::RemoteArgs;
use crate::data::{DataDirectory, Running};
use crate::report::{self, Hinted};

/// The most bytes of an answer that is read whole.
const ANSWER_BYTES_MAX: u64 = 256 << 20;
/// How often a request is tried while the server is busy or away.
const ATTEMPTS: u32 = 8;
/// The longest time connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a server may take to begin its answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// How long a server may take for what it has to read or copy much for.
const LONG_ANSWER_WITHIN: Duration = Duration::from_secs(3_600);

/// A server, and a token for it.
pub(crate) struct Client {
    agent: Agent,
    tls: Arc<ClientConfig>,
    address: Address,
    token: Token,
    /// Whether it has answered already. One that has is waited for when it is away.
    has_answered: AtomicBool,
}

/// The token that requests carry.
enum Token {
    /// Given by `--token` or `INLET_TOKEN`.
    Given(String),
    /// That of the server on the data directory, which it is sent to.
    Local(String),
    /// None: that of the data directory is for another server.
    Missing,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// What to do about a `401`.
    token_hint: &'static str,
}

/// An answer whose body is read as it comes.
pub(crate) struct Coming {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ureq::BodyReader<'static>,
    token_hint: &'static str,
}

/// The server could not be reached.
#[derive(Debug)]
struct Unreached {
    fault: Fault,
    message: String,
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Unreached {}

/// The server can't answer at this moment.
#[derive(Debug)]
struct Busy(String);

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Busy {}

/// The members of a problem answer that a person needs.
#[derive(Debug, Deserialize)]
struct Problem {
    detail: Option<String>,
    title: Option<String>,
    code: Option<String>,
    #[serde(rename = "errorType")]
    error_type: Option<String>,
    #[serde(rename = "requestId")]
    request_id: Option<String>,
}

impl Client {
    /// A client for the server that the arguments name, or for the one on the data directory.
    ///
    /// # Errors
    /// Where no server is named and none runs on the directory, and where the address, the token
    /// or the certificates can't be used.
    pub(crate) fn new(remote: &RemoteArgs, data: &Path) -> anyhow::Result<Self> {
        let named = remote.url.as_deref().map(|url| Address::parse("--url", url)).transpose()?;
        // A server that is named needs no directory, and one that can't be read is not its.
        let running = match named {
            Some(_) => DataDirectory::open(data).and_then(|data| data.running()).ok().flatten(),
            None => Some(running_on(data)?),
        };
        let own = running.filter(|running| named.as_ref().is_none_or(|named| named.is_of(running)));
        let address = match (named, &own) {
            (Some(named), _) => named,
            (None, Some(own)) => listener_of(own)?,
            (None, None) => unreachable!("without --url, a server runs on the directory"),
        };
        Self::at(address, remote, own.as_ref())
    }

    /// A client for a server of this machine whose note was read.
    pub(crate) fn local(remote: &RemoteArgs, running: &Running) -> anyhow::Result<Self> {
        Self::at(listener_of(running)?, remote, Some(running))
    }

    fn at(address: Address, remote: &RemoteArgs, own: Option<&Running>) -> anyhow::Result<Self> {
        let now = SystemClock.now();
        if address.to_string().starts_with("https://") && now < Timestamp::default() {
            return Err(Hinted::new(
                format!("the clock of this machine shows {now}, when no certificate was valid"),
                "set the clock",
            )
            .into());
        }
        let token = match (&remote.token, own.and_then(|own| own.token.clone())) {
            (Some(given), _) => Token::Given(header_value(given)?),
            (None, Some(local)) => Token::Local(local),
            (None, None) => Token::Missing,
        };
        let certificate = own.and_then(|own| own.certificate.as_deref());
        let certificate = certificate.filter(|path| path.exists());
        let tls = tls::config(remote.cacert.as_deref(), certificate)?;
        // No proxy stands between this machine and itself.
        let agent = agent_with(Arc::clone(&tls), own.is_none(), ANSWER_WITHIN);
        Ok(Self { agent, tls, address, token, has_answered: AtomicBool::new(false) })
    }

    /// `GET` of a path.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Answer> {
        let request = self.authorized(self.agent.get(self.url(path)));
        self.answer(path, request.call())
    }

    /// `POST` of a body to a path.
    pub(crate) fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let request = with(self.authorized(self.agent.post(self.url(path))), headers);
        self.answer(path, request.send(body))
    }

    /// `PUT` of a body that is at hand, to a path.
    pub(crate) fn put(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let request = with(self.authorized(self.agent.put(self.url(path))), headers);
        self.answer(path, request.send(body))
    }

    /// `PUT` of a body that is read as it is sent, of a size that is not known.
    pub(crate) fn put_stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &mut impl Read,
    ) -> anyhow::Result<Answer> {
        let request = with(self.authorized(self.agent.put(self.url(path))), headers);
        self.answer(path, request.send(SendBody::from_reader(body)))
    }

    /// `POST` that the server may take long to answer.
    pub(crate) fn post_patiently(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> anyhow::Result<Answer> {
        let request = with(self.authorized(self.agent.post(self.url(path))), headers);
        let request = request.config().timeout_recv_response(Some(LONG_ANSWER_WITHIN)).build();
        self.answer(path, request.send(body))
    }

    /// `DELETE` of a path.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        let request = self.authorized(self.agent.delete(self.url(path)));
        self.answer(path, request.call())
    }

    /// `GET` of a path whose answer is read as it comes.
    pub(crate) fn open(&self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Coming> {
        let request = with(self.authorized(self.agent.get(self.url(path))), headers);
        let (parts, body) = self.reached(path, request.call())?.into_parts();
        let body = body.into_with_config().limit(u64::MAX).reader();
        let (status, token_hint) = (parts.status.as_u16(), self.token.hint());
        Ok(Coming { status, headers: parts.headers, body, token_hint })
    }

    /// Asks again while the server is busy or, once it has answered before, while it is away; with
    /// pauses that grow.
    pub(crate) fn persistently(
        &self,
        mut ask: impl FnMut(&Self) -> anyhow::Result<Answer>,
    ) -> anyhow::Result<Answer> {
        let mut attempt = 1;
        loop {
            let asked = ask(self);
            let pause = match &asked {
                Ok(answer) if matches!(answer.status, 429 | 503) => {
                    let after = answer.headers.get("retry-after").and_then(|it| it.to_str().ok());
                    pause(after.and_then(|value| value.parse().ok()), attempt)
                }
                Ok(_) => return asked,
                Err(error) => {
                    let fault = error.downcast_ref::<Unreached>().map(|unreached| unreached.fault);
                    let is_known = self.has_answered.load(Ordering::Relaxed);
                    if !is_known || !fault.is_some_and(Fault::is_passing) {
                        return asked;
                    }
                    pause(None, attempt)
                }
            };
            if attempt == ATTEMPTS {
                return asked;
            }
            let why = match &asked {
                Ok(answer) => format!("the server answered {}", answer.status),
                Err(error) => error.to_string(),
            };
            report::say(format_args!("{why}; trying again in {} s", pause.as_secs()));
            std::thread::sleep(pause);
            attempt += 1;
        }
    }

    /// Whom it trusts.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    /// The token that requests carry, if they carry one.
    pub(crate) fn token(&self) -> Option<&str> {
        match &self.token {
            Token::Given(token) | Token::Local(token) => Some(token),
            Token::Missing => None,
        }
    }

    /// The moment that it is by the server's clock, to the second.
    pub(crate) fn now(&self) -> anyhow::Result<Timestamp> {
        let answer = self.get("/healthz")?;
        let date = answer.header("date").and_then(|date| httpdate::parse_http_date(date).ok());
        let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        let micros = since.and_then(|since| i64::try_from(since.as_micros()).ok());
        let said = micros.map(Timestamp::from_micros);
        // A server that does not say keeps the time of this machine, as far as anybody knows.
        Ok(said.unwrap_or_else(|| SystemClock.now()))
    }

    /// The server's address, as messages name it.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match self.token() {
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
        let body = body.with_config().limit(ANSWER_BYTES_MAX).read_to_vec().map_err(|error| {
            self.unreached(&format!("read the answer of {}", self.url(path)), error)
        })?;
        let (status, token_hint) = (parts.status.as_u16(), self.token.hint());
        Ok(Answer { status, headers: parts.headers, body, token_hint })
    }

    fn reached(
        &self,
        path: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> anyhow::Result<Response<Body>> {
        let response = response
            .map_err(|error| self.unreached(&format!("reach {}", self.url(path)), error))?;
        self.has_answered.store(true, Ordering::Relaxed);
        Ok(response)
    }

    fn unreached(&self, attempted: &str, error: ureq::Error) -> anyhow::Error {
        let fault = Fault::of(&error);
        let message = format!("could not {attempted}");
        let unreached = Unreached { fault, message: message.clone() };
        anyhow::Error::new(error).context(Hinted::new(message, fault.hint())).context(unreached)
    }
}

impl Token {
    fn hint(&self) -> &'static str {
        match self {
            Self::Given(_) => {
                "the token of --token or INLET_TOKEN is not in force there: it is of another \
                 server, has expired or was revoked"
            }
            Self::Local(_) => "the server has just been started again; try once more",
            Self::Missing => {
                "give a token with --token or INLET_TOKEN; that of a data directory is for its own \
                 server only"
            }
        }
    }
}

fn with<B>(mut request: RequestBuilder<B>, headers: &[(&str, &str)]) -> RequestBuilder<B> {
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
}

/// A token as a header carries it. The line break that comes with a file or an `echo` is left out.
fn header_value(given: &str) -> anyhow::Result<String> {
    let text = given.trim_end_matches(['\r', '\n']);
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let hint = "give it as it was printed: visible ASCII characters, without spaces";
    Err(Hinted::usage("the token of --token or INLET_TOKEN is none", hint).into())
}

/// What runs on the data directory.
fn running_on(data: &Path) -> anyhow::Result<Running> {
    if !data.exists() {
        let message = format!("there is no data directory at {}", data.display());
        let hint = "start `inlet up`, or name a server with --url, or the directory with --data";
        return Err(Hinted::new(message, hint).into());
    }
    let directory = DataDirectory::open(data)?;
    directory.running()?.ok_or_else(|| {
        Hinted::new(
            format!("nothing runs on the data directory {}", directory.path().display()),
            "start `inlet up`, or name a server with --url",
        )
        .into()
    })
}

fn listener_of(running: &Running) -> anyhow::Result<Address> {
    match (running.https, running.plain) {
        (Some(https), _) => Ok(Address::of(true, https)),
        (None, Some(plain)) => Ok(Address::of(false, plain)),
        (None, None) => {
            let message = "the instance on this data directory listens nowhere";
            Err(Hinted::new(message, "start it with --https").into())
        }
    }
}

/// The agent that speaks HTTP to servers elsewhere, which are trusted by the public authorities and
/// by the certificates in `cacert`. It follows no redirect: headers may hold what is for one place
/// alone.
///
/// # Errors
/// Returns an error if the certificates can't be used.
pub(crate) fn agent(cacert: Option<&Path>, answer_within: Duration) -> anyhow::Result<Agent> {
    Ok(agent_with(tls::config(cacert, None)?, true, answer_within))
}

fn agent_with(tls: Arc<ClientConfig>, uses_proxies: bool, answer_within: Duration) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(answer_within));
    if !uses_proxies {
        config = config.proxy(None);
    }
    let connector =
        ().chain(ConnectProxyConnector::default())
            .chain(TcpConnector::default())
            .chain(TlsConnector(tls));
    Agent::with_parts(config.build(), connector, DefaultResolver::default())
}

/// Returns true if a request that failed with this error may succeed later, by itself.
pub(crate) fn may_pass(error: &ureq::Error) -> bool {
    Fault::of(error).is_passing()
}

/// The advice to a person about a request that failed with this error.
pub(crate) fn hint(error: &ureq::Error) -> &'static str {
    Fault::of(error).hint()
}

/// As long as the server asked for, or twice as long after each attempt; a minute at most.
pub(crate) fn pause(asked_s: Option<u64>, attempt: u32) -> Duration {
    Duration::from_secs(asked_s.unwrap_or(1 << attempt.min(6)).min(60))
}

impl Coming {
    /// The answer if it is a success; else an error that says what the server said.
    pub(crate) fn success(mut self, attempted: &str, missing: &str) -> anyhow::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let mut body = Vec::new();
        self.body.by_ref().take(1 << 20).read_to_end(&mut body).context("no answer came")?;
        let Self { status, headers, token_hint, .. } = self;
        Answer { status, headers, body, token_hint }.success_or(attempted, missing)?;
        anyhow::bail!("the server answered {status}")
    }
}

impl Answer {
    /// The answer if it is a success; else an error that says what the server said.
    pub(crate) fn success(self, attempted: &str) -> anyhow::Result<Self> {
        self.success_or(attempted, "")
    }

    /// The same with a hint for what is not there.
    pub(crate) fn success_or(self, attempted: &str, missing: &str) -> anyhow::Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let status = self.status;
        if (300..400).contains(&status)
            && let Some(place) = self.header("location")
        {
            // What stands in an answer is shown as an address or not at all.
            let to = Address::parse("--url", place)
                .map_or_else(|_| "another place".to_owned(), |to| to.to_string());
            let message = format!("could not {attempted}: the server sends on to {to}");
            let hint = "a token is sent to no other place by itself; name that one with --url";
            return Err(Hinted::new(message, hint).into());
        }
        let problem: Option<Problem> = serde_json::from_slice(&self.body).ok();
        let Some(problem) = problem.filter(|problem| problem.error_type.is_some()) else {
            let message = format!("could not {attempted}: the server answered {status}");
            let is_inlet = self.headers.contains_key("x-instance-id");
            let hint = if is_inlet { "" } else { "is it an Inlet that answers there? check --url" };
            let error = anyhow::Error::new(Hinted::new(message.clone(), hint));
            let is_busy = matches!(status, 429 | 502 | 503 | 504);
            return Err(if is_busy { error.context(Busy(message)) } else { error });
        };
        let said = problem.detail.or(problem.title).or(problem.error_type).unwrap_or_default();
        let hint = match (status, problem.request_id) {
            (401, _) => self.token_hint.to_owned(),
            (403, _) if problem.code.as_deref() == Some("ScopeMissing") => {
                "use a token with that scope; `inlet token add NAME --scopes SCOPE` makes one"
                    .to_owned()
            }
            (403, _) => {
                "use a token that may; `inlet token list` shows what each is for".to_owned()
            }
            (404, _) => missing.to_owned(),
            (429 | 503, _) => match self.header("retry-after") {
                Some(seconds) => format!("try again in {seconds} s"),
                None => "try again".to_owned(),
            },
            (500.., Some(id)) => format!("the server's log has more under request id {id}"),
            _ => String::new(),
        };
        let message = format!("could not {attempted}: {status} ({said})");
        let error = anyhow::Error::new(Hinted::new(message.clone(), hint));
        // The gateways of others say 502 and 504 while a server is away.
        if matches!(status, 429 | 502 | 503 | 504) {
            Err(error.context(Busy(message)))
        } else {
            Err(error)
        }
    }

    /// The code of the problem that the answer tells, if it tells one.
    pub(crate) fn code(&self) -> Option<String> {
        serde_json::from_slice::<Problem>(&self.body).ok()?.code
    }

    /// The answer's JSON.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> anyhow::Result<T> {
        serde_json::from_slice(&self.body).map_err(|_| {
            let message = "the server's answer is not what was expected";
            Hinted::new(message, "is it an Inlet of this version that answers there?").into()
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Returns true if a request that failed with this error may succeed later, by itself.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Unreached>().is_some_and(|unreached| unreached.fault.is_passing())
        || error.downcast_ref::<Busy>().is_some()
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

/// The bytes that a percent-encoded text stands for; what is not well encoded stands for itself.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) if *byte == b'%' => {
                bytes.push(decoded);
                rest = &rest[2..];
            }
            _ => bytes.push(*byte),
        }
    }
    bytes
}
