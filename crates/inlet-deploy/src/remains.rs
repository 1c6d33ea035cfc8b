//! What is left of an environment, asked of the services themselves: by tags, and by each
//! service's own list of what bears the environment's name. And how that is removed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::account::Account;
use crate::bucket::Bucket;
use crate::call::{encode, texts};
use crate::error::DeployError;

/// How long a key can be had back after it was removed, in days; it costs nothing then.
const KEY_DAYS: u64 = 7;

/// The most pages of a list that are read.
const PAGES_MAX: usize = 100;

/// What is left.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remain {
    /// What it is, as `queue`.
    pub kind: Kind,
    /// What the service calls it.
    pub name: String,
}

/// What can be left of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A table of DynamoDB.
    Table,
    /// A queue of SQS.
    Queue,
    /// A bucket of S3.
    Bucket,
    /// A secret.
    Secret,
    /// A key of KMS.
    Key,
    /// A log.
    Log,
    /// A snapshot of Aurora.
    Snapshot,
    /// A cluster of Aurora.
    Database,
    /// A cache of ElastiCache.
    Cache,
    /// A load balancer.
    LoadBalancer,
    /// A cluster of ECS.
    Cluster,
    /// A function.
    Function,
    /// A registry of images.
    Registry,
    /// An alarm.
    Alarm,
    /// Something else that has the environment's tags.
    Other,
}

impl Kind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Queue => "queue",
            Self::Bucket => "bucket",
            Self::Secret => "secret",
            Self::Key => "key",
            Self::Log => "log",
            Self::Snapshot => "snapshot",
            Self::Database => "database",
            Self::Cache => "cache",
            Self::LoadBalancer => "load balancer",
            Self::Cluster => "cluster",
            Self::Function => "function",
            Self::Registry => "registry",
            Self::Alarm => "alarm",
            Self::Other => "resource",
        }
    }

    /// What it costs while nobody uses it.
    pub fn costs(self) -> &'static str {
        match self {
            Self::Table => "what is stored: $0.25 a GiB and month, and $0.20 for its backup",
            Self::Queue | Self::Cluster | Self::Function => "nothing unless it is used",
            Self::Bucket => "what is stored: $0.023 a GiB and month",
            Self::Secret => "$0.40 a month",
            Self::Key => "$1.00 a month",
            Self::Log => "what is stored: $0.03 a GiB and month",
            Self::Snapshot => "what is stored: $0.021 a GiB and month",
            Self::Database | Self::Cache | Self::LoadBalancer => "by the hour",
            Self::Registry => "what is stored: $0.10 a GiB and month",
            Self::Alarm => "$0.10 a month",
            Self::Other => "look at it: this program does not know",
        }
    }

    /// Whether the templates retain it on purpose, and why.
    pub fn kept_because(self) -> Option<&'static str> {
        match self {
            Self::Table | Self::Queue | Self::Bucket | Self::Snapshot => Some("it holds documents"),
            Self::Secret => Some("it holds tokens or passwords that documents are read with"),
            Self::Key => Some("what stays can't be read without it"),
            Self::Log => Some("it tells what was done"),
            _ => None,
        }
    }
}

/// What was found, and what could not be asked.
#[derive(Debug, Default)]
pub struct Remains {
    /// What is left, each once.
    pub found: BTreeSet<Remain>,
    /// The lists that could not be read, and why.
    pub unasked: Vec<DeployError>,
}

impl Remains {
    /// Asks every service for what bears a name that begins with one of `prefixes`, and the tagging
    /// service for what has `tags`.
    pub async fn find(
        account: &Account,
        prefixes: &[String],
        tags: &BTreeMap<String, String>,
    ) -> Self {
        let mut remains = Self::tagged(account, tags).await;
        for list in LISTS {
            match list.read(account).await {
                Ok(names) => {
                    for name in names.into_iter().filter(|name| begins(name, prefixes)) {
                        // The one list that tells of every region.
                        let is_here = list.kind != Kind::Bucket
                            || Bucket::new(account, &name).is_here().await.unwrap_or(true);
                        if is_here {
                            remains.found.insert(Remain { kind: list.kind, name });
                        }
                    }
                }
                Err(error) => remains.unasked.push(error),
            }
        }
        remains
    }

