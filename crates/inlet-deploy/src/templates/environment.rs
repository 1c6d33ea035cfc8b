//! An environment: the values of a shape's parameters, by a name.
//!
//! `staging` and `production` come with the binary; an environment with another name begins as one
//! of them, and whatever is given beside it wins.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::parse::{TemplateError, parse, word};
use super::{Shape, file};

/// What the deployer gives at each deployment, and nobody else.
const FROM_THE_DEPLOYER: [&str; 10] = [
    "Architecture",
    "ArtifactBucket",
    "ArtifactPrefix",
    "BoundaryArn",
    "Environment",
    "Image",
    "RegistryKeyArn",
    "Release",
    "RepositoryArn",
    "Serving",
];
/// How long the name of an environment may be: physical names are built from it.
const NAME_CHARACTERS_MAX: usize = 31;

/// What names of stacks have behind an environment's: one that had them in its own could be taken
/// for a part of another.
const OUR_WORDS: [&str; 5] = ["bootstrap", "containers", "migration", "registry", "serverless"];

/// Why an environment can't be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// There is none of that name, and none was named that it is like.
    #[error("there is no environment {name}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The name can't be one.
    #[error("{name:?} can't be the name of an environment")]
    Name {
        /// The name.
        name: String,
    },
    /// The shape has no such parameter, or it is not the user's to give.
    #[error("{shape} has no parameter {name}")]
    Parameter {
        /// The shape's word.
        shape: &'static str,
        /// The parameter.
        name: String,
        /// One that is spelled nearly so.
        nearest: Option<String>,
    },
    /// A value is none of those that the parameter takes.
    #[error("{name} can't be {value:?}")]
    Value {
        /// The parameter.
        name: String,
        /// The value.
        value: String,
        /// Those that it takes.
        allowed: Vec<String>,
    },
    /// A file that came with the binary can't be read.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl EnvironmentError {
    /// What a person can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unknown { name } => {
                format!(
                    "use staging or production, or say which one {name} is like: --like staging"
                )
            }
            Self::Name { .. } => format!(
                "use small letters, digits and hyphens, a letter first, at most \
                 {NAME_CHARACTERS_MAX}, without the words {}",
                OUR_WORDS.join(", ")
            ),
            Self::Parameter { nearest: Some(nearest), .. } => format!("did you mean {nearest}?"),
            Self::Parameter { name, .. } if FROM_THE_DEPLOYER.contains(&name.as_str()) => {
                "the deployment gives it by itself".into()
            }
            Self::Parameter { .. } => "`inlet template --parameters` lists them".into(),
            Self::Value { allowed, .. } if allowed.is_empty() => "it has to be a number".into(),
            Self::Value { allowed, .. } => format!("use one of: {}", allowed.join(", ")),
            Self::Template(_) => "this binary is damaged: report it".into(),
        }
    }
}

/// A parameter that has another value elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The parameter.
    pub name: String,
    /// Its value in the one.
    pub left: String,
    /// Its value in the other.
    pub right: String,
    /// What it is.
    pub description: String,
}

/// A parameter of a shape, as its root template declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Its value where none is given.
    pub default: Option<String>,
    /// The values that it takes; any where there are none.
    pub allowed: Vec<String>,
    is_number: bool,
}

/// The values of a shape's parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    name: String,
    shape: Shape,
    parameters: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    declared: Vec<Declared>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ParameterFile {
    parameters: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
}

impl Environment {
    /// The environment `name`; one that did not come with the binary begins as `like`.
    pub fn named(name: &str, like: Option<&str>, shape: Shape) -> Result<Self, EnvironmentError> {
        let is_character = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
        let is_ours = OUR_WORDS.iter().any(|word| name.contains(word));
        if !begins || is_ours || name.len() > NAME_CHARACTERS_MAX || !name.chars().all(is_character)
        {
            return Err(EnvironmentError::Name { name: name.into() });
        }
        let path = |of: &str| format!("environments/{of}.{}.json", shape.word());
        let found = file(&path(like.unwrap_or(name)));
        let unknown = EnvironmentError::Unknown { name: like.unwrap_or(name).into() };
        let found = found.ok_or(unknown)?;
        let read: ParameterFile = serde_json::from_str(found.text).map_err(|error| {
            TemplateError::Unreadable { file: found.path.into(), why: error.to_string() }
        })?;
        let (mut parameters, mut tags) = (read.parameters, read.tags);
        parameters.insert("Environment".into(), name.into());
        tags.insert("Environment".into(), name.into());
        Ok(Self { name: name.into(), shape, parameters, tags, declared: declared(shape)? })
    }

