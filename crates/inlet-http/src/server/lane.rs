//! A lane: the connections of one thread, and how they come to it.

use std::io;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::census::Place;
use super::deadline;
use super::state::{ConnectionState, Face, LaneState};
use super::{Server, Shutdown, Transport, connection};

/// How many sockets may wait for a lane to take them.
const HANDED_MAX: usize = 1_024;
/// How long accepting pauses when the system gives no more sockets.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A part of a listener's connections, for one thread.
pub struct Lane {
    server: Server,
    transport: Transport,
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
    place: Place,
}

/// Counts a connection of a lane while it lives.
struct Load {
    loads: Arc<[AtomicUsize]>,
    index: usize,
    server: Server,
    _place: Place,
}

impl Lane {
    pub(super) fn new(
        server: &Server,
        listener: StdListener,
        transport: &Transport,
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
                source,
                loads: Arc::clone(&loads),
                index,
            })
            .collect()
    }

    /// Serves this lane's connections on the present runtime. Returns once `shutdown` has begun
    /// and all that was accepted is answered, or [`Deadlines::drain`](super::Deadlines::drain)
    /// is over.
    ///
    /// # Errors
    /// Where the listener can't be used by the runtime.
    pub async fn serve(self, shutdown: Shutdown) -> io::Result<()> {
        let state = Arc::new(LaneState::new(Arc::clone(&self.server.options)));
        let sweeper = tokio::spawn(deadline::sweep(Arc::clone(&state)));
        let served = self.take_connections(&state, &shutdown).await;
        state.drain();
        if tokio::time::timeout(state.deadlines().drain, state.emptied()).await.is_err() {
            tracing::warn!("the time to finish is over; connections that are left are closed");
            state.close();
            // Their tasks end when they are next polled, which is now.
            drop(tokio::time::timeout(ACCEPT_PAUSE, state.emptied()).await);
        }
        sweeper.abort();
        served
    }

    /// Takes connections until the shutdown begins.
    async fn take_connections(self, state: &Arc<LaneState>, shutdown: &Shutdown) -> io::Result<()> {
        let Self { server, transport, source, loads, index } = self;
        let lane = Taker { server, transport, loads, index, state };
        match source {
            Source::Listener { listener, others } => {
                let listener = TcpListener::from_std(listener)?;
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
struct Taker<'a> {
    server: Server,
    transport: Transport,
    loads: Arc<[AtomicUsize]>,
    index: usize,
    state: &'a Arc<LaneState>,
}

impl Taker<'_> {
    async fn accept(&self, listener: &TcpListener, others: &[mpsc::Sender<Handed>]) {
        let metrics = &self.server.app.metrics;
        loop {
            match listener.accept().await {
                Ok((stream, address)) => match self.server.census.admit(address.ip()) {
                    Some(place) => self.place(stream, place, others),
                    None => {
                        // Closed at once: over TLS an answer would cost what the cap is to save.
                        metrics.connection_refused();
                        stream.set_zero_linger().unwrap_or_default();
                    }
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    metrics.accept_failed();
                    tracing::error!(%error, "could not accept a connection; pausing");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Gives a connection to the lane with the fewest.
    fn place(&self, stream: TcpStream, place: Place, others: &[mpsc::Sender<Handed>]) {
        let loads = self.loads.iter().map(|load| load.load(Relaxed)).enumerate();
        let index = loads.min_by_key(|(_, load)| *load).map_or(0, |(index, _)| index);
        let Some(other) = index.checked_sub(1).and_then(|index| others.get(index)) else {
            self.loads[self.index].fetch_add(1, Relaxed);
            return self.spawn(stream, place);
        };
        self.loads[index].fetch_add(1, Relaxed);
        let handed = stream.into_std().map(|stream| Handed { stream, place });
        let sent = handed.is_ok_and(|handed| other.try_send(handed).is_ok());
        if !sent {
            self.loads[index].fetch_sub(1, Relaxed);
            self.server.app.metrics.connection_refused();
        }
    }

    async fn take_handed(&self, handed: &mut mpsc::Receiver<Handed>) {
        while let Some(Handed { stream, place }) = handed.recv().await {
            match TcpStream::from_std(stream) {
                Ok(stream) => self.spawn(stream, place),
                Err(error) => {
                    self.loads[self.index].fetch_sub(1, Relaxed);
                    tracing::error!(%error, "could not take over a connection");
                }
            }
        }
    }

    /// Serves a connection, which is counted already, in a task of its own.
    fn spawn(&self, stream: TcpStream, place: Place) {
        let load = Load {
            loads: Arc::clone(&self.loads),
            index: self.index,
            server: self.server.clone(),
            _place: place,
        };
        let app = Arc::clone(&self.server.app);
        app.metrics.connection_opened();
        if stream.set_nodelay(true).is_err() {
            // It is closed already.
            return;
        }
        let face = match self.transport {
            Transport::Tls(_) | Transport::Plain => Face::Api,
            Transport::Redirect { https_port } => Face::Redirect { https_port },
        };
        let connection = ConnectionState::open(self.state, face);
        match &self.transport {
            Transport::Tls(certificates) => {
                let serving = connection::serve_tls(stream, certificates.clone(), app, connection);
                tokio::spawn(with_load(serving, load));
            }
            Transport::Plain | Transport::Redirect { .. } => {
                let serving = connection::serve_plain(stream, app, connection);
                tokio::spawn(with_load(serving, load));
            }
        }
    }
}

async fn with_load(serving: impl Future<Output = ()>, load: Load) {
    serving.await;
    drop(load);
}

impl Drop for Load {
    fn drop(&mut self) {
        self.loads[self.index].fetch_sub(1, Relaxed);
        self.server.app.metrics.connection_closed();
    }
}

/// Whether the error concerns the one connection that was to be accepted, and not the system.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