    /// Asks the tagging service alone: a tag is meant, where a name may begin like another.
    pub async fn tagged(account: &Account, tags: &BTreeMap<String, String>) -> Self {
        let mut remains = Self::default();
        match account.tagged(tags).await {
            Ok(arns) => {
                for arn in arns {
                    remains.found.extend(by_arn(account, &arn).await);
                }
            }
            Err(error) => remains.unasked.push(error),
        }
        remains
    }
}

/// Whether a name begins with one of these; some services have small letters alone.
fn begins(name: &str, prefixes: &[String]) -> bool {
    let name = short(name).to_ascii_lowercase();
    prefixes.iter().any(|prefix| name.starts_with(&prefix.to_ascii_lowercase()))
}

impl Remain {
    /// Removes it with all that is in it.
    pub async fn remove(&self, account: &Account) -> Result<(), DeployError> {
        let about = ("remove", self.name.as_str());
        let name = &self.name;
        let json = async |place, target: &str, arguments: Value| {
            account.json(about, place, target, &arguments).await.map(drop)
        };
        match self.kind {
            Kind::Table => {
                let dynamo = ("dynamodb", "dynamodb");
                let unguard = json!({ "TableName": name, "DeletionProtectionEnabled": false });
                json(dynamo, "DynamoDB_20120810.UpdateTable", unguard).await?;
                json(dynamo, "DynamoDB_20120810.DeleteTable", json!({ "TableName": name })).await
            }
            Kind::Queue => {
                json(("sqs", "sqs"), "AmazonSQS.DeleteQueue", json!({ "QueueUrl": name })).await
            }
            Kind::Bucket => {
                let bucket = Bucket::new(account, name);
                bucket.empty().await?;
                bucket.remove().await
            }
            Kind::Secret => {
                let arguments = json!({ "SecretId": name, "ForceDeleteWithoutRecovery": true });
                let place = ("secretsmanager", "secretsmanager");
                json(place, "secretsmanager.DeleteSecret", arguments).await
            }
            Kind::Key => {
                let arguments = json!({ "KeyId": name, "PendingWindowInDays": KEY_DAYS });
                json(("kms", "kms"), "TrentService.ScheduleKeyDeletion", arguments).await
            }
            Kind::Log => {
                let arguments = json!({ "logGroupName": name });
                json(("logs", "logs"), "Logs_20140328.DeleteLogGroup", arguments).await
            }
            Kind::Snapshot => {
                let arguments = [("DBClusterSnapshotIdentifier", name.as_str())];
                let action = "DeleteDBClusterSnapshot";
                account
                    .query(about, ("rds", "rds"), "2014-10-31", action, &arguments)
                    .await
                    .map(drop)
            }
            // What is not kept on purpose goes with its stack; where it did not, a person looks.
            _ => Err(DeployError::Call {
                attempted: "remove",
                subject: name.clone(),
                code: None,
                why: format!("a {} goes with its stack", self.kind.word()),
            }),
        }
    }
}

/// The last part of an ARN, an address or a path.
fn short(name: &str) -> &str {
    let name = name.split(":secret:").last().unwrap_or(name);
    if name.starts_with("http") { name.rsplit('/').next().unwrap_or(name) } else { name }
}

/// How a service lists what it has.
enum Way {
    /// A call of the JSON protocol; the second is where in the answer the names are.
    Json { host: &'static str, target: &'static str, list: &'static str, name: &'static str },
    /// A call of the query protocol, and the element that has the names.
    Query { host: &'static str, version: &'static str, action: &'static str, name: &'static str },
    /// A path, and the element or field that has the names.
    Path { path: &'static str, name: &'static str },
}

/// A list of a service.
struct List {
    kind: Kind,
    service: &'static str,
    way: Way,
}

