//! Signed calls of services that a deployment asks a few questions only.
//!
//! A client of Amazon's costs tens of seconds to build, each; what is needed of these services is
//! a call with a few flat fields. Requests are signed by Amazon's own crate; what is throttled,
//! broken or not answered is tried again.

use std::time::{Duration, SystemTime};

use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use serde_json::Value;
use ureq::http;

use crate::account::Account;
use crate::error::DeployError;

/// How long one call may take that is answered at once.
const CALL_MAX: Duration = Duration::from_secs(300);
/// How long one may take that is answered when the work is done: a function has fifteen minutes.
const WORK_MAX: Duration = Duration::from_secs(16 * 60);
/// The longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// The most of an answer that is read, in bytes; a page of a list is far below it.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// A call of a service.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// What is tried, an infinitive, for messages.
    pub(crate) attempted: &'static str,
    /// On what, for messages.
    pub(crate) subject: String,
    /// The service as signatures name it, as `ecr`.
    pub(crate) service: &'static str,
    /// The first part of the host's name where it is not the service's, as `api.ecr`.
    pub(crate) host: &'static str,
    pub(crate) method: &'static str,
    /// With its query; percent-encoded.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether it does work that must not be done twice: where no answer comes, it is not sent again.
    pub(crate) works: bool,
}

/// What came back, successful or not.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The service's code for what it refused.
    pub(crate) fn code(&self) -> Option<String> {
        if let Ok(said) = serde_json::from_slice::<Value>(&self.body) {
            let code = said["__type"].as_str().or_else(|| said["code"].as_str())?;
            return Some(code.rsplit('#').next().unwrap_or(code).to_owned());
        }
        texts(&self.text(), "Code").into_iter().next()
    }

    fn message(&self) -> String {
        if let Ok(said) = serde_json::from_slice::<Value>(&self.body) {
            let message = said["message"].as_str().or_else(|| said["Message"].as_str());
            return message.unwrap_or_default().to_owned();
        }
        texts(&self.text(), "Message").into_iter().next().unwrap_or_default()
    }
}

