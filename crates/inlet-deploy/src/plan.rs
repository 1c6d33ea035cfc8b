//! What a change set would do, in words: one line a resource, its sentence beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use aws_sdk_cloudformation::types::{
    ChangeAction, PolicyAction, Replacement, RequiresRecreation, ResourceAttribute, ResourceChange,
};
use serde::Serialize;

use crate::templates::Resource;

/// What will happen to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It will be made.
    Add,
    /// It will be changed where it is.
    Change,
    /// It will be changed; whether it has to be made anew is seen only then.
    MayReplace,
    /// It will be made anew, and the old one removed.
    Replace,
    /// It will be removed.
    Remove,
    /// It leaves the stack and stays in the account.
    Retain,
}

impl Action {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::MayReplace => "may replace",
            Self::Replace => "REPLACE",
            Self::Remove => "remove",
            Self::Retain => "let go of",
        }
    }
}

/// One resource that will change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its logical id, behind those of its nested stacks, with `/` between.
    pub path: String,
    /// Its type, as `AWS::SQS::Queue`.
    pub kind: String,
    /// What will happen.
    pub action: Action,
    /// The sentence that its template has for it.
    pub sentence: Option<String>,
    /// The properties that change, each with what it was and will be.
    pub properties: Vec<PropertyChange>,
}

/// A property that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PropertyChange {
    /// Its name.
    pub name: String,
    /// What it is, where the service says.
    pub before: Option<String>,
    /// What it will be.
    pub after: Option<String>,
    /// Whether it is this property that makes the resource anew.
    pub replaces: bool,
}

/// What a deployment would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each resource that changes, in the order of the stack.
    pub changes: Vec<Change>,
}

impl Plan {
    /// The plan where nothing stands yet: all that the templates make is added.
    pub fn of_all(resources: &[Resource]) -> Self {
        let changes = resources.iter().map(|one| Change {
            path: one.path.clone(),
            kind: one.kind.clone(),
            action: Action::Add,
            sentence: Some(one.sentence.clone()),
            properties: Vec::new(),
        });
        Self { changes: changes.collect() }
    }

    /// Gives each change the sentence of its resource, where the templates have it.
    pub fn say(&mut self, resources: &[Resource]) {
        for change in &mut self.changes {
            let found = resources.iter().find(|one| one.path == change.path);
            change.sentence = found.map(|one| one.sentence.clone()).or(change.sentence.take());
        }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many resources come to each action.
    pub fn counts(&self) -> BTreeMap<Action, usize> {
        let mut counts = BTreeMap::new();
        for change in &self.changes {
            *counts.entry(change.action).or_default() += 1;
        }
        counts
    }

    /// The plan for a terminal; `colour` puts what is made anew or removed in red.
    pub fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let mut line = |indent: &str, mark: Option<&str>, words: &str| {
            let (begin, end) = match mark.filter(|_| colour) {
                Some(code) => (format!("\x1b[{code}m"), "\x1b[0m"),
                None => (String::new(), ""),
            };
            // Writing to a String can't fail.
            writeln!(text, "{indent}{begin}{words}{end}").expect("a String takes all");
        };
        for change in &self.changes {
            let mark = match change.action {
                Action::Replace | Action::Remove => Some("31"),
                Action::MayReplace => Some("33"),
                _ => None,
            };
            let Change { path, kind, action, .. } = change;
            line("  ", mark, &format!("{:<11} {path} ({kind})", action.word()));
            if let Some(sentence) = &change.sentence {
                line("              ", None, sentence);
            }
            if *action == Action::Replace {
                line("              ", mark, "A new one is made and the old one is removed.");
            }
            for property in &change.properties {
                let because = if property.replaces { "  (this replaces it)" } else { "" };
                let before = property.before.as_deref().unwrap_or("nothing");
                let after = property.after.as_deref().unwrap_or("nothing");
                let words = format!("{}: {before} -> {after}{because}", property.name);
                line("              ", mark.filter(|_| property.replaces), &words);
            }
        }
        let counts: Vec<String> = self
            .counts()
            .into_iter()
            .map(|(action, count)| format!("{count} to {}", action.word()))
            .collect();
        line("", None, if counts.is_empty() { "nothing to change" } else { "" });
        if !counts.is_empty() {
            line("", None, &counts.join(", "));
        }
        text
    }
}

/// What the service says of one resource, under the path of its stack.
pub(crate) fn change(under: &str, said: &ResourceChange, sentence: Option<String>) -> Change {
    let retained =
        matches!(said.policy_action(), Some(PolicyAction::Retain | PolicyAction::ReplaceAndRetain));
    let action = match (said.action(), said.replacement()) {
        (Some(ChangeAction::Add), _) => Action::Add,
        (Some(ChangeAction::Remove), _) if retained => Action::Retain,
        (Some(ChangeAction::Remove), _) => Action::Remove,
        (_, Some(Replacement::True)) => Action::Replace,
        (_, Some(Replacement::Conditional)) => Action::MayReplace,
        _ => Action::Change,
    };
    let properties = said
        .details()
        .iter()
        .filter_map(|detail| detail.target())
        .map(|target| PropertyChange {
            name: match (target.attribute(), target.name()) {
                (Some(ResourceAttribute::Properties) | None, Some(name)) => name.to_owned(),
                (Some(attribute), _) => attribute.as_str().to_owned(),
                (None, None) => "?".to_owned(),
            },
            before: target.before_value().map(str::to_owned),
            after: target.after_value().map(str::to_owned),
            replaces: target.requires_recreation() == Some(&RequiresRecreation::Always),
        })
        .collect();
    let logical_id = said.logical_resource_id().unwrap_or_default();
    let path = if under.is_empty() { logical_id.into() } else { format!("{under}/{logical_id}") };
    let kind = said.resource_type().unwrap_or_default().to_owned();
    Change { path, kind, action, sentence, properties }
}
