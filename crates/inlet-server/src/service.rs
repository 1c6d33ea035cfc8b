//! What answers, as the server calls it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::counters::ConnectionCounters;
use crate::state::Busy;

/// What a [`Service`] comes to.
pub type Answered<B> = Result<Response<AnswerBody<B>>, Infallible>;

/// What answers the requests of a [`Server`](crate::Server). One is shared by all threads.
pub trait Service: Send + Sync + 'static {
    /// The body of an answer, without the connection that is busy with it. An error in it closes
    /// the connection, or resets the stream, before the end.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// Answers one request of `connection`. This never fails: what goes wrong is an answer too.
    ///
    /// Where [`ConnectionState::refusal_of`](crate::ConnectionState::refusal_of) has a reason, the
    /// request stands for one that is refused and is to be answered with that. Where
    /// [`ConnectionState::redirects_to`](crate::ConnectionState::redirects_to) has a port, it came
    /// to a door that only redirects. The future is dropped when the client goes away.
    fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        connection: Busy,
    ) -> impl Future<Output = Answered<Self::Body>> + Send + 'static;

    /// The counters that the server counts connections with.
    fn counters(&self) -> &ConnectionCounters;
}

/// The body of an answer, with the connection that is busy until the last of it is sent.
#[derive(Debug)]
pub struct AnswerBody<B> {
    body: B,
    connection: Busy,
    /// Whether the next piece of it is there for the asking, as far as is known: nobody asks where
    /// the client's window is shut.
    is_owed: bool,
}

impl Busy {
    /// The answer as the server sends it: the connection is busy until its body is over.
    pub fn answer<B: Body>(self, mut answer: Response<B>) -> Response<AnswerBody<B>> {
        if self.says_close() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer.map(|body| {
            let mut body = AnswerBody { body, connection: self, is_owed: false };
            body.note_owed(!body.body.is_end_stream());
            body
        })
    }
}

impl<B> AnswerBody<B> {
    fn note_owed(&mut self, is_owed: bool) {
        self.connection.note_owed(self.is_owed, is_owed);
        self.is_owed = is_owed;
    }
}

impl<B> Drop for AnswerBody<B> {
    fn drop(&mut self) {
        self.note_owed(false);
    }
}

impl<B: Body + Unpin> Body for AnswerBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        let has_more = matches!(frame, Poll::Ready(Some(Ok(_)))) && !self.body.is_end_stream();
        self.note_owed(has_more);
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
