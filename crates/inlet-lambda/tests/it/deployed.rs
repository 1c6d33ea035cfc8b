//! The serverless shape as it is deployed: each function runs with the variables that the
//! templates give it, against the queue, the table and the bucket that they make. The double of
//! CloudFormation makes them through the emulator's services; the test takes the place of API
//! Gateway, of the event sources and of the schedule.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use inlet_core::auth::{Scope, Token};
use inlet_core::document::Timestamp;
use inlet_deploy::stacks::{StackState, Stacks, Wanted};
use inlet_deploy::templates::{Environment, Shape, file};
use inlet_deploy::{Account, Bucket, Release};
use inlet_testkit::server::{Server, ServerKind};
use serde_json::{Value, json};

use crate::aws::Aws;
use crate::events;
use crate::runtime::Function;

static DOUBLE: LazyLock<Server> = LazyLock::new(|| Server::start(ServerKind::CloudFormation));
const REGION: &str = "us-east-1";
const ARTIFACTS: &str = "inlet-artifacts";
const TOKEN: &str = "inlet_deployed_token";

/// A stack that stands, and the variables of its functions by their handlers.
struct Deployed {
    aws: Aws,
    outputs: HashMap<String, String>,
    variables: HashMap<String, Vec<(String, String)>>,
}

impl Deployed {
    fn new(name: &str) -> Self {
        let aws = Aws::at(DOUBLE.port());
        aws.make_bucket(ARTIFACTS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let stack = runtime.block_on(deploy(&aws.url(), name));
        let outputs: HashMap<String, String> = stack.outputs.into_iter().collect();
        // It denies what comes without TLS; the emulator, which has none, reads no conditions.
        aws.remove_bucket_policy(&outputs["BucketName"]);
        let token = Token::new("test", &Scope::ALL, TOKEN, Timestamp::default());
        aws.json(
            "secretsmanager",
            "secretsmanager.PutSecretValue",
            &json!({
                "SecretId": outputs["SecretArn"],
                "SecretString": json!({ "tokens": [token] }).to_string(),
            }),
        );
        let variables = aws.get("lambda", "/2015-03-31/functions/")["Functions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|function| {
                let given = function["Environment"]["Variables"].as_object().unwrap();
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let mut variables: Vec<_> =
                    given.iter().map(|(name, value)| (name.clone(), text(value))).collect();
                // What Lambda itself gives, and where its services are.
                variables.extend(aws.variables());
                (text(&function["Handler"]), variables)
            })
            .collect();
        Self { aws, outputs, variables }
    }

    fn function(&self, handler: &str) -> Function {
        Function::start(handler, &self.variables[handler])
    }

    /// What the event sources would hand over, by the name of their queue. The emulator would
    /// take messages for them and run nothing: they are switched off, and the test does their work.
    fn event_sources(&self) -> BTreeMap<String, String> {
        let found = self.aws.get("lambda", "/2015-03-31/event-source-mappings/");
        let mut sources = BTreeMap::new();
        for one in found["EventSourceMappings"].as_array().unwrap() {
            assert_eq!(one["FunctionResponseTypes"], json!(["ReportBatchItemFailures"]), "{one}");
            assert!(one["FunctionArn"].as_str().unwrap().contains("Persist"), "{one}");
            let arn = one["EventSourceArn"].as_str().unwrap();
            let name = arn.rsplit(':').next().unwrap();
            sources.insert(name.to_owned(), arn.to_owned());
            let id = one["UUID"].as_str().unwrap();
            let path = format!("/2015-03-31/event-source-mappings/{id}");
            self.aws.put("lambda", &path, &json!({ "Enabled": false }));
        }
        sources
    }
}

async fn deploy(url: &str, name: &str) -> StackState {
    let account = Account::at(url, REGION, "test").await;
    // What is in the zip is what these tests run; its making has tests of its own.
    let release = Release::new(Some([b"PK\x05\x06".as_slice(), &[0; 18]].concat()), None);
    release.upload(&Bucket::new(&account, ARTIFACTS), true).await.unwrap();
    let environment = Environment::named(name, Some("staging"), Shape::Serverless).unwrap();
    let mut parameters = environment.parameters().clone();
    let boundary = "arn:aws:iam::123456789012:policy/inlet-bootstrap-Boundary";
    for (name, value) in [
        ("ArtifactBucket", ARTIFACTS),
        ("ArtifactPrefix", &release.prefix),
        ("BoundaryArn", boundary),
        ("Architecture", "x86_64"),
        ("Release", "r1"),
    ] {
        parameters.insert(name.into(), value.into());
    }
    let stacks = Stacks::new(&account, Duration::from_millis(20));
    let wanted = Wanted {
        stack: environment.stack(),
        template: file(Shape::Serverless.root()).unwrap().text.into(),
        parameters: parameters.into_iter().collect(),
        tags: Vec::new(),
        role_arn: None,
    };
    let planned = stacks.plan(&wanted, &mut |_| {}).await.unwrap().unwrap();
    stacks.apply(planned, &mut |_| {}).await.unwrap()
}

