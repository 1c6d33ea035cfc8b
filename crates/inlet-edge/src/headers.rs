//! Headers on their way through: hop-by-hop ones are taken out, where a request came from is put
//! in.
//!
//! What a client says of `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` is thrown away,
//! unless it comes through a proxy that is trusted: then the client's address is added to the
//! list, and the rest is kept. `Host` is passed as it came. Connections are not upgraded: an
//! `Upgrade` is taken out, which a server may always do.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA,
};
use http::uri::PathAndQuery;
use http::{Uri, Version, request};
use ipnet::IpNet;
use rand::RngExt;

use crate::firewall::Permit;
use crate::forward::{Outbound, OutboundBody};
use crate::options::{DocumentIds, RetryOptions};
use crate::problem::Problem;

/// The header of a request's id.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The id of the document in a request, and the secret by which an instance knows its edge.
const X_INLET_DOCUMENT_ID: HeaderName = HeaderName::from_static("x-inlet-document-id");
const X_INLET_EDGE: HeaderName = HeaderName::from_static("x-inlet-edge");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
/// What this proxy calls itself in `Via`.
const VIA_SELF: HeaderValue = HeaderValue::from_static("1.1 inlet-edge");

/// Whether a header ends at this hop (RFC 9110, 7.6.1), or is one that older clients use for the
/// same. `Expect` is among them because the body is asked of the client here.
fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "expect"
            | "keep-alive"
            | "proxy-connection"
            | "http2-settings"
    )
}

/// The host of a request that names none.
const NO_HOST: HeaderValue = HeaderValue::from_static("inlet");

/// How many headers are put in at most.
const ADDED_MAX: usize = 9;

/// The longest request id that is taken over from a client, in bytes.
const GIVEN_ID_BYTES_MAX: usize = 128;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address at the other end of the connection.
    pub address: IpAddr,
    /// Whether the connection is TLS.
    pub is_tls: bool,
}

/// Whom a request is counted for: the peer, or who it says it stands for if it is trusted. The
/// last address in `X-Forwarded-For` that is not itself a trusted proxy is believed.
pub(crate) fn client_address(peer: &Peer, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    let mut client = peer.address.to_canonical();
    if trusted.is_empty() || !is_trusted(&client) {
        return client;
    }
    for value in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        for entry in value.to_str().unwrap_or_default().rsplit(',') {
            let Ok(address) = entry.trim().parse::<IpAddr>() else { return client };
            client = address.to_canonical();
            if !is_trusted(&client) {
                return client;
            }
        }
    }
    client
}

/// The request's id: what the client gave if it is 1 to 128 visible ASCII characters that need no
/// escaping in JSON, HTML or a log line; a fresh UUID otherwise.
pub(crate) fn request_id(headers: &HeaderMap) -> HeaderValue {
    match headers.get(X_REQUEST_ID) {
        Some(given) if is_safe_id(given.as_bytes()) => given.clone(),
        _ => fresh_id(),
    }
}

fn is_safe_id(id: &[u8]) -> bool {
    let is_safe = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\<>&'".contains(byte);
    (1..=GIVEN_ID_BYTES_MAX).contains(&id.len()) && id.iter().all(is_safe)
}

/// A fresh UUID (version 4).
pub(crate) fn fresh_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut id: [u8; 16] = rand::rng().random();
    id[6] = (id[6] & 0x0f) | 0x40;
    id[8] = (id[8] & 0x3f) | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).expect("digits and dashes make a header value")
}

/// The head of a request without what ends at this hop.
///
/// `Connection` can name any header, so that a decision which rests on one that is taken out later
/// would be a decision on another request than the one the backend gets. Every decision is
/// therefore made on this type.
#[derive(Debug)]
pub(crate) struct Stripped(request::Parts);

impl Stripped {
    pub(crate) fn of(mut head: request::Parts) -> Self {
        remove_hop_by_hop(&mut head.headers);
        Self(head)
    }

    pub(crate) fn head(&self) -> &request::Parts {
        &self.0
    }

    /// Decides whether the request does the same when it is sent twice, and gives it what makes it
    /// so: before instances of its own, the document's id; where keys are minted, a key.
    ///
    /// # Errors
    /// Returns a problem if a client gives an id itself.
    pub(crate) fn judged(
        self,
        permit: Permit,
        retry: &RetryOptions,
        ids: Option<&DocumentIds>,
    ) -> Result<Judged, Problem> {
        let Self(mut head) = self;
        let headers = &mut head.headers;
        if let Some(ids) = ids {
            if headers.contains_key(&X_INLET_DOCUMENT_ID) {
                let why = "X-Inlet-Document-Id is given by the edge, and by nobody else";
                return Err(Problem::malformed(why));
            }
            if permit.is_keyed && !headers.contains_key(&IDEMPOTENCY_KEY) {
                headers.reserve(ADDED_MAX);
                headers.insert(X_INLET_DOCUMENT_ID, ids.mint());
                headers.insert(X_INLET_EDGE, ids.secret());
                return Ok(Judged { head, is_repeatable: true, permit });
            }
        }
        if permit.is_keyed && retry.mints_keys {
            headers.entry(IDEMPOTENCY_KEY).or_insert_with(fresh_id);
        }
        let is_repeatable = permit.is_keyed && headers.contains_key(&IDEMPOTENCY_KEY);
        Ok(Judged { head, is_repeatable, permit })
    }
}

