//! An instance that passes its checks and serves badly.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::site::Site;
use crate::server::{Server, TOKEN, until};

/// What it does with a request that is no check.
const WELL: u64 = 0;
const FAILS: u64 = 1;
const SLOW: u64 = 2;

/// How long it takes when it is slow.
const SLOWNESS: Duration = Duration::from_millis(250);

#[derive(Default)]
struct Ailing {
    does: AtomicU64,
    asked: AtomicU64,
}

impl Ailing {
    /// Starts it, and gives where it listens.
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let ailing = Arc::<Self>::default();
        let serving = Arc::clone(&ailing);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (ailing, connection) = (Arc::clone(&serving), connection.unwrap());
                std::thread::spawn(move || ailing.serve(connection));
            }
        });
        (ailing, address)
    }

    fn serve(&self, connection: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(connection.try_clone().unwrap());
        let mut writer = connection;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                reader.read_line(&mut head).ok().filter(|read| *read > 0)?;
            }
            let status = if head.starts_with("GET /readyz ") { WELL } else { self.next() };
            let status = if status == FAILS { "500 Internal Server Error" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}");
            writer.write_all(answer.as_bytes()).ok()?;
        }
    }

    fn next(&self) -> u64 {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let does = self.does.load(Ordering::Relaxed);
        if does == SLOW {
            // This is what it is for, not a wait for something.
            std::thread::sleep(SLOWNESS);
        }
        does
    }

    fn set(&self, does: u64) {
        self.does.store(does, Ordering::Relaxed);
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

fn health(edge: &Server) -> String {
    let status = edge.get("/edge/status").json();
    let found = status["backends"].as_array().unwrap().iter().find(|it| it["id"] == "ailing");
    found.unwrap()["health"].as_str().unwrap().to_owned()
}

#[test]
fn an_instance_that_answers_500_or_grows_slow_gets_no_more_and_comes_back_slowly() {
    let behind = Site::prepare();
    let (ailing, address) = Ailing::start();
    let one = format!("{},id=one", behind.one.as_ref().unwrap().plain_address());
    let ailing_one = format!("{address},id=ailing");
    let flags = ["--backend", &one, "--backend", &ailing_one, "--log-level", "error"];
    let edge = Server::start_as("edge", &behind.path("edge"), &flags, Some(TOKEN));
    until("it has its full share", || {
        edge.get("/");
        health(&edge) == "up" && ailing.asked() > 0
    });

    ailing.set(FAILS);
    until("its answers get it out, though its checks pass", || {
        edge.get("/");
        health(&edge) == "ejected"
    });
    assert_eq!(edge.get("/").status, 200);
    ailing.set(WELL);
    until("it is back with a share that grows", || health(&edge) == "slow-start");
    until("it has its full share again", || health(&edge) == "up");

    ailing.set(SLOW);
    let (before, all) = (ailing.asked(), 100);
    (0..all).for_each(|_| assert_eq!(edge.get("/").status, 200));
    let slow = ailing.asked() - before;
    assert!(slow <= all / 5, "{slow} of {all} went to the slow one");
    assert!(edge.stop().success());
}
