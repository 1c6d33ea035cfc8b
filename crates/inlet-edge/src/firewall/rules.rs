//! The operator's rules as plain data, and the file they are read from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use http::{HeaderName, Method};
use ipnet::IpNet;
use serde::Deserialize;
use toml::Spanned;

use super::compiled;

/// How many rules there may be.
const RULES_MAX: usize = 1_000;
/// How many networks a set may have.
const NETWORKS_MAX: usize = 10_000;

/// All of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Sets of networks by name. A single address is a network of itself.
    pub sets: BTreeMap<String, Vec<IpNet>>,
    /// The rules, from the first to the last.
    pub rules: Vec<Rule>,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Lets it through; later rules are not looked at.
    Allow,
    /// Counts it and goes on.
    Count,
    /// Refuses it.
    Block,
}

impl Action {
    /// Its name: `allow`, `count` or `block`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Count => "count",
            Self::Block => "block",
        }
    }
}

/// One rule. It matches when all conditions that are there do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it is called in the log and the metrics.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// The set the client's address must be in.
    pub from: Option<String>,
    /// The set the client's address must not be in.
    pub not_from: Option<String>,
    /// The methods of which it must be one; empty for any.
    pub methods: Vec<String>,
    /// A regular expression on the decoded path.
    pub path: Option<String>,
    /// A regular expression on the query, as it came.
    pub query: Option<String>,
    /// A header and a regular expression on one of its values.
    pub header: Option<HeaderPattern>,
    /// What the names and values of all headers must be larger than, in bytes.
    pub head_bytes_over: Option<u64>,
    /// What path and query must be longer than, in bytes.
    pub target_bytes_over: Option<u64>,
    /// What the announced body must be larger than, in bytes.
    pub body_bytes_over: Option<u64>,
    /// The rate that a client's address must exceed.
    pub rate: Option<Rate>,
}

/// A header and what one of its values must match.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderPattern {
    /// The header's name.
    pub name: String,
    /// A regular expression.
    pub matches: String,
}

/// So many requests in so many seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The requests, at least 1; as many may come at once.
    pub requests: u32,
    /// The seconds, at least 1.
    pub seconds: u32,
}

/// What is wrong with a file of rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct RuleError {
    /// The line it is on, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    sets: BTreeMap<String, Vec<Spanned<String>>>,
    rules: Vec<Spanned<FileRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    name: Spanned<String>,
    action: Action,
    from: Option<Spanned<String>>,
    not_from: Option<Spanned<String>>,
    #[serde(default)]
    methods: Vec<Spanned<String>>,
    path: Option<Spanned<String>>,
    query: Option<Spanned<String>>,
    header: Option<Spanned<HeaderPattern>>,
    head_bytes_over: Option<u64>,
    target_bytes_over: Option<u64>,
    body_bytes_over: Option<u64>,
    rate: Option<Spanned<Rate>>,
}

/// What is wrong, and where in the text.
type Fault = (Range<usize>, String);

impl Rules {
    /// Reads the text of a file; its format is in [the module](crate::firewall).
    ///
    /// # Errors
    /// The first thing in it that is not as it should be.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let at = |(span, reason): Fault| RuleError {
            line: text.as_bytes()[..span.start.min(text.len())]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count()
                + 1,
            reason,
        };
        let file: File = toml::from_str(text)
            .map_err(|error| at((error.span().unwrap_or(0..0), error.message().to_owned())))?;
        let mut rules = Self::default();
        for (name, networks) in file.sets {
            let networks = parse_set(&name, &networks).map_err(at)?;
            rules.sets.insert(name, networks);
        }
        if let Some(over) = file.rules.get(RULES_MAX) {
            return Err(at((over.span(), format!("there are more than {RULES_MAX} rules"))));
        }
        for rule in file.rules {
            let rule = rules.parse_rule(rule).map_err(at)?;
            rules.rules.push(rule);
        }
        Ok(rules)
    }

    fn parse_rule(&self, rule: Spanned<FileRule>) -> Result<Rule, Fault> {
        let span = rule.span();
        let rule = rule.into_inner();
        self.check_names(&rule)?;
        check_patterns(&rule)?;
        let rule = Rule {
            name: rule.name.into_inner(),
            action: rule.action,
            from: rule.from.map(Spanned::into_inner),
            not_from: rule.not_from.map(Spanned::into_inner),
            methods: rule.methods.into_iter().map(Spanned::into_inner).collect(),
            path: rule.path.map(Spanned::into_inner),
            query: rule.query.map(Spanned::into_inner),
            header: rule.header.map(Spanned::into_inner),
            head_bytes_over: rule.head_bytes_over,
            target_bytes_over: rule.target_bytes_over,
            body_bytes_over: rule.body_bytes_over,
            rate: rule.rate.map(Spanned::into_inner),
        };
        let has_condition = rule.from.is_some()
            || rule.not_from.is_some()
            || !rule.methods.is_empty()
            || rule.path.is_some()
            || rule.query.is_some()
            || rule.header.is_some()
            || rule.head_bytes_over.is_some()
            || rule.target_bytes_over.is_some()
            || rule.body_bytes_over.is_some()
            || rule.rate.is_some();
        if !has_condition {
            let reason = format!("the rule `{}` has no condition and would match all", rule.name);
            return Err((span, reason));
        }
        Ok(rule)
    }

    fn check_names(&self, rule: &FileRule) -> Result<(), Fault> {
        let name = rule.name.get_ref();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !(1..=64).contains(&name.len()) || !name.bytes().all(is_plain) {
            let reason = format!("`{name}` is no name: give 1 to 64 of A-Z a-z 0-9 _ -");
            return Err((rule.name.span(), reason));
        }
        if self.rules.iter().any(|other| other.name == *name) {
            return Err((rule.name.span(), format!("there is a rule `{name}` before this one")));
        }
        for set in [&rule.from, &rule.not_from].into_iter().flatten() {
            if !self.sets.contains_key(set.get_ref()) {
                return Err((set.span(), format!("there is no set `{}`", set.get_ref())));
            }
        }
        Ok(())
    }
}

