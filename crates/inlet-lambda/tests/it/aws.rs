//! The emulator's services, asked by the test itself.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::events;

/// The emulator at a port.
#[derive(Clone)]
pub(crate) struct Aws {
    port: u16,
}

impl Aws {
    pub(crate) fn at(port: u16) -> Self {
        Self { port }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What a function's process needs to find and use it.
    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// One call of a service that speaks JSON.
    pub(crate) fn json(&self, service: &str, target: &str, body: &Value) -> Value {
        let answer = ureq::post(self.url())
            .header("Authorization", authorization(service))
            .header("Content-Type", "application/x-amz-json-1.0")
            .header("X-Amz-Target", target)
            .send(body.to_string());
        read(answer)
    }

    pub(crate) fn get(&self, service: &str, path: &str) -> Value {
        let url = format!("{}{path}", self.url());
        read(ureq::get(url).header("Authorization", authorization(service)).call())
    }

    pub(crate) fn put(&self, service: &str, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.url());
        let call = ureq::put(url).header("Authorization", authorization(service));
        read(call.send(body.to_string()))
    }

    pub(crate) fn make_bucket(&self, name: &str) {
        let url = format!("{}/{name}", self.url());
        let made = ureq::put(url).header("Authorization", authorization("s3")).send_empty();
        assert_eq!(made.unwrap().status(), 200);
    }

    /// Takes a bucket's policy away.
    pub(crate) fn remove_bucket_policy(&self, bucket: &str) {
        let url = format!("{}/{bucket}?policy", self.url());
        let gone = ureq::delete(url).header("Authorization", authorization("s3")).call();
        assert_eq!(gone.unwrap().status(), 204);
    }

    /// The keys in a bucket that begin so.
    pub(crate) fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let url = format!("{}/{bucket}?list-type=2&prefix={prefix}", self.url());
        let answer = ureq::get(url).header("Authorization", authorization("s3")).call();
        let text = answer.unwrap().body_mut().read_to_string().unwrap();
        let keys = text.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.map(ToOwned::to_owned).collect()
    }

    fn sqs(&self, action: &str, body: &Value) -> Value {
        self.json("sqs", &format!("AmazonSQS.{action}"), body)
    }

    pub(crate) fn make_queue(&self, name: &str) {
        self.sqs("CreateQueue", &json!({ "QueueName": name }));
    }

    /// What waits in a queue, as its event source hands it over.
    pub(crate) fn messages(&self, queue_url: &str, arn: &str) -> Vec<Value> {
        let mut records = Vec::new();
        loop {
            let said = self.sqs(
                "ReceiveMessage",
                &json!({
                    "QueueUrl": queue_url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0,
                    "AttributeNames": ["All"], "MessageAttributeNames": ["All"],
                }),
            );
            let Some(messages) = said["Messages"].as_array() else { return records };
            records.extend(messages.iter().map(|message| events::record(arn, message)));
        }
    }

    /// Receives what waits in a queue again and again, as a worker does that can't store it, until
    /// SQS gives it up, and gives what is in the dead-letter queue then.
    pub(crate) fn give_up(&self, queue_url: &str, dead_url: &str, dead_arn: &str) -> Vec<Value> {
        let receive = json!({
            "QueueUrl": queue_url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 0,
            "WaitTimeSeconds": 0,
        });
        let mut seen = HashSet::new();
        // As often as the templates' redrive policy allows, and once more.
        for _ in 0..=10 {
            let said = self.sqs("ReceiveMessage", &receive);
            for message in said["Messages"].as_array().into_iter().flatten() {
                seen.insert(message["MessageId"].to_string());
            }
        }
        let given_up = self.messages(dead_url, dead_arn);
        assert_eq!(given_up.len(), seen.len(), "{given_up:?}");
        given_up
    }
}

/// The emulator reads region and service from it and checks nothing.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    )
}

fn read(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Value {
    let text = answer.unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}
