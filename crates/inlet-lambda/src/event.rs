//! Requests as events, and answers as they are expected back.
//!
//! Three shapes come: payload 1.0 (API Gateway REST, and HTTP APIs that ask for it), payload 2.0
//! (HTTP APIs and function URLs), and that of a load balancer. Sources:
//! <https://docs.aws.amazon.com/lambda/latest/dg/services-apigateway.html>,
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>,
//! <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html>.

use std::collections::BTreeMap;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::engines::Api;

/// An event of any of the shapes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    version: Option<String>,
    /// 1.0 and load balancers.
    http_method: Option<String>,
    path: Option<String>,
    query_string_parameters: Option<BTreeMap<String, String>>,
    multi_value_query_string_parameters: Option<BTreeMap<String, Vec<String>>>,
    headers: Option<BTreeMap<String, String>>,
    multi_value_headers: Option<BTreeMap<String, Vec<String>>>,
    /// 2.0.
    raw_path: Option<String>,
    raw_query_string: Option<String>,
    body: Option<String>,
    is_base64_encoded: bool,
    request_context: Context2,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Context2 {
    http: Option<Http>,
    elb: Option<Value>,
    stage: Option<String>,
    path: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Http {
    method: String,
}

/// How an answer is expected back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    Two,
    LoadBalancer { multi_value: bool },
}

/// Answers a request that came as an event. Where the engines could not be opened, the request is
/// answered with `503`: the next one tries again.
pub(crate) async fn answer(
    api: Result<&Api, anyhow::Error>,
    event: Value,
) -> anyhow::Result<Value> {
    let event: Event = serde_json::from_value(event)
        .context("the event is no request of API Gateway, a function URL or a load balancer")?;
    let shape = event.shape();
    let response = match (api, event.request()) {
        (Ok(api), Ok(request)) => {
            api.refresh().await;
            api.app.answer_whole(request).await
        }
        (_, Err(error)) => problem(StatusCode::BAD_REQUEST, "RequestMalformed", &error.to_string()),
        (Err(error), Ok(_)) => {
            tracing::error!(error = format!("{error:#}"), "the engines could not be opened");
            problem(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", "Try again in a moment.")
        }
    };
    Ok(written(shape, response))
}

impl Event {
    fn shape(&self) -> Shape {
        if self.request_context.elb.is_some() {
            return Shape::LoadBalancer { multi_value: self.multi_value_headers.is_some() };
        }
        if self.version.as_deref() == Some("2.0") { Shape::Two } else { Shape::One }
    }

    fn request(&self) -> anyhow::Result<Request<Bytes>> {
        let context = &self.request_context;
        let method = self
            .http_method
            .as_deref()
            .or(context.http.as_ref().map(|http| http.method.as_str()))
            .context("the event names no method")?;
        let mut uri = self.own_path().context("the event names no path")?;
        let query = self.query();
        if !query.is_empty() {
            uri = format!("{uri}?{query}");
        }
        let mut request = Request::new(self.bytes()?);
        *request.method_mut() = Method::from_bytes(method.as_bytes())?;
        *request.uri_mut() = uri.parse::<Uri>().context("the path is none")?;
        *request.headers_mut() = self.header_map()?;
        Ok(request)
    }

    /// The path without the stage that API Gateway puts before it.
    fn own_path(&self) -> Option<String> {
        let path = self.raw_path.as_deref().or(self.path.as_deref())?;
        let stage = self.request_context.stage.as_deref().filter(|stage| *stage != "$default");
        let is_raw = self.raw_path.is_some()
            || self.request_context.path.as_deref().is_some_and(|full| full == path);
        let own = stage
            .filter(|_| is_raw)
            .and_then(|stage| path.strip_prefix(&format!("/{stage}")))
            .filter(|rest| rest.starts_with('/') || rest.is_empty());
        let own = own.unwrap_or(path);
        // HTTP APIs decode it: what can't be in a path is written as it came. A `%` stands.
        Some(if own.is_empty() { "/".to_owned() } else { escaped(own, b"/%-._~!$&'()*+,;=:@") })
    }

    fn query(&self) -> String {
        if let Some(raw) = &self.raw_query_string {
            return raw.clone();
        }
        let is_encoded = self.request_context.elb.is_some();
        let pair = |(name, value): (&String, &String)| {
            // A load balancer leaves them as they came, API Gateway decodes them.
            if is_encoded {
                format!("{name}={value}")
            } else {
                format!("{}={}", encoded(name), encoded(value))
            }
        };
        let pairs: Vec<String> =
            match (&self.multi_value_query_string_parameters, &self.query_string_parameters) {
                (Some(many), _) => many
                    .iter()
                    .flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
                    .map(pair)
                    .collect(),
                (None, Some(single)) => single.iter().map(pair).collect(),
                (None, None) => Vec::new(),
            };
        pairs.join("&")
    }

    fn bytes(&self) -> anyhow::Result<Bytes> {
        let Some(body) = &self.body else { return Ok(Bytes::new()) };
        if !self.is_base64_encoded {
            return Ok(Bytes::from(body.clone().into_bytes()));
        }
        Ok(Bytes::from(STANDARD.decode(body).context("the body is no base64")?))
    }

    fn header_map(&self) -> anyhow::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        let mut add = |name: &str, value: &str| -> anyhow::Result<()> {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            headers.append(name, HeaderValue::from_str(value)?);
            Ok(())
        };
        match (&self.multi_value_headers, &self.headers) {
            (Some(many), _) if !many.is_empty() => {
                for (name, values) in many {
                    values.iter().try_for_each(|value| add(name, value))?;
                }
            }
            (_, Some(single)) => {
                single.iter().try_for_each(|(name, value)| add(name, value))?;
            }
            _ => {}
        }
        Ok(headers)
    }
}

