//! Where the documents of a batch begin and end.

use std::ops::Range;

use super::describe_start;
use super::fault::{Found, JsonFault, JsonFaultKind};
use super::scan::{byte, space};

/// The lines of NDJSON, without their LF or CRLF; lines of nothing but whitespace are left out.
///
/// Stops once there are more than `documents_max`, so that many empty promises cost little: a
/// result that is longer than that has one too many and says nothing of the rest. Lines are
/// checked one by one, with [`check`](super::check), and one that is bad says nothing about the
/// others.
pub fn lines(bytes: &[u8], documents_max: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < bytes.len() && lines.len() <= documents_max {
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |found| start + found);
        let is_crlf = end < bytes.len() && bytes[start..end].ends_with(b"\r");
        let line = start..end - usize::from(is_crlf);
        if space(&bytes[..line.end], line.start) < line.end {
            lines.push(line);
        }
        start = end + 1;
    }
    lines
}

/// The elements of the array that the text is, without the whitespace around them.
///
/// Stops once there are more than `documents_max`, as [`lines`] does. Only as much is looked at
/// as is needed to tell the elements apart; each is checked later, with [`check`](super::check),
/// so that one that is bad does not hide the others. Where elements can't be told apart for
/// certain, the fault is that of the whole text: brackets that don't match, a string that is not
/// closed or has something other than `,` `:` and brackets beside it (so a quote is missing
/// somewhere), a comma with no element on one side, something behind the array.
pub fn split_array(bytes: &[u8], documents_max: usize) -> Result<Vec<Range<usize>>, JsonFault> {
    elements(bytes, documents_max).map_err(|found| JsonFault::locate(bytes, found))
}

fn elements(bytes: &[u8], documents_max: usize) -> Result<Vec<Range<usize>>, Found> {
    let open = space(bytes, 0);
    if byte(bytes, open) != b'[' {
        return Err(describe_start(bytes, open, JsonFaultKind::ExpectedArray));
    }
    let mut elements = Vec::new();
    let mut at = space(bytes, open + 1);
    if byte(bytes, at) == b']' {
        at += 1;
    } else {
        loop {
            let element = element(bytes, open, at)?;
            at = element.end;
            elements.push(element);
            if elements.len() > documents_max {
                return Ok(elements);
            }
            at = space(bytes, at) + 1;
            if byte(bytes, at - 1) == b']' {
                break;
            }
            at = space(bytes, at);
        }
    }
    let rest = space(bytes, at);
    if rest < bytes.len() {
        return Err(JsonFaultKind::TrailingData.at(rest));
    }
    Ok(elements)
}

/// The element that begins there: up to the comma or bracket that ends it.
fn element(bytes: &[u8], open: usize, start: usize) -> Result<Range<usize>, Found> {
    let mut brackets = Brackets::default();
    // What came last, whitespace apart, and where it ended.
    let mut last = b',';
    let mut end = start;
    let mut at = start;
    loop {
        let Some(&found) = bytes.get(at) else {
            return Err(JsonFaultKind::ArrayUnclosed.at(open));
        };
        match found {
            b',' | b']' if brackets.depth == 0 => {
                let is_there = end > start;
                let expected = JsonFaultKind::ExpectedValue.at(at);
                return if is_there { Ok(start..end) } else { Err(expected) };
            }
            b'[' | b'{' => brackets.open(found == b'{'),
            b']' | b'}' => {
                let fault = JsonFaultKind::ExpectedCommaOrBracket.at(at);
                brackets.close(found == b'}').ok_or(fault)?;
            }
            b'"' => {
                let closed = string_end(bytes, at)?;
                let next = space(bytes, closed);
                if !matches!(last, b',' | b':' | b'[' | b'{')
                    || !matches!(bytes.get(next), None | Some(b',' | b':' | b']' | b'}'))
                {
                    return Err(JsonFaultKind::ExpectedCommaOrBracket.at(next));
                }
                at = closed - 1;
            }
            _ => {}
        }
        at += 1;
        if !matches!(found, b' ' | b'\t' | b'\n' | b'\r') {
            last = found;
            end = at;
        }
    }
}

/// Where a string ends, whatever is in it.
fn string_end(bytes: &[u8], open: usize) -> Result<usize, Found> {
    let mut at = open + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at += 2;
    }
    Err(JsonFaultKind::StringUnclosed.at(open))
}

/// The brackets that are open, one bit each: an eighth of the text at the most.
#[derive(Debug, Default)]
struct Brackets {
    depth: usize,
    is_object: Vec<u64>,
}

impl Brackets {
    fn open(&mut self, is_object: bool) {
        let (word, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if word == self.is_object.len() {
            self.is_object.push(0);
        }
        self.is_object[word] &= !bit;
        if is_object {
            self.is_object[word] |= bit;
        }
        self.depth += 1;
    }

    /// Closes the innermost one, if it is of that kind.
    fn close(&mut self, is_object: bool) -> Option<()> {
        self.depth = self.depth.checked_sub(1)?;
        let word = self.is_object.get(self.depth / 64)?;
        (((word >> (self.depth % 64)) & 1 == 1) == is_object).then_some(())
    }
}
