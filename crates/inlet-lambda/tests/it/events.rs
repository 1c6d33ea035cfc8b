//! Events as AWS hands them to functions. `events/README.md` says where their form is from.

use serde_json::{Value, json};

/// A `POST /api/save` by a REST API, payload 1.0.
pub(crate) fn rest() -> Value {
    read(include_str!("events/rest.json"))
}

/// The same by an HTTP API, payload 2.0, with the body in Base64.
pub(crate) fn http() -> Value {
    read(include_str!("events/http.json"))
}

/// The same by a load balancer.
pub(crate) fn balancer() -> Value {
    read(include_str!("events/balancer.json"))
}

/// A `GET` by a function URL.
pub(crate) fn get(path: &str) -> Value {
    let mut event = read(include_str!("events/url.json"));
    event["rawPath"] = path.into();
    event["requestContext"]["http"]["path"] = path.into();
    event
}

/// The start of the weekly summary.
pub(crate) fn scheduled() -> Value {
    read(include_str!("events/scheduled.json"))
}

/// One record of a batch of SQS, from the queue with that ARN.
pub(crate) fn message(arn: &str, id: &str, body: &str, sent_ms: u64) -> Value {
    let mut record = read(include_str!("events/sqs.json"))["Records"][0].take();
    record["messageId"] = id.into();
    record["body"] = body.into();
    record["eventSourceARN"] = arn.into();
    record["attributes"]["SentTimestamp"] = sent_ms.to_string().into();
    record
}

/// The record for a message as SQS's own API gives it.
pub(crate) fn record(arn: &str, received: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let sent = text(&received["Attributes"]["SentTimestamp"]).parse().unwrap();
    let mut record = message(arn, &text(&received["MessageId"]), &text(&received["Body"]), sent);
    let count = &received["Attributes"]["ApproximateReceiveCount"];
    record["attributes"]["ApproximateReceiveCount"] = count.clone();
    let mut attributes = json!({});
    for (name, value) in received["MessageAttributes"].as_object().into_iter().flatten() {
        attributes[name] = json!({
            "stringValue": value["StringValue"], "dataType": value["DataType"],
            "stringListValues": [], "binaryListValues": [],
        });
    }
    record["messageAttributes"] = attributes;
    record
}

fn read(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
