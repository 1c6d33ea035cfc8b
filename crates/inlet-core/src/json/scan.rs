//! The tokens of JSON: where each one ends, and whether it is well-formed.
//!
//! Runs of bytes are looked at eight at a time, as one word. Names and numbers are mostly shorter
//! than sixteen bytes, and from a word to the next offset it is a short way: vectors, as far as
//! safe code has them, were 1.6 times slower. Within a word no branch depends on how long a run
//! is, so texts that differ are about as fast as the same text again.
//!
//! The text should be valid UTF-8; where it is not, nothing worse happens than that it passes.

use super::fault::{Found, JsonFaultKind};

/// A word with 1 in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;
/// A word with the highest bit of each byte.
const EACH_HIGH: u64 = EACH << 7;

/// The byte there, or 0 behind the end: no token begins with 0.
#[inline(always)]
pub(crate) fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

/// Where the whitespace that begins there ends.
#[inline(always)]
pub(crate) fn space(bytes: &[u8], at: usize) -> usize {
    if byte(bytes, at) > b' ' {
        return at;
    }
    space_rest(bytes, at)
}

/// Where the string with that opening quote ends, behind its closing quote, and whether it has
/// escapes.
#[inline(always)]
pub(crate) fn string(bytes: &[u8], open: usize) -> Result<(usize, bool), Found> {
    let at = run(bytes, open + 1, no_plain_text);
    if byte(bytes, at) == b'"' { Ok((at + 1, false)) } else { string_rest(bytes, open, at) }
}

/// Where the number that begins there ends.
#[inline(always)]
pub(crate) fn number(bytes: &[u8], start: usize) -> Result<usize, Found> {
    let whole = start + usize::from(byte(bytes, start) == b'-');
    let mut at = digits(bytes, whole);
    let mut fits = at == whole + 1 || (at > whole && byte(bytes, whole) != b'0');
    if byte(bytes, at) == b'.' {
        let fraction = at + 1;
        at = digits(bytes, fraction);
        fits &= at > fraction;
    }
    if matches!(byte(bytes, at), b'e' | b'E') {
        let exponent = at + 1 + usize::from(matches!(byte(bytes, at + 1), b'+' | b'-'));
        at = digits(bytes, exponent);
        fits &= at > exponent;
    }
    if fits { Ok(at) } else { Err(JsonFaultKind::NumberInvalid.at(start)) }
}

/// Where the literal that begins there ends, if it is the one that is expected.
#[inline(always)]
pub(crate) fn literal(bytes: &[u8], start: usize, expected: &[u8]) -> Result<usize, Found> {
    match bytes.get(start..start + expected.len()) {
        Some(found) if found == expected => Ok(start + expected.len()),
        _ => Err(JsonFaultKind::LiteralInvalid.at(start)),
    }
}

