//! Secrets in AWS Secrets Manager: one secret a name, `PREFIX/NAME`.
//!
//! One secret a name, so that a function can be allowed to read its own and no other, and a
//! database's can be rotated by Amazon's own functions.
//!
//! The service has no compare-and-set of values, but one of labels: a version that is put under
//! the label `INLETNEXT` becomes the current one by moving `AWSCURRENT` to it *from* the version
//! that was read, which fails where another was first.
//! Source: <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_UpdateSecretVersionStage.html>.
//!
//! A deployment, whose templates give no names, names each secret by its ARN instead:
//! `aws-secrets-manager://TOKENS_ARN?database=ARN`. The one in front is that of the tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Region;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::primitives::Blob;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::{SECRET_BYTES_MAX, Secrets, Swapped};

use crate::aws::{self, Aws};

/// The name of the secret that every process reads.
const TOKENS: &str = "tokens";
/// What stands for an empty value.
const EMPTY: &str = "(empty)";
/// The label of the version that every reader gets.
const CURRENT: &str = "AWSCURRENT";
/// The label of a version that is to become the current one.
const NEXT: &str = "INLETNEXT";

/// How [`SecretsManagerSecrets`] behaves.
#[derive(Debug, Clone)]
pub struct SecretsManagerOptions {
    /// How long a value that was read is used before the service is asked again, in milliseconds:
    /// how late a rotated value is seen. Each call costs money. Default 30,000.
    pub fresh_ms: u64,
}

impl Default for SecretsManagerOptions {
    fn default() -> Self {
        Self { fresh_ms: 30_000 }
    }
}

/// [`Secrets`] in AWS Secrets Manager, under a prefix.
///
/// An identity that may only read (`secretsmanager:GetSecretValue`) can use it: `swap` is then
/// refused.
pub struct SecretsManagerSecrets {
    client: Client,
    shown: String,
    /// What a name without an id of its own is put behind; `None` where only ids are known.
    prefix: Option<String>,
    ids: HashMap<String, String>,
    fresh: Duration,
    seen: Mutex<HashMap<String, Seen>>,
}

/// A value of a secret, and the id of its version.
struct Version {
    id: String,
    value: Vec<u8>,
}

struct Seen {
    value: Option<Vec<u8>>,
    at: Instant,
}

type Response = aws_sdk_secretsmanager::config::http::HttpResponse;

