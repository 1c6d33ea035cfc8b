//! Usage plans and who has which.

use std::collections::{BTreeMap, HashMap};

use http::HeaderValue;
use serde::Deserialize;

/// The most a plan may allow in a second; what allows more is no limit.
const REQUESTS_MAX: u32 = 1_000_000;

/// The plans that are there without being written down: name, requests a second, requests that may
/// be saved up, bytes a day. A file may give the names other figures.
const KNOWN: [(&str, u32, u32, u64); 2] =
    [("bronze", 10, 20, 100_000_000), ("silver", 100, 200, 1_000_000_000)];

/// All plans, and who has which.
#[derive(Debug, Clone, Default)]
pub struct Plans {
    plans: Vec<Plan>,
    by_token: HashMap<[u8; 32], usize>,
    unlisted_tokens: Option<usize>,
    addresses: Option<usize>,
}

/// One plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    name: String,
    requests_per_second: u32,
    requests_burst: u32,
    bytes_per_day: Option<u64>,
    policy: HeaderValue,
}

/// Why a file of plans can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PlansError {
    /// It is not TOML, or has a key that is not known, or a value of the wrong kind.
    #[error("{0}")]
    Syntax(String),
    /// A plan is named that is not there.
    #[error("there is no plan `{0}`")]
    Unknown(String),
    /// A plan's name can't be told to clients.
    #[error("the plan `{0}` needs a name of 1 to 64 of A-Z a-z 0-9 _ -")]
    Name(String),
    /// A plan allows nothing, or more than can be counted.
    #[error(
        "the plan `{0}` needs 1 to {REQUESTS_MAX} requests_per_second, a requests_burst of at \
             least 1, and at least 1 byte a day"
    )]
    Range(String),
    /// A token's key is not a hash.
    #[error("`{0}` is not the SHA-256 of a token: give 64 hexadecimal digits")]
    Token(String),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    token_plan: Option<String>,
    address_plan: Option<String>,
    plans: BTreeMap<String, FilePlan>,
    tokens: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePlan {
    requests_per_second: u32,
    requests_burst: Option<u32>,
    bytes_per_day: Option<u64>,
}

