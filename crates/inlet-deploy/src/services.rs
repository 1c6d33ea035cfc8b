//! What the services themselves say of an environment: alarms, instances, queues, and what is left
//! of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::account::Account;
use crate::call::{Call, texts};
use crate::error::DeployError;

/// The most pages of a list that are read, each of a hundred or so.
const PAGES_MAX: usize = 50;

/// An alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its name.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
}

/// How full a queue is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// How many messages wait.
    pub waiting: u64,
    /// How many were received and are not settled.
    pub in_flight: u64,
    /// Where those go that nobody could store.
    pub dead_letters_url: Option<String>,
}

/// A running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The service that it belongs to.
    pub service: String,
    /// Its zone.
    pub zone: String,
    /// `RUNNING` and the like.
    pub status: String,
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
    pub health: String,
}

impl Account {
    /// The alarms whose names begin so.
    pub async fn alarms(&self, prefix: &str) -> Result<Vec<Alarm>, DeployError> {
        let mut alarms = Vec::new();
        let mut token = String::new();
        for _ in 0..PAGES_MAX {
            let mut arguments = vec![("AlarmNamePrefix", prefix), ("MaxRecords", "100")];
            if !token.is_empty() {
                arguments.push(("NextToken", &token));
            }
            let about = ("list the alarms of", prefix);
            let place = ("monitoring", "monitoring");
            let xml = self.query(about, place, "2010-08-01", "DescribeAlarms", &arguments).await?;
            let states = texts(&xml, "StateValue");
            let named = texts(&xml, "AlarmName").into_iter().zip(states);
            alarms.extend(named.map(|(name, state)| Alarm { name, state }));
            match texts(&xml, "NextToken").pop() {
                Some(next) if !next.is_empty() => token = next,
                _ => break,
            }
        }
        Ok(alarms)
    }

    /// How full the queue at `url` is.
    pub async fn queue_depth(&self, url: &str) -> Result<QueueDepth, DeployError> {
        let arguments = json!({ "QueueUrl": url, "AttributeNames": ["All"] });
        let about = ("ask for the depth of", url);
        let target = "AmazonSQS.GetQueueAttributes";
        let said = self.json(about, ("sqs", "sqs"), target, &arguments).await?;
        let attributes = &said["Attributes"];
        let number =
            |name: &str| attributes[name].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        let policy: Option<Value> =
            attributes["RedrivePolicy"].as_str().and_then(|text| serde_json::from_str(text).ok());
        let name = policy.as_ref().and_then(|policy| policy["deadLetterTargetArn"].as_str());
        let name = name.and_then(|arn| arn.rsplit(':').next());
        Ok(QueueDepth {
            waiting: number("ApproximateNumberOfMessages"),
            in_flight: number("ApproximateNumberOfMessagesNotVisible"),
            dead_letters_url: name.zip(url.rsplit_once('/')).map(|(name, (of, _))| {
                // Both queues are of one account and region: only the name differs.
                format!("{of}/{name}")
            }),
        })
    }

    /// The tasks of a cluster that are not stopped.
    pub async fn tasks(&self, cluster: &str) -> Result<Vec<Task>, DeployError> {
        let about = ("list the tasks of", cluster);
        let ask = async |operation: &str, arguments: Value| {
            let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
            self.json(about, ("ecs", "ecs"), &target, &arguments).await
        };
        let listed = ask("ListTasks", json!({ "cluster": cluster })).await?;
        let arns: Vec<&str> =
            listed["taskArns"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let said = ask("DescribeTasks", json!({ "cluster": cluster, "tasks": arns })).await?;
        let tasks = said["tasks"].as_array().into_iter().flatten().map(|task| {
            let word = |name: &str| task[name].as_str().unwrap_or("-").to_owned();
            Task {
                service: word("group").trim_start_matches("service:").to_owned(),
                zone: word("availabilityZone"),
                status: word("lastStatus"),
                health: word("healthStatus"),
            }
        });
        Ok(tasks.collect())
    }

    /// The names (ARNs) of everything in this region that has all of these tags.
    pub async fn tagged(
        &self,
        tags: &BTreeMap<String, String>,
    ) -> Result<Vec<String>, DeployError> {
        let filters: Vec<Value> =
            tags.iter().map(|(key, value)| json!({ "Key": key, "Values": [value] })).collect();
        let mut found = Vec::new();
        let mut token = String::new();
        for _ in 0..PAGES_MAX {
            let arguments = json!({ "TagFilters": filters, "PaginationToken": token });
            let about = ("list what has the tags of", self.region());
            let target = "ResourceGroupsTaggingAPI_20170126.GetResources";
            let said = self.json(about, ("tagging", "tagging"), target, &arguments).await?;
            let page = said["ResourceTagMappingList"].as_array().into_iter().flatten();
            found.extend(page.filter_map(|one| one["ResourceARN"].as_str()).map(str::to_owned));
            token = said["PaginationToken"].as_str().unwrap_or_default().to_owned();
            if token.is_empty() {
                break;
            }
        }
        Ok(found)
    }

    /// The id of the addresses from which CloudFront comes, which each region has its own for;
    /// `None` where the region has none.
    pub async fn origin_prefix_list(&self) -> Result<Option<String>, DeployError> {
        let arguments = [
            ("Filter.1.Name", "prefix-list-name"),
            ("Filter.1.Value.1", "com.amazonaws.global.cloudfront.origin-facing"),
        ];
        let about = ("look for CloudFront's addresses in", self.region());
        let action = "DescribeManagedPrefixLists";
        let xml = self.query(about, ("ec2", "ec2"), "2016-11-15", action, &arguments).await?;
        Ok(texts(&xml, "prefixListId").into_iter().next())
    }

    /// A call by path, for services without a protocol of names.
    pub(crate) async fn get(
        &self,
        (attempted, subject): (&'static str, &str),
        service: &'static str,
        path: &str,
    ) -> Result<String, DeployError> {
        let call = Call {
            attempted,
            subject: subject.into(),
            service,
            host: service,
            method: "GET",
            path: path.into(),
            headers: Vec::new(),
            body: Vec::new(),
            works: false,
        };
        Ok(self.expect(call).await?.text())
    }
}