impl SecretsManagerSecrets {
    /// The secrets at `url`, `aws-secrets-manager://PREFIX`. Whether the service is there and may
    /// be used is asked by a look at a secret that need not exist.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none or no region is named, as
    /// [`FailureKind::Denied`] where this identity may not read there, and as
    /// [`FailureKind::Unavailable`] where the service is away.
    pub async fn open(
        aws: &Aws,
        url: &str,
        options: &SecretsManagerOptions,
    ) -> Result<Self, Failure> {
        let (front, query) = url
            .strip_prefix("aws-secrets-manager://")
            .map(|rest| rest.split_once('?').unwrap_or((rest, "")))
            .unwrap_or_default();
        let front = front.trim_matches('/');
        let fits = |id: &str| {
            id.len() <= 400
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_+=.@-:".contains(&b))
        };
        let mut ids = HashMap::new();
        for (name, id) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            ids.insert(name.to_owned(), id.to_owned());
        }
        let is_arn = front.starts_with("arn:");
        if is_arn {
            ids.insert(TOKENS.to_owned(), front.to_owned());
        }
        if (front.is_empty() && ids.is_empty()) || !fits(front) || !ids.values().all(|id| fits(id))
        {
            return Err(Failure::new(FailureKind::Refused, "open the secrets", url)
                .hint("write it as aws-secrets-manager://PREFIX: letters, digits and /_+=.@-"));
        }
        let mut config = aws_sdk_secretsmanager::config::Builder::from(aws.config());
        match front.split(':').nth(3).filter(|region| is_arn && !region.is_empty()) {
            Some(region) => config = config.region(Region::new(region.to_owned())),
            None => aws.needs_region(url)?,
        }
        let prefix = (!is_arn && !front.is_empty()).then(|| front.to_owned());
        let secrets = Self {
            shown: url.to_owned(),
            prefix,
            ids,
            client: Client::from_conf(config.build()),
            fresh: Duration::from_millis(options.fresh_ms),
            seen: Mutex::default(),
        };
        secrets.get(TOKENS).await?;
        Ok(secrets)
    }

    /// The id of the secret; `None` where the URL gives none.
    fn id(&self, name: &str) -> Option<String> {
        let behind = || self.prefix.as_ref().map(|prefix| format!("{prefix}/{name}"));
        self.ids.get(name).cloned().or_else(behind)
    }

    fn place(&self, name: &str) -> String {
        format!("{name} in {}", self.shown)
    }

    /// Refuses a name that is none.
    fn check(&self, name: &str, value: &[u8]) -> Result<(), Failure> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits && value.len() <= SECRET_BYTES_MAX {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Refused, "use the secret", format!("{name:?}"))
            .hint("a name is 1 to 64 of a-z, 0-9 and -, a value 64 KiB at most"))
    }

    fn nowhere(&self, name: &str) -> Failure {
        Failure::new(FailureKind::Refused, "keep the secret", self.place(name))
            .hint("the URL names no secret for it: add `?NAME=ARN`, or give a prefix")
    }

    fn note(&self, name: &str, value: Option<Vec<u8>>) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.insert(name.to_owned(), Seen { value, at: Instant::now() });
    }

    fn noted(&self, name: &str) -> Option<Option<Vec<u8>>> {
        let seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.get(name).filter(|seen| seen.at.elapsed() < self.fresh).map(|seen| seen.value.clone())
    }

    async fn fetch(&self, name: &str) -> Result<Option<Version>, Failure> {
        let Some(id) = self.id(name) else { return Ok(None) };
        let said = self.client.get_secret_value().secret_id(id).version_stage(CURRENT).send().await;
        match said {
            Ok(found) => {
                let value = match (found.secret_string(), found.secret_binary()) {
                    (Some(text), _) => value_of(text),
                    (None, Some(bytes)) => bytes.as_ref().to_vec(),
                    (None, None) => return Ok(None),
                };
                let id = found.version_id().unwrap_or_default().to_owned();
                Ok(Some(Version { id, value }))
            }
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(failure(&error, "read the secret", self.place(name))),
        }
    }

    /// Makes the secret; false where it is there already.
    async fn make(&self, name: &str, value: &[u8]) -> Result<bool, Failure> {
        let (text, bytes) = either(value);
        let id = self.id(name).ok_or_else(|| self.nowhere(name))?;
        let said = self
            .client
            .create_secret()
            .name(id)
            .set_secret_string(text)
            .set_secret_binary(bytes)
            .send()
            .await;
        match said {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceExistsException") => Ok(false),
            Err(error) => Err(failure(&error, "make the secret", self.place(name))),
        }
    }

    /// Puts a version of the secret under a label, and gives its id; `None` where there is no
    /// such secret.
    async fn put(&self, name: &str, value: &[u8], label: &str) -> Result<Option<String>, Failure> {
        let (text, bytes) = either(value);
        let id = self.id(name).ok_or_else(|| self.nowhere(name))?;
        let said = self
            .client
            .put_secret_value()
            .secret_id(id)
            .set_secret_string(text)
            .set_secret_binary(bytes)
            .version_stages(label)
            .send()
            .await;
        match said {
            Ok(put) => Ok(put.version_id().map(str::to_owned)),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(None),
            Err(error) => Err(failure(&error, "change the secret", self.place(name))),
        }
    }

    /// Gives a secret that has no value one; false where another was first.
    async fn first(&self, name: &str, value: &[u8]) -> Result<bool, Failure> {
        // One that the URL names was made by a deployment, which may have left it without a value.
        if self.ids.contains_key(name) {
            let put = self.put(name, value, CURRENT).await?;
            return put.map(|_| true).ok_or_else(|| self.missing(name));
        }
        self.make(name, value).await
    }

    /// Puts a value in the place of a version; false where that is not the current one.
    async fn replace(&self, name: &str, there: &Version, value: &[u8]) -> Result<bool, Failure> {
        let Some(next) = self.put(name, value, NEXT).await? else { return Ok(false) };
        let id = self.id(name).ok_or_else(|| self.nowhere(name))?;
        let said = self
            .client
            .update_secret_version_stage()
            .secret_id(id)
            .version_stage(CURRENT)
            .remove_from_version_id(&there.id)
            .move_to_version_id(next)
            .send()
            .await;
        let Err(error) = said else { return Ok(true) };
        // It says the same of a label that has moved as of much else: the label decides.
        match self.fetch(name).await? {
            Some(current) if current.id == there.id => {
                Err(failure(&error, "change the secret", self.place(name)))
            }
            _ => Ok(false),
        }
    }

    fn missing(&self, name: &str) -> Failure {
        Failure::new(FailureKind::Refused, "change the secret", self.place(name))
            .because("there is no such secret")
            .hint("check the ARN in the URL of the secrets")
    }
}

