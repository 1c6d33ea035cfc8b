//! Documents go in by events of every shape, through the queue, into the table, and out again.

use std::sync::LazyLock;

use inlet_adapters::store::DynamoStore;
use inlet_testkit::server::{Server, ServerKind, free_port};
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::events::{self, get};
use crate::runtime::Function;

static MOTO: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::Moto));
const TOKEN: &str = "inlet_test_token";

/// A queue, a table and a bucket of its own.
pub(crate) struct Place {
    pub(crate) name: String,
    aws: Aws,
}

impl Place {
    pub(crate) fn new() -> Self {
        let name = format!("inlet-{}", free_port());
        let aws = Aws::at(MOTO.port());
        aws.make_queue(&name);
        aws.make_bucket(&name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let adapter = inlet_adapters::aws::Aws::at(&aws.url(), "test", "test").await;
            DynamoStore::create_table(&adapter, &format!("dynamodb://{name}")).await.unwrap();
        });
        Self { name, aws }
    }

    pub(crate) fn variables(&self) -> Vec<(String, String)> {
        let name = &self.name;
        let own = [
            ("INLET_QUEUE", format!("sqs://{name}")),
            ("INLET_STORE", format!("dynamodb://{name}")),
            ("INLET_BUCKET", format!("s3://{name}")),
            ("INLET_TOKEN", TOKEN.into()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        self.aws.variables().into_iter().chain(own).collect()
    }

    pub(crate) fn function(&self, handler: &str) -> Function {
        Function::start(handler, &self.variables())
    }

    /// What waits in the queue, as the event in which SQS hands it to a function.
    fn waiting(&self) -> Value {
        let queue = format!("{}/123456789012/{}", self.aws.url(), self.name);
        json!({ "Records": self.aws.messages(&queue, &self.arn()) })
    }

    fn arn(&self) -> String {
        format!("arn:aws:sqs:us-east-1:123456789012:{}", self.name)
    }

    /// A message as another client sent it.
    pub(crate) fn record(&self, id: &str, body: &str) -> Value {
        events::message(&self.arn(), id, body, 1_795_240_800_000)
    }

    /// Keeps the secret `NAME-suffix`.
    #[cfg(feature = "postgres")]
    pub(crate) fn secret(&self, call: &str, suffix: &str, text: &str) {
        let id = format!("{}-{suffix}", self.name);
        let body = json!({ "Name": id, "SecretId": id, "SecretString": text });
        self.aws.json("secretsmanager", &format!("secretsmanager.{call}"), &body);
    }
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

#[test]
fn documents_come_in_by_every_kind_of_event_and_are_stored_once() {
    let place = Place::new();
    let mut intake = place.function("intake");
    let mut ids = Vec::new();
    for mut sent in [events::rest(), events::http(), events::balancer()] {
        // A parameter that the route does not know would be refused.
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
        place.record("m-1", "this is no JSON"),
        place.record("m-2", r#"{"from":"another client"}"#),
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
    let mut save = events::http();
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
    let batch = json!({ "Records": [place.record("m-1", "{}")] });
    let error = persist.invoke(&batch).unwrap_err();
    assert!(error["errorMessage"].as_str().unwrap().contains("INLET_STORE"), "{error}");
}

#[test]
fn what_a_function_may_not_do_is_refused_clearly() {
    let place = Place::new();
    let mut intake = place.function("intake");
    let wrong = {
        let mut event = events::balancer();
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
    let mut old = place.record("m-1", r#"{"a":1}"#);
    old["attributes"]["SentTimestamp"] = "1700000000000".into();
    persist.invoke(&json!({ "Records": [old] })).unwrap();
    let mut summary = place.function("summary");
    let scheduled = events::scheduled();
    let written = summary.invoke(&scheduled).unwrap();
    assert!(!written["written"].as_array().unwrap().is_empty(), "{written}");
    assert_eq!(summary.invoke(&scheduled).unwrap(), json!({ "written": [], "backup": null }));
    let mut read = place.function("read");
    let week = written["written"][0].as_str().unwrap();
    let summary = read.invoke(&get(&format!("/api/summaries/{week}.json"))).unwrap();
    assert_eq!(summary["statusCode"], 200, "{summary}");
}
