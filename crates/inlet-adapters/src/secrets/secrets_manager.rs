//! Secrets in AWS Secrets Manager: one secret a name, `PREFIX/NAME`.
//!
//! One secret a name, so that a function can be allowed to read its own and no other, a database's
//! can be rotated by Amazon's own functions, and `put_new` is atomic: of two that make a secret
//! the service lets one win.
//!
//! A deployment, whose templates give no names, names each secret by its ARN instead:
//! `aws-secrets-manager://TOKENS_ARN?database=ARN`. The one in front is that of the tokens.

use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::primitives::Blob;
use inlet_core::failure::{Failure, FailureKind};
use inlet_core::ports::Secrets;

use crate::aws::Aws;

/// How often a name that is made and removed by others at the same time is tried.
const ROUNDS_MAX: u32 = 3;
/// The name of the secret that every process reads.
const TOKENS: &str = "tokens";
/// What stands for an empty value.
const EMPTY: &str = "(empty)";
/// The largest value, in bytes, as the port has it and the service.
const VALUE_BYTES_MAX: usize = 64 << 10;

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
/// An identity that may only read (`secretsmanager:GetSecretValue`) can use it: `put` is then
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

struct Seen {
    value: Option<Vec<u8>>,
    at: Instant,
}

type Response = aws_sdk_secretsmanager::config::http::HttpResponse;

impl SecretsManagerSecrets {
    /// The secrets at `url`, `aws-secrets-manager://PREFIX`. Whether the service is there and may
    /// be used is asked by a look at a secret that need not exist.
    ///
    /// Fails as [`FailureKind::Refused`] where the URL is none or this identity may not read
    /// there; as [`FailureKind::Unavailable`] where the service is away.
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
        let prefix = (!is_arn && !front.is_empty()).then(|| front.to_owned());
        let secrets = Self {
            shown: url.to_owned(),
            prefix,
            ids,
            client: Client::new(aws.config()),
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
        if fits && value.len() <= VALUE_BYTES_MAX {
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

    async fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let Some(id) = self.id(name) else { return Ok(None) };
        let said = self.client.get_secret_value().secret_id(id).send().await;
        match said {
            Ok(found) => Ok(match (found.secret_string(), found.secret_binary()) {
                (Some(text), _) => Some(value_of(text)),
                (None, bytes) => bytes.map(|bytes| bytes.as_ref().to_vec()),
            }),
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

    /// Gives the secret a new value; false where it is not there.
    async fn change(&self, name: &str, value: &[u8]) -> Result<bool, Failure> {
        let (text, bytes) = either(value);
        let id = self.id(name).ok_or_else(|| self.nowhere(name))?;
        let said = self
            .client
            .put_secret_value()
            .secret_id(id)
            .set_secret_string(text)
            .set_secret_binary(bytes)
            .send()
            .await;
        match said {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some("ResourceNotFoundException") => Ok(false),
            Err(error) => Err(failure(&error, "change the secret", self.place(name))),
        }
    }

    fn contended(&self, name: &str) -> Failure {
        Failure::new(FailureKind::Unavailable, "change the secret", self.place(name))
            .because("it is made and removed by others at the same time")
    }
}

#[async_trait]
impl Secrets for SecretsManagerSecrets {
    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        self.check(name, &[])?;
        if let Some(value) = self.noted(name) {
            return Ok(value);
        }
        let value = self.fetch(name).await?;
        self.note(name, value.clone());
        Ok(value)
    }

    async fn put(&self, name: &str, value: &[u8]) -> Result<(), Failure> {
        self.check(name, value)?;
        for _ in 0..ROUNDS_MAX {
            if self.change(name, value).await? || self.make(name, value).await? {
                self.note(name, Some(value.to_vec()));
                return Ok(());
            }
        }
        Err(self.contended(name))
    }

    async fn put_new(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, Failure> {
        self.check(name, value)?;
        for _ in 0..ROUNDS_MAX {
            let there = match self.fetch(name).await? {
                Some(there) => Some(there),
                None => self.make(name, value).await?.then(|| value.to_vec()),
            };
            if let Some(there) = there {
                self.note(name, Some(there.clone()));
                return Ok(there);
            }
        }
        Err(self.contended(name))
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
    let (kind, hint) = match error.code() {
        Some("AccessDeniedException" | "AccessDenied") => (
            FailureKind::Refused,
            "this identity may not; it needs secretsmanager:GetSecretValue, and to change \
             tokens secretsmanager:PutSecretValue and secretsmanager:CreateSecret",
        ),
        Some("UnrecognizedClientException" | "InvalidClientTokenId") => {
            (FailureKind::Refused, "the credentials are wrong: look at AWS_PROFILE")
        }
        Some("InvalidRequestException") => (
            FailureKind::Refused,
            "is it being deleted? `aws secretsmanager restore-secret` keeps it",
        ),
        Some("DecryptionFailure" | "EncryptionFailure") => {
            (FailureKind::Refused, "this identity may not use the key; it needs kms:Decrypt")
        }
        _ => (
            FailureKind::Unavailable,
            "is the service reachable, and are there credentials (AWS_PROFILE)?",
        ),
    };
    let why = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => DisplayErrorContext(error).to_string(),
    };
    Failure::new(kind, attempted, subject).because(why).hint(hint)
}
