//! What is accepted as JSON: I-JSON (RFC 7493), which is RFC 8259 less what its readers disagree
//! about. The bytes are only looked at, never changed, so nothing is lost by checking.
//!
//! | what | here | why |
//! | --- | --- | --- |
//! | invalid UTF-8, UTF-16, UTF-32 | refused | RFC 8259, 8.1 |
//! | a byte order mark | refused | RFC 8259, 8.1: it must not be added |
//! | the same member name twice, however it is escaped | refused | I-JSON, 2.3; readers take the first, the last or both |
//! | `\ud800` without its other half | refused | I-JSON, 2.1 |
//! | `\u0000` in a string | accepted | it is a character as any other |
//! | a NUL byte, or any byte below 32 in a string | refused | RFC 8259, 7 |
//! | U+FFFF and other noncharacters | accepted | a deliberate step beyond I-JSON, 2.1: Unicode's corrigendum 9 allows them in interchange, and the text comes back as it was sent |
//! | `1e400`, integers of a thousand digits | accepted | I-JSON, 2.2 advises against them; the number's text is kept, so nothing is rounded here |
//! | `NaN`, `Infinity`, `+1`, `01`, `.5`, `1.`, `0x1` | refused | RFC 8259, 6 |
//! | comments, trailing commas, single quotes | refused | RFC 8259 |
//! | a string, number or literal alone | accepted | RFC 8259, 2: any value is a text |
//! | arrays and objects nested deeper than a limit | refused | RFC 8259, 9 allows a limit; 10,000 deep cost no more than 10,000 flat |
//! | nothing, only whitespace, two values | refused | RFC 8259, 2 |

mod fault;
mod names;
mod scan;
mod split;

use std::cell::RefCell;

pub use self::fault::{JsonFault, JsonFaultKind};
pub(crate) use self::names::tag;
pub(crate) use self::scan::{byte, literal, number, space, string, unescape};
pub use self::split::{lines, split_array};

use self::fault::Found;
use self::names::{Names, Scope};

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

thread_local! {
    /// Kept from text to text, so that checking one allocates nothing.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

#[derive(Debug, Default)]
struct Scratch {
    names: Names,
    /// What is around the innermost array or object.
    around: Vec<Frame>,
}

/// An array or object that is open, or the text itself.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: FrameKind,
    /// The offset of its bracket.
    open: usize,
    scope: Scope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    Text,
    Array,
    Object,
}

impl Frame {
    const TEXT: Self = Self { kind: FrameKind::Text, open: 0, scope: Scope::EMPTY };
}

/// Checks that `bytes` are one JSON value with nothing but whitespace around it, as the table
/// above says, with arrays and objects nested at most `depth_max` deep (a bare value is 0 deep).
///
/// Takes time proportional to the length, whatever is in it, and no memory beyond about 50 bytes
/// a member of the objects that are open and a level of nesting.
pub fn check(bytes: &[u8], depth_max: usize) -> Result<(), JsonFault> {
    let found = if simdutf8::basic::from_utf8(bytes).is_err() {
        let valid = simdutf8::compat::from_utf8(bytes);
        Err(JsonFaultKind::Utf8Invalid.at(valid.map_or_else(|error| error.valid_up_to(), str::len)))
    } else {
        SCRATCH.with_borrow_mut(|scratch| {
            let found = walk(bytes, depth_max, scratch);
            scratch.names.clear();
            scratch.around.clear();
            found
        })
    };
    found.map_err(|found| JsonFault::locate(bytes, found))
}

