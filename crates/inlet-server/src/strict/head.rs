//! One head: the request line and the header lines, up to the empty line.

use memchr::memchr;

use super::{HEAD_BYTES_MAX, HEADERS_MAX};

/// How the body that follows a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// A head that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Its size, the empty line included.
    pub(super) bytes: usize,
    /// What follows it.
    pub(super) framing: Framing,
}

/// A head while it arrives. A line is judged once, when its end is here.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Where the line begins that is not judged yet.
    line_at: usize,
    /// So far that line was searched for its end.
    searched: usize,
    lines: usize,
    version: Version,
    hosts: u8,
    length: Option<u64>,
    chunked: bool,
    trailers: bool,
    begun: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Version {
    #[default]
    Unknown,
    Http10,
    Http11,
}

const NOT_CRLF: &str = "a line does not end in CRLF";
const CONTROL: &str = "a line has a control character";

impl HeadScan {
    /// A scan of the trailers after the last chunk, which have no request line.
    pub(super) fn trailers() -> Self {
        Self { lines: 1, trailers: true, ..Self::default() }
    }

    /// Whether anything of it was seen.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Looks at `bytes`, which begin where the head does. `None` while it is not whole.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<Option<Head>, &'static str> {
        if !self.begun {
            self.begun = true;
            // Whoever speaks TLS or nonsense here is told at once, and not at the deadline.
            if !self.trailers && !is_token(bytes[0]) && bytes[0] != b'\r' {
                return Err("it does not begin with a method");
            }
        }
        while let Some(offset) = memchr(b'\n', &bytes[self.searched..]) {
            let end = self.searched + offset;
            let line = &bytes[self.line_at..end];
            let line = line.strip_suffix(b"\r").ok_or(NOT_CRLF)?;
            (self.line_at, self.searched) = (end + 1, end + 1);
            if self.line_at > HEAD_BYTES_MAX {
                return Err("the head is larger than 32 KiB");
            }
            if line.is_empty() {
                // RFC 9112 has servers bear one empty line before a request.
                if self.lines == 0 && end == 1 {
                    continue;
                }
                let framing = self.framing()?;
                return Ok(Some(Head { bytes: self.line_at, framing }));
            }
            self.take_line(line)?;
        }
        self.searched = bytes.len();
        if bytes.len() > HEAD_BYTES_MAX {
            return Err("the head is larger than 32 KiB");
        }
        Ok(None)
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        // Without a way out of the loop it runs on many bytes at once.
        if line.iter().fold(false, |found, b| found | (*b < 0x20 && *b != b'\t') | (*b == 0x7f)) {
            return Err(CONTROL);
        }
        self.lines += 1;
        if self.lines == 1 {
            return self.take_request_line(line);
        }
        if self.lines > HEADERS_MAX + 1 {
            return Err("there are more than 100 header lines");
        }
        let colon = memchr(b':', line).ok_or("a header line has no colon")?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(match name {
                [b' ' | b'\t', ..] => "a header line is folded",
                [.., b' ' | b'\t'] => "there is whitespace before a colon",
                _ => "a header's name is not a token",
            });
        }
        // The lengths tell nearly all names apart from those that matter.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.take_host(value.trim_ascii()),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.take_length(value.trim_ascii())
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.take_encoding(value.trim_ascii())
            }
            _ => Ok(()),
        }
    }

    fn take_request_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        const SHAPE: &str = "the request line is not METHOD TARGET VERSION";
        let method = memchr(b' ', line).ok_or(SHAPE)?;
        let target = memchr(b' ', &line[method + 1..]).ok_or(SHAPE)?;
        let (method, rest) = (&line[..method], &line[method + 1..]);
        let (target, version) = (&rest[..target], &rest[target + 1..]);
        self.version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            _ => return Err("the version is neither HTTP/1.1 nor HTTP/1.0"),
        };
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err("the method is not a token");
        }
        // Else a client could ask for what stands in place of what is refused.
        if method.eq_ignore_ascii_case(b"REFUSED") || method == b"CONNECT" {
            return Err("the method is not one that is known here");
        }
        let shape = match target {
            [b'/', ..] | b"*" => true,
            _ => target.starts_with(b"http://") || target.starts_with(b"https://"),
        };
        if !shape || !target.iter().all(|byte| is_target(*byte)) {
            return Err("the target is neither a path nor an http URL");
        }
        Ok(())
    }

    fn take_host(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.trailers {
            return Err("a trailer changes the framing");
        }
        self.hosts += 1;
        if self.hosts > 1 {
            return Err("there is more than one Host");
        }
        let is_host = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(b);
        if value.iter().all(is_host) { Ok(()) } else { Err("the Host is not one") }
    }

    fn take_length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.trailers {
            return Err("a trailer changes the framing");
        }
        if self.length.is_some() {
            return Err("there is more than one Content-Length");
        }
        // 18 digits fit in 63 bits.
        if !(1..=18).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
            return Err("the Content-Length is not one number");
        }
        let length = value.iter().fold(0, |sum: u64, digit| sum * 10 + u64::from(digit - b'0'));
        self.length = Some(length);
        Ok(())
    }

    fn take_encoding(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if self.trailers {
            return Err("a trailer changes the framing");
        }
        if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
            return Err("the Transfer-Encoding is not chunked alone");
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self) -> Result<Framing, &'static str> {
        if self.lines == 0 {
            return Err("there are empty lines before the request");
        }
        if self.trailers {
            return Ok(Framing::None);
        }
        if self.version == Version::Http11 && self.hosts == 0 {
            return Err("there is no Host");
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err("there is a Content-Length beside a Transfer-Encoding"),
            (true, None) if self.version == Version::Http10 => {
                Err("HTTP/1.0 has no Transfer-Encoding")
            }
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) => Ok(Framing::None),
            (false, Some(length)) => Ok(Framing::Length(length)),
        }
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
