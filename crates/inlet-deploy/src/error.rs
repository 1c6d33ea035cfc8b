//! Why a deployment did not work, and what to do about it.

use aws_sdk_cloudformation::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// Why something could not be deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// A service refused a call or did not answer.
    #[error("could not {attempted} {subject}: {why}")]
    Call {
        /// What was tried, an infinitive.
        attempted: &'static str,
        /// On what.
        subject: String,
        /// The service's code, where it gave one.
        code: Option<String>,
        /// What came back.
        why: String,
    },
    /// The stack came to rest elsewhere than was wanted.
    #[error("{stack} is in {status}{}", first.as_ref().map_or(String::new(), |first| {
        format!("; first to fail was {}: {}", first.resource, first.reason)
    }))]
    Ended {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
        /// What failed first.
        first: Option<FirstFailure>,
    },
    /// It did not come to rest in time.
    #[error("{stack} is still in {status} after {minutes} minutes")]
    TimedOut {
        /// The stack.
        stack: String,
        /// Its status.
        status: String,
        /// How long was waited.
        minutes: u64,
    },
}

/// The resource that failed first; what follows it fails because of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstFailure {
    /// Its logical id, behind its nested stack's.
    pub resource: String,
    /// Its type.
    pub kind: String,
    /// Why, in the service's words.
    pub reason: String,
}

impl DeployError {
    pub(crate) fn call<E, R>(
        attempted: &'static str,
        subject: impl Into<String>,
        error: &SdkError<E, R>,
    ) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
        R: std::fmt::Debug,
    {
        let why = match error.message() {
            Some(message) => message.to_owned(),
            None => DisplayErrorContext(error).to_string(),
        };
        let code = error.code().map(str::to_owned);
        Self::Call { attempted, subject: subject.into(), code, why }
    }

    /// Whether the service says that there is no such stack.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Call { why, .. } if why.contains("does not exist"))
    }

    /// What a person can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Call { code: Some(code), .. } => hint_for_code(code),
            Self::Call { why, .. } if why.contains("credentials") => {
                Some("sign in: `aws sso login`, or set AWS_PROFILE or AWS_ACCESS_KEY_ID".into())
            }
            Self::Call { why, .. } if is_lost(why) => Some(
                "is there a network, and is AWS_ENDPOINT_URL right where it is set? Then run the \
                 same command again"
                    .into(),
            ),
            Self::Ended { first: Some(first), .. } => Some(hint_for_reason(first)),
            Self::TimedOut { .. } => Some("run the same command again: it goes on waiting".into()),
            _ => None,
        }
    }
}

/// Whether nobody answered.
fn is_lost(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    ["refused", "dispatch failure", "timeout", "timed out", "connect", "dns", "io:"]
        .iter()
        .any(|sign| why.contains(sign))
}

fn hint_for_code(code: &str) -> Option<String> {
    let hint = match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "the credentials are over: sign in again (`aws sso login`) and run the same command"
        }
        "InvalidClientTokenId" | "UnrecognizedClientException" | "SignatureDoesNotMatch" => {
            "the credentials are wrong: look at AWS_PROFILE and AWS_ACCESS_KEY_ID"
        }
        "AccessDenied" | "AccessDeniedException" => {
            "this identity may not; `inlet plan` lists the actions that a deployer needs"
        }
        "Throttling" | "ThrottlingException" => "wait a minute and run the same command again",
        "InsufficientCapabilitiesException" => "the templates need a capability: report this",
        _ => return None,
    };
    Some(hint.into())
}

/// What usually helps, by what the service said.
fn hint_for_reason(first: &FirstFailure) -> String {
    let said = first.reason.to_ascii_lowercase();
    let hint = if said.contains("already exists") {
        "a resource of that name is there from elsewhere: remove it, or let the template name it"
    } else if said.contains("not empty") {
        "`inlet destroy` empties what must be empty; it asks first"
    } else if said.contains("limit") || said.contains("quota") || said.contains("exceed") {
        "raise the quota of this account in Service Quotas, and run the same command again"
    } else if said.contains("not authorized") || said.contains("denied") {
        "this identity may not; `inlet plan` lists the actions that a deployer needs"
    } else {
        "mend what the reason names, and run the same command again"
    };
    hint.into()
}
