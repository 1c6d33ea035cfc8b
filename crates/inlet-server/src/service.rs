//! What answers, as the server calls it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};

use crate::body::Body;
use crate::counters::ConnectionCounters;
use crate::peer::{Peer, Refusal};

/// Answers the requests of a [`Server`](crate::Server). One is shared by all threads.
pub trait Service: Send + Sync + 'static {
    /// The body of an answer. An error in it closes the connection, or resets the stream, before
    /// the end.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request of `peer`. This never fails: what goes wrong is an answer too.
    ///
    /// If [`Peer::redirects_to`] has a port, the request came to a listener that only redirects
    /// there. The future is dropped when the connection ends before the answer.
    fn answer(
        self: Arc<Self>,
        request: Request<Body>,
        peer: Peer,
    ) -> impl Future<Output = Response<Self::Body>> + Send + 'static;

    /// The answer to what can't be read as a request. The connection is closed after it.
    fn refuse(&self, refusal: Refusal, peer: Peer) -> Response<Self::Body>;

    /// The counters that the server counts connections with.
    fn counters(&self) -> &ConnectionCounters;
}
