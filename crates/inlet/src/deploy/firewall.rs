//! The file of firewall rules as a deployment to AWS has them: the edge's own `firewall.toml`,
//! turned into rules of WAF at CloudFront.
//!
//! | in the file | in WAF |
//! | --- | --- |
//! | `from`, `not_from` | IP sets, one for each version of IP |
//! | `methods`, `path`, `query`, `header` | matches; expressions of at most 512 bytes |
//! | `head_bytes_over` | the size of all headers |
//! | `target_bytes_over` | the size of the path, or that of the query |
//! | `body_bytes_over` | the size of the body, of which WAF sees the first 16 KiB |
//! | `rate` | a rate by address over 1, 2, 5 or 10 minutes, in proportion |
//!
//! Sources: <https://docs.aws.amazon.com/waf/latest/developerguide/waf-rule-statements.html>,
//! <https://docs.aws.amazon.com/waf/latest/developerguide/limits.html>.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use inlet_deploy::firewall::{self, AddressSet, FirewallRule};
use inlet_edge::firewall::{Action, Rate, Rule, Rules};
use serde_json::{Value, json};

use crate::report::Hinted;

/// How much of a body WAF looks at before CloudFront, in bytes, without a further charge.
const BODY_SEEN_BYTES: u64 = 16 << 10;
/// The longest expression, in bytes.
const EXPRESSION_BYTES_MAX: usize = 512;
/// The windows over which WAF counts, in seconds.
const WINDOWS_S: [u32; 4] = [60, 120, 300, 600];
/// The least that a rate may allow.
const RATE_MIN: u64 = 10;

/// The template of the firewall with the rules in `file`.
pub(super) fn template(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("could not read the firewall's rules in {}", file.display()))?;
    let rules = Rules::parse(&text).map_err(|error| {
        Hinted::usage(format!("{}, {error}", file.display()), "see docs/EDGE.md")
    })?;
    if rules.rules.len() > firewall::RULES_MAX {
        bail!("{} has more than {} rules", file.display(), firewall::RULES_MAX);
    }
    let sets = sets(&rules);
    let turned = rules.rules.iter().map(|rule| {
        turned(rule, &sets).map_err(|why| {
            let hint = "leave it to the edge: keep it out of the file that is deployed";
            let message = format!("the rule {:?} can't be one of WAF: {why}", rule.name);
            Hinted::usage(message, hint).into()
        })
    });
    let turned: Vec<FirewallRule> = turned.collect::<anyhow::Result<_>>()?;
    let sets: Vec<AddressSet> = sets.into_values().flatten().collect();
    firewall::with_rules(&sets, &turned).context("the firewall's template has no place for rules")
}

/// The sets by name, for each version of IP that they have.
fn sets(rules: &Rules) -> BTreeMap<String, Vec<AddressSet>> {
    let named = rules.sets.iter().enumerate().map(|(index, (name, networks))| {
        let of = |version: &'static str, is_it: fn(&ipnet::IpNet) -> bool| AddressSet {
            id: format!("Addresses{index}{}", version.replace("IPV", "V")),
            name: name.clone(),
            version,
            networks: networks.iter().filter(|net| is_it(net)).map(ToString::to_string).collect(),
        };
        let both = [of("IPV4", |net| net.addr().is_ipv4()), of("IPV6", |net| net.addr().is_ipv6())];
        (name.clone(), both.into_iter().filter(|set| !set.networks.is_empty()).collect())
    });
    named.collect()
}