/// A request that may pass, with all decisions on it.
#[derive(Debug)]
pub(crate) struct Judged {
    head: request::Parts,
    is_repeatable: bool,
    pub(crate) permit: Permit,
}

impl Judged {
    /// The request as it goes to a backend.
    pub(crate) fn outbound(
        self,
        peer: &Peer,
        is_peer_trusted: bool,
        id: &HeaderValue,
        body: OutboundBody,
    ) -> Outbound {
        let Self { mut head, is_repeatable, permit } = self;
        prepare_request(&mut head, peer, is_peer_trusted, id);
        Outbound { head, body, is_keyed: is_repeatable, body_bytes_max: permit.body_bytes_max }
    }
}

/// Makes a request's head fit for a backend, by HTTP/1.1.
fn prepare_request(
    head: &mut request::Parts,
    peer: &Peer,
    is_peer_trusted: bool,
    id: &HeaderValue,
) {
    let host = host(head);
    let headers = &mut head.headers;
    headers.reserve(ADDED_MAX);
    if head.version == Version::HTTP_2 {
        join_cookies(headers);
    }
    forward(headers, peer, is_peer_trusted, host.as_ref());
    // A check by HTTP/1.0 names none, and the request goes on by HTTP/1.1, which wants one.
    headers.insert(HOST, host.unwrap_or(NO_HOST));
    headers.insert(X_REQUEST_ID, id.clone());
    headers.append(VIA, VIA_SELF);
    head.version = Version::HTTP_11;
    head.uri = origin_form(&mut head.uri);
    head.extensions.clear();
}

/// Makes an answer's head fit for the client.
pub(crate) fn prepare_answer(headers: &mut HeaderMap, id: &HeaderValue) {
    remove_hop_by_hop(headers);
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, id.clone());
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut ending: Vec<HeaderName> =
        headers.keys().filter(|name| is_hop_by_hop(name)).cloned().collect();
    if ending.is_empty() {
        return;
    }
    for value in headers.get_all(CONNECTION) {
        let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        // What is nearly always there names no header that is left.
        let names = names.filter(|name| !matches!(*name, b"keep-alive" | b"close"));
        let names = names.filter_map(|name| HeaderName::from_bytes(name).ok());
        // Naming these would change what the message is, not how it travels.
        ending.extend(names.filter(|name| *name != HOST && *name != CONTENT_LENGTH));
    }
    for name in ending {
        headers.remove(name);
    }
}

fn forward(headers: &mut HeaderMap, peer: &Peer, is_trusted: bool, host: Option<&HeaderValue>) {
    let scheme = if peer.is_tls { HTTPS } else { HTTP };
    let mut address = String::with_capacity(48);
    if is_trusted {
        for value in headers.get_all(X_FORWARDED_FOR) {
            address.push_str(value.to_str().unwrap_or_default());
            address.push_str(", ");
        }
        headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
    } else {
        headers.remove(FORWARDED);
        headers.insert(X_FORWARDED_PROTO, scheme);
    }
    write_address(&mut address, peer.address.to_canonical());
    let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(address));
    headers.insert(X_FORWARDED_FOR, value.expect("addresses are visible ASCII"));
    match host {
        Some(host) if is_trusted => {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
        Some(host) => {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
        None => {
            headers.remove(X_FORWARDED_HOST);
        }
    }
}

/// Writes an address. That of IPv4 by hand, because the way over `Display` costs as much as a tenth
/// of all that is done with a head.
fn write_address(text: &mut String, address: IpAddr) {
    let IpAddr::V4(v4) = address else {
        write!(text, "{address}").expect("a string takes all");
        return;
    };
    for (index, octet) in v4.octets().into_iter().enumerate() {
        if index > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
}

/// The host a request is for: that of its target where it has one (HTTP/2, absolute form).
fn host(head: &request::Parts) -> Option<HeaderValue> {
    match head.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => head.headers.get(HOST).cloned(),
    }
}

/// HTTP/2 may send each cookie in a field of its own; HTTP/1.1 has one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if let (Some(first), Some(second)) = (cookies.next(), cookies.next()) {
        let mut joined = first.as_bytes().to_vec();
        for cookie in std::iter::once(second).chain(cookies) {
            joined.extend_from_slice(b"; ");
            joined.extend_from_slice(cookie.as_bytes());
        }
        if let Ok(joined) = HeaderValue::from_bytes(&joined) {
            headers.insert(COOKIE, joined);
        }
    }
}

