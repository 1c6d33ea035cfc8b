//! Heads and bodies as they are taken apart, however their bytes arrive.

use super::head::Delimited;
use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes_max: 32 << 10, lines_max: 100 };

/// The kind of the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Head(HeadFault),
    Body(&'static str),
}

/// Requests that were read whole, as `METHOD TARGET BODY`, and what ended it.
fn read(pieces: &[&[u8]]) -> (Vec<String>, Option<Fault>) {
    let (mut input, mut scan) = (BytesMut::new(), HeadScan::default());
    let (mut requests, mut body): (Vec<String>, Option<Framing>) = (Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            if let Some(framing) = &mut body {
                let taken = match framing.take(&mut input) {
                    Ok(taken) => taken,
                    Err(reason) => return (requests, Some(Fault::Body(reason))),
                };
                let text = requests.last_mut().unwrap();
                text.push_str(&String::from_utf8_lossy(&taken.data));
                match (taken.is_over, taken.data.is_empty()) {
                    (true, _) => body = None,
                    (false, true) => break,
                    (false, false) => {}
                }
                continue;
            }
            match scan.scan(&input, LIMITS) {
                Ok(Some(head)) => {
                    let bytes = input.split_to(head.bytes).freeze();
                    let parts = match scan.parts(&bytes) {
                        Ok(parts) => parts,
                        Err(fault) => return (requests, Some(Fault::Head(fault))),
                    };
                    scan.reset();
                    requests.push(format!("{} {} ", parts.method, parts.uri));
                    body = Some(Framing::new(head.body));
                }
                Ok(None) => break,
                Err(fault) => return (requests, Some(Fault::Head(fault))),
            }
        }
    }
    if body.is_some() {
        requests.pop();
    }
    (requests, None)
}

/// Texts, and the requests in them.
const GOOD: &[(&str, &str)] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / "),
    ("GET / HTTP/1.0\r\n\r\n", "GET / "),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / "),
    ("GET /a?b=c%20d&e={f} HTTP/1.1\r\nHost: a.example:8080\r\n\r\n", "GET /a?b=c%20d&e={f} "),
    ("GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/b "),
    ("OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "OPTIONS * "),
    ("POST / HTTP/1.1\r\nHOST:a\r\ncontent-length:5\r\n\r\nhello", "POST / hello"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "POST / "),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "POST / hello",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n00a\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        "POST / 0123456789",
    ),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / \r\n\n|GET / ",
    ),
    ("GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t z \t\r\nZ: \u{e4}\r\n\r\n", "GET / "),
    ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / "),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / "),
    ("OPTIONS / HTTP/1.0\r\n\r\n", "OPTIONS / "),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d;e\"\r\nhello\r\n5 \t;x\r\nworld\r\n0;z\r\n\r\n",
        "POST / helloworld",
    ),
];

const BAD_HEADS: &[(&str, &str)] = &[
    ("GET / HTTP/1.1\r\n\r\n", "there is no Host"),
    ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "more than one Host"),
    ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "Host is not one"),
    ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "Host is not one"),
    ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "Host is not one"),
    ("GET / HTTP/1.1\nHost: a\n\n", "does not end in CRLF"),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", "does not end in CRLF"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", "does not end in CRLF"),
    ("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", "control character"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "control character"),
    ("GET / HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n", "folded"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tfolded\r\n\r\n", "folded"),
    ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "whitespace before a colon"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n", "not a token"),
    ("GET / HTTP/1.1\r\nHost: a\r\n: z\r\n\r\n", "not a token"),
    ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", "no colon"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "version"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "version"),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "version"),
    ("GET / HTTP/1.1x\r\nHost: a\r\n\r\n", "version"),
    ("GET /\r\n\r\n", "request line"),
    ("GET\r\n\r\n", "request line"),
    ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "not a token"),
    ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", "target"),
    ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "method"),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "begin with a method"),
    ("\u{16}\u{3}\u{1}", "begin with a method"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7, 7\r\n\r\n", "one number"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nContent-Length: 7\r\n\r\n",
        "more than one",
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +7\r\n\r\n", "one number"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x7\r\n\r\n", "one number"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "one number"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "one number"),
    ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", "one number"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "beside a Transfer-Encoding",
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "chunked alone"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", "chunked alone"),
    (
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "chunked alone",
    ),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", "chunked alone"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", "chunked alone"),
    ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n", "control"),
    ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
];

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