impl Plans {
    /// Reads the text of a file of plans; its format is in [the module](crate::limits).
    ///
    /// # Errors
    /// Where something in it is not as it should be; the error tells what.
    pub fn parse(text: &str) -> Result<Self, PlansError> {
        let file: File =
            toml::from_str(text).map_err(|error| PlansError::Syntax(error.to_string()))?;
        let mut written = file.plans;
        for (name, per_second, burst, bytes_per_day) in KNOWN {
            written.entry(name.to_owned()).or_insert(FilePlan {
                requests_per_second: per_second,
                requests_burst: Some(burst),
                bytes_per_day: Some(bytes_per_day),
            });
        }
        let plans: Vec<Plan> = written
            .into_iter()
            .map(|(name, plan)| Plan::new(name, &plan))
            .collect::<Result<_, _>>()?;
        let index = |name: String| {
            plans.iter().position(|plan| plan.name == name).ok_or(PlansError::Unknown(name))
        };
        let mut by_token = HashMap::new();
        for (token, plan) in file.tokens {
            let hash = hash_of(&token).ok_or(PlansError::Token(token))?;
            by_token.insert(hash, index(plan)?);
        }
        Ok(Self {
            unlisted_tokens: file.token_plan.map(index).transpose()?,
            addresses: file.address_plan.map(index).transpose()?,
            by_token,
            plans,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_none() && !self.looks_at_tokens()
    }

    pub(crate) fn looks_at_tokens(&self) -> bool {
        self.unlisted_tokens.is_some() || !self.by_token.is_empty()
    }

    pub(crate) fn of_token(&self, hash: &[u8; 32]) -> Option<&Plan> {
        let index = self.by_token.get(hash).copied().or(self.unlisted_tokens)?;
        Some(&self.plans[index])
    }

    pub(crate) fn of_addresses(&self) -> Option<&Plan> {
        self.addresses.map(|index| &self.plans[index])
    }
}

impl Plan {
    fn new(name: String, file: &FilePlan) -> Result<Self, PlansError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
            return Err(PlansError::Name(name));
        }
        let burst = file.requests_burst.unwrap_or(file.requests_per_second.saturating_mul(2));
        let in_range = (1..=REQUESTS_MAX).contains(&file.requests_per_second);
        if !in_range || burst == 0 || file.bytes_per_day == Some(0) {
            return Err(PlansError::Range(name));
        }
        let policy = policy(&name, file.requests_per_second, burst, file.bytes_per_day);
        Ok(Self {
            requests_per_second: file.requests_per_second,
            requests_burst: burst,
            bytes_per_day: file.bytes_per_day,
            policy,
            name,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many requests are refilled in a second.
    pub fn requests_per_second(&self) -> u32 {
        self.requests_per_second
    }

    /// How many requests may be saved up.
    pub fn requests_burst(&self) -> u32 {
        self.requests_burst
    }

    /// How many bytes of request bodies are allowed in a day, if that is limited.
    pub fn bytes_per_day(&self) -> Option<u64> {
        self.bytes_per_day
    }

    pub(crate) fn policy(&self) -> HeaderValue {
        self.policy.clone()
    }
}

/// `RateLimit-Policy`: the quota is the burst, its window the time in which it is refilled.
fn policy(name: &str, per_second: u32, burst: u32, bytes_per_day: Option<u64>) -> HeaderValue {
    let window_s = burst.div_ceil(per_second);
    let mut policy = format!("\"{name}\";q={burst};w={window_s}");
    if let Some(bytes) = bytes_per_day {
        policy.push_str(&format!(", \"{name}-bytes\";q={bytes};qu=\"content-bytes\";w=86400"));
    }
    HeaderValue::from_str(&policy).expect("the name was checked, and numbers are digits")
}

fn hash_of(hex: &str) -> Option<[u8; 32]> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (index, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_mistake_is_refused_with_what_is_wrong() {
        let table = [
            ("token_plan = \"gold\"", "there is no plan `gold`"),
            ("[plans.\"a b\"]\nrequests_per_second = 1", "needs a name"),
            ("[plans.a]\nrequests_per_second = 0", "1 to 1000000"),
            ("[plans.a]\nrequests_per_second = 1\nbytes_per_day = 0", "1 byte a day"),
            ("[plans.a]\nrequests_per_second = 1\nburst = 1", "unknown field `burst`"),
            ("[plans.a]\nrequests_per_second = 1\n[tokens]\nabc = \"a\"", "64 hexadecimal"),
            ("[plans", "line 1"),
        ];
        for (text, message) in table {
            let error = Plans::parse(text).unwrap_err().to_string();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_listed_token_has_its_plan_and_others_the_one_for_all() {
        let hash = "ab".repeat(32);
        let text = format!(
            "token_plan = \"bronze\"\n[plans.bronze]\nrequests_per_second = 1\n[plans.silver]\n\
             requests_per_second = 5\n[tokens]\n{hash} = \"silver\"\n"
        );
        let plans = Plans::parse(&text).unwrap();
        assert_eq!(plans.of_token(&[0xab; 32]).unwrap().name(), "silver");
        assert_eq!(plans.of_token(&[0; 32]).unwrap().name(), "bronze");
        assert_eq!(plans.of_token(&[0; 32]).unwrap().requests_burst(), 2);
        assert!(plans.of_addresses().is_none());
    }

    #[test]
    fn bronze_and_silver_are_there_without_being_written_down() {
        let plans = Plans::parse("token_plan = \"silver\"\naddress_plan = \"bronze\"\n").unwrap();
        let silver = plans.of_token(&[0; 32]).unwrap();
        assert_eq!((silver.requests_per_second(), silver.requests_burst()), (100, 200));
        assert_eq!(silver.bytes_per_day(), Some(1_000_000_000));
        assert_eq!(plans.of_addresses().unwrap().requests_per_second(), 10);
        let other = "token_plan = \"silver\"\n[plans.silver]\nrequests_per_second = 7\n";
        let other = Plans::parse(other).unwrap();
        assert_eq!(other.of_token(&[0; 32]).unwrap().requests_per_second(), 7);
        assert_eq!(other.of_token(&[0; 32]).unwrap().bytes_per_day(), None);
    }
}
