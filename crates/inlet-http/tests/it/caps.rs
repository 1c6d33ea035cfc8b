//! Caps on connections.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::client::Connection;
use crate::harness::{Harness, Setup};

#[tokio::test]
async fn over_the_cap_a_connection_is_closed_at_once_and_a_place_that_is_free_is_given_again() {
    let mut setup = Setup::default();
    setup.options.connections_max = 2;
    let server = Harness::start_with(setup).await;
    let health = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut within = Vec::new();
    for _ in 0..2 {
        let mut connection = Connection::open(server.address).await;
        connection.send(health).await;
        assert_eq!(connection.answer().await.unwrap().status, 200);
        within.push(connection);
    }
    let mut beyond = Connection::open(server.address).await;
    assert!(beyond.is_closed().await);
    within[0].send(health).await;
    assert_eq!(within[0].answer().await.unwrap().status, 200, "those within are served on");

    within.pop();
    let taken = async {
        loop {
            let mut connection = Connection::open(server.address).await;
            // Where it is over the cap still, either of the two may find it closed.
            if tokio::io::AsyncWriteExt::write_all(&mut connection.stream, health.as_bytes())
                .await
                .is_ok()
                && connection.answer().await.is_some()
            {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), taken).await.unwrap();
}