/// Reads values until the text ends. Nesting is kept in a list, not on the call stack.
fn walk(bytes: &[u8], depth_max: usize, scratch: &mut Scratch) -> Result<(), Found> {
    let Scratch { names, around } = scratch;
    let mut frame = Frame::TEXT;
    let mut at = 0;
    loop {
        at = space(bytes, at);
        match byte(bytes, at) {
            b'"' => (at, _) = string(bytes, at)?,
            b'-' | b'0'..=b'9' => at = number(bytes, at)?,
            b't' => at = literal(bytes, at, b"true")?,
            b'f' => at = literal(bytes, at, b"false")?,
            b'n' => at = literal(bytes, at, b"null")?,
            bracket @ (b'{' | b'[') => {
                if around.len() >= depth_max {
                    return Err(JsonFaultKind::TooDeep { limit: depth_max }.at(at));
                }
                around.push(frame);
                let is_object = bracket == b'{';
                let kind = if is_object { FrameKind::Object } else { FrameKind::Array };
                frame = Frame { kind, open: at, scope: names.begin() };
                at = space(bytes, at + 1);
                match byte(bytes, at) {
                    // An empty one ends below, as any other.
                    b']' if !is_object => {}
                    b'}' if is_object => {}
                    _ if is_object => {
                        at = name(bytes, at, &mut frame, names)?;
                        continue;
                    }
                    _ => continue,
                }
            }
            _ => {
                return Err(unexpected(
                    bytes,
                    at,
                    frame.kind,
                    frame.open,
                    JsonFaultKind::ExpectedValue,
                ));
            }
        }
        loop {
            at = space(bytes, at);
            match (frame.kind, byte(bytes, at)) {
                (FrameKind::Object, b',') => {
                    at = name(bytes, space(bytes, at + 1), &mut frame, names)?;
                    break;
                }
                (FrameKind::Array, b',') => {
                    at += 1;
                    break;
                }
                (FrameKind::Object, b'}') | (FrameKind::Array, b']') => {
                    names.end(frame.scope);
                    frame = around.pop().unwrap_or(Frame::TEXT);
                    at += 1;
                }
                (FrameKind::Text, _) if at == bytes.len() => return Ok(()),
                (FrameKind::Text, _) => return Err(JsonFaultKind::TrailingData.at(at)),
                (FrameKind::Array, _) => {
                    let kind = JsonFaultKind::ExpectedCommaOrBracket;
                    return Err(unexpected(bytes, at, frame.kind, frame.open, kind));
                }
                (FrameKind::Object, _) => {
                    let kind = JsonFaultKind::ExpectedCommaOrBrace;
                    return Err(unexpected(bytes, at, frame.kind, frame.open, kind));
                }
            }
        }
    }
}

/// Reads a name and its colon.
#[inline(always)]
fn name(bytes: &[u8], at: usize, frame: &mut Frame, names: &mut Names) -> Result<usize, Found> {
    if byte(bytes, at) != b'"' {
        return Err(unexpected(bytes, at, frame.kind, frame.open, JsonFaultKind::ExpectedName));
    }
    let (end, escaped) = string(bytes, at)?;
    if !names.add(&mut frame.scope, bytes, at, end, escaped) {
        return Err(JsonFaultKind::DuplicateName.at(at));
    }
    let colon = space(bytes, end);
    if byte(bytes, colon) != b':' {
        return Err(unexpected(bytes, colon, frame.kind, frame.open, JsonFaultKind::ExpectedColon));
    }
    Ok(colon + 1)
}

/// The fault where something else was expected: at the end of the text it is that what is open
/// was not closed.
#[cold]
fn unexpected(
    bytes: &[u8],
    at: usize,
    around: FrameKind,
    open: usize,
    expected: JsonFaultKind,
) -> Found {
    match around {
        FrameKind::Text => describe_start(bytes, at, expected),
        FrameKind::Array if at == bytes.len() => JsonFaultKind::ArrayUnclosed.at(open),
        FrameKind::Object if at == bytes.len() => JsonFaultKind::ObjectUnclosed.at(open),
        FrameKind::Array | FrameKind::Object => expected.at(at),
    }
}

/// The fault where a text does not even begin as expected.
fn describe_start(bytes: &[u8], at: usize, expected: JsonFaultKind) -> Found {
    if at == bytes.len() {
        JsonFaultKind::Empty.at(at)
    } else if at == 0 && bytes.starts_with(BYTE_ORDER_MARK) {
        JsonFaultKind::ByteOrderMark.at(at)
    } else {
        expected.at(at)
    }
}