/// The target as an origin server wants it: path and query alone.
fn origin_form(uri: &mut Uri) -> Uri {
    if uri.authority().is_none() {
        return std::mem::take(uri);
    }
    let path = uri.path_and_query().cloned();
    Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const PEER: Peer =
        Peer { address: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), is_tls: true };

    fn prepared(request: Request<()>, trusted: bool) -> request::Parts {
        let stripped = Stripped::of(request.into_parts().0);
        let id = request_id(&stripped.head().headers);
        let permit = Permit { body_bytes_max: 0, is_keyed: false };
        let judged = stripped.judged(permit, &RetryOptions::default(), None).unwrap();
        judged.outbound(&PEER, trusted, &id, OutboundBody::Kept(bytes::Bytes::new())).head
    }

    fn get(head: &request::Parts, name: &str) -> Option<String> {
        head.headers.get(name).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_ends_at_this_hop_is_taken_out() {
        let request = Request::get("/x")
            .header("host", "inlet.test")
            .header("connection", "close, X-Private")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "websocket")
            .header("proxy-authorization", "Basic x")
            .header("expect", "100-continue")
            .header("x-kept", "1");
        let head = prepared(request.body(()).unwrap(), false);
        let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        let kept = ["host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];
        assert_eq!(names, [&kept[..], &["x-kept", "x-request-id"]].concat());
    }

    #[test]
    fn connection_cannot_take_out_the_host_or_what_the_edge_says() {
        let request = Request::get("/")
            .header("host", "inlet.test")
            .header("connection", "host, x-forwarded-for, x-request-id")
            .body(());
        let head = prepared(request.unwrap(), false);
        assert_eq!(get(&head, "host").unwrap(), "inlet.test");
        assert_eq!(get(&head, "x-forwarded-for").unwrap(), "192.0.2.7");
        assert!(get(&head, "x-request-id").is_some());
    }

    #[test]
    fn a_clients_word_on_where_it_comes_from_is_not_believed() {
        let request = || {
            Request::get("/")
                .header("host", "inlet.test")
                .header("x-forwarded-for", "10.0.0.1")
                .header("x-forwarded-proto", "http")
                .header("forwarded", "for=10.0.0.1")
                .body(())
                .unwrap()
        };
        let head = prepared(request(), false);
        assert_eq!(get(&head, "x-forwarded-for").unwrap(), "192.0.2.7");
        assert_eq!(get(&head, "x-forwarded-proto").unwrap(), "https");
        assert_eq!(get(&head, "forwarded"), None);
        let head = prepared(request(), true);
        assert_eq!(get(&head, "x-forwarded-for").unwrap(), "10.0.0.1, 192.0.2.7");
        assert_eq!(get(&head, "x-forwarded-proto").unwrap(), "http");
    }

    #[test]
    fn the_client_is_the_last_address_that_no_trusted_proxy_has() {
        let trusted: Vec<IpNet> = vec!["192.0.2.0/24".parse().unwrap()];
        let mut headers = HeaderMap::new();
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("10.9.9.9, 10.0.0.1, 192.0.2.9"));
        let address = |trusted: &[IpNet]| client_address(&PEER, &headers, trusted).to_string();
        assert_eq!(address(&trusted), "10.0.0.1");
        assert_eq!(address(&[]), "192.0.2.7");
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static("10.0.0.1, nonsense"));
        assert_eq!(client_address(&PEER, &headers, &trusted).to_string(), "192.0.2.7");
    }

    #[test]
    fn addresses_are_written_as_they_are_read() {
        for address in ["0.0.0.0", "1.20.255.199", "100.10.9.99", "2001:db8::1"] {
            let mut text = String::new();
            write_address(&mut text, address.parse().unwrap());
            assert_eq!(text, address);
        }
    }

    #[test]
    fn http2_becomes_http1_with_its_host_and_one_cookie_field() {
        let request = Request::get("https://inlet.test:8443/api/save?stream=a")
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2");
        let head = prepared(request.body(()).unwrap(), false);
        assert_eq!(head.uri, "/api/save?stream=a");
        assert_eq!(head.version, Version::HTTP_11);
        assert_eq!(get(&head, "host").unwrap(), "inlet.test:8443");
        assert_eq!(get(&head, "cookie").unwrap(), "a=1; b=2");
        assert_eq!(head.headers.get_all(COOKIE).iter().count(), 1);
    }

    #[test]
    fn an_id_is_taken_over_only_if_it_is_harmless() {
        let with = |id: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_static(id));
            request_id(&headers)
        };
        assert_eq!(with("abc-123"), "abc-123");
        for bad in ["", "<script>", "a b", "\"", &"x".repeat(129)] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            assert_eq!(request_id(&headers).len(), 36, "{bad}");
        }
        assert_ne!(with(""), with(""));
    }
}