/// Appends what the inside of a string means to `text`. The string must be one that [`string`]
/// found good; of others, what can't be understood is left out.
pub(crate) fn unescape(inside: &[u8], text: &mut Vec<u8>) {
    let mut at = 0;
    while at < inside.len() {
        let plain = memchr::memchr(b'\\', &inside[at..]).map_or(inside.len(), |found| at + found);
        text.extend_from_slice(&inside[at..plain]);
        at = plain + 2;
        match byte(inside, plain + 1) {
            b'u' => {
                let mut point = unit(inside, at).unwrap_or(0);
                at += 4;
                if (0xd800..0xdc00).contains(&point) {
                    let low = unit(inside, at + 2).unwrap_or(0);
                    at += 6;
                    point = 0x10000 + ((point - 0xd800) << 10) + (low & 0x3ff);
                }
                if let Some(character) = char::from_u32(point) {
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            b'b' => text.push(0x08),
            b'f' => text.push(0x0c),
            b'n' => text.push(b'\n'),
            b'r' => text.push(b'\r'),
            b't' => text.push(b'\t'),
            0 => {}
            itself => text.push(itself),
        }
    }
}

#[inline(always)]
fn digits(bytes: &[u8], at: usize) -> usize {
    run(bytes, at, no_digit)
}

/// The first offset from `at` whose byte is marked, or the end of the text. `marks` sets a bit in
/// the first byte of a word that ends the run and in none before it; a NUL must end it.
#[inline(always)]
fn run(bytes: &[u8], mut at: usize, marks: impl Fn(u64) -> u64) -> usize {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let word =
            rest.first_chunk::<8>().map_or_else(|| last_word(rest), |w| u64::from_le_bytes(*w));
        let marked = marks(word);
        if marked != 0 {
            return at + (marked.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
}

/// The last bytes of a text, and NULs.
#[cold]
fn last_word(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Marks a quote, a backslash and what is below U+0020. A subtraction may mark bytes behind the
/// first one that counts, never one before it.
#[inline(always)]
fn no_plain_text(word: u64) -> u64 {
    let quote = (word ^ (EACH * 0x22)).wrapping_sub(EACH);
    let backslash = (word ^ (EACH * 0x5c)).wrapping_sub(EACH);
    let control = word.wrapping_sub(EACH * 0x20);
    (quote | backslash | control) & !word & EACH_HIGH
}

#[inline(always)]
fn no_digit(word: u64) -> u64 {
    // What was a digit is 0 to 9 now, everything else is more.
    let value = word ^ (EACH * 0x30);
    (((value & !EACH_HIGH) + EACH * (0x80 - 10)) | value) & EACH_HIGH
}

#[inline(always)]
fn no_blank(word: u64) -> u64 {
    word ^ (EACH * 0x20)
}

/// Whitespace that is there: mostly a line break and the blanks that indent the next line.
fn space_rest(bytes: &[u8], mut at: usize) -> usize {
    while matches!(byte(bytes, at), b' ' | b'\t' | b'\n' | b'\r') {
        at = run(bytes, at + 1, no_blank);
    }
    at
}

/// The string from `at` on, which is where its first run of plain characters ends.
#[inline(never)]
fn string_rest(bytes: &[u8], open: usize, mut at: usize) -> Result<(usize, bool), Found> {
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            None => return Err(JsonFaultKind::StringUnclosed.at(open)),
            Some(b'"') => return Ok((at + 1, escaped)),
            Some(b'\\') => at = escape(bytes, open, at)?,
            Some(_) => return Err(JsonFaultKind::ControlCharacter.at(at)),
        }
        escaped = true;
        at = run(bytes, at, no_plain_text);
    }
}

/// Where the escape with that backslash ends; a surrogate pair is one escape.
fn escape(bytes: &[u8], open: usize, at: usize) -> Result<usize, Found> {
    match bytes.get(at + 1) {
        None => return Err(JsonFaultKind::StringUnclosed.at(open)),
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => return Ok(at + 2),
        Some(b'u') => {}
        Some(_) => return Err(JsonFaultKind::EscapeInvalid.at(at)),
    }
    let Some(first) = unit(bytes, at + 2) else {
        let rest = bytes.get(at + 2..).unwrap_or_default();
        let is_cut = rest.len() < 4 && rest.iter().all(u8::is_ascii_hexdigit);
        return Err(if is_cut {
            JsonFaultKind::StringUnclosed.at(open)
        } else {
            JsonFaultKind::EscapeInvalid.at(at)
        });
    };
    match first {
        0xd800..0xdc00 => {
            let follows = byte(bytes, at + 6) == b'\\' && byte(bytes, at + 7) == b'u';
            match unit(bytes, at + 8) {
                Some(0xdc00..0xe000) if follows => Ok(at + 12),
                _ => Err(JsonFaultKind::LoneSurrogate.at(at)),
            }
        }
        0xdc00..0xe000 => Err(JsonFaultKind::LoneSurrogate.at(at)),
        _ => Ok(at + 6),
    }
}

/// The four hexadecimal digits there.
fn unit(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | digit)
    })
}
