//! A real process under load is killed at random moments. Afterwards every acknowledged document
//! is found once, byte for byte, and nothing is found that was not sent.
//!
//! Ten kills by default; `INLET_KILLS=100` for the long run, `INLET_SEED=…` for the same moments.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::server::{Server, TOKEN};

/// How many connections send at once.
const SENDERS: usize = 4;

/// What was sent, and what of it was acknowledged.
#[derive(Default)]
pub(crate) struct Sent {
    /// Every body that was ever written to a socket, and how often it was found so far.
    pub(crate) bodies: HashMap<String, u32>,
    /// The id of each acknowledged document, with its body.
    pub(crate) acknowledged: Vec<(String, String)>,
}

#[test]
fn a_killed_process_loses_nothing_it_acknowledged_and_makes_nothing_twice() {
    let kills: u32 = std::env::var("INLET_KILLS").map_or(10, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("INLET_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("INLET_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let sent = Arc::new(Mutex::new(Sent::default()));
    for kill in 0..kills {
        let server = Server::start(&data);
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (address, sent) = (server.plain_address().to_owned(), Arc::clone(&sent));
                std::thread::spawn(move || send(&address, kill, sender, &sent))
            })
            .collect();
        // The moment is random on purpose: nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.random_range(5..250)));
        server.kill();
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    }
    let server = Server::start(&data);
    server.wait_until_drained();
    let sent = sent.lock().unwrap();
    println!("{} acknowledged, {} sent", sent.acknowledged.len(), sent.bodies.len());
    assert!(sent.acknowledged.len() > usize::try_from(kills).unwrap(), "hardly anything was sent");
    check_acknowledged(&server, &sent);
    check_nothing_else(&server, &sent);
    assert!(server.stop().success());
}

/// Sends documents, each unlike any other, until the connection breaks.
pub(crate) fn send(address: &str, kill: u32, sender: usize, sent: &Mutex<Sent>) {
    let Ok(stream) = TcpStream::connect(address) else { return };
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    for number in 0.. {
        let filler = "x".repeat((number * 37) % 900);
        let body = format!(
            "{{\"kill\": {kill}, \"sender\": {sender},\t\"number\": {number}, \"f\": \"{filler}\"}}"
        );
        sent.lock().unwrap().bodies.insert(body.clone(), 0);
        let request = format!(
            "POST /api/save HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(request.as_bytes()).is_err() {
            return;
        }
        match read_receipt(&mut reader) {
            Some(id) => sent.lock().unwrap().acknowledged.push((id, body)),
            None => return,
        }
    }
}

/// The id on the receipt, or `None` where the connection broke before it was whole.
fn read_receipt(reader: &mut impl BufRead) -> Option<String> {
    let (mut status, mut length) = (String::new(), 0);
    reader.read_line(&mut status).ok().filter(|read| *read > 0)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    assert!(status.starts_with("HTTP/1.1 202 "), "{status}{}", String::from_utf8_lossy(&body));
    let receipt: Value = serde_json::from_slice(&body).unwrap();
    Some(receipt["MessageId"].as_str().unwrap().to_owned())
}

pub(crate) fn check_acknowledged(server: &Server, sent: &Sent) {
    for (id, body) in &sent.acknowledged {
        let found = server.get(&format!("/api/documents/{id}"));
        assert_eq!(found.status, 200, "{id} was acknowledged and is gone");
        assert_eq!(&found.text(), body, "{id} is not what was sent");
    }
}

pub(crate) fn check_nothing_else(server: &Server, sent: &Sent) {
    let mut found: HashMap<String, u32> = HashMap::new();
    let mut path = "/api/documents?limit=1000".to_owned();
    loop {
        let page = server.get(&path).json();
        for document in page["documents"].as_array().unwrap() {
            *found.entry(document["body"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        if page["more"] != true {
            break;
        }
        path = format!("/api/documents?limit=1000&cursor={}", page["next"].as_str().unwrap());
    }
    for (body, times) in &found {
        assert!(sent.bodies.contains_key(body), "found what was never sent: {body}");
        assert_eq!(*times, 1, "found twice: {body}");
    }
    assert!(found.len() >= sent.acknowledged.len());
    let dead = server.get("/api/dead-letters").json();
    assert_eq!(dead["dead_letters"].as_array().unwrap().len(), 0, "{dead}");
}
