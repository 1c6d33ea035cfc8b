//! Reads a template: YAML with the short forms of CloudFormation's functions, as JSON with their
//! long ones (`!Ref Name` becomes `{"Ref": "Name"}`, `!Sub text` becomes `{"Fn::Sub": "text"}`).

use std::borrow::Cow;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value, json};

/// How deep a template may nest; ours stay below twenty.
const DEPTH_MAX: usize = 64;

/// A template that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// It is no YAML, or none of the kind that templates are.
    #[error("the template {file} can't be read: {why}")]
    Unreadable {
        /// Its path.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// It refers to what is not there.
    #[error("the template {file} refers to {name}, which is not there")]
    Missing {
        /// Its path.
        file: String,
        /// The name.
        name: String,
    },
}

/// Reads the template `text` of the file `file`.
pub fn parse(file: &str, text: &str) -> Result<Value, TemplateError> {
    let unreadable = |why: String| TemplateError::Unreadable { file: file.into(), why };
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| unreadable(error.to_string()))?;
        tree.take(event).map_err(|why| unreadable(why.to_owned()))?;
    }
    tree.root.ok_or_else(|| unreadable("it is empty".into()))
}

/// What has been begun and not ended.
enum Open {
    List(Vec<Value>, Option<String>),
    Map(Map<String, Value>, Option<String>, Option<String>),
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Value>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>) -> Result<(), &'static str> {
        if self.open.len() > DEPTH_MAX {
            return Err("it nests too deep");
        }
        match event {
            Event::Scalar(text, style, _, tag) => {
                let value = scalar(&text, style, tag.is_some());
                self.put(tagged(name(tag), value))
            }
            Event::SequenceStart(_, tag) => {
                self.open.push(Open::List(Vec::new(), name(tag)));
                Ok(())
            }
            Event::MappingStart(_, tag) => {
                self.open.push(Open::Map(Map::new(), None, name(tag)));
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(items, tag)) => self.put(tagged(tag, Value::Array(items))),
                Some(Open::Map(entries, _, tag)) => self.put(tagged(tag, Value::Object(entries))),
                None => Err("something ends that was not begun"),
            },
            Event::Alias(_) => Err("it has an alias"),
            _ => Ok(()),
        }
    }

    fn put(&mut self, value: Value) -> Result<(), &'static str> {
        match self.open.last_mut() {
            None => self.root = Some(value),
            Some(Open::List(items, _)) => items.push(value),
            Some(Open::Map(entries, key, _)) => match key.take() {
                None => *key = Some(word(&value).ok_or("a key is no text")?),
                Some(key) => {
                    if entries.insert(key, value).is_some() {
                        return Err("a key is there twice");
                    }
                }
            },
        }
        Ok(())
    }
}

/// The text of a scalar.
pub(super) fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

fn name(tag: Option<Cow<'_, Tag>>) -> Option<String> {
    tag.filter(|tag| tag.handle == "!").map(|tag| tag.suffix.clone())
}

/// The long form of a function.
fn tagged(tag: Option<String>, value: Value) -> Value {
    match (tag.as_deref(), value) {
        (None, value) => value,
        (Some(tag @ ("Ref" | "Condition")), value) => json!({ tag: value }),
        (Some("GetAtt"), Value::String(text)) => {
            let parts: Vec<&str> = text.splitn(2, '.').collect();
            json!({ "Fn::GetAtt": parts })
        }
        (Some(tag), value) => json!({ format!("Fn::{tag}"): value }),
    }
}

/// A plain scalar is a number, a truth value or nothing where it looks like one.
fn scalar(text: &str, style: ScalarStyle, is_tagged: bool) -> Value {
    if style != ScalarStyle::Plain || is_tagged {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => match text.parse::<i64>() {
            // A number that is written otherwise than it would be printed is text: `007`.
            Ok(number) if number.to_string() == text => number.into(),
            _ => Value::String(text.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;
    use crate::templates::FILES;

    #[test]
    fn short_forms_become_long_ones() {
        let text = "A: !Ref B\nC: !GetAtt D.E.F\nG: !If [H, !Sub '${I}', 7]\nJ: 2010-09-09\n";
        let read = parse("x.yaml", text).unwrap();
        assert_eq!(
            read,
            json!({
                "A": {"Ref": "B"},
                "C": {"Fn::GetAtt": ["D", "E.F"]},
                "G": {"Fn::If": ["H", {"Fn::Sub": "${I}"}, 7]},
                "J": "2010-09-09",
            })
        );
    }

    #[test]
    fn what_is_no_template_is_refused_by_its_name() {
        for text in ["a: [", "a: 1\na: 2", "", "- *x"] {
            let error = parse("x.yaml", text).unwrap_err().to_string();
            assert!(error.contains("x.yaml"), "{error}");
        }
    }

    #[test]
    fn every_template_can_be_read() {
        for file in FILES.iter().filter(|file| file.path.ends_with(".yaml")) {
            assert!(parse(file.path, file.text).unwrap()["Resources"].is_object(), "{}", file.path);
        }
    }
}
