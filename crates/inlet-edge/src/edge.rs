//! The edge: one request after another, and the loop that keeps an eye on the backends.

mod keep;
mod metrics;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::{HeaderMap, Request, Response, Uri, request};
use http_body::Body;
use inlet_server::PagesError;
use tokio::sync::Notify;

use crate::access::{Line, Record, rfc3339};
use crate::backend::{Backend, BackendTlsError};
use crate::body::{BoxError, EdgeBody};
use crate::clock::{Clock, now};
use crate::files::{Files, FilesError};
use crate::firewall::{
    Firewall, FirewallError, Model, Permit, Route, RouteError, Subject, Verdict,
};
use crate::fleet::Fleet;
use crate::forward::OutboundBody;
use crate::headers::{Peer, Stripped, client_address, prepare_answer, request_id};
use crate::limits::{Admission, Limits, OverLimit, Plans};
use crate::options::{BackendOptions, EdgeOptions};
use crate::pages::Pages;
use crate::path;
use crate::problem::Problem;
use crate::retry::Budget;

pub use keep::BackendStatus;

/// A reverse proxy. Clones are the same edge.
#[derive(Clone)]
pub struct Edge {
    state: Arc<State>,
}

/// What all requests share.
pub(crate) struct State {
    pub(crate) options: EdgeOptions,
    pub(crate) fleet: Fleet,
    pub(crate) budget: Budget,
    pub(crate) clock: Clock,
    model: ArcSwap<Model>,
    firewall: Firewall,
    limits: Limits,
    files: Option<Files>,
    pages: ArcSwap<Pages>,
    hsts: Option<HeaderValue>,
    /// Held while backends are judged against each other, so that no two are ejected where only
    /// one may be.
    judging: Mutex<()>,
    fleet_changed: Notify,
    /// Answers by class: 1xx is 1.
    answers: [AtomicU64; 6],
    /// What the edge answered itself, by code.
    problems: Mutex<BTreeMap<&'static str, u64>>,
}

