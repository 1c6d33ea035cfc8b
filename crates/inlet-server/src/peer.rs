//! Who sent a request, and what was refused of what they sent.

use std::net::IpAddr;

/// The other end of a connection, and the listener it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The address of the client, or of the proxy that it came through.
    pub address: IpAddr,
    /// True if the client speaks TLS to us. Behind a proxy that ends TLS it does not.
    pub is_secure: bool,
    /// The port of HTTPS, where the listener only redirects there.
    pub redirects_to: Option<u16>,
}

/// The reason a request is refused before its head is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its head is not well-formed, for this reason.
    Malformed(&'static str),
    /// Its head has more bytes or more lines than
    /// [`ServerOptions`](crate::ServerOptions) allow.
    HeadTooLarge,
    /// Its head took longer than [`Deadlines::head`](crate::Deadlines::head).
    Late,
}