fn turned(rule: &Rule, sets: &BTreeMap<String, Vec<AddressSet>>) -> Result<FirewallRule, String> {
    let mut conditions = Vec::new();
    if let Some(set) = &rule.from {
        conditions.push(in_set(set, sets)?);
    }
    if let Some(set) = &rule.not_from {
        conditions.push(json!({"NotStatement": {"Statement": in_set(set, sets)?}}));
    }
    if !rule.methods.is_empty() {
        let exactly = |method: &String| {
            json!({"ByteMatchStatement": {
                "FieldToMatch": {"Method": {}},
                "PositionalConstraint": "EXACTLY",
                "SearchString": method,
                "TextTransformations": untransformed(),
            }})
        };
        conditions.push(any(rule.methods.iter().map(exactly).collect()));
    }
    if let Some(path) = &rule.path {
        let decoded = json!([{"Priority": 0, "Type": "URL_DECODE"}]);
        conditions.push(matching(path, json!({"UriPath": {}}), decoded)?);
    }
    if let Some(query) = &rule.query {
        conditions.push(matching(query, json!({"QueryString": {}}), untransformed())?);
    }
    if let Some(header) = &rule.header {
        let field = json!({"SingleHeader": {"Name": header.name.to_ascii_lowercase()}});
        conditions.push(matching(&header.matches, field, untransformed())?);
    }
    if let Some(bytes) = rule.head_bytes_over {
        let headers = json!({"Headers": {
            "MatchPattern": {"All": {}}, "MatchScope": "ALL", "OversizeHandling": "MATCH",
        }});
        conditions.push(larger(bytes, &headers));
    }
    if let Some(bytes) = rule.target_bytes_over {
        let fields = [json!({"UriPath": {}}), json!({"QueryString": {}})];
        conditions.push(any(fields.iter().map(|field| larger(bytes, field)).collect()));
    }
    if let Some(bytes) = rule.body_bytes_over {
        if bytes > BODY_SEEN_BYTES {
            return Err(format!("it looks at the first {BODY_SEEN_BYTES} bytes of a body"));
        }
        conditions.push(larger(bytes, &json!({"Body": {"OversizeHandling": "MATCH"}})));
    }
    let (statement, is_rate) = match (&rule.rate, conditions.is_empty()) {
        (None, _) => (all(conditions), false),
        (Some(rate), true) => (limited(rate, None), true),
        (Some(rate), false) => (limited(rate, Some(all(conditions))), true),
    };
    let block = match is_rate {
        true => json!({"Block": {"CustomResponse": {"ResponseCode": 429}}}),
        false => json!({"Block": {}}),
    };
    let action = match rule.action {
        Action::Allow => json!({"Allow": {}}),
        Action::Count => json!({"Count": {}}),
        Action::Block => block,
    };
    Ok(FirewallRule { name: rule.name.clone(), action, statement })
}

fn in_set(name: &str, sets: &BTreeMap<String, Vec<AddressSet>>) -> Result<Value, String> {
    let found = sets.get(name).map(Vec::as_slice).unwrap_or_default();
    match found {
        [] => Err(format!("its set {name} is empty")),
        found => Ok(any(found.iter().map(firewall::reference).collect())),
    }
}

fn matching(expression: &str, field: Value, transformed: Value) -> Result<Value, String> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(format!("an expression has at most {EXPRESSION_BYTES_MAX} bytes there"));
    }
    Ok(json!({"RegexMatchStatement": {
        "FieldToMatch": field, "RegexString": expression, "TextTransformations": transformed,
    }}))
}

fn larger(bytes: u64, field: &Value) -> Value {
    json!({"SizeConstraintStatement": {
        "ComparisonOperator": "GT",
        "FieldToMatch": field,
        "Size": bytes,
        "TextTransformations": untransformed(),
    }})
}

/// So many in WAF's window as the rule allows in its own, in proportion.
fn limited(rate: &Rate, conditions: Option<Value>) -> Value {
    let longest = WINDOWS_S[WINDOWS_S.len() - 1];
    let window = WINDOWS_S.into_iter().find(|window| *window >= rate.seconds).unwrap_or(longest);
    let seconds = u64::from(rate.seconds.max(1));
    let limit = (u64::from(rate.requests) * u64::from(window) / seconds).max(RATE_MIN);
    let mut statement = json!({
        "AggregateKeyType": "IP", "EvaluationWindowSec": window, "Limit": limit,
    });
    if let Some(conditions) = conditions {
        statement["ScopeDownStatement"] = conditions;
    }
    json!({"RateBasedStatement": statement})
}

