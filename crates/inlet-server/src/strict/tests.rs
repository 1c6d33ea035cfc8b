//! What is let through, what is not, and that it does not matter how the bytes arrive.

use super::*;

/// What came of a connection: the bytes that were let through, and what ended it.
fn run(pieces: &[&[u8]]) -> (Vec<u8>, Option<Fault>) {
    let (mut scanner, mut passed, mut held) = (Scanner::default(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let scanned = scanner.scan(&held);
        passed.extend(held.drain(..scanned.good));
        if scanned.fault.is_some() {
            return (passed, scanned.fault);
        }
    }
    (passed, None)
}

const GOOD: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET /a?b=c%20d&e={f} HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
    "GET http://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
    "POST / HTTP/1.1\r\nHOST:a\r\ncontent-length:5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n00a\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \t z \t\r\nZ: \u{e4}\r\n\r\n",
    "GET / HTTP/1.1\r\nHost:\r\n\r\n",
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
    ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tfolded\r\n\r\n", "no colon"),
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
    ("REFUSED / HTTP/1.1\r\nHost: a\r\n\r\n", "method"),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "empty lines"),
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
    ("5;a=b\r\nhello\r\n0\r\n\r\n", "extension"),
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
fn what_is_well_formed_is_let_through_unchanged_however_it_is_cut() {
    for text in GOOD {
        let bytes = text.as_bytes();
        assert_eq!(run(&[bytes]), (bytes.to_vec(), None), "{text:?}");
        for cut in 0..=bytes.len() {
            let pieces = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(run(&pieces), (bytes.to_vec(), None), "{text:?} cut at {cut}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(run(&single), (bytes.to_vec(), None), "{text:?} byte by byte");
    }
}

#[test]
fn a_bad_head_is_refused_with_its_reason_and_nothing_of_it_is_let_through() {
    for (text, reason) in BAD_HEADS {
        for before in ["", GOOD[0], GOOD[6], GOOD[8]] {
            let all = format!("{before}{text}");
            let (passed, fault) = run(&[all.as_bytes()]);
            assert_eq!(passed, before.as_bytes(), "{all:?}");
            let Some(Fault::Head(given)) = fault else { panic!("{all:?} gave {fault:?}") };
            assert!(given.contains(reason), "{all:?} gave {given:?}");
        }
    }
}

#[test]
fn a_bad_head_is_refused_however_it_is_cut() {
    for (text, _) in BAD_HEADS {
        let bytes = text.as_bytes();
        for cut in 0..bytes.len() {
            let (passed, fault) = run(&[&bytes[..cut], &bytes[cut..]]);
            assert!(matches!(fault, Some(Fault::Head(_))), "{text:?} cut at {cut}");
            assert!(passed.is_empty(), "{text:?} cut at {cut}");
        }
    }
}

#[test]
fn a_bad_chunked_body_ends_before_its_fault_however_it_is_cut() {
    for (text, reason) in BAD_BODIES {
        let all = format!("{CHUNKED}{text}");
        let bytes = all.as_bytes();
        for cut in 0..bytes.len() {
            let (passed, fault) = run(&[&bytes[..cut], &bytes[cut..]]);
            let Some(Fault::Body(given)) = fault else { panic!("{all:?} gave {fault:?}") };
            assert!(given.contains(reason), "{all:?} gave {given:?}");
            assert!(bytes.starts_with(&passed) && passed.len() < bytes.len(), "{all:?}");
        }
    }
}

#[test]
fn after_a_fault_nothing_more_is_let_through() {
    let mut scanner = Scanner::default();
    assert!(scanner.scan(b"GET / HTTP/1.1\r\n\r\n").fault.is_some());
    let again = scanner.scan(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(again.fault.is_some() && again.good == 0);
}

#[test]
fn requests_in_a_row_are_told_apart() {
    let all = GOOD.concat();
    for cut in 0..all.len() {
        let (passed, fault) = run(&[&all.as_bytes()[..cut], &all.as_bytes()[cut..]]);
        assert_eq!((passed.len(), fault), (all.len(), None), "cut at {cut}");
    }
}

#[test]
fn a_head_is_bounded_in_bytes_and_in_lines_also_where_it_never_ends() {
    let line = "X: y\r\n".repeat(HEADERS_MAX - 1);
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{line}");
    assert_eq!(run(&[format!("{head}\r\n").as_bytes()]).1, None);
    let (_, fault) = run(&[format!("{head}X: y\r\n\r\n").as_bytes()]);
    assert_eq!(fault, Some(Fault::Head("there are more than 100 header lines")));
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
    let large = Some(Fault::Head("the head is larger than 32 KiB"));
    assert_eq!(run(&[long.as_bytes()]).1, large);
    assert_eq!(run(&[format!("{long}\r\n\r\n").as_bytes()]).1, large);
}

#[test]
fn a_scanner_knows_where_it_is() {
    let mut scanner = Scanner::default();
    assert!(!scanner.in_head() && !scanner.in_body());
    scanner.scan(b"GET /");
    assert!(scanner.in_head());
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
    let mut scanner = Scanner::default();
    assert_eq!(scanner.scan(head).good, head.len());
    assert!(scanner.in_body());
    scanner.scan(b"{}");
    assert!(!scanner.in_head() && !scanner.in_body());
}
