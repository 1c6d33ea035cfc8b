//! The rules in the form they are applied in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::HeaderName;
use regex::bytes::{Regex, RegexBuilder};

use super::Subject;
use super::addresses::Addresses;
use super::rules::{Action, Rate, Rule, Rules};
use crate::limits::table::{Key, Table};
use crate::limits::{Bucket, Quota};

/// How large a compiled expression may be, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// How many client addresses are remembered for all rates, the latest ones.
const RATES_MAX: usize = 65_536;

/// What the rules say of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// Refused by the rule of this name.
    Block(Arc<str>),
    /// Refused by the rule of this name because of its rate; when it may be tried again.
    Wait(Arc<str>, u32),
}

/// All rules.
#[derive(Default)]
pub(crate) struct Compiled {
    pub(crate) rules: Vec<CompiledRule>,
    rates: Option<Table<Bucket>>,
}

pub(crate) struct CompiledRule {
    pub(crate) name: String,
    pub(crate) action: Action,
    pub(crate) matches: AtomicU64,
    shared_name: Arc<str>,
    from: Option<Arc<Addresses>>,
    not_from: Option<Arc<Addresses>>,
    methods: Vec<String>,
    path: Option<Regex>,
    query: Option<Regex>,
    header: Option<(HeaderName, Regex)>,
    head_bytes_over: Option<u64>,
    target_bytes_over: Option<u64>,
    body_bytes_over: Option<u64>,
    rate: Option<Rate>,
}

/// An expression as rules have them: on bytes, ASCII classes only, of bounded size.
pub(crate) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .unicode(false)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
}

impl Compiled {
    pub(crate) fn new(rules: &Rules) -> Result<Self, regex::Error> {
        let sets: std::collections::BTreeMap<&str, Arc<Addresses>> = rules
            .sets
            .iter()
            .map(|(name, networks)| (name.as_str(), Arc::new(Addresses::new(networks))))
            .collect();
        let set = |name: &Option<String>| name.as_deref().and_then(|name| sets.get(name)).cloned();
        let compiled = rules
            .rules
            .iter()
            .map(|rule| CompiledRule::new(rule, set(&rule.from), set(&rule.not_from)));
        let compiled: Vec<_> = compiled.collect::<Result<_, _>>()?;
        let has_rates = compiled.iter().any(|rule| rule.rate.is_some());
        Ok(Self { rules: compiled, rates: has_rates.then(|| Table::new(RATES_MAX)) })
    }