impl Account {
    /// A call of the JSON protocol: `target` names service and operation.
    pub(crate) async fn json(
        &self,
        (attempted, subject): (&'static str, &str),
        (service, host): (&'static str, &'static str),
        target: &str,
        arguments: &Value,
    ) -> Result<Value, DeployError> {
        // Two services take the older version of the protocol alone.
        let version = if matches!(service, "sqs" | "dynamodb") { "1.0" } else { "1.1" };
        let call = Call {
            attempted,
            subject: subject.into(),
            service,
            host,
            method: "POST",
            path: "/".into(),
            headers: vec![
                ("content-type".into(), format!("application/x-amz-json-{version}")),
                ("x-amz-target".into(), target.into()),
            ],
            body: arguments.to_string().into_bytes(),
            works: false,
        };
        let answer = self.expect(call).await?;
        Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }

    /// A call of the query protocol; the answer is XML, of which [`texts`] reads flat fields.
    pub(crate) async fn query(
        &self,
        (attempted, subject): (&'static str, &str),
        (service, host): (&'static str, &'static str),
        version: &str,
        action: &str,
        arguments: &[(&str, &str)],
    ) -> Result<String, DeployError> {
        let mut form = format!("Action={action}&Version={version}");
        for (name, value) in arguments {
            form.push_str(&format!("&{name}={}", encode(value, false)));
        }
        let call = Call {
            attempted,
            subject: subject.into(),
            service,
            host,
            method: "POST",
            path: "/".into(),
            headers: vec![("content-type".into(), "application/x-www-form-urlencoded".into())],
            body: form.into_bytes(),
            works: false,
        };
        Ok(self.expect(call).await?.text())
    }

    /// Sends a call and gives the answer where it is a success.
    pub(crate) async fn expect(&self, call: Call) -> Result<Answer, DeployError> {
        let (attempted, subject) = (call.attempted, call.subject.clone());
        let answer = self.send(call).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        let (code, mut why) = (answer.code(), answer.message());
        if why.is_empty() {
            why = format!("the answer was {}", answer.status);
        }
        Err(DeployError::Call { attempted, subject, code, why })
    }

    /// Sends a call until there is an answer that is worth having.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer, DeployError> {
        let mut attempt = 1;
        loop {
            let failed = |why: String| DeployError::Call {
                attempted: call.attempted,
                subject: call.subject.clone(),
                code: None,
                why,
            };
            let request = self.signed(&call).await.map_err(&failed)?;
            let patience = if call.works { WORK_MAX } else { CALL_MAX };
            let answer = tokio::task::spawn_blocking(move || once(request, patience)).await;
            let answer = answer.unwrap_or_else(|error| Err(error.to_string()));
            let is_final = match &answer {
                Ok(answer) => !is_passing(answer) || (call.works && answer.status >= 500),
                Err(_) => call.works,
            };
            if is_final || attempt >= self.attempts_max {
                return answer.map_err(failed);
            }
            tokio::time::sleep(BACK_OFF_MAX.min(Duration::from_millis(100 << attempt))).await;
            attempt += 1;
        }
    }

    /// Where a service is: what the environment says, or its own address.
    fn address(&self, host: &str) -> String {
        if let Some(url) = self.config.endpoint_url() {
            return url.trim_end_matches('/').to_owned();
        }
        let suffix =
            if self.region().starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        format!("https://{host}.{}.{suffix}", self.region())
    }

    async fn signed(&self, call: &Call) -> Result<http::Request<Vec<u8>>, String> {
        let none = || "there are no credentials in the environment".to_owned();
        let provider = self.config.credentials_provider().ok_or_else(none)?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| format!("no credentials: {error}"))?;
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        if call.service == "s3" {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region())
            .name(call.service)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let url = format!("{}{}", self.address(call.host), call.path);
        let headers = call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable =
            SignableRequest::new(call.method, &url, headers, SignableBody::Bytes(&call.body))
                .map_err(|error| error.to_string())?;
        let (instructions, _) =
            sign(signable, &parameters).map_err(|error| error.to_string())?.into_parts();
        let mut request = http::Request::builder().method(call.method).uri(&url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        let mut request = request.body(call.body.clone()).map_err(|error| error.to_string())?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

fn once(request: http::Request<Vec<u8>>, patience: Duration) -> Result<Answer, String> {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_global(Some(patience))
        .build()
        .new_agent();
    let mut response = agent.run(request).map_err(|error| error.to_string())?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
    Ok(Answer { status, body: body.map_err(|error| error.to_string())? })
}

/// Whether the same call may well succeed a moment later.
fn is_passing(answer: &Answer) -> bool {
    let is_throttled = |code: &str| {
        ["Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown"]
            .iter()
            .any(|sign| code.contains(sign))
    };
    match answer.status {
        429 | 500..=599 => true,
        400..=499 => answer.code().is_some_and(|code| is_throttled(&code)),
        _ => false,
    }
}

/// The texts of all elements of that name, in their order: enough for answers whose fields we
/// read are flat.
pub(crate) fn texts(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some((_, behind)) = rest.split_once(&begin) {
        let Some((inner, after)) = behind.split_once(&end) else { break };
        found.push(
            inner
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&quot;", "\"")
                .replace("&apos;", "'")
                .replace("&amp;", "&"),
        );
        rest = after;
    }
    found
}

/// A text in a URL; `/` stays where it is a path.
pub(crate) fn encode(text: &str, is_path: bool) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b'/' if is_path => encoded.push('/'),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_an_answer_are_read_in_their_order() {
        let xml = "<L><C><Key>a&amp;b</Key></C><C><Key>c</Key></C><Key>torn";
        assert_eq!(texts(xml, "Key"), ["a&b", "c"]);
    }

    #[test]
    fn a_refusal_is_read_in_either_protocol() {
        let answer = |body: &str| Answer { status: 400, body: body.as_bytes().to_vec() };
        let json = answer(r#"{"__type":"com.amazonaws#ThrottlingException","message":"slow"}"#);
        assert_eq!(json.code().as_deref(), Some("ThrottlingException"));
        assert_eq!(json.message(), "slow");
        assert!(is_passing(&json));
        let xml = answer("<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>");
        assert_eq!(xml.code().as_deref(), Some("NoSuchBucket"));
        assert!(!is_passing(&xml));
    }

    #[test]
    fn paths_keep_their_slashes_and_queries_do_not() {
        assert_eq!(encode("a/b c", true), "a/b%20c");
        assert_eq!(encode("a/b=c", false), "a%2Fb%3Dc");
    }
}
