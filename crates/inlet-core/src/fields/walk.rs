//! The way through a document, from field to field.

use std::borrow::Cow;

use super::{FIELD_NAMES_MAX, FIELD_NESTING_MAX, FieldCounts, FieldType, REST_INDEX, ROOT_INDEX};
use crate::json::{byte, literal, number, space, string, unescape};

/// An array or object whose fields are being looked at.
#[derive(Debug, Clone, Copy)]
struct Frame {
    index: u16,
    is_object: bool,
    /// The field of its elements, once there was one.
    elements: Option<u16>,
}

/// Notes each field in `counts`. Stops where the text is no JSON, as there is nothing to tell.
pub(super) fn walk(body: &[u8], counts: &mut FieldCounts) {
    // Ends with what can't be read, or with the end of the document: both are the end here.
    walk_value(body, counts).unwrap_or_default();
}

fn walk_value(body: &[u8], counts: &mut FieldCounts) -> Option<()> {
    let mut around = [Frame { index: ROOT_INDEX, is_object: false, elements: None }; NESTING];
    let mut depth = 0;
    let mut index = ROOT_INDEX;
    let mut at = space(body, 0);
    loop {
        let (kind, end) = value(body, at)?;
        if kind != FieldType::Object || index != ROOT_INDEX {
            counts.note(index, kind);
        }
        at = end;
        if matches!(kind, FieldType::Array | FieldType::Object) {
            let is_object = kind == FieldType::Object;
            let field = &counts.fields[usize::from(index)];
            let is_too_deep = field.nesting >= FIELD_NESTING_MAX
                || (is_object && field.names >= FIELD_NAMES_MAX)
                || index == REST_INDEX;
            if is_too_deep {
                at = skip(body, at)?;
            } else {
                depth += 1;
                *around.get_mut(depth)? = Frame { index, is_object, elements: None };
            }
        }
        // What follows a value: the ends of what is around it, then a comma; or, at the beginning
        // of an array or object, its first field.
        loop {
            if depth == 0 {
                return Some(());
            }
            at = space(body, at);
            match byte(body, at) {
                b']' | b'}' => {
                    depth -= 1;
                    at += 1;
                }
                b',' => {
                    at = space(body, at + 1);
                    break;
                }
                _ => break,
            }
        }
        let frame = around.get_mut(depth)?;
        if frame.is_object {
            let (found, next) = member(body, at, frame.index, counts)?;
            (index, at) = (found, next);
        } else {
            let found = frame.elements.unwrap_or_else(|| counts.find(frame.index, None));
            frame.elements = Some(found);
            index = found;
        }
    }
}

/// The document, and one for each array and object around a field.
const NESTING: usize = FIELD_NESTING_MAX as usize + 1;

/// The type of the value there, and where it ends; or, of an array or object, where it begins.
#[inline(always)]
fn value(body: &[u8], at: usize) -> Option<(FieldType, usize)> {
    Some(match byte(body, at) {
        b'"' => (FieldType::String, string(body, at).ok()?.0),
        b'-' | b'0'..=b'9' => (FieldType::Number, number(body, at).ok()?),
        b't' => (FieldType::Boolean, literal(body, at, b"true").ok()?),
        b'f' => (FieldType::Boolean, literal(body, at, b"false").ok()?),
        b'n' => (FieldType::Null, literal(body, at, b"null").ok()?),
        b'[' => (FieldType::Array, at + 1),
        b'{' => (FieldType::Object, at + 1),
        _ => return None,
    })
}

/// The field whose name is there, and where its value begins.
#[inline(always)]
fn member(body: &[u8], at: usize, around: u16, counts: &mut FieldCounts) -> Option<(u16, usize)> {
    if byte(body, at) != b'"' {
        return None;
    }
    let (end, escaped) = string(body, at).ok()?;
    let name = match body.get(at + 1..end - 1)? {
        inside if escaped => Cow::Owned(meaning(inside)),
        inside => Cow::Borrowed(inside),
    };
    let found = counts.find(around, Some(&name));
    let colon = space(body, end);
    (byte(body, colon) == b':').then(|| (found, space(body, colon + 1)))
}

#[cold]
fn meaning(inside: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(inside.len());
    unescape(inside, &mut text);
    text
}

/// Where the array or object that is open ends.
fn skip(body: &[u8], mut at: usize) -> Option<usize> {
    let mut open = 1_usize;
    while open > 0 {
        match body.get(at)? {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open -= 1,
            b'"' => {
                at = string(body, at).ok()?.0;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    Some(at)
}
