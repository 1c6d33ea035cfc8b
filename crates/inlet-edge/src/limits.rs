//! Usage plans: how many requests a second and how many bytes a day a token or an address may
//! send.
//!
//! Plans come from a TOML file, which the caller reads:
//!
//! ```toml
//! token_plan = "bronze"        # for tokens that are not listed; left out, they have no limit
//! address_plan = "silver"      # for each client address (IPv6: each /64); left out, no limit
//!
//! [plans.bronze]
//! requests_per_second = 10     # what is refilled
//! requests_burst = 20          # what may be saved up; twice the above if left out
//! bytes_per_day = 100_000_000  # of request bodies, refilled evenly; left out, no limit
//!
//! [plans.silver]
//! requests_per_second = 100
//!
//! [tokens]                     # by the SHA-256 of the token, in hexadecimal digits
//! "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" = "silver"
//! ```
//!
//! `bronze` (10 requests a second, 20 saved up, 100 MB a day) and `silver` (100, 200, 1 GB) are
//! there without being written down, with the rates of the plans of those names on AWS.
//!
//! A request must be within both the plan of its token and that of its address. The edge does not
//! know which tokens are good: a made-up one gets the plan for unlisted tokens, and costs its
//! address. What is counted is kept in a table of fixed size. A restart forgets it.

mod bucket;
mod plans;
pub(crate) mod table;

use std::net::IpAddr;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use inlet_server::token_of;
use sha2::{Digest, Sha256};

pub use plans::{Plan, Plans, PlansError};

use bucket::whole_seconds;
pub(crate) use bucket::{Bucket, Quota};
use table::{Key, Table};

/// How many tokens and addresses are remembered, the latest ones.
const METERS_MAX: usize = 65_536;

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// Who has used how much.
pub(crate) struct Limits {
    plans: ArcSwap<Plans>,
    meters: Table<Meter>,
}

/// What is counted for one token or address.
#[derive(Debug, Clone, Copy, Default)]
struct Meter {
    requests: Bucket,
    bytes: Bucket,
}

/// What a request was counted against.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    charged: [Option<Key>; 2],
    /// The fields that tell the client of its limits.
    fields: Option<Fields>,
}

#[derive(Debug, Clone)]
struct Fields {
    policy: HeaderValue,
    state: HeaderValue,
}

/// A request that is over its limit.
#[derive(Debug)]
pub(crate) struct OverLimit {
    pub(crate) retry_after_s: u32,
    fields: Fields,
}

impl Limits {
    pub(crate) fn new(plans: Plans) -> Self {
        Self { plans: ArcSwap::from_pointee(plans), meters: Table::new(METERS_MAX) }
    }

    pub(crate) fn set_plans(&self, plans: Plans) {
        self.plans.store(std::sync::Arc::new(plans));
    }

    /// Counts a request whose body is announced to have `bytes`, unless it is over a limit.
    pub(crate) fn admit(
        &self,
        headers: &HeaderMap,
        address: IpAddr,
        bytes: u64,
        now: Instant,
    ) -> Result<Admission, OverLimit> {
        let plans = self.plans.load();
        if plans.is_empty() {
            return Ok(Admission::default());
        }
        let token = if plans.looks_at_tokens() { token_hash(headers) } else { None };
        let by_token = token.and_then(|hash| Some((Key::token(&hash), plans.of_token(&hash)?)));
        let by_address = plans.of_addresses().map(|plan| (Key::address(address), plan));
        let mut admission = Admission::default();
        // The address comes first, so that requests with made-up tokens leave no trace of these.
        for (slot, limit) in [by_address, by_token].into_iter().enumerate() {
            let Some((key, plan)) = limit else { continue };
            let left = self.meters.with(key, now, |meter| meter.take(plan, bytes, now));
            match left {
                Ok(left) => {
                    admission.charged[slot] = Some(key);
                    admission.fields = Some(Fields::new(plan, left, 1));
                }
                Err(wait_s) => {
                    let fields = Fields::new(plan, 0, wait_s);
                    return Err(OverLimit { retry_after_s: wait_s, fields });
                }
            }
        }
        Ok(admission)
    }

    /// Counts bytes that were not announced. What is over the limit is owed.
    pub(crate) fn charge(&self, admission: &Admission, bytes: u64, now: Instant) {
        for key in admission.charged.iter().flatten() {
            self.meters.with(*key, now, |meter| meter.bytes.owe(bytes as f64));
        }
    }
}

impl Meter {
    /// Takes one request and its bytes, and says how many requests are left; or takes nothing and
    /// says in how many seconds it may be tried again.
    fn take(&mut self, plan: &Plan, bytes: u64, now: Instant) -> Result<u32, u32> {
        let requests = Quota::requests(plan);
        self.requests.refill(requests, now);
        let wait_s = self.requests.wait_s(requests, 1.0);
        if wait_s > 0.0 {
            return Err(whole_seconds(wait_s));
        }
        if let Some(quota) = Quota::bytes(plan) {
            self.bytes.refill(quota, now);
            let wait_s = self.bytes.wait_s(quota, (bytes as f64).min(quota.burst));
            if wait_s > 0.0 {
                return Err(whole_seconds(wait_s));
            }
            self.bytes.owe(bytes as f64);
        }
        self.requests.owe(1.0);
        Ok(self.requests.left(requests))
    }
}

impl Fields {
    /// The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10.
    fn new(plan: &Plan, left: u32, reset_s: u32) -> Self {
        let state = format!("\"{}\";r={left};t={reset_s}", plan.name());
        let state = HeaderValue::from_maybe_shared(bytes::Bytes::from(state));
        Self { policy: plan.policy(), state: state.expect("a plan's name is checked") }
    }

