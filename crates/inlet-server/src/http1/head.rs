//! One head: the request line and the header lines, up to the empty line. Read once, as it arrives.

use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri, Version, request};
use memchr::memchr;

/// The most empty lines before a request line.
const EMPTY_LINES_MAX: u8 = 8;

/// The limits of a head, and of a trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    pub(crate) bytes_max: usize,
    pub(crate) lines_max: usize,
}

/// The reason a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadFault {
    Malformed(&'static str),
    /// It has more bytes or more lines than [`HeadLimits`] allow.
    TooLarge,
}

/// The framing of the body that follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delimited {
    /// By its length in bytes; 0 where there is no body.
    Length(u64),
    Chunked,
}

/// A head that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its size in bytes, the empty line included.
    pub(crate) bytes: usize,
    pub(crate) body: Delimited,
    /// True if the client wants to go on using the connection.
    pub(crate) keeps_alive: bool,
    /// True if the client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    pub(crate) is_http10: bool,
}

/// A head while it arrives. Each line is judged once, when its end is there.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    /// Start of the first line that is not judged yet.
    line_at: usize,
    /// Up to here that line was searched for its end.
    searched: usize,
    empty_lines: u8,
    lines: usize,
    has_begun: bool,
    is_trailer: bool,
    version: HttpVersion,
    method: Span,
    target: Span,
    fields: Vec<Field>,
    hosts: u8,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
    keeps: bool,
    expects: bool,
}

/// The place in a head of the name and the value of a header line.
#[derive(Debug, Clone, Copy)]
struct Field {
    name: Span,
    value: Span,
}

/// A part of a head; no head has more than 4 GiB.
#[derive(Debug, Default, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum HttpVersion {
    #[default]
    Unknown,
    Http10,
    Http11,
}

const NOT_CRLF: HeadFault = HeadFault::Malformed("a line does not end in CRLF");
const CONTROL: HeadFault = HeadFault::Malformed("a line has a control character");
const TRAILER_FRAMING: HeadFault = HeadFault::Malformed("a trailer changes the framing");

const fn malformed<T>(reason: &'static str) -> Result<T, HeadFault> {
    Err(HeadFault::Malformed(reason))
}

impl HeadScan {
    /// A scan of the trailer section after the last chunk, which has no request line.
    pub(crate) fn trailers() -> Self {
        Self { lines: 1, is_trailer: true, ..Self::default() }
    }

