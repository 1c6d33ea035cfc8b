//! What is wrong with a text, and where.

use std::fmt;

/// Why a text is not JSON as it is wanted here. The list is closed and its texts are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JsonFaultKind {
    /// There is nothing, or nothing but whitespace.
    Empty,
    /// The text is not UTF-8.
    Utf8Invalid,
    /// The text begins with U+FEFF.
    ByteOrderMark,
    /// Something else stands where a value must be; `NaN` and `Infinity` are no values.
    ExpectedValue,
    /// Something else stands where the array of a batch must begin.
    ExpectedArray,
    /// Something else stands where the name of a member must be, or a `}` follows a comma.
    ExpectedName,
    /// No colon follows the name of a member.
    ExpectedColon,
    /// Neither a comma nor `]` follows an element.
    ExpectedCommaOrBracket,
    /// Neither a comma nor `}` follows a member.
    ExpectedCommaOrBrace,
    /// It begins like `true`, `false` or `null` and goes on otherwise.
    LiteralInvalid,
    /// It begins like a number and is none: `01`, `1.`, `-`, `1e`.
    NumberInvalid,
    /// A backslash is followed by what is no escape.
    EscapeInvalid,
    /// An escape is half of a surrogate pair without the other half.
    LoneSurrogate,
    /// A character below U+0020 stands in a string as it is.
    ControlCharacter,
    /// A string has no end. The place is its beginning.
    StringUnclosed,
    /// An array has no end. The place is its beginning.
    ArrayUnclosed,
    /// An object has no end. The place is its beginning.
    ObjectUnclosed,
    /// An object has two members of that name. The place is the second one.
    DuplicateName,
    /// Arrays and objects are nested deeper than is allowed. The place is the one too many.
    TooDeep {
        /// How deep they may be nested.
        limit: usize,
    },
    /// Something follows the value.
    TrailingData,
}

impl fmt::Display for JsonFaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "there is no value",
            Self::Utf8Invalid => "the text is not UTF-8",
            Self::ByteOrderMark => "there is a byte order mark",
            Self::ExpectedValue => "a value is expected",
            Self::ExpectedArray => "an array is expected",
            Self::ExpectedName => "a member name in double quotes is expected",
            Self::ExpectedColon => "a colon is expected",
            Self::ExpectedCommaOrBracket => "a comma or ] is expected",
            Self::ExpectedCommaOrBrace => "a comma or } is expected",
            Self::LiteralInvalid => "only true, false and null may stand without quotes",
            Self::NumberInvalid => "a number is malformed",
            Self::EscapeInvalid => "an escape is malformed",
            Self::LoneSurrogate => "an escape is half of a surrogate pair",
            Self::ControlCharacter => "a string has a control character that is not escaped",
            Self::StringUnclosed => "a string is not closed",
            Self::ArrayUnclosed => "an array is not closed",
            Self::ObjectUnclosed => "an object is not closed",
            Self::DuplicateName => "an object has the same member name twice",
            Self::TooDeep { limit } => {
                return write!(f, "arrays and objects are nested deeper than {limit}");
            }
            Self::TrailingData => "something follows the value",
        })
    }
}

/// What is wrong with a text, and where: `a string is not closed at line 3, column 7`.
///
/// The place is that of the first fault, except that invalid UTF-8 anywhere comes before all
/// others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonFault {
    /// What it is.
    pub kind: JsonFaultKind,
    /// Its line, from 1. Lines end with LF.
    pub line: usize,
    /// Its column, from 1, in characters (Unicode scalar values), a tab being one.
    pub column: usize,
}

impl JsonFault {
    /// Finds the line and column. This reads the text up to the fault, so it is done once, and
    /// only for a text that is refused.
    #[cold]
    pub(super) fn locate(bytes: &[u8], found: Found) -> Self {
        let before = bytes.get(..found.at).unwrap_or(bytes);
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let is_continuation = |byte: &&u8| **byte & 0xc0 == 0x80;
        let in_line = &before[line_start..];
        Self {
            kind: found.kind,
            line: memchr::memchr_iter(b'\n', before).count() + 1,
            column: in_line.len() - in_line.iter().filter(is_continuation).count() + 1,
        }
    }
}

impl fmt::Display for JsonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}, column {}", self.kind, self.line, self.column)
    }
}

/// A fault at an offset in bytes, before its line and column are known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) kind: JsonFaultKind,
    pub(crate) at: usize,
}

impl JsonFaultKind {
    /// This fault at that offset.
    pub(crate) fn at(self, at: usize) -> Found {
        Found { kind: self, at }
    }
}
