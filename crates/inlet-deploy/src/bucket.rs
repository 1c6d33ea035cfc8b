//! A bucket of S3, as far as a deployment needs one: for its packages, and to empty it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::account::Account;
use crate::call::{Answer, Call, encode, texts};
use crate::error::DeployError;

/// How many objects one call removes, as the service limits it.
const REMOVED_AT_ONCE_MAX: usize = 1_000;

/// A bucket.
#[derive(Debug, Clone)]
pub struct Bucket {
    account: Account,
    name: String,
}

impl Bucket {
    /// The bucket of that name. Nothing is asked.
    pub fn new(account: &Account, name: &str) -> Self {
        Self { account: account.clone(), name: name.into() }
    }

    /// Whether it is in the account's region: names of buckets are listed for all of them at once.
    pub(crate) async fn is_here(&self) -> Result<bool, DeployError> {
        let call = self.call("ask where it is", "", "GET", &self.path("", "?location"), Vec::new());
        let answer = self.account.expect(call).await?.text();
        // The oldest region has no name here, and an element without a text.
        let found = answer.split_once("</LocationConstraint>").map(|(before, _)| before);
        let region = found.and_then(|before| before.rsplit('>').next()).unwrap_or_default();
        let region = if region.is_empty() { "us-east-1" } else { region };
        Ok(region == self.account.region())
    }

    /// Puts an object; one that is there is replaced.
    pub async fn put(&self, key: &str, bytes: Vec<u8>) -> Result<(), DeployError> {
        let mut call = self.call("upload", key, "PUT", &self.path(key, ""), bytes);
        let media_type = match key.rsplit('.').next() {
            Some("html") => "text/html; charset=utf-8",
            Some("json") => "application/json",
            _ => "application/octet-stream",
        };
        call.headers.push(("content-type".into(), media_type.into()));
        self.account.expect(call).await.map(drop)
    }

    /// Whether there is an object with that key.
    pub async fn has(&self, key: &str) -> Result<bool, DeployError> {
        let call = self.call("look for", key, "HEAD", &self.path(key, ""), Vec::new());
        let answer = self.account.send(call).await?;
        self.is_there(&answer, "look for", key)
    }

    /// The object with that key; `None` where there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, DeployError> {
        let call = self.call("read", key, "GET", &self.path(key, ""), Vec::new());
        let answer = self.account.send(call).await?;
        Ok(self.is_there(&answer, "read", key)?.then_some(answer.body))
    }

    /// The keys that begin so, a thousand at most.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, DeployError> {
        let path = self.path("", &format!("?list-type=2&prefix={}", encode(prefix, false)));
        let call = self.call("list", prefix, "GET", &path, Vec::new());
        let answer = self.account.send(call).await?;
        let is_there = self.is_there(&answer, "list", prefix)?;
        Ok(if is_there { texts(&answer.text(), "Key") } else { Vec::new() })
    }

    /// Removes every object and every version of it, and says how many; a bucket that is not
    /// there has none.
    pub async fn empty(&self) -> Result<usize, DeployError> {
        let mut removed = 0;
        loop {
            let path = self.path("", "?versions&max-keys=1000");
            let call = self.call("list", "its versions", "GET", &path, Vec::new());
            let answer = self.account.send(call).await?;
            if !self.is_there(&answer, "list", "its versions")? {
                return Ok(removed);
            }
            let xml = answer.text();
            let (keys, versions) = (texts(&xml, "Key"), texts(&xml, "VersionId"));
            if keys.is_empty() {
                return Ok(removed);
            }
            let mut body = String::from("<Delete><Quiet>true</Quiet>");
            for (key, version) in keys.iter().zip(&versions).take(REMOVED_AT_ONCE_MAX) {
                let (key, version) = (escaped(key), escaped(version));
                body.push_str(&format!(
                    "<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>"
                ));
                removed += 1;
            }
            body.push_str("</Delete>");
            let path = self.path("", "?delete");
            let mut call = self.call("empty", "", "POST", &path, body.into_bytes());
            let checksum = STANDARD.encode(Sha256::digest(&call.body));
            call.headers.push(("x-amz-checksum-sha256".into(), checksum));
            let answer = self.account.expect(call).await?;
            if let Some(why) = texts(&answer.text(), "Message").into_iter().next() {
                let (attempted, subject) = ("empty", self.name.clone());
                return Err(DeployError::Call { attempted, subject, code: None, why });
            }
        }
    }

    /// Removes the empty bucket; one that is not there is no error.
    pub async fn remove(&self) -> Result<(), DeployError> {
        let call = self.call("remove", "", "DELETE", &self.path("", ""), Vec::new());
        let answer = self.account.send(call).await?;
        self.is_there(&answer, "remove", "").map(drop)
    }

    fn path(&self, key: &str, query: &str) -> String {
        format!("/{}/{}{query}", self.name, encode(key, true))
    }

    fn call(
        &self,
        attempted: &'static str,
        key: &str,
        method: &'static str,
        path: &str,
        body: Vec<u8>,
    ) -> Call {
        Call {
            attempted,
            subject: format!("s3://{}/{key}", self.name),
            service: "s3",
            host: "s3",
            method,
            path: path.into(),
            headers: Vec::new(),
            body,
            works: false,
        }
    }

    fn is_there(
        &self,
        answer: &Answer,
        attempted: &'static str,
        key: &str,
    ) -> Result<bool, DeployError> {
        match answer.status {
            200..=299 => Ok(true),
            404 => Ok(false),
            status => {
                let code = match (answer.code(), status) {
                    // An answer without a body has only its status to say why.
                    (None, 403) => Some("AccessDenied".to_owned()),
                    (code, _) => code,
                };
                let why = texts(&answer.text(), "Message").into_iter().next();
                let why = why.unwrap_or_else(|| format!("the answer was {status}"));
                let subject = format!("s3://{}/{key}", self.name);
                Err(DeployError::Call { attempted, subject, code, why })
            }
        }
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
