//! Documents go in by events of every shape, through the queue, into the table, and out again.

use std::sync::LazyLock;

use inlet_adapters::aws::Aws;
use inlet_adapters::store::DynamoStore;
use inlet_testkit::server::{Server, ServerKind, free_port};
use serde_json::{Value, json};

use crate::runtime::Function;

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Moto));
const TOKEN: &str = "inlet_test_token";

/// A queue, a table and a bucket of its own.
pub(crate) struct Place {
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let name = format!("inlet-{}", free_port());
        let place = Self { name: name.clone() };
        place.sqs("CreateQueue", &json!({ "QueueName": name }));
        let made = ureq::put(format!("{}/{name}", url()))
            .header("Authorization", authorization("s3"))
            .send_empty()
            .unwrap();
        assert_eq!(made.status(), 200);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let aws = Aws::at(&url(), "test", "test").await;
            DynamoStore::create_table(&aws, &format!("dynamodb://{name}")).await.unwrap();
        });
        place
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let name = &self.name;
        [
            ("AWS_ENDPOINT_URL", url()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", "test".into()),
            ("AWS_SECRET_ACCESS_KEY", "test".into()),
            ("INLET_QUEUE", format!("sqs://{name}")),
            ("INLET_STORE", format!("dynamodb://{name}")),
            ("INLET_BUCKET", format!("s3://{name}")),
            ("INLET_TOKEN", TOKEN.into()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    pub(crate) fn function(&self, handler: &str) -> Function {
        Function::start(handler, &self.variables())
    }

    /// What waits in the queue, as the event in which SQS hands it to a function.
    fn waiting(&self) -> Value {
        let mut records = Vec::new();
        loop {
            let said = self.sqs(
                "ReceiveMessage",
                &json!({
                    "QueueUrl": self.queue(), "MaxNumberOfMessages": 10,
                    "AttributeNames": ["All"], "MessageAttributeNames": ["All"],
                }),
            );
            let Some(messages) = said["Messages"].as_array() else { break };
            for message in messages {
                let mut attributes = json!({});
                for (name, value) in message["MessageAttributes"].as_object().into_iter().flatten()
                {
                    attributes[name] = json!({ "stringValue": value["StringValue"], "dataType": value["DataType"] });
                }
                let id = &message["MessageId"];
                records.push(self.record(id, &message["Body"], &attributes));
            }
        }
        json!({ "Records": records })
    }

    /// A message as the event has it that its queue's event source makes.
    pub(crate) fn record(&self, id: &Value, body: &Value, attributes: &Value) -> Value {
        json!({
            "messageId": id, "receiptHandle": "AQEB", "body": body,
            "attributes": {
                "ApproximateReceiveCount": "1", "SentTimestamp": "1795240800000",
                "SenderId": "AIDAEXAMPLE", "ApproximateFirstReceiveTimestamp": "1795240800001",
            },
            "messageAttributes": attributes, "eventSource": "aws:sqs", "awsRegion": "us-east-1",
            "eventSourceARN": format!("arn:aws:sqs:us-east-1:123456789012:{}", self.name),
        })
    }

    fn queue(&self) -> String {
        format!("{}/123456789012/{}", url(), self.name)
    }

    fn sqs(&self, action: &str, body: &Value) -> Value {
        call("sqs", &format!("AmazonSQS.{action}"), body)
    }

    /// Makes the secret `NAME-suffix`.
    #[cfg(feature = "postgres")]
    pub(crate) fn secret(&self, suffix: &str, text: &str) {
        let body = json!({ "Name": format!("{}-{suffix}", self.name), "SecretString": text });
        call("secretsmanager", "secretsmanager.CreateSecret", &body);
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn change_secret(&self, suffix: &str, text: &str) {
        let body = json!({ "SecretId": format!("{}-{suffix}", self.name), "SecretString": text });
        call("secretsmanager", "secretsmanager.PutSecretValue", &body);
    }
}

/// One call of a service that speaks JSON.
fn call(service: &str, target: &str, body: &Value) -> Value {
    let mut answer = ureq::post(url())
        .header("Authorization", authorization(service))
        .header("Content-Type", "application/x-amz-json-1.0")
        .header("X-Amz-Target", target)
        .send(body.to_string())
        .unwrap();
    serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
}

fn url() -> String {
    format!("http://127.0.0.1:{}", MOTO.port())
}

/// The emulator reads region and service from it and checks nothing.
fn authorization(service: &str) -> String {
    format!(
        "AWS4-HMAC-SHA256 Credential=test/20261121/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=0"
    )
}

fn event(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// A GET as a function URL hands it over.
pub(crate) fn get(path: &str) -> Value {
    let mut event = event(include_str!("events/url.json"));
    event["rawPath"] = path.into();
    event
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[test]
fn documents_come_in_by_every_kind_of_event_and_are_stored_once() {
    let place = Place::new();
    let mut intake = place.function("intake");
    let mut ids = Vec::new();
    for text in [
        include_str!("events/rest.json"),
        include_str!("events/http.json"),
        include_str!("events/balancer.json"),
    ] {
        // A parameter that the route does not know would be refused.
        let mut sent = event(text);
        for name in ["queryStringParameters", "multiValueQueryStringParameters"] {
            if let Some(query) = sent[name].as_object_mut() {
                query.retain(|name, _| name == "stream");
            }
        }
        if sent["rawQueryString"].is_string() {
            sent["rawQueryString"] = "stream=orders".into();
        }
        let answer = intake.invoke(&sent).unwrap();
        assert_eq!(answer["statusCode"], 202, "{answer}");
        ids.push(body(&answer)["MessageId"].as_str().unwrap().to_owned());
    }
    let batch = place.waiting();
    let mut persist = place.function("persist");
    // Delivered twice, as SQS may.
    for _ in 0..2 {
        assert_eq!(persist.invoke(&batch).unwrap(), json!({ "batchItemFailures": [] }));
    }
    let mut read = place.function("read");
    let streams = body(&read.invoke(&get("/api/streams")).unwrap());
    assert_eq!(streams["streams"][0]["documents"], 3, "{streams}");
    for (id, text) in ids.iter().zip([r#"{"order": 1}"#, r#"{"order": 2}"#, r#"{"order": 3}"#]) {
        let answer = read.invoke(&get(&format!("/api/documents/{id}"))).unwrap();
        assert_eq!((&answer["statusCode"], &answer["body"]), (&json!(200), &json!(text)));
        let receipt = body(&read.invoke(&get(&format!("/api/receipts/{id}"))).unwrap());
        assert_eq!(receipt["state"], "stored");
    }
}

#[test]
fn a_poison_message_is_a_dead_letter_and_the_rest_of_its_batch_is_stored() {
    let place = Place::new();
    let mut persist = place.function("persist");
    let batch = json!({ "Records": [
        place.record(&json!("m-1"), &json!("this is no JSON"), &json!({})),
        place.record(&json!("m-2"), &json!(r#"{"from":"another client"}"#), &json!({})),
    ]});
    assert_eq!(persist.invoke(&batch).unwrap(), json!({ "batchItemFailures": [] }));
    let mut read = place.function("read");
    let documents = body(&read.invoke(&get("/api/documents")).unwrap());
    assert_eq!(documents["documents"][0]["body"], r#"{"from":"another client"}"#);
    assert_eq!(documents["documents"].as_array().unwrap().len(), 1);
    let dead = body(&read.invoke(&get("/api/dead-letters")).unwrap());
    assert_eq!(dead["dead_letters"].as_array().unwrap().len(), 1, "{dead}");
}

#[test]
fn what_the_queue_gave_up_is_a_dead_letter_until_it_is_redriven() {
    let place = Place::new();
    let mut intake = place.function("intake");
    let mut save = event(include_str!("events/http.json"));
    save["rawQueryString"] = "stream=orders".into();
    let answer = intake.invoke(&save).unwrap();
    let id = body(&answer)["MessageId"].as_str().unwrap().to_owned();

    // SQS moved it, and its dead-letter queue's event source hands it over.
    let mut given_up = place.waiting();
    given_up["Records"][0]["eventSourceARN"] =
        format!("arn:aws:sqs:us-east-1:123456789012:{}-dead", place.name).into();
    given_up["Records"][0]["attributes"]["ApproximateReceiveCount"] = "11".into();
    let mut persist = place.function("persist");
    assert_eq!(persist.invoke(&given_up).unwrap(), json!({ "batchItemFailures": [] }));
    let mut read = place.function("read");
    let dead = body(&read.invoke(&get("/api/dead-letters")).unwrap());
    let letter = &dead["dead_letters"][0];
    assert_eq!((&letter["id"], &letter["attempts"]), (&json!(id), &json!(10)), "{dead}");
    assert!(letter["detail"].as_str().unwrap().contains("as often as the queue allows"), "{dead}");
    let receipt = body(&read.invoke(&get(&format!("/api/receipts/{id}"))).unwrap());
    assert_eq!(receipt["state"], "dead");

    let mut admin = place.function("admin");
    let mut redrive = get("/api/dead-letters/redrive");
    redrive["requestContext"]["http"]["method"] = "POST".into();
    redrive["body"] = r#"{"where": "", "dry_run": false}"#.into();
    let redriven = body(&admin.invoke(&redrive).unwrap());
    assert_eq!(redriven["redriven"], 1, "{redriven}");
    persist.invoke(&place.waiting()).unwrap();
    let stored = read.invoke(&get(&format!("/api/documents/{id}"))).unwrap();
    assert_eq!((&stored["statusCode"], &stored["body"]), (&json!(200), &json!(r#"{"order": 2}"#)));

    let mut erase = get(&format!("/api/documents/{id}"));
    erase["requestContext"]["http"]["method"] = "DELETE".into();
    assert_eq!(admin.invoke(&erase).unwrap()["statusCode"], 204);
    assert_eq!(read.invoke(&get(&format!("/api/documents/{id}"))).unwrap()["statusCode"], 404);
}

#[test]
fn reading_is_ready_without_the_queue() {
    let place = Place::new();
    let ready = place.function("read").invoke(&get("/readyz")).unwrap();
    assert_eq!((&ready["statusCode"], &body(&ready)["status"]), (&json!(200), &json!("ready")));
}

#[test]
fn a_store_that_is_missing_is_an_error_and_the_batch_comes_again() {
    let place = Place::new();
    let mut variables = place.variables();
    variables.retain(|(name, _)| name != "INLET_STORE");
    variables.push(("INLET_STORE".into(), "dynamodb://no-such-table".into()));
    let mut persist = Function::start("persist", &variables);
    let batch = json!({ "Records": [place.record(&json!("m-1"), &json!("{}"), &json!({}))] });
    let error = persist.invoke(&batch).unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap().contains("INLET_STORE"), "{error}");
}

#[test]
fn what_a_function_may_not_do_is_refused_clearly() {
    let place = Place::new();
    let mut intake = place.function("intake");
    let wrong = {
        let mut event = event(include_str!("events/balancer.json"));
        event["headers"]["x-auth-token"] = "wrong".into();
        event
    };
    assert_eq!(intake.invoke(&wrong).unwrap()["statusCode"], 401);
    // It has no right to the store.
    let answer = intake.invoke(&get("/api/streams")).unwrap();
    assert!(answer["statusCode"].as_u64().unwrap() >= 500, "{answer}");
    assert!(intake.invoke(&json!({ "no": "request" })).unwrap()["statusCode"] == 400);
}

#[test]
fn a_summary_is_written_once_however_often_its_event_comes() {
    let place = Place::new();
    let mut persist = place.function("persist");
    // Sent in a week that is long over.
    let mut old = place.record(&json!("m-1"), &json!(r#"{"a":1}"#), &json!({}));
    old["attributes"]["SentTimestamp"] = "1700000000000".into();
    persist.invoke(&json!({ "Records": [old] })).unwrap();
    let mut summary = place.function("summary");
    let scheduled = event(include_str!("events/scheduled.json"));
    let written = summary.invoke(&scheduled).unwrap();
    assert!(!written["written"].as_array().unwrap().is_empty(), "{written}");
    assert_eq!(summary.invoke(&scheduled).unwrap(), json!({ "written": [] }));
    let mut read = place.function("read");
    let week = written["written"][0].as_str().unwrap();
    let summary = read.invoke(&get(&format!("/api/summaries/{week}.json"))).unwrap();
    assert_eq!(summary["statusCode"], 200, "{summary}");
}
