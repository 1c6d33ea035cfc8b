//! More than one thread, and a handler that panics.

use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use inlet_core::document::Document;
use inlet_core::failure::Failure;
use inlet_core::ports::{BatchLimit, Delivery, Depth, Outcome, Queue};
use inlet_server::{Server, ServerOptions, Shutdown, Transport};

use crate::client::{Connection, ask, json_headers, request};
use crate::harness::{Harness, SAVE, Setup};

#[tokio::test]
async fn connections_are_spread_over_lanes_that_all_end_with_the_shutdown() {
    let harness = Harness::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(Arc::clone(&harness.app), ServerOptions::default());
    let shutdown = Shutdown::new();
    let lanes = server.lanes(listener, Transport::Plain, 3).unwrap();
    let (mut threads, mut connections) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut connection = Connection::open(address).await;
        connection.send(request("POST", "/api/save", &json_headers(SAVE), b"1")).await;
        connections.push(connection);
    }
    // Lane by lane: each answers the one connection that is its own, and no other.
    for (index, lane) in lanes.into_iter().enumerate() {
        let shutdown = shutdown.clone();
        threads.push(thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(lane.serve(shutdown))
        }));
        assert_eq!(connections[index].answer().await.unwrap().status, 202);
        assert_eq!(harness.queue.len(), index + 1);
    }
    drop(connections);
    shutdown.begin();
    for thread in threads {
        thread.join().unwrap().unwrap();
    }
}

/// A queue with a mistake in it.
#[derive(Debug)]
struct PanickingQueue;

#[async_trait]
impl Queue for PanickingQueue {
    fn has_room(&self) -> Result<(), Failure> {
        Ok(())
    }

    async fn send(&self, _: &[Document]) -> Result<(), Failure> {
        panic!("a mistake, made for this test");
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

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_others_are_served() {
    let queue = Some(Arc::new(PanickingQueue) as Arc<dyn Queue>);
    let server = Harness::start_with(Setup { queue, ..Setup::default() }).await;
    let mut connection = Connection::open(server.address).await;
    connection.send(request("POST", "/api/save", &json_headers(SAVE), b"1")).await;
    let answer = connection.answer().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (500, "InternalFailure"));
    assert!(!answer.text().contains("mistake"));
    assert!(connection.is_closed().await);
    assert_eq!(ask(server.address, "GET", "/healthz", &[], b"").await.status, 200);
}