fn encoded(text: &str) -> String {
    escaped(text, b"-._~")
}

/// `text` with all but letters, digits and what is in `kept` as `%XX`.
fn escaped(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn written(shape: Shape, response: Response<Bytes>) -> Value {
    let (head, body) = response.into_parts();
    let (body, is_base64) = match std::str::from_utf8(&body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(&body), true),
    };
    let status = head.status.as_u16();
    let mut answer = json!({ "statusCode": status, "body": body, "isBase64Encoded": is_base64 });
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let mut single = Map::new();
    let mut many: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        many.entry(name.as_str().to_owned()).or_default().push(text(value));
    }
    for (name, values) in &many {
        single.insert(name.clone(), Value::from(values.join(", ")));
    }
    match shape {
        Shape::One | Shape::LoadBalancer { multi_value: true } => {
            answer["multiValueHeaders"] = json!(many);
        }
        Shape::Two | Shape::LoadBalancer { multi_value: false } => {
            answer["headers"] = Value::Object(single);
        }
    }
    if matches!(shape, Shape::LoadBalancer { .. }) {
        let reason = head.status.canonical_reason().unwrap_or_default();
        answer["statusDescription"] = Value::from(format!("{status} {reason}"));
    }
    answer
}

/// An answer that could not be made by the API itself, of the same form as its own.
fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Bytes> {
    let body = json!({
        "type": "about:blank", "title": code, "status": status.as_u16(), "detail": detail,
        "errorType": inlet_http::error_class(status), "code": code, "httpStatus": status.as_u16(),
    });
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/problem+json"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert("retry-after", HeaderValue::from_static("5"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(event: &str) -> (Shape, Request<Bytes>) {
        let event: Event = serde_json::from_str(event).unwrap();
        (event.shape(), event.request().unwrap())
    }

    #[test]
    fn a_rest_event_is_a_request() {
        let (shape, request) = request(include_str!("../tests/it/events/rest.json"));
        assert_eq!(shape, Shape::One);
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "/api/save?stream=orders&x=a%20b");
        assert_eq!(request.headers()["x-auth-token"], "inlet_test_token");
        assert_eq!(request.body(), &Bytes::from_static(b"{\"order\": 1}"));
    }

    #[test]
    fn an_event_of_an_http_api_is_a_request() {
        let (shape, request) = request(include_str!("../tests/it/events/http.json"));
        assert_eq!(shape, Shape::Two);
        assert_eq!(request.uri(), "/api/save?stream=orders&note=a%20b");
        assert_eq!(request.body(), &Bytes::from_static(b"{\"order\": 2}"));
    }

    #[test]
    fn an_event_of_a_function_url_is_a_request() {
        let (shape, request) = request(include_str!("../tests/it/events/url.json"));
        assert_eq!(shape, Shape::Two);
        assert_eq!((request.method(), request.uri().path()), (&Method::GET, "/api/streams"));
    }

    #[test]
    fn a_path_that_came_decoded_is_a_path_again() {
        let path = |raw: &str| {
            let event = json!({
                "version": "2.0", "rawPath": raw, "requestContext": { "http": { "method": "GET" } }
            });
            request(&event.to_string()).1.uri().to_string()
        };
        assert_eq!(path("/api/files/a b/über?.txt"), "/api/files/a%20b/%C3%BCber%3F.txt");
        assert_eq!(path("/api/files/a%2Fb"), "/api/files/a%2Fb");
    }

    #[test]
    fn an_event_of_a_load_balancer_is_a_request() {
        let (shape, request) = request(include_str!("../tests/it/events/balancer.json"));
        assert_eq!(shape, Shape::LoadBalancer { multi_value: false });
        assert_eq!(request.uri(), "/api/save?stream=orders");
        assert_eq!(request.headers()["content-type"], "application/json");
    }

    #[test]
    fn an_answer_has_the_form_of_its_request() {
        let mut response = Response::new(Bytes::from_static(b"{}"));
        response.headers_mut().append("set-cookie", HeaderValue::from_static("a"));
        response.headers_mut().append("set-cookie", HeaderValue::from_static("b"));
        let clone = || {
            let mut copy = Response::new(response.body().clone());
            *copy.headers_mut() = response.headers().clone();
            copy
        };
        let one = written(Shape::One, clone());
        assert_eq!(one["multiValueHeaders"]["set-cookie"], json!(["a", "b"]));
        let two = written(Shape::Two, clone());
        assert_eq!(
            (two["statusCode"].as_u64(), &two["headers"]["set-cookie"]),
            (Some(200), &json!("a, b"))
        );
        let balancer = written(Shape::LoadBalancer { multi_value: false }, clone());
        assert_eq!(balancer["statusDescription"], "200 OK");
        let binary = written(Shape::Two, Response::new(Bytes::from_static(&[0xff])));
        assert_eq!((&binary["isBase64Encoded"], &binary["body"]), (&json!(true), &json!("/w==")));
    }
}
