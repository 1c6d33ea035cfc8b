//! The names of a queue: `sqs://NAME`, `sqs://HOST/ACCOUNT/NAME`, and its URL as Amazon prints it,
//! `https://HOST/ACCOUNT/NAME`.

use inlet_core::failure::{Failure, FailureKind};

const HINT: &str = "give sqs://NAME for a queue of the own account, or its URL, as in \
     https://sqs.eu-west-1.amazonaws.com/123456789012/inlet";

/// A queue as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum QueueName {
    /// In the account of the credentials.
    Own(String),
    /// Wherever the host is; by that scheme, where one was given.
    Full { scheme: Option<&'static str>, host: String, account: String, name: String },
}

impl QueueName {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let refused =
            || Failure::new(FailureKind::Refused, "use as a queue", format!("{url:?}")).hint(HINT);
        let (front, rest) = url.split_once("://").ok_or_else(refused)?;
        let scheme = match front {
            "sqs" => None,
            "https" => Some("https"),
            "http" => Some("http"),
            _ => return Err(refused()),
        };
        let parts: Vec<&str> = rest.trim_end_matches('/').split('/').collect();
        let parsed = match parts[..] {
            [name] if scheme.is_none() => Self::Own(name.to_owned()),
            [host, account, name] if is_host(host) && is_account(account) => Self::Full {
                scheme,
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

    /// The region that the host names, as `sqs.REGION.amazonaws.com` does, also in front of a VPC
    /// endpoint's name (`vpce-….sqs.REGION.vpce.amazonaws.com`).
    pub(super) fn region(&self) -> Option<String> {
        let Self::Full { host, .. } = self else { return None };
        let labels: Vec<&str> = host.split('.').collect();
        let region = labels.windows(2).find_map(|two| match two {
            ["sqs" | "sqs-fips", region] | [region, "queue"] => Some(*region),
            _ => None,
        });
        let is_amazons = host.contains(".amazonaws.com") || host.contains(".api.aws");
        region.filter(|region| is_amazons && *region != "amazonaws").map(str::to_owned)
    }
}

/// Whether a request could go there and nowhere else: no user, no port that is none.
fn is_host(text: &str) -> bool {
    let (name, port) = text.rsplit_once(':').unwrap_or((text, "0"));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    !name.is_empty() && name.bytes().all(allowed) && port.parse::<u16>().is_ok()
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
    fn a_url_as_amazon_prints_it_is_understood() {
        for (url, region) in [
            ("https://sqs.eu-west-1.amazonaws.com/123456789012/q_1", Some("eu-west-1")),
            ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/q_1/", Some("cn-north-1")),
            ("https://eu-west-1.queue.amazonaws.com/123456789012/q_1", Some("eu-west-1")),
            ("https://queue.amazonaws.com/123456789012/q_1", None),
            ("https://sqs-fips.us-east-1.amazonaws.com/123456789012/q_1", Some("us-east-1")),
            ("https://sqs.eu-west-1.api.aws/123456789012/q_1", Some("eu-west-1")),
            (
                "https://vpce-1-2.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q_1",
                Some("eu-west-1"),
            ),
            ("http://localhost:4566/000000000000/q_1", None),
        ] {
            let parsed = QueueName::parse(url).unwrap();
            assert_eq!((parsed.name(), parsed.region().as_deref()), ("q_1", region), "{url}");
        }
    }

    #[test]
    fn what_is_no_queue_is_refused_with_a_hint() {
        for url in [
            "sqs://",
            "sqs://a/b",
            "sqs://h/12/q",
            "sqs:q",
            "sqs://q.fifo",
            "sqs://a b",
            "https://q",
            "https://me:secret@sqs.eu-west-1.amazonaws.com/123456789012/q",
            "https://sqs.eu-west-1.amazonaws.com:port/123456789012/q",
            "ftp://sqs.eu-west-1.amazonaws.com/123456789012/q",
        ] {
            let failure = QueueName::parse(url).unwrap_err();
            assert!(failure.hint_text().is_some(), "{url}");
        }
    }
}