    /// Gives a parameter another value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), EnvironmentError> {
        let ours = |one: &&Declared| !FROM_THE_DEPLOYER.contains(&one.name.as_str());
        let Some(declared) = self.declared.iter().filter(ours).find(|one| one.name == name) else {
            let nearest = self.declared.iter().filter(ours).find(|one| {
                one.name.eq_ignore_ascii_case(name)
                    || one.name.eq_ignore_ascii_case(&name.replace(['_', '-'], ""))
            });
            return Err(EnvironmentError::Parameter {
                shape: self.shape.word(),
                name: name.into(),
                nearest: nearest.map(|one| one.name.clone()),
            });
        };
        let takes = declared.allowed.is_empty() || declared.allowed.iter().any(|one| one == value);
        if !takes || (declared.is_number && value.parse::<f64>().is_err()) {
            let (name, value) = (name.into(), value.into());
            return Err(EnvironmentError::Value { name, value, allowed: declared.allowed.clone() });
        }
        self.parameters.insert(name.into(), value.into());
        Ok(())
    }

    /// Moves the zones that the files name into `region`, where nothing else was said.
    pub fn settle_in(&mut self, region: &str) {
        for name in ["ZoneA", "ZoneB"] {
            if let Some(zone) = self.parameters.get_mut(name)
                && let Some(letter) = zone.strip_prefix("us-east-1")
            {
                *zone = format!("{region}{letter}");
            }
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The stack that it is: `inlet-NAME-SHAPE`.
    pub fn stack(&self) -> String {
        format!("inlet-{}-{}", self.name, self.shape.word())
    }

    /// The values, by the parameters' names.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// What is put on each resource that can have tags.
    pub fn tags(&self) -> &BTreeMap<String, String> {
        &self.tags
    }

    /// The parameters that a user may give, as the root template declares them.
    pub fn declared(&self) -> impl Iterator<Item = &Declared> {
        self.declared.iter().filter(|one| !FROM_THE_DEPLOYER.contains(&one.name.as_str()))
    }

    /// The parameters that have other values in `other`, in the order of the names.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let describe = |name: &str| {
            let found = self.declared.iter().find(|one| one.name == name);
            found.map(|one| one.description.clone()).unwrap_or_default()
        };
        let pairs = self.parameters.iter().filter_map(|(name, left)| {
            let right = other.parameters.get(name)?;
            (left != right).then(|| Difference {
                name: name.clone(),
                left: left.clone(),
                right: right.clone(),
                description: describe(name),
            })
        });
        pairs.collect()
    }
}

fn declared(shape: Shape) -> Result<Vec<Declared>, TemplateError> {
    let missing =
        || TemplateError::Missing { file: shape.root().into(), name: "Parameters".into() };
    let root = file(shape.root()).ok_or_else(missing)?;
    let template = parse(root.path, root.text)?;
    let parameters = template["Parameters"].as_object().ok_or_else(missing)?;
    Ok(parameters
        .iter()
        .map(|(name, spec)| Declared {
            name: name.clone(),
            description: spec["Description"].as_str().unwrap_or_default().to_owned(),
            default: word(&spec["Default"]),
            allowed: spec["AllowedValues"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(word)
                .collect(),
            is_number: spec["Type"] == "Number",
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn a_name_of_ones_own_begins_as_another_environment() {
        let own = Environment::named("eu", Some("production"), Shape::Serverless).unwrap();
        assert_eq!(own.stack(), "inlet-eu-serverless");
        assert_eq!(own.parameters()["Environment"], "eu");
        assert_eq!(own.tags()["Environment"], "eu");
        let production = Environment::named("production", None, Shape::Serverless).unwrap();
        let names: Vec<String> =
            own.differences(&production).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["Environment"]);
        assert!(matches!(
            Environment::named("eu", None, Shape::Serverless),
            Err(EnvironmentError::Unknown { .. })
        ));
    }

    #[test]
    fn a_name_that_no_resource_could_carry_is_refused() {
        for name in ["", "Staging", "1st", "a_b", "eu-serverless", &"a".repeat(32)] {
            let refused = Environment::named(name, Some("staging"), Shape::Containers);
            assert!(matches!(refused, Err(EnvironmentError::Name { .. })), "{name}");
        }
    }

    #[test]
    fn only_parameters_that_are_there_are_set_to_what_they_take() {
        let mut staging = Environment::named("staging", None, Shape::Serverless).unwrap();
        staging.set("Store", "aurora").unwrap();
        assert_eq!(staging.parameters()["Store"], "aurora");
        let error = staging.set("Store", "mongodb").unwrap_err();
        assert_eq!(error.hint(), "use one of: dynamodb, aurora");
        let error = staging.set("log-retention-days", "30").unwrap_err();
        assert_eq!(error.hint(), "did you mean LogRetentionDays?");
        assert!(staging.set("LogRetentionDays", "many").is_err());
        assert!(staging.set("Release", "1").unwrap_err().hint().contains("by itself"));
    }

    #[test]
    fn zones_follow_the_region_unless_they_were_given() {
        let mut staging = Environment::named("staging", None, Shape::Serverless).unwrap();
        staging.set("ZoneB", "eu-central-1c").unwrap();
        staging.settle_in("eu-central-1");
        assert_eq!(staging.parameters()["ZoneA"], "eu-central-1a");
        assert_eq!(staging.parameters()["ZoneB"], "eu-central-1c");
    }
}
