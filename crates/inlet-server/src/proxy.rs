//! The PROXY protocol: what a proxy says, before anything else, of the client it speaks for.
//!
//! Source: <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>. Read strictly: a header
//! that is not just as described there ends the connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Begins a header of version 1.
const WORD: &[u8; 6] = b"PROXY ";
/// The longest header of version 1, in bytes.
const TEXT_BYTES_MAX: usize = 107;
/// The fixed part of a header of version 2, in bytes.
const FIXED_BYTES: usize = 16;
/// The most bytes after the fixed part: addresses, and what a proxy adds about its client.
const REST_BYTES_MAX: usize = 4 << 10;

/// A header that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its size in bytes.
    pub(crate) bytes: usize,
    /// The client's address, where the proxy speaks for one and knows it.
    pub(crate) client: Option<IpAddr>,
}

/// The reason a header is refused.
pub(crate) type Fault = &'static str;

/// Reads the header that `bytes` begin with; `None` while it is not whole.
///
/// # Errors
/// A description of the fault in it.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let begins = |with: &[u8]| bytes.starts_with(with) || with.starts_with(bytes);
    if begins(SIGNATURE) {
        return read_binary(bytes);
    }
    if begins(WORD) {
        return read_text(bytes);
    }
    Err("it does not begin with a PROXY header")
}

/// `PROXY TCP4 SOURCE DESTINATION PORT PORT CRLF`, or `PROXY UNKNOWN … CRLF`.
fn read_text(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    const SHAPE: Fault = "the PROXY header is not of its form";
    let Some(end) = bytes.iter().take(TEXT_BYTES_MAX).position(|byte| *byte == b'\n') else {
        return if bytes.len() < TEXT_BYTES_MAX { Ok(None) } else { Err(SHAPE) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(SHAPE)?;
    let line = std::str::from_utf8(line).map_err(|_| SHAPE)?;
    let header = |client| Ok(Some(Header { bytes: end + 1, client }));
    let mut words = line.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return header(None);
    }
    let mut next = || words.next().ok_or(SHAPE);
    let (source, destination) = (next()?, next()?);
    let ports = [next()?, next()?];
    if words.next().is_some() || !ports.iter().all(|port| is_port(port)) {
        return Err(SHAPE);
    }
    let client = match family {
        Some("TCP4") => pair::<Ipv4Addr>(source, destination).map(IpAddr::from),
        Some("TCP6") => pair::<Ipv6Addr>(source, destination).map(IpAddr::from),
        _ => None,
    };
    header(Some(client.ok_or(SHAPE)?))
}

fn pair<A: std::str::FromStr>(source: &str, destination: &str) -> Option<A> {
    destination.parse::<A>().ok()?;
    source.parse().ok()
}

/// Returns true if it is a number up to 65535 in decimal digits, without zeros before it.
fn is_port(text: &str) -> bool {
    let is_plain = text == "0" || !text.starts_with('0');
    is_plain && text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Signature, version and command, family and transport, length; then addresses and more.
fn read_binary(bytes: &[u8]) -> Result<Option<Header>, Fault> {
    let Some(fixed) = bytes.first_chunk::<FIXED_BYTES>() else { return Ok(None) };
    let rest_bytes = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if rest_bytes > REST_BYTES_MAX {
        return Err("the PROXY header is too large");
    }
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err("the PROXY header has an unknown version or command"),
    };
    // Of what comes by a stream; by datagrams nothing comes here.
    let address_bytes = match fixed[13] {
        0x00 => 0,
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Err("the PROXY header has an unknown family or transport"),
    };
    let Some(rest) = bytes[FIXED_BYTES..].get(..rest_bytes) else { return Ok(None) };
    let header = |client| Ok(Some(Header { bytes: FIXED_BYTES + rest_bytes, client }));
    if is_local {
        // The proxy speaks for itself, as it does to see whether we are here.
        return header(None);
    }
    let Some((addresses, more)) = rest.split_at_checked(address_bytes) else {
        return Err("the PROXY header has no room for its addresses");
    };
    if address_bytes > 0 && !is_list(more) {
        return Err("the PROXY header does not end where it should");
    }
    header(match (fixed[13], addresses.first_chunk::<4>(), addresses.first_chunk::<16>()) {
        (0x11, Some(source), _) => Some(Ipv4Addr::from(*source).into()),
        (0x21, _, Some(source)) => Some(Ipv6Addr::from(*source).into()),
        _ => None,
    })
}

/// Returns true if it is a list of values, each after its type and its length.
fn is_list(mut more: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = more {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(after) = rest.get(length..) else { return false };
        more = after;
    }
    more.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE.as_slice(), &[command, family], &length, rest].concat()
    }

    fn v4(more: &[u8]) -> Vec<u8> {
        [&[192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187], more].concat()
    }

    fn good() -> Vec<(Vec<u8>, Option<&'static str>)> {
        let v6 = [Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::UNSPECIFIED.octets()].concat();
        let v6 = [v6, vec![0, 80, 1, 187]].concat();
        vec![
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65535\r\n".to_vec(), Some("192.0.2.1")),
            (b"PROXY TCP6 2001:db8::1 ::1 0 443\r\n".to_vec(), Some("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &v4(b"")), Some("192.0.2.1")),
            (binary(0x21, 0x11, &v4(&[0x04, 0, 2, 7, 7, 0x01, 0, 0])), Some("192.0.2.1")),
            (binary(0x21, 0x21, &v6), Some("::1")),
            (binary(0x21, 0x31, &[0; 216]), None),
            (binary(0x21, 0x00, b"anything"), None),
            (binary(0x20, 0x00, b""), None),
            (binary(0x20, 0x11, &v4(b"")), None),
        ]
    }

    #[test]
    fn a_header_is_read_once_it_is_whole_and_no_further() {
        for (header, client) in good() {
            for cut in 0..header.len() {
                assert_eq!(read(&header[..cut]), Ok(None), "{header:?} cut at {cut}");
            }
            let client = client.map(|client| client.parse().unwrap());
            let expected = Ok(Some(Header { bytes: header.len(), client }));
            assert_eq!(read(&header), expected, "{header:?}");
            assert_eq!(read(&[&header, b"GET / HTTP/1.1\r\n".as_slice()].concat()), expected);
        }
    }

    #[test]
    fn what_is_not_just_as_described_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        let texts = [
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 192.0.2 198.51.100.1 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY UNKNOWN\n",
            "\r\n\r\n\0\r\nQUIP\n",
            long.as_str(),
        ];
        let binaries = [
            binary(0x11, 0x11, &v4(b"")),
            binary(0x22, 0x11, &v4(b"")),
            binary(0x21, 0x12, &v4(b"")),
            binary(0x21, 0x41, &v4(b"")),
            binary(0x21, 0x11, &v4(b"")[..11]),
            binary(0x21, 0x11, &v4(&[1])),
            binary(0x21, 0x11, &v4(&[1, 0, 2, 7])),
            binary(0x21, 0x11, &[0; 5_000]),
        ];
        let texts = texts.iter().map(|text| text.as_bytes().to_vec());
        for header in texts.chain(binaries) {
            assert!(read(&header).is_err(), "{:?}", String::from_utf8_lossy(&header));
        }
    }
}
