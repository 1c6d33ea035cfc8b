//! Says what a template would make, without asking anybody: which resources there are with these
//! parameters. Values that only exist once a resource does stand as `<LogicalId.Attribute>`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::parse::{TemplateError, parse, word};
use super::{File, file};

/// The type of a nested stack.
pub(crate) const NESTED: &str = "AWS::CloudFormation::Stack";

/// A resource that a template makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its logical id, behind those of its nested stacks, with `/` between.
    pub path: String,
    /// Its type, as `AWS::SQS::Queue`.
    pub kind: String,
    /// What it is for, in a sentence.
    pub sentence: String,
    /// What becomes of it when its stack goes: `Delete`, `Retain` or `Snapshot`.
    pub deletion_policy: String,
}

/// Every resource that `root` and what it nests make with these parameters, in `region`. A nested
/// stack comes before what is in it.
pub fn resources(
    root: File,
    parameters: &BTreeMap<String, String>,
    region: &str,
) -> Result<Vec<Resource>, TemplateError> {
    let mut found = Vec::new();
    collect(root, parameters.clone(), region, "", &mut found)?;
    Ok(found)
}

fn collect(
    from: File,
    given: BTreeMap<String, String>,
    region: &str,
    under: &str,
    found: &mut Vec<Resource>,
) -> Result<(), TemplateError> {
    let template = parse(from.path, from.text)?;
    let resolver = Resolver::new(from.path, &template, given, region)?;
    for (logical_id, resource) in object(&template["Resources"]) {
        if let Some(condition) = resource["Condition"].as_str()
            && !resolver.condition(condition)?
        {
            continue;
        }
        let kind = resource["Type"].as_str().unwrap_or_default();
        let path =
            if under.is_empty() { logical_id.clone() } else { format!("{under}/{logical_id}") };
        found.push(Resource {
            path: path.clone(),
            kind: kind.to_owned(),
            sentence: resource["Metadata"]["Inlet"]["Sentence"].as_str().unwrap_or("").to_owned(),
            deletion_policy: resource["DeletionPolicy"].as_str().unwrap_or("Delete").to_owned(),
        });
        if kind != NESTED {
            continue;
        }
        let properties = &resource["Properties"];
        let url = resolver.text(&properties["TemplateURL"])?;
        let module = url.find("modules/").and_then(|at| file(&url[at..]));
        let module = module.ok_or_else(|| resolver.missing(&url))?;
        let mut inner = BTreeMap::new();
        for (name, value) in object(&properties["Parameters"]) {
            inner.insert(name.clone(), resolver.text(value)?);
        }
        collect(module, inner, region, &path, found)?;
    }
    Ok(())
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Gives values of a template.
struct Resolver<'a> {
    file: &'a str,
    template: &'a Value,
    values: BTreeMap<String, String>,
}

impl<'a> Resolver<'a> {
    fn new(
        file: &'a str,
        template: &'a Value,
        given: BTreeMap<String, String>,
        region: &str,
    ) -> Result<Self, TemplateError> {
        let mut values = given;
        for (name, spec) in object(&template["Parameters"]) {
            if !values.contains_key(name) {
                let default = word(&spec["Default"]).unwrap_or_else(|| format!("<{name}>"));
                values.insert(name.clone(), default);
            }
        }
        let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        for (name, value) in [("AWS::Region", region), ("AWS::URLSuffix", suffix)] {
            values.insert(name.to_owned(), value.to_owned());
        }
        Ok(Self { file, template, values })
    }

    fn missing(&self, name: &str) -> TemplateError {
        TemplateError::Missing { file: self.file.into(), name: name.into() }
    }

    fn condition(&self, name: &str) -> Result<bool, TemplateError> {
        let said = self.template["Conditions"].get(name).ok_or_else(|| self.missing(name))?;
        self.test(said)
    }

