//! The destination of replayed documents.

use std::fmt;
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use ureq::http::{HeaderMap, Uri};

use super::pace::Pace;
use crate::cli::ReplayArgs;
use crate::client;
use crate::report::{self, Hinted};

/// The number of times a document is sent while it is not taken.
const ATTEMPTS: u32 = 8;
/// The longest time the answer to one may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The destination of replayed documents.
pub(super) enum Sink {
    Output,
    Url(Box<UrlSink>),
}

/// A URL that each document is posted to.
pub(super) struct UrlSink {
    agent: ureq::Agent,
    uri: Uri,
    headers: HeaderMap,
    shown: String,
}

/// The outcome of one attempt.
enum Attempt {
    Taken,
    /// It may be taken later: why not now, and after how many seconds at the earliest.
    Later(String, Option<u64>),
    Refused(anyhow::Error),
}

impl Sink {
    /// # Errors
    /// Returns an error if the URL, a header or the certificates can't be used. It does not show
    /// the typed text.
    pub(super) fn new(args: &ReplayArgs) -> anyhow::Result<Self> {
        if args.to_url == "-" {
            let needless = [("--header", !args.headers.is_empty()), ("--restart", args.restart)];
            if let Some((flag, _)) = needless.iter().find(|(_, is_given)| *is_given) {
                let message = format!("{flag} has no effect where documents are printed");
                return Err(Hinted::usage(message, "name a place with --to-url").into());
            }
            return Ok(Self::Output);
        }
        let (uri, user) = target(&args.to_url)?;
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(user) = user {
            headers.insert(AUTHORIZATION, user);
        }
        for typed in &args.headers {
            let (name, value) = header(typed)?;
            headers.insert(name, value);
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let scheme = uri.scheme_str().unwrap_or_default();
        let shown = format!("{scheme}://{authority}{}", uri.path());
        let agent = client::agent(args.remote.cacert.as_deref(), ANSWER_WITHIN)?;
        Ok(Self::Url(Box::new(UrlSink { agent, uri, headers, shown })))
    }

    /// The URL as messages name it; `None` for standard output.
    pub(super) fn shown(&self) -> Option<&str> {
        match self {
            Self::Output => None,
            Self::Url(sink) => Some(&sink.shown),
        }
    }

    /// Hands a document over, within the pace, and again where it is not taken at once.
    pub(super) fn take(&mut self, document: &Value, pace: &mut Pace) -> anyhow::Result<()> {
        let id = document["id"].as_str().unwrap_or_default();
        let body = document["body"].as_str().unwrap_or_default();
        let Self::Url(sink) = self else {
            pace.wait();
            // One line a document: the line breaks of JSON stand between tokens only.
            return report::data(body.replace(['\n', '\r'], " "));
        };
        let mut attempt = 1;
        loop {
            pace.wait();
            let (why, after_s) = match sink.post(id, body) {
                Attempt::Taken => return Ok(()),
                Attempt::Refused(error) => return Err(error),
                Attempt::Later(why, after_s) => (why, after_s),
            };
            if attempt == ATTEMPTS {
                let message = format!("{} did not take document {id}: {why}", sink.shown);
                let hint = "run the same command again: it goes on with this document";
                return Err(Hinted::new(message, hint).into());
            }
            let pause = client::pause(after_s, attempt);
            report::say(format_args!(
                "{}: {why}; trying again in {} s",
                sink.shown,
                pause.as_secs()
            ));
            std::thread::sleep(pause);
            attempt += 1;
        }
    }
}

impl UrlSink {
    fn post(&self, id: &str, body: &str) -> Attempt {
        let mut request = self.agent.post(&self.uri);
        if !self.headers.contains_key(&IDEMPOTENCY_KEY) {
            request = request.header(IDEMPOTENCY_KEY, id);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = match request.send(body) {
            Ok(answer) => answer,
            Err(error) if client::may_pass(&error) => return Attempt::Later(told(&error), None),
            Err(error) => {
                let hint = client::hint(&error);
                let message = format!("could not reach {}: {}", self.shown, told(&error));
                return Attempt::Refused(Hinted::new(message, hint).into());
            }
        };
        let status = answer.status().as_u16();
        let after_s = answer.headers().get("retry-after").and_then(|after| after.to_str().ok());
        match status {
            200..300 => Attempt::Taken,
            408 | 425 | 429 | 500 | 502..=504 | 507 | 509 | 520..600 => {
                let after_s = after_s.and_then(|seconds| seconds.parse().ok());
                Attempt::Later(format!("it answered {status}"), after_s)
            }
            300..400 if answer.headers().contains_key(LOCATION) => {
                let message = format!("{} sends document {id} on to another place", self.shown);
                let hint = "name that place with --to-url: headers are sent to no other by itself";
                Attempt::Refused(Hinted::new(message, hint).into())
            }
            _ => {
                let message = format!("{} refused document {id}: {status}", self.shown);
                let hint = match status {
                    401 | 403 => "give what it asks for with --header",
                    _ => "its own log may say more; run the same command again to go on",
                };
                Attempt::Refused(Hinted::new(message, hint).into())
            }
        }
    }
}

/// The error without the address, which is told beside it.
fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "it is no address".to_owned(),
        other => other.to_string(),
    }
}

