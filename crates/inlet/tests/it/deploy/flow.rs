//! Documents through the shape of containers as it is deployed: each task runs as this binary,
//! with the command and the variables that its description has, against the queue, the table and
//! the bucket that were made.

use std::collections::{BTreeMap, HashSet};
use std::process::{Child, Command, Stdio};

use inlet_core::auth::{Scope, Token};
use inlet_core::calendar::{Calendar, Week};
use inlet_core::document::Timestamp;
use inlet_core::ports::{Clock, SystemClock};
use serde_json::{Value, json};

use super::account::Account;
use crate::server::{Server, TOKEN, until};

/// How many documents each instance is sent.
const DOCUMENTS: usize = 40;

/// A description of a task: its command, and its variables.
struct Task {
    role: String,
    variables: Vec<(String, String)>,
}

impl Task {
    /// The binary as the task starts it, in a directory of its own.
    fn command(&self, account: &Account) -> Command {
        let mut command = account.inlet();
        command.envs(self.variables.iter().cloned());
        command
    }
}

/// A worker; ended when it is dropped.
struct Worker(Child);

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The descriptions of the tasks that stand, by their commands.
fn tasks(account: &Account, stack: &str) -> BTreeMap<String, Task> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let standing = account.standing(stack);
    let descriptions = standing.iter().filter(|one| one["type"] == "AWS::ECS::TaskDefinition");
    descriptions
        .map(|one| {
            let container = &one["properties"]["ContainerDefinitions"][0];
            let role = text(&container["Command"][0]);
            let given = container["Environment"].as_array().unwrap();
            let variables = given.iter().map(|one| (text(&one["Name"]), text(&one["Value"])));
            (role.clone(), Task { role, variables: variables.collect() })
        })
        .collect()
}

fn s3(account: &Account, method: &str, path: &str) -> String {
    let credential = format!(
        "AWS4-HMAC-SHA256 Credential=test/20261121/{}/s3/aws4_request, SignedHeaders=host, \
         Signature=0",
        account.region
    );
    let request = ureq::http::Request::builder()
        .method(method)
        .uri(account.url(path))
        .header("authorization", credential)
        .body(())
        .unwrap();
    ureq::run(request).unwrap().body_mut().read_to_string().unwrap()
}

#[test]
fn documents_go_through_the_tasks_that_were_deployed_and_each_is_found_once() {
    let account = Account::in_region("ca-central-1");
    let deployed = account.ours("deploy --env tasks --like staging --shape containers --yes");
    let output = |name: &str| {
        let line = deployed.lines().find(|line| line.starts_with(&format!("{name} ")));
        line.unwrap().split_whitespace().nth(1).unwrap().to_owned()
    };
    // It denies what comes without TLS; the emulator, which has none, reads no conditions.
    let bucket = output("BucketName");
    s3(&account, "DELETE", &format!("/{bucket}?policy"));
    let token = Token::new("test", &Scope::ALL, TOKEN, Timestamp::default());
    let tokens = json!({ "tokens": [token] }).to_string();
    let secret = json!({ "SecretId": output("SecretArn"), "SecretString": tokens });
    account.ask("secretsmanager", "secretsmanager.PutSecretValue", &secret);

    let tasks = tasks(&account, "inlet-tasks-containers");
    let roles: Vec<_> = tasks.keys().map(String::as_str).collect();
    assert_eq!(roles, ["persist", "serve", "summarize"]);
    let data = |name: &str| account.directory.path().join(name);
    let serve = |name: &str| {
        let task = &tasks["serve"];
        Server::start_command(task.command(&account), &task.role, &data(name), &[], None)
    };
    let instances = [serve("i0"), serve("i1")];
    let mut sent = Vec::new();
    for number in 0..DOCUMENTS {
        for (index, instance) in instances.iter().enumerate() {
            let text = format!(r#"{{"instance": {index}, "number": {number}}}"#);
            sent.push((instance.save(&text), text));
        }
    }

    let persist = &tasks["persist"];
    let _worker = Worker(
        persist
            .command(&account)
            .args([&persist.role, "--data"])
            .arg(data("w0"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    // What one instance took the other gives back.
    for (index, (id, text)) in sent.iter().enumerate() {
        let other = &instances[(index + 1) % 2];
        other.wait_until_stored(id);
        assert_eq!(&other.get(&format!("/api/documents/{id}")).text(), text);
    }
    let page = instances[0].get("/api/documents?limit=1000").json();
    let found = page["documents"].as_array().unwrap();
    let ids: HashSet<_> = found.iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((found.len(), ids.len()), (sent.len(), sent.len()));
    let queue = json!({"QueueUrl": output("QueueUrl"), "AttributeNames": ["All"]});
    until("nothing is left in the queue", || {
        let left = account.ask("sqs", "AmazonSQS.GetQueueAttributes", &queue);
        left["Attributes"]["ApproximateNumberOfMessages"] == "0"
            && left["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "0"
    });

    let summarize = &tasks["summarize"];
    let week = Week::of(Calendar::new("UTC").unwrap().day(SystemClock.now())).to_string();
    let written = summarize
        .command(&account)
        .args([&summarize.role, "--week", &week, "--data"])
        .arg(data("s0"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&written.stderr);
    assert!(written.status.success(), "{said}");
    assert!(said.contains(&format!("{week}: {} documents", sent.len())), "{said}");
    let keys = s3(&account, "GET", &format!("/{bucket}?list-type=2&prefix=summaries/"));
    assert!(keys.contains(&week), "{keys}");
    let summary = instances[1].get(&format!("/api/summaries/{week}.json")).json();
    assert_eq!(summary["total"]["documents"], sent.len(), "{summary}");
    for instance in instances {
        assert!(instance.stop().success());
    }
}
