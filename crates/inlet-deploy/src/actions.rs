//! What an identity that deploys has to be allowed: the actions that each type of resource needs
//! (`deploy/actions.json`, drawn up from the types' schemas), and those that this program calls.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::plan::{Action, Plan};
use crate::templates::{TemplateError, file, parse};

const ACTIONS: &str = include_str!("../../../deploy/actions.json");

/// The list of actions can't be read, which would be damage to the binary.
#[derive(Debug, thiserror::Error)]
pub enum ActionsError {
    /// The list itself.
    #[error("the list of actions can't be read")]
    List(#[from] serde_json::Error),
    /// The template that has the deployer's own.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

#[derive(Deserialize)]
struct OfType {
    #[serde(default)]
    create: Vec<String>,
    #[serde(default)]
    read: Vec<String>,
    #[serde(default)]
    update: Vec<String>,
    #[serde(default)]
    delete: Vec<String>,
}

/// The actions that are needed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    /// What this program calls itself.
    pub deployer: BTreeSet<String>,
    /// What CloudFormation calls to carry a plan out, with its role or the deployer's rights.
    pub resources: BTreeSet<String>,
}

impl Actions {
    /// What `plan` needs, its way back included: a failed creation is removed again.
    pub fn of(plan: &Plan) -> Result<Self, ActionsError> {
        let list: BTreeMap<String, OfType> = serde_json::from_str(ACTIONS)?;
        let mut resources = BTreeSet::new();
        for change in &plan.changes {
            let Some(of_type) = list.get(&change.kind) else { continue };
            let OfType { create, read, update, delete } = of_type;
            let needed: &[&Vec<String>] = match change.action {
                Action::Add => &[create, read, delete],
                Action::Change => &[update, read],
                Action::Replace | Action::MayReplace => &[create, read, update, delete],
                Action::Remove => &[delete, read],
                Action::Retain => &[],
            };
            resources.extend(needed.iter().flat_map(|some| some.iter().cloned()));
        }
        Ok(Self { deployer: deployer()?, resources })
    }

    /// The actions for a terminal, by service.
    pub fn text(&self) -> String {
        let mut text = String::from("what the deployer calls itself\n");
        text.push_str(&by_service(&self.deployer));
        if !self.resources.is_empty() {
            text.push_str("what CloudFormation calls, with the role of the bootstrap stack\n");
            text.push_str(&by_service(&self.resources));
        }
        text
    }
}

/// The policy of deployers in the bootstrap stack, which a test holds to what is called.
fn deployer() -> Result<BTreeSet<String>, TemplateError> {
    let name = "bootstrap.yaml";
    let missing = |what: &str| TemplateError::Missing { file: name.into(), name: what.to_owned() };
    let found = file(name).ok_or_else(|| missing(name))?;
    let template = parse(found.path, found.text)?;
    let policy = &template["Resources"]["Deploy"]["Properties"]["PolicyDocument"];
    let statements = policy["Statement"].as_array().ok_or_else(|| missing("Deploy"))?;
    let mut actions = BTreeSet::new();
    for action in statements.iter().map(|statement| &statement["Action"]) {
        let one = action.as_str().into_iter();
        let several = action.as_array().into_iter().flatten().filter_map(|one| one.as_str());
        actions.extend(one.chain(several).map(str::to_owned));
    }
    Ok(actions)
}

fn by_service(actions: &BTreeSet<String>) -> String {
    let mut services: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for action in actions {
        let (service, name) = action.split_once(':').unwrap_or((action, ""));
        services.entry(service).or_default().push(name);
    }
    let mut text = String::new();
    for (service, names) in services {
        let mut line = format!("  {service}:");
        for name in names {
            if line.len() + name.len() > 98 {
                text.push_str(&line);
                text.push('\n');
                line = "   ".into();
            }
            line.push(' ');
            line.push_str(name);
        }
        text.push_str(&line);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;
    use crate::plan::Change;

    #[test]
    fn an_addition_needs_creation_and_its_way_back() {
        let change = Change {
            path: "Queue".into(),
            kind: "AWS::SQS::Queue".into(),
            action: Action::Add,
            sentence: None,
            properties: Vec::new(),
        };
        let actions = Actions::of(&Plan { changes: vec![change] }).unwrap();
        assert!(actions.resources.contains("sqs:CreateQueue"));
        assert!(actions.resources.contains("sqs:DeleteQueue"));
        assert!(actions.deployer.contains("cloudformation:CreateChangeSet"));
        assert!(actions.text().contains("  sqs: "));
    }
}
