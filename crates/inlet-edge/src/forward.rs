//! Sending a request to a backend, and to another where the first fails it.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode, request};
use http_body::Body;
use hyper::body::Incoming;

use crate::backend::{Backend, Lease};
use crate::body::{BackendBody, BoxError};
use crate::clock::{micros, now};
use crate::edge::State;
use crate::health::Outcome;
use crate::pool::{ClientBody, Outgoing, Upload, UploadFault};
use crate::problem::Problem;
use crate::retry::{Progress, is_safe};

/// A request on its way to a backend.
pub(crate) struct Outbound {
    pub(crate) head: request::Parts,
    pub(crate) body: OutboundBody,
    /// Whether a second request would do the same as the first, whatever the method.
    pub(crate) is_keyed: bool,
    pub(crate) body_bytes_max: u64,
}

/// Its body.
pub(crate) enum OutboundBody {
    /// Read whole, and kept for another time.
    Kept(Bytes),
    /// Streamed; nothing where it is on its way already.
    Streamed(Option<ClientBody>, Arc<Upload>),
}

/// An answer, and how it came about.
pub(crate) struct Forwarded {
    pub(crate) answer: Response<BackendBody>,
    pub(crate) backend: Arc<Backend>,
    pub(crate) attempts: u32,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failed {
    /// No connection could be made.
    Connect,
    /// The connection broke, or the answer was none.
    Broken(Progress, IsReused),
    /// No answer came in time, or the backend is down by now.
    Silent(Progress),
    /// The client's body can't be sent whole.
    Upload(UploadFault),
}

/// Whether the connection had carried a request before: one that had may have been closed by the
/// backend at the very moment it was taken, which says nothing about the backend.
type IsReused = bool;

impl OutboundBody {
    /// Reads a body of up to `kept_bytes_max`; a larger one, and one of unknown length, is
    /// streamed.
    ///
    /// # Errors
    /// When the client breaks off.
    pub(crate) async fn of<B>(
        body: B,
        kept_bytes_max: usize,
        bytes_max: u64,
    ) -> Result<Self, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if body.is_end_stream() {
            return Ok(Self::Kept(Bytes::new()));
        }
        if body.size_hint().exact().is_none_or(|bytes| bytes > kept_bytes_max as u64) {
            let body = http_body_util::BodyExt::map_err(body, Into::into);
            return Ok(Self::Streamed(Some(Box::pin(body)), Arc::new(Upload::new(bytes_max))));
        }
        let read = read(body).await.map(Self::Kept);
        read.map_err(|fault| fault_problem(fault, bytes_max))
    }

    /// How much of it came from the client, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Kept(bytes) => bytes.len() as u64,
            Self::Streamed(_, upload) => upload.bytes(),
        }
    }

    fn is_there(&self) -> bool {
        match self {
            Self::Kept(_) => true,
            Self::Streamed(body, upload) => body.is_some() && upload.bytes() == 0,
        }
    }

    fn take(&mut self) -> Outgoing {
        match self {
            Self::Kept(bytes) => Outgoing::Kept(bytes.clone()),
            Self::Streamed(body, upload) => match body.take() {
                Some(body) => Outgoing::Streamed(body, upload.clone()),
                None => Outgoing::Kept(Bytes::new()),
            },
        }
    }

    fn put_back(&mut self, outgoing: Outgoing) {
        if let (Self::Streamed(slot, _), Outgoing::Streamed(body, _)) = (self, outgoing) {
            *slot = Some(body);
        }
    }

    fn upload(&self) -> Option<&Arc<Upload>> {
        match self {
            Self::Kept(_) => None,
            Self::Streamed(_, upload) => Some(upload),
        }
    }
}