#[async_trait]
impl Secrets for SecretsManagerSecrets {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.check(name, &[])?;
        if let Some(value) = self.noted(name) {
            return Ok(value);
        }
        let value = self.fetch(name).await?.map(|version| version.value);
        self.note(name, value.clone());
        Ok(value)
    }

    async fn swap(
        &self,
        name: &str,
        expected: Option<&[u8]>,
        value: &[u8],
    ) -> Result<Swapped, Failure> {
        self.check(name, value)?;
        let there = self.fetch(name).await?;
        let is_expected = there.as_ref().map(|version| version.value.as_slice()) == expected;
        let is_done = match &there {
            _ if !is_expected => false,
            Some(there) if there.value == value => true,
            Some(there) => self.replace(name, there, value).await?,
            None => self.first(name, value).await?,
        };
        if is_done {
            self.note(name, Some(value.to_vec()));
            return Ok(Swapped::Done);
        }
        let there = if is_expected { self.fetch(name).await? } else { there };
        let value = there.map(|version| version.value);
        self.note(name, value.clone());
        Ok(Swapped::Other(value))
    }
}

/// Never a value.
impl fmt::Debug for SecretsManagerSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretsManagerSecrets").field("at", &self.shown).finish_non_exhaustive()
    }
}

/// As text where it is text, so that people can read it in the console. The service keeps nothing
/// empty: that is kept as the word for it, and a text that begins with the word behind it.
fn either(value: &[u8]) -> (Option<String>, Option<Blob>) {
    match std::str::from_utf8(value) {
        Ok(text) if text.is_empty() || text.starts_with(EMPTY) => {
            (Some(format!("{EMPTY}{text}")), None)
        }
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(Blob::new(value))),
    }
}

/// The value that a text stands for.
fn value_of(text: &str) -> Vec<u8> {
    text.strip_prefix(EMPTY).unwrap_or(text).as_bytes().to_vec()
}

fn failure<E>(error: &SdkError<E, Response>, attempted: &'static str, subject: String) -> Failure
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let failure = aws::failure(attempted, subject, error);
    match error.code() {
        Some("AccessDeniedException" | "AccessDenied") => failure.hint(
            "this identity may not; it needs secretsmanager:GetSecretValue, and to change tokens \
             secretsmanager:PutSecretValue, secretsmanager:UpdateSecretVersionStage and \
             secretsmanager:CreateSecret",
        ),
        _ => failure,
    }
}
