//! Stopping: what was accepted is answered, what is idle is closed, and it ends in time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use inlet_core::document::Document;
use inlet_core::failure::Failure;
use inlet_core::ports::{BatchLimit, Delivery, Depth, Outcome, Queue};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::client::{Connection, json_headers, request};
use crate::harness::{Harness, SAVE, Setup};

const PATIENCE: Duration = Duration::from_secs(10);

/// A queue that keeps a document only when it is let.
#[derive(Debug)]
struct GatedQueue {
    arrived: Semaphore,
    gate: Semaphore,
}

#[async_trait]
impl Queue for GatedQueue {
    fn has_room(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn send(&self, _: &[Document]) -> Result<(), Failure> {
        self.arrived.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        Ok(())
    }

    async fn receive(&self, _: BatchLimit) -> Result<Delivery, Failure> {
        Ok(Delivery::default())
    }

    async fn settle(&self, _: &Delivery, _: &[Outcome]) -> Result<(), Failure> {
        Ok(())
    }

    async fn depth(&self) -> Result<Depth, Failure> {
        Ok(Depth::default())
    }
}

async fn start(drain: Duration) -> (Harness, Arc<GatedQueue>) {
    let queue = Arc::new(GatedQueue { arrived: Semaphore::new(0), gate: Semaphore::new(0) });
    let mut setup = Setup::deadlines(|deadlines| {
        deadlines.drain = drain;
        deadlines.first_request = Duration::from_millis(50);
    });
    setup.queue = Some(Arc::clone(&queue) as Arc<dyn Queue>);
    (Harness::start_with(setup).await, queue)
}

#[tokio::test]
async fn a_request_in_flight_is_answered_and_then_its_connection_ends() {
    let (server, queue) = start(PATIENCE).await;
    let mut busy = Connection::open(server.address).await;
    busy.send(request("POST", "/api/save", &json_headers(SAVE), b"1")).await;
    queue.arrived.acquire().await.unwrap().forget();
    let mut idle = Connection::open(server.address).await;
    idle.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let mut fresh = Connection::open(server.address).await;
    fresh.send("GET /hea").await;

    server.shutdown.begin();
    assert!(timeout(PATIENCE, idle.is_closed()).await.unwrap());
    assert!(timeout(PATIENCE, fresh.is_closed()).await.unwrap());
    assert!(!server.serving.is_finished());
    queue.gate.add_permits(1);
    let answer = timeout(PATIENCE, busy.answer()).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    assert!(busy.is_closed().await);
    timeout(PATIENCE, server.serving).await.unwrap().unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.address).await.is_err(), "nothing listens");
}

#[tokio::test]
async fn the_first_request_of_a_connection_that_was_just_opened_is_answered() {
    let setup = Setup::deadlines(|deadlines| deadlines.first_request = PATIENCE);
    let server = Harness::start_with(setup).await;
    let mut served = Connection::open(server.address).await;
    served.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(served.answer().await.unwrap().status, 200);
    let mut fresh = Connection::open(server.address).await;
    // The server has taken it once it has answered one that was opened later.
    let mut later = Connection::open(server.address).await;
    later.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(later.answer().await.unwrap().status, 200);

    server.shutdown.begin();
    assert!(timeout(PATIENCE, served.is_closed()).await.unwrap());
    fresh.send("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = timeout(PATIENCE, fresh.answer()).await.unwrap().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(timeout(PATIENCE, fresh.is_closed()).await.unwrap());
    timeout(PATIENCE, server.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_finish_is_given_up_in_time() {
    let (server, queue) = start(Duration::from_millis(50)).await;
    let mut busy = Connection::open(server.address).await;
    busy.send(request("POST", "/api/save", &json_headers(SAVE), b"1")).await;
    queue.arrived.acquire().await.unwrap().forget();
    server.shutdown.begin();
    timeout(PATIENCE, server.serving).await.unwrap().unwrap().unwrap();
    assert!(timeout(PATIENCE, busy.is_closed()).await.unwrap());
}
