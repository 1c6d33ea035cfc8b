//! Which queue is meant: `sqs://NAME` or `sqs://HOST/ACCOUNT/NAME`.

use inlet_core::failure::{Failure, FailureKind};

const HINT: &str = "give sqs://NAME for a queue of the own account, or sqs://HOST/ACCOUNT/NAME, \
     as in sqs://sqs.eu-west-1.amazonaws.com/123456789012/inlet";

/// A queue as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QueueName {
    /// In the account of the credentials.
    Own(String),
    /// Wherever the host is.
    Full { host: String, account: String, name: String },
}

impl QueueName {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let refused =
            || Failure::new(FailureKind::Refused, "use as a queue", format!("{url:?}")).hint(HINT);
        let rest = url.strip_prefix("sqs://").ok_or_else(refused)?;
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let parsed = match parts[..] {
            [name] => Self::Own(name.to_owned()),
            [host, account, name] if !host.is_empty() && is_account(account) => Self::Full {
                host: host.to_owned(),
                account: account.to_owned(),
                name: name.to_owned(),
            },
            _ => return Err(refused()),
        };
        if parsed.name().ends_with(".fifo") {
            return Err(refused().hint("a FIFO queue takes documents one group at a time: use a standard queue, Inlet's order does not rest on it"));
        }
        if is_name(parsed.name()) { Ok(parsed) } else { Err(refused()) }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own(name) | Self::Full { name, .. } => name,
        }
    }

    /// The region that the host names, as `sqs.REGION.amazonaws.com` does.
    pub(super) fn region(&self) -> Option<String> {
        let Self::Full { host, .. } = self else { return None };
        let mut labels = host.split('.');
        let region = match (labels.next()?, labels.next()?) {
            ("sqs" | "sqs-fips", region) => region,
            (region, "queue") => region,
            _ => return None,
        };
        host.contains(".amazonaws.com").then(|| region.to_owned())
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=80).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_understood() {
        assert_eq!(QueueName::parse("sqs://inlet").unwrap(), QueueName::Own("inlet".into()));
        let full = QueueName::parse("sqs://sqs.eu-west-1.amazonaws.com/123456789012/q_1").unwrap();
        assert_eq!((full.name(), full.region().as_deref()), ("q_1", Some("eu-west-1")));
        let local = QueueName::parse("sqs://127.0.0.1:5000/123456789012/q").unwrap();
        assert_eq!(local.region(), None);
    }

    #[test]
    fn what_is_no_queue_is_refused_with_a_hint() {
        for url in ["sqs://", "sqs://a/b", "sqs://h/12/q", "sqs:q", "sqs://q.fifo", "sqs://a b"] {
            let failure = QueueName::parse(url).unwrap_err();
            assert!(failure.hint_text().is_some(), "{url}");
        }
    }
}