fn untransformed() -> Value {
    json!([{"Priority": 0, "Type": "NONE"}])
}

fn all(statements: Vec<Value>) -> Value {
    several("AndStatement", statements)
}

fn any(statements: Vec<Value>) -> Value {
    several("OrStatement", statements)
}

fn several(name: &str, mut statements: Vec<Value>) -> Value {
    match statements.len() {
        1 => statements.remove(0),
        _ => json!({name: {"Statements": statements}}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> anyhow::Result<String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("firewall.toml");
        std::fs::write(&file, text).unwrap();
        template(&file)
    }

    fn rules(text: &str) -> Vec<Value> {
        let template = written(text).unwrap();
        let template = inlet_deploy::templates::parse("waf", &template).unwrap();
        template["Resources"]["WebAcl"]["Properties"]["Rules"].as_array().unwrap().clone()
    }

    #[test]
    fn each_condition_has_its_statement() {
        let found = rules(
            "[sets]\noffice = [\"203.0.113.0/24\", \"2001:db8::/32\"]\nbad = [\"198.51.100.7\"]\n\
             [[rules]]\nname = \"office\"\naction = \"allow\"\nfrom = \"office\"\n\
             [[rules]]\nname = \"scanners\"\naction = \"block\"\nmethods = [\"GET\", \"HEAD\"]\n\
             path = '\\.php$'\nquery = 'x'\nheader = { name = \"User-Agent\", matches = 'nikto' }\n\
             [[rules]]\nname = \"sizes\"\naction = \"count\"\nnot_from = \"bad\"\n\
             head_bytes_over = 8192\ntarget_bytes_over = 1024\nbody_bytes_over = 9000\n\
             [[rules]]\nname = \"rate\"\naction = \"block\"\npath = '^/api/save'\n\
             rate = { requests = 1000, seconds = 50 }\n",
        );
        let office = &found[0]["Statement"]["OrStatement"]["Statements"];
        assert_eq!(office.as_array().unwrap().len(), 2);
        assert_eq!(found[0]["Action"], json!({"Allow": {}}));
        let scanners = &found[1]["Statement"]["AndStatement"]["Statements"];
        assert_eq!(scanners.as_array().unwrap().len(), 4);
        let agent = &scanners[3]["RegexMatchStatement"]["FieldToMatch"]["SingleHeader"]["Name"];
        assert_eq!(agent, "user-agent");
        let sizes = &found[2]["Statement"]["AndStatement"]["Statements"];
        assert!(sizes[0]["NotStatement"]["Statement"]["IPSetReferenceStatement"].is_object());
        assert_eq!(sizes.as_array().unwrap().len(), 4);
        let rate = &found[3]["Statement"]["RateBasedStatement"];
        assert_eq!((&rate["Limit"], &rate["EvaluationWindowSec"]), (&1200.into(), &60.into()));
        assert!(rate["ScopeDownStatement"]["RegexMatchStatement"].is_object());
        assert_eq!(found[3]["Action"]["Block"]["CustomResponse"]["ResponseCode"], 429);
        assert_eq!(found[4]["Name"], "flood", "the managed rules come behind");
    }

    #[test]
    fn what_waf_can_not_do_is_told_by_the_rule_s_name() {
        let long = "x".repeat(513);
        for (text, why) in
            [("body_bytes_over = 65536".to_owned(), "16384"), (format!("path = '{long}'"), "512")]
        {
            let text = format!("[[rules]]\nname = \"r\"\naction = \"block\"\n{text}\n");
            let error = format!("{:#}", written(&text).unwrap_err());
            assert!(error.contains("\"r\"") && error.contains(why), "{error}");
        }
        assert!(written("[[rules]]\nname = 7\n").is_err());
    }
}