const LISTS: &[List] = &[
    json_list(
        Kind::Table,
        "dynamodb",
        "dynamodb",
        "DynamoDB_20120810.ListTables",
        "TableNames",
        "",
    ),
    json_list(Kind::Queue, "sqs", "sqs", "AmazonSQS.ListQueues", "QueueUrls", ""),
    List { kind: Kind::Bucket, service: "s3", way: Way::Path { path: "/", name: "Name" } },
    json_list(
        Kind::Secret,
        "secretsmanager",
        "secretsmanager",
        "secretsmanager.ListSecrets",
        "SecretList",
        "ARN",
    ),
    json_list(
        Kind::Log,
        "logs",
        "logs",
        "Logs_20140328.DescribeLogGroups",
        "logGroups",
        "logGroupName",
    ),
    query_list(
        Kind::Snapshot,
        "rds",
        "2014-10-31",
        "DescribeDBClusterSnapshots",
        "DBClusterSnapshotIdentifier",
    ),
    query_list(Kind::Database, "rds", "2014-10-31", "DescribeDBClusters", "DBClusterIdentifier"),
    query_list(
        Kind::Cache,
        "elasticache",
        "2015-02-02",
        "DescribeReplicationGroups",
        "ReplicationGroupId",
    ),
    query_list(
        Kind::LoadBalancer,
        "elasticloadbalancing",
        "2015-12-01",
        "DescribeLoadBalancers",
        "LoadBalancerName",
    ),
    json_list(
        Kind::Cluster,
        "ecs",
        "ecs",
        "AmazonEC2ContainerServiceV20141113.ListClusters",
        "clusterArns",
        "",
    ),
    List {
        kind: Kind::Function,
        service: "lambda",
        way: Way::Path { path: "/2015-03-31/functions/", name: "FunctionName" },
    },
    json_list(
        Kind::Registry,
        "ecr",
        "api.ecr",
        "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories",
        "repositories",
        "repositoryName",
    ),
    query_list(Kind::Alarm, "monitoring", "2010-08-01", "DescribeAlarms", "AlarmName"),
];

const fn json_list(
    kind: Kind,
    service: &'static str,
    host: &'static str,
    target: &'static str,
    list: &'static str,
    name: &'static str,
) -> List {
    List { kind, service, way: Way::Json { host, target, list, name } }
}

const fn query_list(
    kind: Kind,
    service: &'static str,
    version: &'static str,
    action: &'static str,
    name: &'static str,
) -> List {
    List { kind, service, way: Way::Query { host: service, version, action, name } }
}

impl List {
    /// The names, of every page.
    async fn read(&self, account: &Account) -> Result<Vec<String>, DeployError> {
        let mut names = Vec::new();
        let mut next = None;
        for _ in 0..PAGES_MAX {
            next = self.page(account, next, &mut names).await?;
            if next.is_none() {
                break;
            }
        }
        match self.kind {
            Kind::Cluster if !names.is_empty() => active(account, &names).await,
            _ => Ok(names),
        }
    }

