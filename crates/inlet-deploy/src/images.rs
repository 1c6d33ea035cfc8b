//! Who may push to the registry of images: ECR gives a password for twelve hours.

use serde_json::json;

use crate::account::Account;
use crate::error::DeployError;
use crate::package::Credentials;

impl Credentials {
    /// What the account's registry asks for.
    pub async fn of_registry(account: &Account) -> Result<Self, DeployError> {
        let about = ("sign in to the registry of", account.region());
        let target = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken";
        let said = account.json(about, ("ecr", "api.ecr"), target, &json!({})).await?;
        let token = said["authorizationData"][0]["authorizationToken"].as_str();
        let token = token.ok_or_else(|| DeployError::Call {
            attempted: "sign in to the registry of",
            subject: account.region().into(),
            code: None,
            why: "there is no token in the answer".into(),
        })?;
        Ok(Self::Basic(token.into()))
    }
}
