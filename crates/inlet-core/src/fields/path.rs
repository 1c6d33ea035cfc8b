//! How a path is written.

use std::fmt::Write;

use super::{FIELD_PATH_BYTES_MAX, REST, ROOT};

/// The path of a member, or of the elements where `name` is none, of what `around` names; the
/// document where that is none. Nothing where it would be too long, or the name is no text.
pub(super) fn join(around: Option<&str>, name: Option<&[u8]>) -> Option<String> {
    let mut path = around.unwrap_or_default().to_owned();
    match name {
        // Before it is looked at closely: a name may be as long as a document.
        Some(name) if path.len() + name.len() > FIELD_PATH_BYTES_MAX => return None,
        Some(name) => {
            if around.is_some() {
                path.push('.');
            }
            write_name(&mut path, std::str::from_utf8(name).ok()?);
        }
        None => {
            if around.is_none() {
                path.push_str(ROOT);
            }
            path.push_str("[]");
        }
    }
    (path.len() <= FIELD_PATH_BYTES_MAX).then_some(path)
}

/// A name as it is, or in quotes where it could be taken for something else.
fn write_name(path: &mut String, name: &str) {
    let is_special = |c: char| matches!(c, '.' | '[' | ']' | '"' | '\\') || c.is_control();
    if !matches!(name, "" | ROOT | REST) && !name.contains(is_special) {
        path.push_str(name);
        return;
    }
    path.push('"');
    for character in name.chars() {
        match character {
            '"' | '\\' => path.extend(['\\', character]),
            '\n' => path.push_str("\\n"),
            '\r' => path.push_str("\\r"),
            '\t' => path.push_str("\\t"),
            control if control.is_control() => {
                write!(path, "\\u{:04x}", u32::from(control)).expect("a String takes any text");
            }
            plain => path.push(plain),
        }
    }
    path.push('"');
}