const BAD_BODIES: &[(&str, &str)] = &[
    ("5\nhello\r\n0\r\n\r\n", "hexadecimal"),
    ("5\r\nhello0\r\n\r\n", "does not end in CRLF"),
    ("5\r\nhello\n0\r\n\r\n", "does not end in CRLF"),
    ("5\r\nhello\r\n0\r\n\n", "does not end in CRLF"),
    ("5;a\nb\r\nhello\r\n0\r\n\r\n", "extension"),
    ("5;a\rb\r\nhello\r\n0\r\n\r\n", "does not end in CRLF"),
    ("5;a\0b\r\nhello\r\n0\r\n\r\n", "extension"),
    (" 5\r\nhello\r\n0\r\n\r\n", "hexadecimal"),
    ("5 \r\nhello\r\n0\r\n\r\n", "hexadecimal"),
    ("0x5\r\nhello\r\n0\r\n\r\n", "hexadecimal"),
    ("-5\r\nhello\r\n0\r\n\r\n", "hexadecimal"),
    ("\r\n", "hexadecimal"),
    ("5\r\r\nhello", "chunk's line does not end in CRLF"),
    ("0000000000000005\r\nhello\r\n0\r\n\r\n", "too large"),
    ("ffffffffffffffff\r\n", "too large"),
    ("0\r\nContent-Length: 5\r\n\r\n", "trailer"),
    ("0\r\nHost: a\r\n\r\n", "trailer"),
    ("0\r\nTransfer-Encoding: chunked\r\n\r\n", "trailer"),
];

