//! A strict check of HTTP/1 framing, in front of hyper and without IO.
//!
//! hyper takes requests that two servers in a row can read in two ways: without `Host` or with
//! two, with `Content-Length` beside `Transfer-Encoding`, with bare line feeds. Each of those is a
//! way to smuggle a request past whoever stands in front. Here a connection's bytes are followed
//! from head to body to head; what is whole and unambiguous is let through unchanged, and the
//! first thing that is not ends it.
//!
//! What is refused, beyond what RFC 9112 calls malformed: a request line or header line that does
//! not end in CRLF, a control character anywhere, whitespace before a colon, a folded line, a
//! `Content-Length` twice or as a list (also of equal values), any `Transfer-Encoding` but
//! `chunked`, the two together, a `Host` that is missing, doubled or not a host, a target that is
//! neither a path nor an `http` URL, a chunk extension, a trailer that would change the framing.
//!
//! ```text
//! Head ──▶ Length(n) ──────────────────────────────▶ Head
//!     ├──▶ ChunkSize ⇄ ChunkData(n) ─▶ ChunkEnd ─▶ Trailers ─▶ Head
//!     └──▶ Head (no body)
//! ```

mod chunked;
mod head;

use self::chunked::Chunked;
use self::head::{Framing, HeadScan};

/// The largest head, and the largest trailer section, in bytes.
pub(crate) const HEAD_BYTES_MAX: usize = 32 << 10;
/// The most header lines in a head.
pub(crate) const HEADERS_MAX: usize = 100;

/// The method of the request that is put in place of one that is refused. No handler has it.
pub(crate) const REFUSED_METHOD: &str = "REFUSED";
/// What hyper is given in place of a head that is refused; after it comes the end.
pub(crate) const REFUSED_REQUEST: &[u8] =
    b"REFUSED / HTTP/1.1\r\nHost: refused\r\nConnection: close\r\n\r\n";

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its head: it can still be answered in its place.
    Head(&'static str),
    /// The framing of its body, whose head was let through before.
    Body(&'static str),
}

/// What one look at the bytes came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// So many bytes are good. What follows is a part of a head, or what is at fault.
    pub(crate) good: usize,
    /// What ended it.
    pub(crate) fault: Option<Fault>,
}

/// Follows one connection.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    state: State,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Length(u64),
    Chunked(Chunked),
    Trailers(HeadScan),
    Over(Fault),
}

impl Default for State {
    fn default() -> Self {
        Self::Head(HeadScan::default())
    }
}

impl Scanner {
    /// Whether a body is under way.
    pub(crate) fn in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_) | State::Trailers(_))
    }

    /// Whether a part of a head was seen that was not let through.
    pub(crate) fn in_head(&self) -> bool {
        matches!(&self.state, State::Head(scan) if scan.has_begun())
    }

    /// Looks at `bytes`: those that were not good the last time, and what came since.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Scanned {
        let mut good = 0;
        loop {
            let rest = &bytes[good..];
            let step = match &mut self.state {
                State::Over(fault) => return Scanned { good, fault: Some(*fault) },
                _ if rest.is_empty() => return Scanned { good, fault: None },
                State::Head(scan) => scan.scan(rest).map_err(Fault::Head).map(|done| {
                    done.map(|head| {
                        let next = match head.framing {
                            Framing::None => State::default(),
                            Framing::Length(bytes) => State::Length(bytes),
                            Framing::Chunked => State::Chunked(Chunked::default()),
                        };
                        (head.bytes, next)
                    })
                }),
                State::Length(left) => {
                    let bytes =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= bytes as u64;
                    let next = if *left == 0 { State::default() } else { State::Length(*left) };
                    Ok(Some((bytes, next)))
                }
                State::Chunked(chunked) => {
                    let taken = chunked.scan(rest);
                    good += taken.bytes;
                    match taken.fault {
                        Some(fault) => Err(Fault::Body(fault)),
                        None if taken.last => Ok(Some((0, State::Trailers(HeadScan::trailers())))),
                        None => return Scanned { good, fault: None },
                    }
                }
                State::Trailers(scan) => scan
                    .scan(rest)
                    .map_err(Fault::Body)
                    .map(|done| done.map(|head| (head.bytes, State::default()))),
            };
            match step {
                Ok(Some((bytes, next))) => {
                    good += bytes;
                    self.state = next;
                }
                Ok(None) => return Scanned { good, fault: None },
                Err(fault) => self.state = State::Over(fault),
            }
        }
    }
}

#[cfg(test)]
mod tests;