/// A request as the REST API of the template hands it over.
fn request(method: &str, path: &str, body: &str) -> Value {
    let mut event = events::rest();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let query: Vec<_> = query.split_terminator('&').filter_map(|one| one.split_once('=')).collect();
    event["httpMethod"] = method.into();
    event["path"] = path.into();
    event["requestContext"]["path"] = format!("/live{path}").into();
    event["requestContext"]["stage"] = "live".into();
    event["queryStringParameters"] = query.iter().copied().collect::<HashMap<_, _>>().into_json();
    let many = query.iter().map(|(name, value)| (*name, [*value]));
    event["multiValueQueryStringParameters"] = many.collect::<HashMap<_, _>>().into_json();
    event["headers"]["X-Auth-Token"] = TOKEN.into();
    event["multiValueHeaders"]["X-Auth-Token"] = json!([TOKEN]);
    // The template has every media type as binary.
    event["body"] = STANDARD.encode(body).into();
    event["isBase64Encoded"] = true.into();
    event
}

/// As JSON, or `null` where there is nothing, as API Gateway writes it.
trait IntoJson {
    fn into_json(self) -> Value;
}

impl<T: serde::Serialize> IntoJson for HashMap<&str, T> {
    fn into_json(self) -> Value {
        if self.is_empty() { Value::Null } else { json!(self) }
    }
}

fn body(answer: &Value) -> Value {
    serde_json::from_str(answer["body"].as_str().unwrap()).unwrap()
}

/// Every document that is stored in a stream, page by page.
fn stored(read: &mut Function, stream: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/documents?stream={stream}&limit=7{cursor}");
        let page = body(&read.invoke(&request("GET", &path, "")).unwrap());
        for document in page["documents"].as_array().unwrap() {
            let text = |name: &str| document[name].as_str().unwrap().to_owned();
            found.push((text("id"), text("body")));
        }
        match page["next"].as_str() {
            Some(next) if page["more"] == true => cursor = format!("&cursor={next}"),
            _ => return found,
        }
    }
}

