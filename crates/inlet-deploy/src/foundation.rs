//! What has to stand before an environment can: the bootstrap stack, once an account and region,
//! and what was given for each environment, which is remembered in its bucket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::bucket::Bucket;
use crate::error::DeployError;
use crate::stacks::{StackState, Stacks};

/// The stack's name.
pub const BOOTSTRAP: &str = "inlet-bootstrap";

/// The tags of what is in it.
pub const BOOTSTRAP_TAGS: [(&str, &str); 2] = [("Project", "inlet"), ("Environment", "bootstrap")];

/// The outputs of the bootstrap stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foundation {
    /// The bucket of templates and packages.
    pub bucket: String,
    /// The key of packages and images.
    pub key_arn: String,
    /// The bound of all roles.
    pub boundary_arn: String,
    /// The role that CloudFormation takes on.
    pub role_arn: String,
}

/// What was given for an environment, so that it need not be given again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Which environment it began as.
    pub like: Option<String>,
    /// Parameters.
    pub parameters: BTreeMap<String, String>,
    /// The release or image whose schema the database has; `None` before the first.
    #[serde(default)]
    pub migrated: Option<String>,
}

impl Foundation {
    /// The foundation, where it stands.
    pub async fn find(stacks: &Stacks) -> Result<Option<Self>, DeployError> {
        Ok(stacks.state(BOOTSTRAP).await?.as_ref().and_then(Self::of))
    }

    /// The foundation that a stack is; `None` where it has not come to stand.
    pub fn of(state: &StackState) -> Option<Self> {
        Some(Self {
            bucket: state.output("ArtifactBucket")?,
            key_arn: state.output("KeyArn")?,
            boundary_arn: state.output("BoundaryArn")?,
            role_arn: state.output("ExecutionRoleArn")?,
        })
    }

    /// Its bucket.
    pub fn artifacts(&self, account: &Account) -> Bucket {
        Bucket::new(account, &self.bucket)
    }
}

impl Given {
    /// What was given for the stack, by what its bucket remembers.
    pub async fn read(bucket: &Bucket, stack: &str) -> Result<Self, DeployError> {
        let Some(bytes) = bucket.get(&key(stack)).await? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).map_err(|error| DeployError::Call {
            attempted: "read what was given for",
            subject: stack.into(),
            code: None,
            why: error.to_string(),
        })
    }

    /// Remembers it.
    pub async fn write(&self, bucket: &Bucket, stack: &str) -> Result<(), DeployError> {
        let text = serde_json::to_vec_pretty(self).expect("texts by texts are JSON");
        bucket.put(&key(stack), text).await
    }
}

fn key(stack: &str) -> String {
    format!("given/{stack}.json")
}
