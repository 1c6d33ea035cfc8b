//! A lane: the connections of one thread, and how they come to it.

use std::io;
use std::net::{IpAddr, TcpListener as StdListener, TcpStream as StdStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::census::Place;
use crate::connection::{self, Opened};
use crate::member::LaneState;
use crate::peer::Peer;
use crate::send_queue;
use crate::server::{Server, Transport};
use crate::service::Service;
use crate::shutdown::Shutdown;

/// How many sockets may wait for a lane to take them.
const HANDED_MAX: usize = 1_024;
/// How long accepting pauses when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A part of a listener's connections, for one thread.
pub struct Lane<S> {
    server: Server<S>,
    transport: Transport,
    proxies: Arc<[IpNet]>,
    source: Source,
    /// How many connections each lane has; this one's is at `index`.
    loads: Arc<[AtomicUsize]>,
    index: usize,
}

/// Where a lane's connections come from.
enum Source {
    Listener { listener: StdListener, others: Vec<mpsc::Sender<Handed>> },
    Handed(mpsc::Receiver<Handed>),
}

/// A socket on its way to a lane.
struct Handed {
    stream: StdStream,
    address: IpAddr,
    place: Place,
}

/// Counts a connection of a lane while it lives.
struct Load<S: Service> {
    loads: Arc<[AtomicUsize]>,
    index: usize,
    service: Arc<S>,
    place: Place,
}

impl<S: Service> Lane<S> {
    pub(crate) fn new(
        server: &Server<S>,
        listener: StdListener,
        transport: &Transport,
        proxies: &Arc<[IpNet]>,
        count: usize,
    ) -> Vec<Self> {
        let loads: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let (others, receivers): (Vec<_>, Vec<_>) =
            (1..count).map(|_| mpsc::channel(HANDED_MAX)).unzip();
        let first = Source::Listener { listener, others };
        std::iter::once(first)
            .chain(receivers.into_iter().map(Source::Handed))
            .enumerate()
            .map(|(index, source)| Self {
                server: server.clone(),
                transport: transport.clone(),
                proxies: Arc::clone(proxies),
                source,
                loads: Arc::clone(&loads),
                index,
            })
            .collect()
    }

    /// Serves this lane's connections on the present runtime. Returns once `shutdown` has begun
    /// and all that was accepted is answered, or [`Deadlines::drain`](crate::Deadlines::drain)
    /// is over.
    ///
    /// # Errors
    /// Where the listener can't be used by the runtime.
    pub async fn serve(self, shutdown: Shutdown) -> io::Result<()> {
        let state = Arc::new(LaneState::new(Arc::clone(&self.server.options)));
        let served = self.take_connections(&state, &shutdown).await;
        state.drain();
        if tokio::time::timeout(state.deadlines().drain, state.emptied()).await.is_err() {
            tracing::warn!("the time to finish is over; connections that are left are closed");
            state.close();
            // Their tasks end when they are next polled, which is now.
            drop(tokio::time::timeout(ACCEPT_PAUSE, state.emptied()).await);
        }
        served
    }

    /// Takes connections until the shutdown begins.
    async fn take_connections(self, state: &Arc<LaneState>, shutdown: &Shutdown) -> io::Result<()> {
        let Self { server, transport, proxies, source, loads, index } = self;
        let lane = Taker { server, transport, proxies, loads, index, state };
        match source {
            Source::Listener { listener, others } => {
                let listener = TcpListener::from_std(listener)?;
                send_queue::bound(listener.as_fd())?;
                tokio::select! {
                    biased;
                    () = shutdown.begun() => {}
                    () = lane.accept(&listener, &others) => {}
                }
            }
            Source::Handed(mut handed) => {
                tokio::select! {
                    biased;
                    () = shutdown.begun() => {}
                    () = lane.take_handed(&mut handed) => {}
                }
                // What was handed over before the shutdown was accepted, and is served.
                handed.close();
                lane.take_handed(&mut handed).await;
            }
        }
        Ok(())
    }
}

/// Takes the connections of a lane.
struct Taker<'a, S> {
    server: Server<S>,
    transport: Transport,
    proxies: Arc<[IpNet]>,
    loads: Arc<[AtomicUsize]>,
    index: usize,
    state: &'a Arc<LaneState>,
}

