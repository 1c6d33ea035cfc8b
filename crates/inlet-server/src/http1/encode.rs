//! Writing the head of an answer.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, TRANSFER_ENCODING};
use http::{StatusCode, response};

use crate::clock;

/// The framing of the body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnswerBody {
    /// There is none, and the status or the method says so.
    None,
    /// So many bytes; `is_sent` is false where the method is HEAD.
    Length {
        bytes: u64,
        is_sent: bool,
    },
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// The connection option that an answer states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionOption {
    /// Nothing: it stays open, as is usual.
    Unsaid,
    /// It stays open, which a client of HTTP/1.0 wants to be told.
    KeepAlive,
    Close,
}

/// Returns true if an answer of that status may have a body.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Returns true if the service wants the connection closed after its answer.
pub(crate) fn says_close(head: &response::Parts) -> bool {
    let mut values = head.headers.get_all(CONNECTION).iter();
    values.any(|value| {
        let mut options = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        options.any(|option| option.eq_ignore_ascii_case(b"close"))
    })
}

/// Writes a head. What concerns the connection and the framing is written from `body` and
/// `connection`, whatever the service said of it.
pub(crate) fn write_head(
    out: &mut Vec<u8>,
    head: &response::Parts,
    is_http10: bool,
    body: AnswerBody,
    connection: ConnectionOption,
) {
    write_status(out, head.status, is_http10);
    for (name, value) in &head.headers {
        if is_of_connection(name) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    match body {
        AnswerBody::Length { bytes, .. } => {
            out.extend_from_slice(b"content-length: ");
            write_decimal(out, bytes);
            out.extend_from_slice(b"\r\n");
        }
        AnswerBody::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        AnswerBody::None | AnswerBody::UntilClose => {}
    }
    match connection {
        ConnectionOption::Unsaid => {}
        ConnectionOption::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        ConnectionOption::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    if !head.headers.contains_key(DATE) {
        write_date(out);
    }
    out.extend_from_slice(b"\r\n");
}

fn is_of_connection(name: &http::HeaderName) -> bool {
    *name == CONNECTION || *name == TRANSFER_ENCODING || *name == CONTENT_LENGTH
}

fn write_status(out: &mut Vec<u8>, status: StatusCode, is_http10: bool) {
    out.extend_from_slice(if is_http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Other").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// The length that the service announced itself, in bytes.
pub(crate) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Writes a number in decimal digits.
pub(crate) fn write_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = DIGITS[usize::try_from(number % 10).unwrap_or(0)];
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes the line before the data of a chunk.
pub(crate) fn write_chunk_size(out: &mut Vec<u8>, bytes: usize) {
    let mut digits = [0; 16];
    let (mut at, mut number) = (digits.len(), bytes);
    loop {
        at -= 1;
        digits[at] = DIGITS[number & 15];
        number >>= 4;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The `Date` line of the present second. No rule hangs on it, so the system's clock is read here.
#[derive(Default)]
struct DateLine {
    second: u64,
    line: String,
}

/// Writes no line while the clock shows what is no date in HTTP.
fn write_date(out: &mut Vec<u8>) {
    thread_local! {
        static DATE_LINE: RefCell<DateLine> = RefCell::default();
    }
    DATE_LINE.with_borrow_mut(|date| {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if second != date.second || date.line.is_empty() {
            let line = match clock::has_a_date() {
                true => format!("date: {}\r\n", httpdate::fmt_http_date(now)),
                false => String::new(),
            };
            *date = DateLine { second, line };
        }
        out.extend_from_slice(date.line.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_printed() {
        for number in [0, 7, 10, 255, 4_096, u64::MAX] {
            let mut out = Vec::new();
            write_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
        for bytes in [0, 1, 15, 16, 255, 65_536, usize::MAX] {
            let mut out = Vec::new();
            write_chunk_size(&mut out, bytes);
            assert_eq!(out, format!("{bytes:x}\r\n").into_bytes());
        }
    }

    #[test]
    fn a_service_cannot_write_the_framing_of_its_answer() {
        let answer = http::Response::builder()
            .status(202)
            .header("x", "y")
            .header("content-length", "7")
            .header("transfer-encoding", "chunked")
            .header("connection", "upgrade")
            .header("date", "today")
            .body(());
        let head = answer.unwrap().into_parts().0;
        let mut out = Vec::new();
        let body = AnswerBody::Length { bytes: 3, is_sent: true };
        write_head(&mut out, &head, false, body, ConnectionOption::Close);
        let expected = "HTTP/1.1 202 Accepted\r\nx: y\r\ndate: today\r\ncontent-length: 3\r\n\
                        connection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