/// Reads a body whose length is announced. Where it comes in one piece it is not copied.
async fn read<B>(body: B) -> Result<Bytes, UploadFault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = pin!(body);
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    loop {
        let next = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let Some(frame) = next else { break };
        let frame = frame.map_err(|error| UploadFault::of(&error.into()))?;
        let Ok(data) = frame.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
        if body.is_end_stream() {
            break;
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

impl State {
    /// Sends a request until a backend answers it, or it must not be sent again.
    pub(crate) async fn forward(&self, outbound: &mut Outbound) -> Result<Forwarded, Problem> {
        let mut tried = Vec::new();
        let mut attempts = 1;
        let mut on_new_connection = false;
        let Some(mut backend) = self.choose(&tried) else {
            let is_empty = self.fleet.seating().all.is_empty();
            return Err(if is_empty { Problem::unavailable() } else { Problem::overloaded() });
        };
        loop {
            let failed = match self.attempt(&backend, outbound, on_new_connection).await {
                Ok(answer) => return Ok(Forwarded { answer, backend, attempts }),
                Err(failed) => failed,
            };
            let progress = match failed {
                Failed::Upload(fault) => return Err(fault_problem(fault, outbound.body_bytes_max)),
                Failed::Connect => Progress::Unsent,
                Failed::Broken(progress, _) | Failed::Silent(progress) => progress,
            };
            let may_repeat = is_safe(progress, &outbound.head.method, outbound.is_keyed)
                && outbound.body.is_there();
            if may_repeat && matches!(failed, Failed::Broken(_, true)) && !on_new_connection {
                on_new_connection = true;
                continue;
            }
            let outcome = match failed {
                Failed::Connect => Outcome::ConnectFailed,
                _ => Outcome::AnswerFailed,
            };
            let upload = outbound.body.upload();
            // Silence while the client still owes some of the body is not the backend's.
            if !matches!(failed, Failed::Silent(_)) || upload.is_none_or(|upload| upload.is_over())
            {
                self.report(&backend, outcome, 0);
            }
            let again = may_repeat && attempts < self.options.retry.attempts_max;
            tried.push(backend);
            let next = if again { self.choose(&tried) } else { None };
            backend = match next {
                Some(next) if self.budget.withdraw(self.fleet.requests(), now()) => next,
                _ => return Err(problem(&failed, progress)),
            };
            attempts += 1;
            on_new_connection = false;
            backend.counters.retried();
        }
    }

    fn choose(&self, tried: &[Arc<Backend>]) -> Option<Arc<Backend>> {
        self.fleet.choose(self.clock.now_ms(), tried)
    }

    async fn attempt(
        &self,
        backend: &Arc<Backend>,
        outbound: &mut Outbound,
        on_new_connection: bool,
    ) -> Result<Response<BackendBody>, Failed> {
        let lease = Lease::new(backend.clone());
        let began = now();
        let kept = if on_new_connection { None } else { backend.pool.take(began) };
        let mut connection = match kept {
            Some(connection) => connection,
            None => {
                backend.counters.connected();
                // Apart, so that the many requests that need no new connection need not carry
                // the room for making one.
                match Box::pin(backend.connector.connect()).await {
                    Ok(connection) => connection,
                    Err(error) => {
                        tracing::debug!(backend = backend.options.id, %error, "no connection");
                        return Err(Failed::Connect);
                    }
                }
            }
        };
        let written_before = connection.written();
        let progress = |connection: &crate::pool::Connection| {
            if connection.written() == written_before { Progress::Unsent } else { Progress::Sent }
        };
        let request = Request::from_parts(outbound.head.clone(), outbound.body.take());
        let answering = connection.send(request);
        let may_give_up = is_safe(Progress::Sent, &outbound.head.method, outbound.is_keyed)
            && outbound.body.is_there();
        let waited =
            self.wait(answering, backend, outbound.body.upload(), began, may_give_up).await;
        let answer = match waited {
            Some(Ok(answer)) => answer,
            Some(Err(mut error)) => {
                if let Some(request) = error.take_message() {
                    outbound.body.put_back(request.into_body());
                }
                if let Some(fault) = outbound.body.upload().and_then(|upload| upload.fault()) {
                    return Err(Failed::Upload(fault));
                }
                return Err(Failed::Broken(progress(&connection), connection.is_reused()));
            }
            None => return Err(Failed::Silent(progress(&connection))),
        };
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            // Nobody asked for it; what comes next on this connection is not HTTP.
            return Err(Failed::Broken(Progress::Sent, false));
        }
        let status = answer.status();
        let is_failure = matches!(
            status,
            StatusCode::INTERNAL_SERVER_ERROR
                | StatusCode::BAD_GATEWAY
                | StatusCode::GATEWAY_TIMEOUT
        );
        let outcome = if is_failure { Outcome::AnswerFailed } else { Outcome::Answered };
        self.report(backend, outcome, micros(now().saturating_duration_since(began)));
        let silence = Duration::from_millis(self.options.connections.response_ms);
        Ok(answer.map(|incoming| BackendBody::new(incoming, connection, lease, silence)))
    }

    /// Waits for an answer; nothing when none came in time, or the backend went down in the
    /// meantime and the request can be sent to another.
    async fn wait<E>(
        &self,
        answering: impl Future<Output = Result<Response<Incoming>, E>>,
        backend: &Backend,
        upload: Option<&Arc<Upload>>,
        began: Instant,
        may_give_up: bool,
    ) -> Option<Result<Response<Incoming>, E>> {
        let limit = Duration::from_millis(self.options.connections.response_ms);
        let mut answering = pin!(answering);
        let mut last_move = began;
        let mut moved_bytes = 0;
        loop {
            tokio::select! {
                biased;
                answer = &mut answering => return Some(answer),
                () = backend.look().notified() => {}
            }
            let at = now();
            if let Some(upload) = upload
                && !upload.is_over()
                && upload.bytes() != moved_bytes
            {
                moved_bytes = upload.bytes();
                last_move = at;
            }
            let silent = at.saturating_duration_since(last_move);
            if silent >= limit || (may_give_up && backend.is_down()) {
                return None;
            }
        }
    }
}

fn fault_problem(fault: UploadFault, body_bytes_max: u64) -> Problem {
    match fault {
        UploadFault::TooLarge => Problem::body_too_large(body_bytes_max),
        UploadFault::Incomplete => Problem::body_incomplete(),
        UploadFault::Late => Problem::body_timeout(),
    }
}

fn problem(failed: &Failed, progress: Progress) -> Problem {
    match (failed, progress) {
        (Failed::Silent(_), _) => Problem::gateway_timeout(),
        (_, Progress::Unsent) => Problem::unavailable(),
        (_, Progress::Sent) => Problem::bad_gateway(),
    }
}
