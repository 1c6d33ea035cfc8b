//! A proxy for measuring: `edge PORT BACKEND…` listens on 127.0.0.1 and forwards to the given
//! addresses. `EDGE_THREADS` says on how many threads, two if it does not; `EDGE_CHECK` is a path
//! to check the backends by, none if it is not there.

use std::convert::Infallible;
use std::net::SocketAddr;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use inlet_edge::{BackendOptions, Edge, EdgeOptions, HealthOptions, Peer};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt};
use tokio::net::TcpListener;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, backends) = arguments.split_first().ok_or("edge PORT BACKEND…")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
    let lanes = std::env::var("EDGE_THREADS").map_or(Ok(2), |threads| threads.parse())?;
    let check = std::env::var("EDGE_CHECK").ok();
    let health = HealthOptions {
        checks: check.is_some(),
        check_path: check.unwrap_or_default(),
        ..HealthOptions::default()
    };
    let backends: Vec<BackendOptions> =
        (1..).zip(backends).map(backend).collect::<Result<_, AnyError>>()?;
    let edge = Edge::new(EdgeOptions { backends, lanes, health, ..EdgeOptions::default() })?;
    let threads: Vec<_> = (0..lanes)
        .map(|lane| {
            let edge = edge.clone();
            std::thread::spawn(move || serve(edge, address, lane == 0))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

fn backend((number, address): (usize, &String)) -> Result<BackendOptions, AnyError> {
    Ok(BackendOptions {
        id: format!("backend-{number}"),
        zone: "a".to_owned(),
        address: address.parse()?,
        tls: None,
    })
}

fn serve(edge: Edge, address: SocketAddr, keeps: bool) -> Result<(), AnyError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = shared_listener(address)?;
        if keeps {
            let edge = edge.clone();
            tokio::spawn(async move { edge.run().await });
        }
        loop {
            let (stream, peer) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let edge = edge.clone();
            let peer = Peer { address: peer.ip(), is_tls: false };
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let edge = edge.clone();
                    async move { Ok::<_, Infallible>(edge.call(request, peer).await) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                drop(http.serve_connection(TokioIo::new(stream), service).await);
            });
        }
    })
}

/// A listener of which each thread has one on the same port.
fn shared_listener(address: SocketAddr) -> Result<TcpListener, AnyError> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 4096)?;
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}