#[test]
fn what_is_well_formed_is_read_however_it_is_cut() {
    for (text, request) in GOOD {
        let bytes = text.as_bytes();
        let expected: Vec<String> = request.split('|').map(str::to_owned).collect();
        assert_eq!(read(&[bytes]), (expected.clone(), None), "{text:?}");
        for cut in 0..=bytes.len() {
            let pieces = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(read(&pieces), (expected.clone(), None), "{text:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(read(&single), (expected, None), "{text:?} byte by byte");
    }
}

#[test]
fn a_bad_head_is_refused_with_its_reason_however_it_is_cut() {
    for (text, reason) in BAD_HEADS {
        for (before, count) in [("", 0), (GOOD[0].0, 1), (GOOD[6].0, 1)] {
            let all = format!("{before}{text}");
            let bytes = all.as_bytes();
            for cut in 0..bytes.len() {
                let (requests, fault) = read(&[&bytes[..cut], &bytes[cut..]]);
                assert_eq!(requests.len(), count, "{all:?} cut at {cut}");
                let Some(Fault::Head(HeadFault::Malformed(given))) = fault else {
                    panic!("{all:?} cut at {cut} gave {fault:?}")
                };
                assert!(given.contains(reason), "{all:?} gave {given:?}");
            }
        }
    }
}

#[test]
fn a_bad_chunked_body_ends_at_its_fault_however_it_is_cut() {
    for (text, reason) in BAD_BODIES {
        let all = format!("{CHUNKED}{text}");
        let bytes = all.as_bytes();
        for cut in 0..bytes.len() {
            let (_, fault) = read(&[&bytes[..cut], &bytes[cut..]]);
            let Some(Fault::Body(given)) = fault else { panic!("{all:?} gave {fault:?}") };
            assert!(given.contains(reason), "{all:?} gave {given:?}");
        }
    }
}

#[test]
fn requests_in_a_row_are_told_apart() {
    let all: String = GOOD.iter().map(|(text, _)| *text).collect();
    let whole = read(&[all.as_bytes()]);
    assert_eq!(whole.1, None);
    assert_eq!(whole.0.len(), GOOD.len() + 1, "one of them is two");
    for cut in 0..all.len() {
        assert_eq!(read(&[&all.as_bytes()[..cut], &all.as_bytes()[cut..]]), whole, "cut at {cut}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_in_lines_also_where_it_never_ends() {
    let line = "X: y\r\n".repeat(LIMITS.lines_max - 1);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}");
    assert_eq!(read(&[format!("{head}\r\n").as_bytes()]).1, None);
    let large = Some(Fault::Head(HeadFault::TooLarge));
    assert_eq!(read(&[format!("{head}X: y\r\n\r\n").as_bytes()]).1, large);
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(LIMITS.bytes_max));
    assert_eq!(read(&[long.as_bytes()]).1, large);
    assert_eq!(read(&[format!("{long}\r\n\r\n").as_bytes()]).1, large);
}

#[test]
fn empty_lines_before_a_request_are_read_past_up_to_a_bound() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for lines in 0..=8 {
        let all = "\r\n".repeat(lines) + request;
        assert_eq!(read(&[all.as_bytes()]), (vec!["GET / ".to_owned()], None), "{lines} lines");
    }
    let (_, fault) = read(&["\r\n".repeat(9).as_bytes()]);
    assert!(matches!(fault, Some(Fault::Head(HeadFault::Malformed(_)))), "{fault:?}");
}

#[test]
fn chunk_extensions_and_trailers_are_bounded_over_a_whole_body() {
    let chunk = |bytes: usize| format!("1;{}\r\na\r\n", "x".repeat(bytes));
    let within = format!("{CHUNKED}{}{}0\r\n\r\n", chunk(8_000), chunk(8_000));
    assert_eq!(read(&[within.as_bytes()]), (vec!["POST / aa".to_owned()], None));
    let (_, fault) = read(&[format!("{CHUNKED}{}{}", chunk(8_000), chunk(9_000)).as_bytes()]);
    assert_eq!(fault, Some(Fault::Body("the chunk extensions are too large")));
    let (_, fault) = read(&[format!("{CHUNKED}0\r\nX: {}", "y".repeat(17 << 10)).as_bytes()]);
    assert_eq!(fault, Some(Fault::Body("the trailers are too large")));
    let (_, fault) = read(&[format!("{CHUNKED}0\r\n{}\r\n", "X: y\r\n".repeat(101)).as_bytes()]);
    assert_eq!(fault, Some(Fault::Body("the trailers are too large")));
}

#[test]
fn a_large_chunk_is_not_copied_and_small_ones_come_together() {
    let mut framing = Framing::new(Delimited::Chunked);
    let large = "x".repeat(20_000);
    let all = format!("1\r\na\r\n1\r\nb\r\n{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
    let mut input = BytesMut::from(all.as_bytes());
    let at = input.as_ptr() as usize;
    let first = framing.take(&mut input).unwrap();
    assert_eq!((&first.data[..], first.is_over), (b"ab".as_slice(), false));
    let second = framing.take(&mut input).unwrap();
    assert_eq!(second.data, large);
    assert!((at..at + all.len()).contains(&(second.data.as_ptr() as usize)), "it was copied");
    assert!(framing.take(&mut input).unwrap().is_over);
    assert!(input.is_empty());
}

#[test]
fn what_a_head_says_of_its_connection_is_understood() {
    for (lines, keeps_alive, expects_continue) in [
        ("HTTP/1.1\r\nHost: a\r\n", true, false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", false, false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n", false, false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n", true, false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: keep-alive\r\n", false, false),
        ("HTTP/1.0\r\n", false, false),
        ("HTTP/1.0\r\nConnection: Keep-Alive\r\n", true, false),
        ("HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n", true, true),
        ("HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n", true, false),
        ("HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n", false, false),
        ("HTTP/1.1\r\nHost: a\r\nExpect: else\r\nContent-Length: 1\r\n", true, false),
    ] {
        let text = format!("GET / {lines}\r\n");
        let head = HeadScan::default().scan(text.as_bytes(), LIMITS).unwrap().unwrap();
        assert_eq!(
            (head.keeps_alive, head.expects_continue),
            (keeps_alive, expects_continue),
            "{lines:?}"
        );
    }
}