/// Why there is no edge, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Two backends have one id.
    #[error("there are two backends `{0}`")]
    BackendTwice(String),
    /// A backend's TLS can't be set up.
    #[error(transparent)]
    BackendTls(#[from] BackendTlsError),
    /// A route is none.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The firewall's file can't be used.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The folder of files can't be served.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The folder of error pages can't be used.
    #[error(transparent)]
    Pages(#[from] PagesError),
}

/// What becomes known of a request while it is answered.
#[derive(Default)]
struct Trace {
    backend: Option<Arc<Backend>>,
    attempts: u32,
    bytes_in: u64,
    admission: Admission,
    /// The firewall's rules that matched.
    rules: Vec<Arc<str>>,
    over_limit: Option<OverLimit>,
}

/// Who asks, and for what.
struct Asked {
    began: Instant,
    peer: Peer,
    is_peer_trusted: bool,
    client: IpAddr,
    id: HeaderValue,
    method: http::Method,
    uri: Uri,
    accept: Option<HeaderValue>,
}

impl Edge {
    /// An edge with these options. It answers at once; for backends to be checked, for ejections to
    /// end, and for those that never answer to be given up on, [`Edge::run`] must run.
    ///
    /// # Errors
    /// What in the options can't be used.
    pub fn new(options: EdgeOptions) -> Result<Self, EdgeError> {
        let pages = read_pages(options.pages.as_deref())?;
        let hsts = options.hsts_s.map(|seconds| {
            HeaderValue::try_from(format!("max-age={seconds}")).expect("digits and words")
        });
        let state = State {
            fleet: Fleet::new(options.zone.clone(), options.balance.clone()),
            budget: Budget::new(&options.retry, now()),
            clock: Clock::new(),
            model: ArcSwap::from_pointee(Model::new(options.routes.clone())?),
            firewall: Firewall::load(options.firewall.as_deref())?,
            limits: Limits::new(options.plans.clone()),
            files: options.files.clone().map(Files::new).transpose()?,
            pages: ArcSwap::from_pointee(pages),
            hsts,
            judging: Mutex::new(()),
            fleet_changed: Notify::new(),
            answers: Default::default(),
            problems: Mutex::default(),
            options,
        };
        let edge = Self { state: Arc::new(state) };
        edge.set_backends(edge.state.options.backends.clone())?;
        Ok(edge)
    }

    /// Answers a request that came from `peer`.
    ///
    /// The caller has checked the framing of the message, and has deadlines for what the client
    /// sends and takes; an error of the body that is a
    /// [`BodyError::Late`](inlet_server::BodyError::Late) is answered `408`. Dropping the future
    /// breaks off the request to the backend.
    pub async fn call<B>(&self, request: Request<B>, peer: Peer) -> Response<EdgeBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let state = &*self.state;
        let (head, body) = request.into_parts();
        let head = Stripped::of(head);
        let asked = state.asked(head.head(), peer);
        let mut trace = Trace::default();
        let served = caught(state.serve(head, body, &asked, &mut trace)).await;
        let served = served.unwrap_or_else(|| {
            let (method, path) = (&asked.method, asked.uri.path());
            tracing::error!(%method, path, "answering a request panicked");
            Err(Problem::internal())
        });
        let (answer, refused) = match served {
            Ok(answer) => (answer, None),
            Err(problem) => (state.refuse(&problem, &asked), Some(problem.code)),
        };
        state.finish(answer, &asked, trace, refused)
    }

    /// Answers a request that is refused unseen.
    pub(crate) fn refuse(
        &self,
        head: &request::Parts,
        peer: Peer,
        problem: &Problem,
    ) -> Response<EdgeBody> {
        let state = &*self.state;
        let asked = state.asked(head, peer);
        let answer = state.refuse(problem, &asked);
        state.finish(answer, &asked, Trace::default(), Some(problem.code))
    }

    /// Finishes an answer that was made for a request without looking at the model and the rules.
    pub(crate) fn answer(
        &self,
        head: &request::Parts,
        peer: Peer,
        mut answer: Response<EdgeBody>,
    ) -> Response<EdgeBody> {
        let state = &*self.state;
        let asked = state.asked(head, peer);
        prepare_answer(answer.headers_mut(), &asked.id);
        state.finish(answer, &asked, Trace::default(), None)
    }

    /// Whom a request is counted for.
    pub(crate) fn client_address(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        client_address(peer, headers, &self.state.options.trusted_proxies)
    }

    /// Takes the firewall's rules in the file `path` as it is now, or none. On an error the old
    /// rules stay in force. Rules that keep their name keep what they have counted.
    ///
    /// # Errors
    /// What is wrong with the file, and in which line.
    pub fn set_firewall(&self, path: Option<&Path>) -> Result<(), FirewallError> {
        self.state.firewall.set(path)
    }

    /// Takes the error pages in `folder` as they are now, or none. On an error the old ones stay.
    ///
    /// # Errors
    /// Which page can't be used.
    pub fn set_pages(&self, folder: Option<&Path>) -> Result<(), PagesError> {
        let pages = read_pages(folder)?;
        self.state.pages.store(Arc::new(pages));
        Ok(())
    }

    /// Takes other routes.
    ///
    /// # Errors
    /// When one is none; then the old ones stay.
    pub fn set_routes(&self, routes: Vec<Route>) -> Result<(), EdgeError> {
        self.state.model.store(Arc::new(Model::new(routes)?));
        Ok(())
    }

    /// Takes other usage plans. What was counted stays counted.
    pub fn set_plans(&self, plans: Plans) {
        self.state.limits.set_plans(plans);
    }
}

/// What `future` comes to, or nothing where it panics.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

fn read_pages(folder: Option<&Path>) -> Result<Pages, PagesError> {
    folder.map_or_else(|| Ok(Pages::default()), Pages::from_folder)
}

impl State {
    fn asked(&self, head: &request::Parts, peer: Peer) -> Asked {
        let trusted = &self.options.trusted_proxies;
        let address = peer.address.to_canonical();
        Asked {
            began: now(),
            peer,
            is_peer_trusted: trusted.iter().any(|network| network.contains(&address)),
            client: client_address(&peer, &head.headers, trusted),
            id: request_id(&head.headers),
            method: head.method.clone(),
            uri: head.uri.clone(),
            accept: head.headers.get(ACCEPT).cloned(),
        }
    }