    /// Reads a page; gives what asks for the next one, by name and value.
    async fn page(
        &self,
        account: &Account,
        next: Option<(&'static str, String)>,
        names: &mut Vec<String>,
    ) -> Result<Option<(&'static str, String)>, DeployError> {
        let about = ("list what is left at", self.service);
        let (text, list, name) = match self.way {
            Way::Json { host, target, list, name } => {
                let mut arguments = json!({});
                if let Some((key, value)) = next {
                    arguments[key] = value.into();
                }
                let said = account.json(about, (self.service, host), target, &arguments).await?;
                (said.to_string(), list, name)
            }
            Way::Query { host, version, action, name } => {
                let given: Vec<(&str, &str)> =
                    next.iter().map(|(key, value)| (*key, value.as_str())).collect();
                let place = (self.service, host);
                (account.query(about, place, version, action, &given).await?, "", name)
            }
            Way::Path { path, name } => {
                let query = next.map(|(key, value)| format!("?{key}={}", encode(&value, false)));
                let path = format!("{path}{}", query.unwrap_or_default());
                (account.get(about, self.service, &path).await?, "Functions", name)
            }
        };
        let Ok(said) = serde_json::from_str::<Value>(&text) else {
            names.extend(texts(&text, name));
            return Ok(after(|word| texts(&text, word).pop()));
        };
        let items = said[list].as_array().into_iter().flatten();
        let values = items.map(|one| if name.is_empty() { one } else { &one[name] });
        names.extend(values.filter_map(Value::as_str).map(|text| match self.kind {
            Kind::Cluster => text.rsplit('/').next().unwrap_or(text).to_owned(),
            _ => text.to_owned(),
        }));
        Ok(after(|word| said[word].as_str().map(str::to_owned)))
    }
}

/// The clusters that are not removed: ECS lists those for a while, too.
async fn active(account: &Account, names: &[String]) -> Result<Vec<String>, DeployError> {
    let about = ("look at clusters of", account.region());
    let target = "AmazonEC2ContainerServiceV20141113.DescribeClusters";
    let mut active = Vec::new();
    // The service describes a hundred at once.
    for some in names.chunks(100) {
        let arguments = json!({ "clusters": some });
        let said = account.json(about, ("ecs", "ecs"), target, &arguments).await?;
        let found = said["clusters"].as_array().into_iter().flatten();
        let found = found.filter(|one| one["status"] == "ACTIVE");
        active.extend(found.filter_map(|one| one["clusterName"].as_str()).map(str::to_owned));
    }
    Ok(active)
}

/// What asks for the next page: services say it in five ways.
fn after(read: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let ways = [
        ("NextToken", "NextToken"),
        ("nextToken", "nextToken"),
        ("LastEvaluatedTableName", "ExclusiveStartTableName"),
        ("NextMarker", "Marker"),
        ("Marker", "Marker"),
    ];
    ways.into_iter().find_map(|(said, asked)| {
        read(said).filter(|token| !token.is_empty()).map(|token| (asked, token))
    })
}

/// What an ARN names, as the services' own lists name it; `None` for what costs nothing any more.
async fn by_arn(account: &Account, arn: &str) -> Option<Remain> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [_, _, service, _, number, resource] = parts[..] else { return None };
    let behind = |sign: char| resource.split_once(sign).map_or(resource, |(_, name)| name);
    let (kind, name) = match service {
        "dynamodb" => (Kind::Table, behind('/').to_owned()),
        "sqs" => {
            let about = ("look for", arn);
            let arguments = json!({ "QueueName": resource, "QueueOwnerAWSAccountId": number });
            let target = "AmazonSQS.GetQueueUrl";
            let said = account.json(about, ("sqs", "sqs"), target, &arguments).await.ok()?;
            (Kind::Queue, said["QueueUrl"].as_str()?.to_owned())
        }
        "s3" => {
            let is_here = Bucket::new(account, resource).is_here().await.unwrap_or(false);
            return is_here.then(|| Remain { kind: Kind::Bucket, name: resource.to_owned() });
        }
        "secretsmanager" => (Kind::Secret, arn.to_owned()),
        "kms" => {
            let (about, arguments) = (("look at", arn), json!({ "KeyId": arn }));
            let target = "TrentService.DescribeKey";
            let said = account.json(about, ("kms", "kms"), target, &arguments).await;
            let state = said.as_ref().map(|said| said["KeyMetadata"]["KeyState"].as_str());
            // A key that waits for its end costs nothing.
            if matches!(state, Ok(Some("PendingDeletion"))) {
                return None;
            }
            (Kind::Key, behind('/').to_owned())
        }
        "logs" => (Kind::Log, behind(':').trim_end_matches(":*").to_owned()),
        "rds" if resource.starts_with("cluster-snapshot:") => (Kind::Snapshot, behind(':').into()),
        "ecr" => (Kind::Registry, behind('/').to_owned()),
        // The services tell of these for a while after they are gone; their own lists do not.
        "ecs" | "lambda" | "cloudformation" => return None,
        _ => (Kind::Other, arn.to_owned()),
    };
    Some(Remain { kind, name })
}