#[test]
fn documents_go_through_the_functions_that_were_deployed_and_each_is_found_once() {
    let deployed = Deployed::new("e2e");
    let sources = deployed.event_sources();
    let queue_url = deployed.outputs["QueueUrl"].clone();
    let queue = queue_url.rsplit('/').next().unwrap();
    let dead = sources.keys().find(|name| *name != queue).unwrap();
    assert_eq!(sources.len(), 2, "{sources:?}");

    // In by the API, one by one, as a batch, and one that is too large for a message.
    let mut intake = deployed.function("intake");
    let mut sent: HashMap<String, String> = HashMap::new();
    for number in 0..30 {
        let text = format!(r#"{{"order": {number}}}"#);
        let save = request("POST", "/api/save?stream=orders", &text);
        let answer = intake.invoke(&save).unwrap();
        assert_eq!(answer["statusCode"], 202, "{answer}");
        sent.insert(body(&answer)["MessageId"].as_str().unwrap().into(), text);
    }
    let large = format!(r#"{{"large": "{}"}}"#, "x".repeat((1 << 20) - 100));
    let answer = intake.invoke(&request("POST", "/api/save?stream=orders", &large)).unwrap();
    assert_eq!(answer["statusCode"], 202, "{answer}");
    sent.insert(body(&answer)["MessageId"].as_str().unwrap().into(), large);
    let batch = (0..20).map(|number| format!("{{\"line\": {number}}}\n")).collect::<String>();
    let mut lines = request("POST", "/api/save/batch?stream=orders", &batch);
    lines["headers"]["Content-Type"] = "application/x-ndjson".into();
    lines["multiValueHeaders"]["Content-Type"] = json!(["application/x-ndjson"]);
    let answer = intake.invoke(&lines).unwrap();
    assert_eq!(answer["statusCode"], 202, "{answer}");
    for (number, result) in body(&answer)["results"].as_array().unwrap().iter().enumerate() {
        let id = result["MessageId"].as_str().unwrap().to_owned();
        sent.insert(id, format!("{{\"line\": {number}}}"));
    }
    assert_eq!(sent.len(), 51);

    // Through the queue; SQS delivers twice, and another worker has the half of it again.
    let mut persist = deployed.function("persist");
    let none = json!({ "batchItemFailures": [] });
    let mut messages = deployed.aws.messages(&queue_url, &sources[queue]);
    // One that has waited since a week that is over.
    let last_week = SystemTime::now() - Duration::from_hours(7 * 24);
    let last_week = last_week.duration_since(UNIX_EPOCH).unwrap().as_millis();
    let sent_ms = u64::try_from(last_week).unwrap();
    let old = events::message(&sources[queue], "m-old", r#"{"old": true}"#, sent_ms);
    messages.push(old);
    for some in messages.chunks(20) {
        let event = json!({ "Records": some });
        assert_eq!(persist.invoke(&event).unwrap(), none);
    }
    let again = json!({ "Records": messages[..messages.len() / 2] });
    assert_eq!(deployed.function("persist").invoke(&again).unwrap(), none);

    // Each is found once, byte for byte.
    let mut read = deployed.function("read");
    let found = stored(&mut read, "orders");
    let ids: HashSet<_> = found.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!((found.len(), ids.len()), (sent.len(), sent.len()));
    for (id, text) in &sent {
        let answer = read.invoke(&request("GET", &format!("/api/documents/{id}"), "")).unwrap();
        assert_eq!((&answer["statusCode"], answer["body"].as_str()), (&json!(200), Some(&**text)));
    }

    // The summary of the week that is over lies in the bucket.
    let mut summary = deployed.function("summary");
    let written = summary.invoke(&events::scheduled()).unwrap();
    let week = written["written"].as_array().unwrap().last().unwrap().as_str().unwrap();
    let bucket = &deployed.outputs["BucketName"];
    let keys = deployed.aws.keys(bucket, "summaries/");
    assert!(keys.iter().any(|key| key.contains(week)), "{keys:?}");
    let page = read.invoke(&request("GET", &format!("/api/summaries/{week}.json"), "")).unwrap();
    assert_eq!(page["statusCode"], 200, "{page}");
    assert_eq!(body(&page)["total"]["documents"], 1, "{page}");
    assert_eq!(deployed.aws.keys(bucket, "overflow/queue").len(), 0);

    // What nobody could store comes out of the dead-letter queue, is listed, redriven, erased.
    let answer = intake.invoke(&request("POST", "/api/save?stream=orders", "[1]")).unwrap();
    let id = body(&answer)["MessageId"].as_str().unwrap().to_owned();
    let dead_url = queue_url.replace(queue, dead);
    let given_up = deployed.aws.give_up(&queue_url, &dead_url, &sources[dead]);
    assert_eq!(given_up.len(), 1);
    assert_eq!(persist.invoke(&json!({ "Records": given_up })).unwrap(), none);
    let letters = body(&read.invoke(&request("GET", "/api/dead-letters", "")).unwrap());
    assert_eq!(letters["dead_letters"][0]["id"], json!(id), "{letters}");
    let mut admin = deployed.function("admin");
    let all = r#"{"where": "", "dry_run": false}"#;
    let redriven = admin.invoke(&request("POST", "/api/dead-letters/redrive", all)).unwrap();
    assert_eq!(body(&redriven)["redriven"], 1, "{redriven}");
    let messages = deployed.aws.messages(&queue_url, &sources[queue]);
    assert_eq!(persist.invoke(&json!({ "Records": messages })).unwrap(), none);
    let path = format!("/api/documents/{id}");
    assert_eq!(read.invoke(&request("GET", &path, "")).unwrap()["body"], "[1]");
    assert_eq!(admin.invoke(&request("DELETE", &path, "")).unwrap()["statusCode"], 204);
    assert_eq!(read.invoke(&request("GET", &path, "")).unwrap()["statusCode"], 404);
    assert_eq!(stored(&mut read, "orders").len(), sent.len());

    // A small file goes in and out by the same functions.
    let path = "/api/files/reports/may.txt";
    let put = admin.invoke(&request("PUT", path, "in May")).unwrap();
    assert_eq!(put["statusCode"], 201, "{put}");
    let got = read.invoke(&request("GET", path, "")).unwrap();
    assert_eq!((&got["statusCode"], &got["body"]), (&json!(200), &json!("in May")));
    assert_eq!(admin.invoke(&request("DELETE", path, "")).unwrap()["statusCode"], 204);
    assert_eq!(read.invoke(&request("GET", path, "")).unwrap()["statusCode"], 404);
}