    /// The steps of a request that is stripped: model, rules, limits, then a file or a backend.
    async fn serve<B>(
        &self,
        stripped: Stripped,
        body: B,
        asked: &Asked,
        trace: &mut Trace,
    ) -> Result<Response<EdgeBody>, Problem>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let head = stripped.head();
        let announced = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let path = path::decode(asked.uri.path()).map_err(Problem::malformed)?;
        let file = self.files.as_ref().and_then(|files| Some((files, files.relative(&path)?)));
        let permit = match file {
            Some(_) => Permit { body_bytes_max: 0, is_keyed: false },
            None => self.model.load().permit(&head.method, &path, &head.headers, announced)?,
        };
        let bytes = announced.unwrap_or(0);
        self.check_rules(head, &path, asked, bytes, &mut trace.rules)?;
        match self.limits.admit(&head.headers, asked.client, bytes, asked.began) {
            Ok(admission) => trace.admission = admission,
            Err(over_limit) => {
                let problem = Problem::rate_limited(over_limit.retry_after_s);
                trace.over_limit = Some(over_limit);
                return Err(problem);
            }
        }
        if let Some((files, relative)) = file {
            let mut answer = Box::pin(files.answer(&head.method, relative, &head.headers)).await?;
            prepare_answer(answer.headers_mut(), &asked.id);
            return Ok(answer);
        }
        let retry = &self.options.retry;
        let judged = stripped.judged(permit, retry, self.options.document_ids.as_ref())?;
        let kept_bytes_max = retry.kept_bytes_max;
        let body = OutboundBody::of(body, kept_bytes_max, judged.permit.body_bytes_max).await?;
        let mut outbound = judged.outbound(&asked.peer, asked.is_peer_trusted, &asked.id, body);
        let forwarded = self.forward(&mut outbound).await;
        trace.bytes_in = outbound.body.bytes();
        if announced.is_none() {
            self.limits.charge(&trace.admission, trace.bytes_in, asked.began);
        }
        let forwarded = forwarded?;
        trace.attempts = forwarded.attempts;
        trace.backend = Some(forwarded.backend);
        let mut answer = forwarded.answer.map(EdgeBody::backend);
        prepare_answer(answer.headers_mut(), &asked.id);
        Ok(answer)
    }

    fn check_rules(
        &self,
        head: &request::Parts,
        path: &str,
        asked: &Asked,
        body_bytes: u64,
        matched: &mut Vec<Arc<str>>,
    ) -> Result<(), Problem> {
        let client = asked.client;
        let subject = Subject { head, path, client, body_bytes };
        match self.firewall.judge(&subject, asked.began, matched) {
            Verdict::Pass => Ok(()),
            Verdict::Block(rule) => {
                tracing::debug!(%rule, %client, "blocked");
                Err(Problem::forbidden())
            }
            Verdict::Wait(rule, wait_s) => {
                tracing::debug!(%rule, %client, "blocked for its rate");
                Err(Problem::rate_limited(wait_s))
            }
        }
    }

    fn refuse(&self, problem: &Problem, asked: &Asked) -> Response<EdgeBody> {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        *problems.entry(problem.code).or_default() += 1;
        drop(problems);
        problem.answer(asked.accept.as_ref(), asked.uri.path(), &asked.id, &self.pages.load())
    }

    /// Adds what every answer carries, counts it, and has it logged.
    fn finish(
        &self,
        mut answer: Response<EdgeBody>,
        asked: &Asked,
        mut trace: Trace,
        refused: Option<&'static str>,
    ) -> Response<EdgeBody> {
        let headers = answer.headers_mut();
        match trace.over_limit.take() {
            Some(over_limit) => over_limit.put_fields(headers),
            None => trace.admission.put_fields(headers),
        }
        if let Some(hsts) = self.hsts.as_ref().filter(|_| asked.peer.is_tls) {
            headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
        }
        let class = usize::from(answer.status().as_u16() / 100).min(5);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        match &self.options.access_log {
            Some(log) => {
                let line = self.line(asked, &trace, answer.status().as_u16(), refused);
                let record = Box::new(Record::new(log.clone(), asked.began, line));
                answer.map(|body| body.recorded(record))
            }
            None => answer,
        }
    }

    fn line(
        &self,
        asked: &Asked,
        trace: &Trace,
        status: u16,
        refused: Option<&'static str>,
    ) -> Line {
        let backend = trace.backend.as_ref();
        Line {
            time: rfc3339((self.options.wall_clock)()),
            request_id: asked.id.to_str().unwrap_or_default().to_owned(),
            client: asked.client,
            method: asked.method.as_str().to_owned(),
            path: asked.uri.path().to_owned(),
            status,
            bytes_in: trace.bytes_in,
            backend: backend.map(|backend| backend.options.id.clone()),
            zone: backend.map(|backend| backend.options.zone.clone()),
            attempts: trace.attempts,
            refused,
            rules: trace.rules.iter().map(ToString::to_string).collect(),
        }
    }
}