fn check_patterns(rule: &FileRule) -> Result<(), Fault> {
    for method in &rule.methods {
        let known = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::PATCH,
            Method::OPTIONS,
        ];
        if !known.iter().any(|known| known.as_str() == method.get_ref()) {
            return Err((method.span(), format!("`{}` is no method", method.get_ref())));
        }
    }
    for pattern in [&rule.path, &rule.query].into_iter().flatten() {
        compiled::pattern(pattern.get_ref())
            .map_err(|error| (pattern.span(), format!("not a regular expression: {error}")))?;
    }
    if let Some(header) = &rule.header {
        let HeaderPattern { name, matches } = header.get_ref();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err((header.span(), format!("`{name}` is no name of a header")));
        }
        compiled::pattern(matches)
            .map_err(|error| (header.span(), format!("not a regular expression: {error}")))?;
    }
    match &rule.rate {
        Some(rate) if rate.get_ref().requests == 0 || rate.get_ref().seconds == 0 => {
            Err((rate.span(), "a rate needs at least 1 request and 1 second".to_owned()))
        }
        _ => Ok(()),
    }
}

fn parse_set(name: &str, networks: &[Spanned<String>]) -> Result<Vec<IpNet>, Fault> {
    if let Some(over) = networks.get(NETWORKS_MAX) {
        let reason = format!("the set `{name}` has more than {NETWORKS_MAX} networks");
        return Err((over.span(), reason));
    }
    networks
        .iter()
        .map(|network| {
            let text = network.get_ref();
            let parsed = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            parsed.map_err(|_| {
                let reason =
                    format!("`{text}` is no network, as in 203.0.113.0/24, and no address");
                (network.span(), reason)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_in_the_docs_is_one() {
        let docs = include_str!("../firewall.rs");
        let lines = docs.lines().filter_map(|line| line.strip_prefix("//!"));
        let example: Vec<&str> = lines
            .skip_while(|line| *line != " ```toml")
            .skip(1)
            .take_while(|line| *line != " ```")
            .collect();
        let rules = Rules::parse(&example.join("\n")).unwrap();
        assert_eq!(rules.rules.len(), 4);
        assert_eq!(rules.sets["office"].len(), 3);
        assert_eq!(rules.rules[3].rate, Some(Rate { requests: 1000, seconds: 60 }));
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        let rule = "[[rules]]\nname = \"a\"\naction = \"block\"\n";
        let table = [
            ("[sets]\nx = [\n\"10.0.0.0/8\",\n\"10.0.0/8\",\n]".to_owned(), 4, "no network"),
            (format!("{rule}path = '('"), 4, "regular expression"),
            (format!("{rule}from = \"x\""), 4, "no set `x`"),
            (format!("{rule}methods = [\"FETCH\"]"), 4, "no method"),
            (
                format!("{rule}\nheader = {{ name = \"a b\", matches = 'x' }}"),
                5,
                "name of a header",
            ),
            (format!("{rule}rate = {{ requests = 0, seconds = 1 }}"), 4, "at least 1"),
            (format!("{rule}colour = 'red'"), 4, "unknown field `colour`"),
            (rule.to_owned(), 1, "no condition"),
            (format!("{rule}path = 'x'\n{rule}path = 'y'"), 6, "before this one"),
            ("[[rules]]\nname = \"a\"\naction = \"deny\"\n".to_owned(), 3, "unknown variant"),
            ("[[rules]]\nname = \"a b\"\naction = \"block\"\n".to_owned(), 2, "no name"),
            ("[sets\n".to_owned(), 1, ""),
        ];
        for (text, line, reason) in table {
            let error = Rules::parse(&text).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
            assert_eq!(error.line, line, "{text}: {error}");
        }
    }
}
