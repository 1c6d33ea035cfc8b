//! Text inside other text: a document's body in a JSON string, a name in HTML.

/// Escapes of bytes below 0x20 that have a letter; the others are written as `\u00XX`.
const fn letter(byte: u8) -> u8 {
    match byte {
        b'"' => b'"',
        b'\\' => b'\\',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x08 => b'b',
        0x0c => b'f',
        _ => 0,
    }
}

/// A mask with the high bit of each byte of `word` that must be escaped: `"`, `\` and what is
/// below 0x20. Bit tricks on eight bytes at once, exact for every byte.
fn special(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const LOW7: u64 = !HIGH;
    // With the high bit taken off, adding can't carry into the next byte.
    let low = word & LOW7;
    let not_control = low + ONES * (0x80 - 0x20);
    let not_quote = (low ^ (ONES * 0x22)) + LOW7;
    let not_backslash = (low ^ (ONES * 0x5c)) + LOW7;
    !(not_control & not_quote & not_backslash) & !word & HIGH
}

/// How many bytes more than it has `text` takes as the inside of a JSON string.
fn escape_bytes(text: &[u8]) -> usize {
    let mut extra = 0;
    // Sums of bytes and conditions without a branch: this runs on many bytes at once.
    for piece in text.chunks(255) {
        let (mut short, mut long) = (0u8, 0u8);
        for byte in piece {
            let control = *byte < 0x20;
            short += u8::from(control | (*byte == b'"') | (*byte == b'\\'));
            // Backspace and form feed are reckoned too long, which does no harm: the whitespace
            // of JSON is all the controls that come.
            long += u8::from(control & (*byte != b'\n') & (*byte != b'\r') & (*byte != b'\t'));
        }
        extra += usize::from(short) + 4 * usize::from(long);
    }
    extra
}

/// Whether any byte must be escaped; without a way out of the loop, so that it runs on all of
/// them at once.
fn any_special(bytes: &[u8; 32]) -> bool {
    bytes.iter().fold(false, |any, b| any | (*b < 0x20) | (*b == b'"') | (*b == b'\\'))
}

/// Appends `text`, which is UTF-8, as the inside of a JSON string.
pub(crate) fn json(out: &mut Vec<u8>, text: &[u8]) {
    let start = out.len();
    // Eight bytes more than needed, so that a whole word can be written at the end.
    out.resize(start + text.len() + escape_bytes(text) + 8, 0);
    let room = &mut out[start..];
    let mut at = 0;
    let (pieces, rest) = text.as_chunks::<32>();
    for piece in pieces {
        if any_special(piece) {
            for word in piece.as_chunks::<8>().0 {
                at += escape_word(&mut room[at..], word);
            }
        } else {
            room[at..at + 32].copy_from_slice(piece);
            at += 32;
        }
    }
    for byte in rest {
        if matches!(byte, b'"' | b'\\' | 0..0x20) {
            at += escape_one(&mut room[at..], *byte);
        } else {
            room[at] = *byte;
            at += 1;
        }
    }
    out.truncate(start + at);
}

/// Writes eight bytes of text, and tells how many bytes they became.
fn escape_word(room: &mut [u8], bytes: &[u8; 8]) -> usize {
    let word = u64::from_le_bytes(*bytes);
    let mut mask = special(word);
    let (mut at, mut done) = (0, 0);
    // What stands before a special byte is written as a whole word; what is too much of it is
    // written over.
    while mask != 0 {
        let index = mask.trailing_zeros() as usize / 8;
        room[at..at + 8].copy_from_slice(&(word >> (8 * done)).to_le_bytes());
        at += index - done;
        at += escape_one(&mut room[at..], bytes[index]);
        done = index + 1;
        mask &= mask - 1;
    }
    if done < 8 {
        room[at..at + 8].copy_from_slice(&(word >> (8 * done)).to_le_bytes());
        at += 8 - done;
    }
    at
}

fn escape_one(room: &mut [u8], byte: u8) -> usize {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match letter(byte) {
        0 => {
            room[..4].copy_from_slice(b"\\u00");
            room[4] = DIGITS[usize::from(byte >> 4)];
            room[5] = DIGITS[usize::from(byte & 15)];
            6
        }
        letter => {
            room[..2].copy_from_slice(&[b'\\', letter]);
            2
        }
    }
}

/// `text` for HTML, between tags or in a quoted attribute.
pub(crate) fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// `text` for HTML, with what stands between backticks as code.
pub(crate) fn html_with_code(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 1 {
            out.push_str("<code>");
            out.push_str(&html(part));
            out.push_str("</code>");
        } else {
            out.push_str(&html(part));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = b"\"".to_vec();
        json(&mut out, text.as_bytes());
        out.push(b'"');
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_escaped_is_read_back_as_it_was() {
        let all: String = (0..=0x2ffu32).filter_map(char::from_u32).collect();
        let mut texts = vec![
            String::new(),
            "{\"a\":\"b\\\"c\"}".to_owned(),
            "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"".to_owned(),
            "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}".to_owned(),
            "päö€𝄞 \u{7f}\u{80}\u{a2}\u{dc}".to_owned(),
            "{\r\n\t\"a\": 1\r\n}".to_owned(),
            all.clone(),
        ];
        // Every character at every place of a word.
        for shift in 0..8 {
            texts.push(format!("{}{all}", "x".repeat(shift)));
        }
        for text in texts {
            assert_eq!(serde_json::from_str::<String>(&escaped(&text)).unwrap(), text);
        }
    }

    #[test]
    fn the_room_is_reckoned_exactly() {
        let text = "a\"b\\c\nd\u{1}e and so on, for more than one word";
        assert_eq!(escaped(text).len() - 2, text.len() + escape_bytes(text.as_bytes()));
    }

    #[test]
    fn markup_is_text_in_html() {
        assert_eq!(html("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }
}
