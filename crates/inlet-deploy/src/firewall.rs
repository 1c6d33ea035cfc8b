//! Rules of the operator's in the template of the firewall.
//!
//! The template `modules/waf.yaml` has two comments, behind which rules and address sets are put
//! in, as JSON, which is YAML too. Rules of the operator's come before the managed ones.

use serde_json::{Value, json};

use crate::templates;

/// The template that has the rules.
pub const TEMPLATE: &str = "modules/waf.yaml";

const RULES_MARK: &str = "        # The rules of firewall.toml come here.\n";
const SETS_MARK: &str = "  # The address sets of firewall.toml come here.\n";

/// The most rules: the managed ones have priorities from here on.
pub const RULES_MAX: usize = 1_000;

/// A set of networks, of which one is for each version of IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressSet {
    /// Its logical id.
    pub id: String,
    /// What it is called in the file.
    pub name: String,
    /// `IPV4` or `IPV6`.
    pub version: &'static str,
    /// Its networks as in `203.0.113.0/24`.
    pub networks: Vec<String>,
}

/// A rule as WAF has it.
#[derive(Debug, Clone, PartialEq)]
pub struct FirewallRule {
    /// What it is called in the log and the metrics.
    pub name: String,
    /// What it does with a match: `{"Allow": {}}`, `{"Count": {}}` or `{"Block": …}`.
    pub action: Value,
    /// What it matches.
    pub statement: Value,
}

/// The template of the firewall with these rules, from the first to the last; `None` where it has
/// no place for them.
pub fn with_rules(sets: &[AddressSet], rules: &[FirewallRule]) -> Option<String> {
    let text = templates::file(TEMPLATE)?.text;
    if !text.contains(RULES_MARK) || !text.contains(SETS_MARK) {
        return None;
    }
    let sets: String = sets.iter().map(resource).collect();
    let rules: String = rules.iter().enumerate().map(rule).collect();
    Some(text.replace(RULES_MARK, &rules).replace(SETS_MARK, &sets))
}

/// What a condition on a set refers to.
pub fn reference(set: &AddressSet) -> Value {
    json!({"IPSetReferenceStatement": {"Arn": {"Fn::GetAtt": [set.id, "Arn"]}}})
}

fn resource(set: &AddressSet) -> String {
    let resource = json!({
        "Type": "AWS::WAFv2::IPSet",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Delete",
        "Metadata": {"Inlet": {"Sentence": format!("The addresses {} of firewall.toml", set.name)}},
        "Properties": {
            "Scope": "CLOUDFRONT",
            "IPAddressVersion": set.version,
            "Addresses": set.networks,
            "Description": format!("The addresses {} of firewall.toml", set.name),
        },
    });
    format!("  {}: {resource}\n\n", set.id)
}

fn rule((index, rule): (usize, &FirewallRule)) -> String {
    let rule = json!({
        "Name": rule.name,
        "Priority": index,
        "Action": rule.action,
        "Statement": rule.statement,
        "VisibilityConfig": {
            "CloudWatchMetricsEnabled": true,
            "SampledRequestsEnabled": false,
            "MetricName": rule.name,
        },
    });
    format!("        - {rule}\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn rules_and_sets_are_put_where_the_template_has_room_and_it_stays_one() {
        let set = AddressSet {
            id: "AddressesOfficeV4".to_owned(),
            name: "office".to_owned(),
            version: "IPV4",
            networks: vec!["203.0.113.0/24".to_owned()],
        };
        let rule = FirewallRule {
            name: "office".to_owned(),
            action: json!({"Allow": {}}),
            statement: reference(&set),
        };
        let text = with_rules(std::slice::from_ref(&set), &[rule]).unwrap();
        let template = templates::parse(TEMPLATE, &text).unwrap();
        let rules = template["Resources"]["WebAcl"]["Properties"]["Rules"].as_array().unwrap();
        assert_eq!((&rules[0]["Name"], &rules[0]["Priority"]), (&json!("office"), &json!(0)));
        let managed: Vec<u64> =
            rules[1..].iter().map(|rule| rule["Priority"].as_u64().unwrap()).collect();
        assert!(managed.len() > 2 && managed.iter().all(|&at| at >= RULES_MAX as u64));
        let arn = &rules[0]["Statement"]["IPSetReferenceStatement"]["Arn"];
        assert_eq!(arn, &json!({"Fn::GetAtt": ["AddressesOfficeV4", "Arn"]}));
        assert_eq!(template["Resources"]["AddressesOfficeV4"]["Type"], "AWS::WAFv2::IPSet");
    }

    #[test]
    fn without_rules_it_is_the_template_alone() {
        let text = with_rules(&[], &[]).unwrap();
        assert!(!text.contains("firewall.toml come here"));
        templates::parse(TEMPLATE, &text).unwrap();
    }
}