    fn test(&self, said: &Value) -> Result<bool, TemplateError> {
        let (function, argument) = only(said).ok_or_else(|| self.missing("a condition"))?;
        let items = argument.as_array().map_or(&[][..], Vec::as_slice);
        match (function, items) {
            ("Condition", _) => self.condition(argument.as_str().unwrap_or_default()),
            ("Fn::Equals", [left, right]) => Ok(self.text(left)? == self.text(right)?),
            ("Fn::Not", [one]) => Ok(!self.test(one)?),
            ("Fn::And", all) => all.iter().try_fold(true, |so_far, one| {
                let holds = self.test(one)?;
                Ok(so_far && holds)
            }),
            ("Fn::Or", any) => any.iter().try_fold(false, |so_far, one| {
                let holds = self.test(one)?;
                Ok(so_far || holds)
            }),
            _ => Err(self.missing(function)),
        }
    }

    /// The text of a value that stands for one.
    fn text(&self, value: &Value) -> Result<String, TemplateError> {
        if let Some(word) = word(value) {
            return Ok(word);
        }
        let Some((function, argument)) = only(value) else { return Ok(value.to_string()) };
        let items = argument.as_array().map_or(&[][..], Vec::as_slice);
        match (function, items) {
            ("Ref", _) => {
                let name = argument.as_str().unwrap_or_default();
                Ok(self.values.get(name).cloned().unwrap_or_else(|| format!("<{name}>")))
            }
            ("Fn::If", [condition, then, otherwise]) => {
                let holds = self.condition(condition.as_str().unwrap_or_default())?;
                self.text(if holds { then } else { otherwise })
            }
            ("Fn::Sub", [text, extra]) => self.filled(text, Some(extra)),
            ("Fn::Sub", _) => self.filled(argument, None),
            ("Fn::GetAtt", [id, attribute]) => {
                let name = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                Ok(format!("<{}.{}>", name(id), name(attribute)))
            }
            // Lists, parts and joins of what is not there yet: they decide no condition.
            _ => Ok(format!("<{function}>")),
        }
    }

    /// A text with its `${Name}` filled in.
    fn filled(&self, text: &Value, extra: Option<&Value>) -> Result<String, TemplateError> {
        let mut rest = text.as_str().unwrap_or_default();
        let mut filled = String::new();
        while let Some((before, behind)) = rest.split_once("${") {
            let (name, after) = behind.split_once('}').ok_or_else(|| self.missing("}"))?;
            filled.push_str(before);
            match extra.and_then(|extra| extra.get(name)) {
                Some(value) => filled.push_str(&self.text(value)?),
                None => match self.values.get(name) {
                    Some(value) => filled.push_str(value),
                    None => filled.push_str(&format!("<{name}>")),
                },
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

/// The one entry of an object that has one.
fn only(value: &Value) -> Option<(&str, &Value)> {
    let object: &Map<String, Value> = value.as_object().filter(|object| object.len() == 1)?;
    object.iter().next().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use std::path::Path;

    use super::*;
    use crate::templates::{Environment, Shape};

    /// The same lists that the double of CloudFormation is held to.
    #[test]
    fn each_shape_in_each_environment_makes_what_its_golden_list_names() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/golden");
        for shape in Shape::ALL {
            for name in ["staging", "production"] {
                let mut environment = Environment::named(name, None, shape).unwrap();
                if shape == Shape::Containers && name == "production" {
                    environment.set("DomainName", "inlet.example.com").unwrap();
                }
                let root = file(shape.root()).unwrap();
                let found = resources(root, environment.parameters(), "us-east-1").unwrap();
                let mut lines: Vec<String> = found
                    .iter()
                    .map(|one| format!("{} {} {}", one.path, one.kind, one.deletion_policy))
                    .collect();
                lines.sort();
                let path = golden.join(format!("{}-{name}.txt", shape.word()));
                let mut wanted: Vec<String> =
                    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
                wanted.sort();
                assert_eq!(lines, wanted, "{} {name}", shape.word());
                assert!(found.iter().all(|one| !one.sentence.is_empty()));
            }
        }
    }
}