    /// Goes on with the counts of rules that `before` has too.
    pub(crate) fn take_counts(&self, before: &Self) {
        for rule in &self.rules {
            if let Some(old) = before.rules.iter().find(|old| old.name == rule.name) {
                rule.matches.store(old.matches.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    /// What the rules say, and the names of all that matched, put at the end of `matched`.
    pub(crate) fn judge(
        &self,
        subject: &Subject<'_>,
        now: Instant,
        matched: &mut Vec<Arc<str>>,
    ) -> Verdict {
        for (number, rule) in (0u64..).zip(&self.rules) {
            if !rule.fits(subject) {
                continue;
            }
            let wait_s = match (rule.rate, &self.rates) {
                (Some(rate), Some(rates)) => {
                    let key = Key::address_for(number, subject.client);
                    match rates.with(key, now, |bucket| exceeds(bucket, rate, now)) {
                        None => continue,
                        wait_s => wait_s,
                    }
                }
                _ => None,
            };
            rule.matches.fetch_add(1, Ordering::Relaxed);
            matched.push(rule.shared_name.clone());
            match (rule.action, wait_s) {
                (Action::Allow, _) => return Verdict::Pass,
                (Action::Count, _) => {
                    tracing::debug!(rule = rule.name, client = %subject.client, "counted");
                }
                (Action::Block, None) => return Verdict::Block(rule.shared_name.clone()),
                (Action::Block, Some(wait_s)) => {
                    return Verdict::Wait(rule.shared_name.clone(), wait_s);
                }
            }
        }
        Verdict::Pass
    }
}

/// Counts one request; when the rate is exceeded, in how many seconds it is not.
fn exceeds(bucket: &mut Bucket, rate: Rate, now: Instant) -> Option<u32> {
    let burst = f64::from(rate.requests);
    let quota = Quota { burst, per_second: burst / f64::from(rate.seconds) };
    bucket.take(quota, 1.0, now).err()
}

impl CompiledRule {
    fn new(
        rule: &Rule,
        from: Option<Arc<Addresses>>,
        not_from: Option<Arc<Addresses>>,
    ) -> Result<Self, regex::Error> {
        let header = rule.header.as_ref().and_then(|header| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some(pattern(&header.matches).map(|pattern| (name, pattern)))
        });
        Ok(Self {
            name: rule.name.clone(),
            action: rule.action,
            matches: AtomicU64::new(0),
            shared_name: Arc::from(rule.name.as_str()),
            from,
            not_from,
            methods: rule.methods.clone(),
            path: rule.path.as_deref().map(pattern).transpose()?,
            query: rule.query.as_deref().map(pattern).transpose()?,
            header: header.transpose()?,
            head_bytes_over: rule.head_bytes_over,
            target_bytes_over: rule.target_bytes_over,
            body_bytes_over: rule.body_bytes_over,
            rate: rule.rate,
        })
    }

    /// Whether all conditions but the rate hold.
    fn fits(&self, subject: &Subject<'_>) -> bool {
        let head = subject.head;
        let over =
            |limit: Option<u64>, size: &dyn Fn() -> u64| limit.is_none_or(|limit| size() > limit);
        let target = || head.uri.path_and_query().map_or(0, |target| target.as_str().len() as u64);
        let header_bytes = || {
            let sizes = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len());
            sizes.sum::<usize>() as u64
        };
        self.from.as_ref().is_none_or(|set| set.contains(subject.client))
            && self.not_from.as_ref().is_none_or(|set| !set.contains(subject.client))
            && (self.methods.is_empty()
                || self.methods.iter().any(|method| head.method == **method))
            && over(self.target_bytes_over, &target)
            && over(self.body_bytes_over, &|| subject.body_bytes)
            && over(self.head_bytes_over, &header_bytes)
            && self.path.as_ref().is_none_or(|path| path.is_match(subject.path.as_bytes()))
            && self
                .query
                .as_ref()
                .is_none_or(|query| query.is_match(head.uri.query().unwrap_or_default().as_bytes()))
            && self.header.as_ref().is_none_or(|(name, pattern)| {
                head.headers.get_all(name).iter().any(|value| pattern.is_match(value.as_bytes()))
            })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::time::Duration;

    use http::{Request, request};

    use super::*;

    fn compiled(text: &str) -> Compiled {
        Compiled::new(&Rules::parse(text).unwrap()).unwrap()
    }

    fn head(target: &str, agent: &str) -> request::Parts {
        Request::get(target).header("user-agent", agent).body(()).unwrap().into_parts().0
    }

    fn judge(rules: &Compiled, head: &request::Parts, client: &str, now: Instant) -> Verdict {
        let client: IpAddr = client.parse().unwrap();
        let path = head.uri.path();
        rules.judge(&Subject { head, path, client, body_bytes: 0 }, now, &mut Vec::new())
    }

    #[test]
    fn rules_are_gone_through_in_order_until_one_allows_or_blocks() {
        let rules = compiled(
            "[sets]\noffice = [\"203.0.113.0/24\"]\n\
             [[rules]]\nname = \"seen\"\naction = \"count\"\npath = '^/x'\n\
             [[rules]]\nname = \"office\"\naction = \"allow\"\nfrom = \"office\"\n\
             [[rules]]\nname = \"x\"\naction = \"block\"\npath = '^/x'\n",
        );
        let now = Instant::now();
        assert_eq!(judge(&rules, &head("/x", ""), "203.0.113.9", now), Verdict::Pass);
        assert_eq!(judge(&rules, &head("/x", ""), "192.0.2.1", now), Verdict::Block("x".into()));
        assert_eq!(judge(&rules, &head("/y", ""), "192.0.2.1", now), Verdict::Pass);
        let matches = |index: usize| rules.rules[index].matches.load(Ordering::Relaxed);
        assert_eq!([matches(0), matches(1), matches(2)], [2, 1, 1]);
    }

    #[test]
    fn all_conditions_of_a_rule_must_hold() {
        let rules = compiled(
            "[[rules]]\nname = \"a\"\naction = \"block\"\nmethods = [\"GET\"]\nquery = 'union'\n\
             header = { name = \"user-agent\", matches = '(?i)SQLMAP' }\n",
        );
        let now = Instant::now();
        let verdict =
            |target: &str, agent: &str| judge(&rules, &head(target, agent), "192.0.2.1", now);
        assert_eq!(verdict("/?q=union", "sqlmap/1"), Verdict::Block("a".into()));
        assert_eq!(verdict("/?q=union", "curl"), Verdict::Pass);
        assert_eq!(verdict("/?q=1", "sqlmap/1"), Verdict::Pass);
    }

    #[test]
    fn sizes_are_looked_at() {
        let rules = compiled(
            "[[rules]]\nname = \"a\"\naction = \"block\"\ntarget_bytes_over = 10\n\
             [[rules]]\nname = \"b\"\naction = \"block\"\nhead_bytes_over = 100\n",
        );
        let now = Instant::now();
        let client = "192.0.2.1";
        assert_eq!(judge(&rules, &head("/123456789", ""), client, now), Verdict::Pass);
        let long = judge(&rules, &head("/1234567890", ""), client, now);
        assert_eq!(long, Verdict::Block("a".into()));
        let large = judge(&rules, &head("/", &"x".repeat(100)), client, now);
        assert_eq!(large, Verdict::Block("b".into()));
    }

    #[test]
    fn a_rate_is_counted_for_each_address() {
        let rules = compiled(
            "[[rules]]\nname = \"r\"\naction = \"block\"\nrate = { requests = 3, seconds = 60 }\n",
        );
        let now = Instant::now();
        let verdict = |client: &str, now| judge(&rules, &head("/", ""), client, now);
        for _ in 0..3 {
            assert_eq!(verdict("192.0.2.1", now), Verdict::Pass);
        }
        assert_eq!(verdict("192.0.2.1", now), Verdict::Wait("r".into(), 20));
        assert_eq!(verdict("192.0.2.2", now), Verdict::Pass);
        assert_eq!(verdict("192.0.2.1", now + Duration::from_secs(20)), Verdict::Pass);
    }
}