/// The destination, and the header that user and password of the URL stand for.
fn target(typed: &str) -> anyhow::Result<(Uri, Option<HeaderValue>)> {
    let refused = |why: &str| {
        let hint = "write it as https://HOST/PATH, or - for standard output";
        Hinted::usage(format!("--to-url: {why}"), hint)
    };
    let uri: Uri = typed.parse().map_err(|_| refused("it is no URL"))?;
    let parts = (uri.scheme_str(), uri.authority());
    let (Some("http" | "https"), Some(authority)) = parts else {
        return Err(refused("it is neither https:// nor http://").into());
    };
    let Some((user, host)) = authority.as_str().rsplit_once('@') else { return Ok((uri, None)) };
    let basic = STANDARD.encode(client::decode(user));
    let mut value = HeaderValue::try_from(format!("Basic {basic}"))?;
    value.set_sensitive(true);
    let host = host.parse().map_err(|_| refused("its host is none"))?;
    let mut parts = uri.into_parts();
    parts.authority = Some(host);
    Ok((Uri::from_parts(parts).context("could not use the URL")?, Some(value)))
}

/// A header as it was typed, `Name: value`.
fn header(typed: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let refused = || {
        let hint = "write it as --header 'Name: value'";
        Hinted::usage("--header: one of them is no header", hint)
    };
    let (name, value) = typed.split_once(':').ok_or_else(refused)?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| refused())?;
    let mut value = HeaderValue::try_from(value.trim()).map_err(|_| refused())?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// Never a header.
impl fmt::Debug for UrlSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlSink").field("to", &self.shown).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn user_and_password_of_a_url_become_a_header_and_are_in_no_address() {
        let (uri, user) = target("https://me:ge%3Aheim@sink.example.com:8443/x?y=1").unwrap();
        assert_eq!(uri.to_string(), "https://sink.example.com:8443/x?y=1");
        let expected = format!("Basic {}", STANDARD.encode("me:ge:heim"));
        assert_eq!(user.unwrap().to_str().unwrap(), expected);
        assert!(target("http://sink").unwrap().1.is_none());
    }

    #[test]
    fn what_is_no_url_and_no_header_is_refused_without_showing_it() {
        for typed in ["geheim", "ftp://me:geheim@h", "https://me:geheim@", "https:// geheim"] {
            let error = target(typed).unwrap_err().to_string();
            assert!(!error.contains("geheim"), "{error}");
        }
        for typed in ["geheim", "na me: geheim", ": geheim", "a: gehe\nim"] {
            let error = header(typed).unwrap_err().to_string();
            assert!(!error.contains("gehe"), "{error}");
        }
        let (name, value) = header("Authorization:  Bearer x:y ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer x:y"));
    }
}