impl<S: Service> Taker<'_, S> {
    async fn accept(&self, listener: &TcpListener, others: &[mpsc::Sender<Handed>]) {
        let counters = self.server.service.counters();
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match self.admit(address.ip()) {
                    Some(place) => self.place(stream, address.ip(), place, others),
                    None => {
                        // Closed at once: over TLS an answer would cost what the cap is to save.
                        counters.refused();
                        stream.set_zero_linger().unwrap_or_default();
                    }
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    counters.accept_failed();
                    tracing::error!(%error, "could not accept a connection; pausing");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// A place for a connection from `address`, if there is one. That of a proxy is counted for
    /// its client, once that is known.
    fn admit(&self, address: IpAddr) -> Option<Place> {
        let mut place = self.server.census.admit()?;
        (self.is_proxy(address) || place.count_for(address)).then_some(place)
    }

    fn is_proxy(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(&address))
    }

    /// Gives a connection to the lane with the fewest.
    fn place(
        &self,
        stream: TcpStream,
        address: IpAddr,
        place: Place,
        others: &[mpsc::Sender<Handed>],
    ) {
        let loads = self.loads.iter().map(|load| load.load(Relaxed)).enumerate();
        let index = loads.min_by_key(|(_, load)| *load).map_or(0, |(index, _)| index);
        let Some(other) = index.checked_sub(1).and_then(|index| others.get(index)) else {
            self.loads[self.index].fetch_add(1, Relaxed);
            return self.spawn(stream, address, place);
        };
        self.loads[index].fetch_add(1, Relaxed);
        let handed = stream.into_std().map(|stream| Handed { stream, address, place });
        let sent = handed.is_ok_and(|handed| other.try_send(handed).is_ok());
        if !sent {
            self.loads[index].fetch_sub(1, Relaxed);
            self.server.service.counters().refused();
        }
    }

    async fn take_handed(&self, handed: &mut mpsc::Receiver<Handed>) {
        while let Some(Handed { stream, address, place }) = handed.recv().await {
            match TcpStream::from_std(stream) {
                Ok(stream) => self.spawn(stream, address, place),
                Err(error) => {
                    self.loads[self.index].fetch_sub(1, Relaxed);
                    tracing::error!(%error, "could not take over a connection");
                }
            }
        }
    }

    /// Serves a connection, which is counted already, in a task of its own.
    fn spawn(&self, stream: TcpStream, address: IpAddr, place: Place) {
        let service = Arc::clone(&self.server.service);
        service.counters().opened();
        let mut load = Load {
            loads: Arc::clone(&self.loads),
            index: self.index,
            service: Arc::clone(&service),
            place,
        };
        if stream.set_nodelay(true).is_err() {
            // It is closed already.
            return;
        }
        let redirects_to = match self.transport {
            Transport::Tls(_) | Transport::Plain => None,
            Transport::Redirect { https_port } => Some(https_port),
        };
        let peer = Peer { address, is_secure: false, redirects_to };
        let mut opened = Opened { stream, peer, member: self.state.join() };
        let is_proxy = self.is_proxy(address);
        let certificates = match &self.transport {
            Transport::Tls(certificates) => Some(certificates.clone()),
            Transport::Plain | Transport::Redirect { .. } => None,
        };
        tokio::spawn(async move {
            if is_proxy {
                // Boxed, as all that only a stretch of a connection needs.
                match Box::pin(connection::read_proxy_header(opened, service.counters())).await {
                    Some(behind) if load.place.count_for(behind.peer.address) => opened = behind,
                    Some(_) => return service.counters().refused(),
                    None => return,
                }
            }
            match certificates {
                Some(certificates) => connection::serve_tls(opened, certificates, service).await,
                None => connection::serve_plain(opened.into(), service).await,
            }
            drop(load);
        });
    }
}

impl<S: Service> Drop for Load<S> {
    fn drop(&mut self) {
        self.loads[self.index].fetch_sub(1, Relaxed);
        self.service.counters().closed();
    }
}

/// Whether the error concerns the one connection that was to be accepted, and not the system.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
