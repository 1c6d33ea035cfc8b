//! One check: a connection of its own, `GET` of the check's path, and its status.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{HOST, USER_AGENT};

use crate::pool::{Connector, Outgoing};

/// The largest body of a check's answer that is read, in bytes; more is a failure.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Whether the backend answers `path` with a status from 200 to 299 in time. It is asked on a new
/// connection, because one that stands says nothing about whether another can be made.
pub(crate) async fn probe(connector: &Connector, path: &str, timeout: Duration) -> bool {
    tokio::time::timeout(timeout, ask(connector, path)).await.unwrap_or(false)
}

async fn ask(connector: &Connector, path: &str) -> bool {
    let Ok(mut connection) = connector.connect().await else { return false };
    let request = Request::get(path)
        .header(HOST, "inlet")
        .header(USER_AGENT, "inlet-edge")
        .body(Outgoing::Kept(Bytes::new()));
    let Ok(request) = request else { return false };
    let Ok(answer) = connection.send(request).await else { return false };
    if !answer.status().is_success() {
        return false;
    }
    let mut body = pin!(answer.into_body());
    let mut bytes = 0;
    poll_fn(|cx| {
        loop {
            match http_body::Body::poll_frame(body.as_mut(), cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(true),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    if bytes > ANSWER_BYTES_MAX {
                        return Poll::Ready(false);
                    }
                }
            }
        }
    })
    .await
}