    fn put(self, headers: &mut HeaderMap) {
        headers.insert(RATELIMIT_POLICY, self.policy);
        headers.insert(RATELIMIT, self.state);
    }
}

impl Admission {
    /// Tells the client of its limits, if there are any.
    pub(crate) fn put_fields(&mut self, headers: &mut HeaderMap) {
        if let Some(fields) = self.fields.take() {
            fields.put(headers);
        }
    }
}

impl OverLimit {
    /// Tells the client of its limits.
    pub(crate) fn put_fields(self, headers: &mut HeaderMap) {
        self.fields.put(headers);
    }
}

/// The SHA-256 of the token a request carries. One with two that differ goes by its address; an
/// instance refuses it.
fn token_hash(headers: &HeaderMap) -> Option<[u8; 32]> {
    let token = token_of(headers).ok()??;
    Some(Sha256::digest(token.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::header::AUTHORIZATION;

    use super::*;

    fn limits(text: &str) -> Limits {
        Limits::new(Plans::parse(text).unwrap())
    }

    fn with_token(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-auth-token", HeaderValue::from_str(token).unwrap());
        headers
    }

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const BRONZE: &str = "token_plan = \"bronze\"\n[plans.bronze]\nrequests_per_second = 10\n\
                          requests_burst = 20\nbytes_per_day = 86_400_000\n";

    #[test]
    fn a_burst_passes_and_then_only_what_is_refilled() {
        let limits = limits(BRONZE);
        let now = Instant::now();
        let headers = with_token("one");
        let passed = |at: Instant| {
            (0..100).filter(|_| limits.admit(&headers, ADDRESS, 0, at).is_ok()).count()
        };
        assert_eq!(passed(now), 20);
        assert_eq!(passed(now + Duration::from_secs(1)), 10);
        assert_eq!(passed(now + Duration::from_millis(1_500)), 5);
        assert_eq!(passed(now + Duration::from_secs(3600)), 20);
    }

    #[test]
    fn one_that_floods_takes_nothing_from_another() {
        let limits = limits(BRONZE);
        let now = Instant::now();
        for _ in 0..10_000 {
            drop(limits.admit(&with_token("flood"), ADDRESS, 0, now));
        }
        for _ in 0..20 {
            assert!(limits.admit(&with_token("calm"), ADDRESS, 0, now).is_ok());
        }
    }

    #[test]
    fn bytes_are_counted_for_a_day_whether_announced_or_not() {
        let limits = limits(BRONZE);
        let now = Instant::now();
        let headers = with_token("one");
        let admission = limits.admit(&headers, ADDRESS, 86_000_000, now).unwrap();
        let over = limits.admit(&headers, ADDRESS, 500_000, now).unwrap_err();
        assert_eq!(over.retry_after_s, 100, "1,000 bytes come back each second");
        limits.charge(&admission, 400_000, now);
        assert!(limits.admit(&headers, ADDRESS, 1, now).is_err());
        assert!(limits.admit(&headers, ADDRESS, 1, now + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_body_larger_than_a_day_allows_needs_a_full_day_and_owes_the_rest() {
        let limits = limits(BRONZE);
        let now = Instant::now();
        let headers = with_token("one");
        assert!(limits.admit(&headers, ADDRESS, 86_400_000 * 2, now).is_ok());
        let over = limits.admit(&headers, ADDRESS, 1, now).unwrap_err();
        assert!(over.retry_after_s > 86_000, "{}", over.retry_after_s);
    }

    #[test]
    fn the_fields_follow_the_draft() {
        let limits = limits(BRONZE);
        let mut answer = HeaderMap::new();
        let now = Instant::now();
        let mut admission = limits.admit(&with_token("one"), ADDRESS, 0, now).unwrap();
        admission.put_fields(&mut answer);
        let policy =
            "\"bronze\";q=20;w=2, \"bronze-bytes\";q=86400000;qu=\"content-bytes\";w=86400";
        assert_eq!(answer["ratelimit-policy"], policy);
        assert_eq!(answer["ratelimit"], "\"bronze\";r=19;t=1");
    }

    #[test]
    fn addresses_of_one_network_share_and_others_do_not() {
        let limits = limits("address_plan = \"a\"\n[plans.a]\nrequests_per_second = 1\n");
        let now = Instant::now();
        let none = HeaderMap::new();
        let admit = |address: &str| limits.admit(&none, address.parse().unwrap(), 0, now).is_ok();
        assert!(admit("2001:db8::1") && admit("2001:db8::2"));
        assert!(!admit("2001:db8::3"), "the same /64");
        assert!(admit("2001:db8:0:1::1"));
        assert!(admit("192.0.2.1") && admit("192.0.2.2"));
        assert!(admit("::ffff:192.0.2.1") && !admit("192.0.2.1"), "the same address twice over");
    }

    #[test]
    fn either_place_of_a_token_counts_as_the_same() {
        let hash = token_hash(&with_token("abc")).unwrap();
        let mut headers = HeaderMap::new();
        for place in ["bearer abc", "Basic dXNlcjphYmM="] {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(place));
            assert_eq!(token_hash(&headers), Some(hash), "{place}");
        }
        headers.insert("x-auth-token", HeaderValue::from_static("another"));
        assert_eq!(token_hash(&headers), None, "two that differ count for nobody");
    }

    #[test]
    fn without_plans_nothing_is_counted_or_told() {
        let limits = limits("");
        let mut answer = HeaderMap::new();
        limits
            .admit(&with_token("one"), ADDRESS, 1 << 40, Instant::now())
            .unwrap()
            .put_fields(&mut answer);
        assert!(answer.is_empty());
    }
}
