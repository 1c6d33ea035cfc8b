//! The gate before a release: the schema of the database is changed by a function or a task that
//! is there only for it, with the one role that may.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::account::Account;
use crate::call::{Call, encode};
use crate::error::DeployError;

/// How often a task is asked for before it is given up, `look_every` apart.
const LOOKS_MAX: usize = 900;

/// What changes the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migration {
    /// A function, called once.
    Function {
        /// Its name.
        name: String,
    },
    /// A task, run once.
    Task {
        /// Its definition.
        definition: String,
        /// The cluster it runs in.
        cluster: String,
        /// The private subnets.
        subnets: Vec<String>,
        /// Whom the database lets in.
        security_group: String,
    },
}

impl Migration {
    /// Runs it and waits for its end; `look_every` is how often a task is looked at.
    pub async fn run(&self, account: &Account, look_every: Duration) -> Result<(), DeployError> {
        match self {
            Self::Function { name } => call_function(account, name).await,
            Self::Task { definition, cluster, subnets, security_group } => {
                let network = json!({ "awsvpcConfiguration": {
                    "subnets": subnets,
                    "securityGroups": [security_group],
                    "assignPublicIp": "DISABLED",
                }});
                run_task(account, definition, cluster, &network, look_every).await
            }
        }
    }
}

fn failed(subject: &str, why: impl Into<String>) -> DeployError {
    DeployError::Call {
        attempted: "change the schema with",
        subject: subject.into(),
        code: None,
        why: why.into(),
    }
}

async fn call_function(account: &Account, name: &str) -> Result<(), DeployError> {
    let call = Call {
        attempted: "change the schema with",
        subject: name.into(),
        service: "lambda",
        host: "lambda",
        method: "POST",
        path: format!("/2015-03-31/functions/{}/invocations", encode(name, false)),
        headers: Vec::new(),
        body: b"{}".to_vec(),
        works: true,
    };
    let answer = account.expect(call).await?;
    // A function that failed answers 200 too; what it says then has a type of error.
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    match said["errorType"].as_str() {
        None => Ok(()),
        Some(kind) => {
            let why = said["errorMessage"].as_str().unwrap_or_default();
            Err(failed(name, format!("{kind}: {why}")))
        }
    }
}

/// A name for one run that no other has.
fn token() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("inlet-{}-{}", since.as_nanos(), std::process::id())
}

async fn run_task(
    account: &Account,
    definition: &str,
    cluster: &str,
    network: &Value,
    look_every: Duration,
) -> Result<(), DeployError> {
    let ask = async |operation: &str, arguments: Value| {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let about = ("change the schema with", definition);
        account.json(about, ("ecs", "ecs"), &target, &arguments).await
    };
    let run = json!({
        "cluster": cluster, "taskDefinition": definition, "launchType": "FARGATE", "count": 1,
        "networkConfiguration": network,
        // Sent again after an answer was lost, it is the same task.
        "clientToken": token(),
    });
    let begun = ask("RunTask", run).await?;
    let Some(task) = begun["tasks"][0]["taskArn"].as_str() else {
        let why = begun["failures"][0]["reason"].as_str().unwrap_or("no task was begun");
        return Err(failed(definition, why));
    };
    for _ in 0..LOOKS_MAX {
        let said = ask("DescribeTasks", json!({ "cluster": cluster, "tasks": [task] })).await?;
        let now = &said["tasks"][0];
        if now["lastStatus"] == "STOPPED" {
            let container = &now["containers"][0];
            let reason = container["reason"].as_str().or_else(|| now["stoppedReason"].as_str());
            return match container["exitCode"].as_i64() {
                Some(0) => Ok(()),
                Some(code) => Err(failed(
                    definition,
                    format!("it ended with {code}: {}", reason.unwrap_or("its log says why")),
                )),
                None => Err(failed(definition, reason.unwrap_or("it did not begin"))),
            };
        }
        tokio::time::sleep(look_every).await;
    }
    Err(failed(definition, "it does not come to an end"))
}