    /// Returns true if any byte of it was seen.
    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// Forgets the head, and keeps what it had allocated for the next one.
    pub(crate) fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = Self { fields, ..Self::default() };
    }

    /// Looks at `bytes`, which begin where the head does and are those of the last call and more.
    /// `None` while the head is not whole.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<Head>, HeadFault> {
        if !self.has_begun {
            let Some(first) = bytes.first() else { return Ok(None) };
            self.has_begun = true;
            // Whoever speaks TLS or nonsense here is told at once, and not at the deadline.
            if !self.is_trailer && !is_token(*first) && *first != b'\r' {
                return malformed("it does not begin with a method");
            }
        }
        while let Some(offset) = memchr(b'\n', &bytes[self.searched..]) {
            let (start, end) = (self.line_at, self.searched + offset);
            let line = bytes[start..end].strip_suffix(b"\r").ok_or(NOT_CRLF)?;
            (self.line_at, self.searched) = (end + 1, end + 1);
            if self.line_at > limits.bytes_max {
                return Err(HeadFault::TooLarge);
            }
            if !line.is_empty() {
                self.take_line(line, start, limits)?;
            } else if self.lines == 0 {
                self.empty_lines += 1;
                if self.empty_lines > EMPTY_LINES_MAX {
                    return malformed("there are too many empty lines before the request");
                }
            } else {
                return self.whole().map(Some);
            }
        }
        self.searched = bytes.len();
        if bytes.len() > limits.bytes_max {
            return Err(HeadFault::TooLarge);
        }
        Ok(None)
    }

    /// The head that was found whole, from its bytes.
    pub(crate) fn parts(&self, bytes: &Bytes) -> Result<request::Parts, HeadFault> {
        const TARGET: HeadFault =
            HeadFault::Malformed("the target is neither a path nor an http URL");
        const FIELD: HeadFault = HeadFault::Malformed("a header line is not well-formed");
        let mut parts = Request::new(()).into_parts().0;
        let method = &bytes[self.method.range()];
        parts.method = Method::from_bytes(method)
            .map_err(|_| HeadFault::Malformed("the method is not a token"))?;
        parts.uri = Uri::from_maybe_shared(bytes.slice(self.target.range())).map_err(|_| TARGET)?;
        parts.version = match self.version {
            HttpVersion::Http10 => Version::HTTP_10,
            HttpVersion::Http11 | HttpVersion::Unknown => Version::HTTP_11,
        };
        parts.headers = HeaderMap::with_capacity(self.fields.len());
        for field in &self.fields {
            let name = HeaderName::from_bytes(&bytes[field.name.range()]).map_err(|_| FIELD)?;
            let value = bytes.slice(field.value.range());
            let value = HeaderValue::from_maybe_shared(value).map_err(|_| FIELD)?;
            parts.headers.append(name, value);
        }
        Ok(parts)
    }

    /// Judges the line that begins at `start`.
    fn take_line(
        &mut self,
        line: &[u8],
        start: usize,
        limits: HeadLimits,
    ) -> Result<(), HeadFault> {
        // Without a way out of the loop it runs on many bytes at once.
        if line.iter().fold(false, |found, b| found | (*b < 0x20 && *b != b'\t') | (*b == 0x7f)) {
            return Err(CONTROL);
        }
        self.lines += 1;
        if self.lines == 1 {
            return self.take_request_line(line, start);
        }
        if self.lines > limits.lines_max + 1 {
            return Err(HeadFault::TooLarge);
        }
        let Some(colon) = memchr(b':', line) else {
            return malformed(match line {
                [b' ' | b'\t', ..] => "a header line is folded",
                _ => "a header line has no colon",
            });
        };
        let name = &line[..colon];
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return malformed(match name {
                [b' ' | b'\t', ..] => "a header line is folded",
                [.., b' ' | b'\t'] => "there is whitespace before a colon",
                _ => "a header's name is not a token",
            });
        }
        let value = line[colon + 1..].trim_ascii_start();
        let value_at = line.len() - value.len();
        let value = value.trim_ascii_end();
        // The lengths tell nearly all names apart from those that matter.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value)?,
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expects = value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => self.take_connection(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.take_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.take_encoding(value)?,
            _ => {}
        }
        if !self.is_trailer {
            let name = Span::new(start..start + colon);
            let value = Span::new(start + value_at..start + value_at + value.len());
            self.fields.push(Field { name, value });
        }
        Ok(())
    }

    fn take_request_line(&mut self, line: &[u8], start: usize) -> Result<(), HeadFault> {
        const SHAPE: HeadFault =
            HeadFault::Malformed("the request line is not METHOD TARGET VERSION");
        let method_end = memchr(b' ', line).ok_or(SHAPE)?;
        let target_at = method_end + 1;
        let target_end = target_at + memchr(b' ', &line[target_at..]).ok_or(SHAPE)?;
        let (method, target) = (&line[..method_end], &line[target_at..target_end]);
        self.version = match &line[target_end + 1..] {
            b"HTTP/1.1" => HttpVersion::Http11,
            b"HTTP/1.0" => HttpVersion::Http10,
            _ => return malformed("the version is neither HTTP/1.1 nor HTTP/1.0"),
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return malformed("the method is not a token");
        }
        if method == b"CONNECT" {
            return malformed("the method is not one that is known here");
        }
        let has_shape = match target {
            [b'/', ..] | b"*" => true,
            _ => target.starts_with(b"http://") || target.starts_with(b"https://"),
        };
        if !has_shape || !target.iter().all(|byte| is_target(*byte)) {
            return malformed("the target is neither a path nor an http URL");
        }
        self.method = Span::new(start..start + method_end);
        self.target = Span::new(start + target_at..start + target_end);
        Ok(())
    }

    fn take_host(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if self.is_trailer {
            return Err(TRAILER_FRAMING);
        }
        self.hosts += 1;
        if self.hosts > 1 {
            return malformed("there is more than one Host");
        }
        let is_host = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(b);
        if value.iter().all(is_host) { Ok(()) } else { malformed("the Host is not one") }
    }

    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.closes |= option.eq_ignore_ascii_case(b"close");
            self.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if self.is_trailer {
            return Err(TRAILER_FRAMING);
        }
        if self.length.is_some() {
            return malformed("there is more than one Content-Length");
        }
        // 18 digits fit in 63 bits.
        if !(1..=18).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
            return malformed("the Content-Length is not one number");
        }
        let length = value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
        self.length = Some(length);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), HeadFault> {
        if self.is_trailer {
            return Err(TRAILER_FRAMING);
        }
        if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return malformed("the Transfer-Encoding is not chunked alone");
        }
        self.is_chunked = true;
        Ok(())
    }

    /// Judges the head as a whole.
    fn whole(&self) -> Result<Head, HeadFault> {
        let is_http10 = self.version == HttpVersion::Http10;
        if !self.is_trailer && !is_http10 && self.hosts == 0 {
            return malformed("there is no Host");
        }
        let body = match (self.is_chunked, self.length) {
            (true, Some(_)) => {
                return malformed("there is a Content-Length beside a Transfer-Encoding");
            }
            (true, None) if is_http10 => return malformed("HTTP/1.0 has no Transfer-Encoding"),
            (true, None) => Delimited::Chunked,
            (false, length) => Delimited::Length(length.unwrap_or(0)),
        };
        Ok(Head {
            bytes: self.line_at,
            body,
            keeps_alive: !self.closes && (!is_http10 || self.keeps),
            expects_continue: self.expects && !is_http10 && body != Delimited::Length(0),
            is_http10,
        })
    }
}

impl Span {
    fn new(range: Range<usize>) -> Self {
        let at = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        Self { start: at(range.start), end: at(range.end) }
    }

    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// The bytes of a token (RFC 9110, 5.6.2).
const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
/// The bytes of a request target that the URI library takes as well.
const TARGET: [bool; 256] = table(b"!$%&'()*+,-./:;=?@[]_~|{}");

const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte: u8 = 0;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
}

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

fn is_target(byte: u8) -> bool {
    TARGET[usize::from(byte)]
}
