//! Instances that are killed and that hang, and an edge that is started again.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::process::Signal;

use super::site::Site;
use crate::load::{Load, read_answer};
use crate::server::{TOKEN, until};
use crate::systemd::Running;

#[test]
fn an_instance_killed_under_load_fails_no_request_that_can_be_repeated_and_loses_none() {
    let mut site = Site::start(&[]);
    let load = Load::start(site.edge.plain_address());
    load.wait_for(200);
    site.behind.two.take().unwrap().kill();
    let killed = Instant::now();
    assert_eq!(site.edge.get("/").status, 200);
    // A figure, not a condition: how long it takes depends on what else the machine does.
    eprintln!("first request after a kill: {:.1} ms", killed.elapsed().as_secs_f64() * 1e3);
    load.wait_for(200);
    let documents = load.finish_without_failure();
    until("it is known to be down", || site.health("two") == "down");
    // What the dead one had accepted is in its log, which the worker drains.
    site.wait_until_stored(documents);
}

#[test]
fn an_instance_that_hangs_is_taken_out_and_comes_back_slowly() {
    let site = Site::start(&[]);
    let load = Load::start(site.edge.plain_address());
    let two = site.behind.two.as_ref().unwrap();
    two.signal(Signal::STOP);
    until("it is out", || site.health("two") == "down");
    load.wait_for(100);
    two.signal(Signal::CONT);
    until("it is back with a share that grows", || site.health("two") == "slow-start");
    until("it has its full share again", || site.health("two") == "up");
    load.finish_without_failure();
}

#[test]
fn checks_go_on_until_the_last_thread_of_the_edge_has_ended_its_connections() {
    // One connection goes to each of two threads; which is the first thread's is not known, so
    // each ends first once.
    for first in [0, 1] {
        let site = Site::start(&["--zone", "a", "--threads", "2"]);
        let body = "[1]";
        let mut streams: Vec<TcpStream> = (0..2)
            .map(|number| {
                let mut stream = TcpStream::connect(site.edge.plain_address()).unwrap();
                let head = format!(
                    "POST /api/save HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {TOKEN}\r\n\
                     Content-Type: application/json\r\nIdempotency-Key: {first}-{number}\r\n\
                     Content-Length: {}\r\n\r\n",
                    body.len()
                );
                stream.write_all(head.as_bytes()).unwrap();
                stream
            })
            .collect();
        let one = site.behind.one.as_ref().unwrap();
        until("both are being answered", || {
            let status = site.edge.get("/edge/status").json();
            status["connections_open"].as_u64().unwrap() >= 2
        });
        site.edge.signal(Signal::TERM);
        until("no more connections are taken", || {
            TcpStream::connect(site.edge.plain_address()).is_err()
        });
        let mut last = streams.remove(1 - first);
        let mut ended = streams.remove(0);
        ended.write_all(body.as_bytes()).unwrap();
        let (status, answer) = read_answer(&mut BufReader::new(ended)).unwrap();
        assert_eq!(status, 202, "{answer}");
        // The own zone's comes first; that it hangs is found out by checks alone.
        one.signal(Signal::STOP);
        last.write_all(body.as_bytes()).unwrap();
        let answered = read_answer(&mut BufReader::new(last));
        one.signal(Signal::CONT);
        let (status, answer) = answered.unwrap();
        assert_eq!(status, 202, "{answer}");
        assert!(site.edge.stop().success());
    }
}

#[test]
fn with_no_instance_alive_the_answer_is_a_page_that_says_so() {
    let site = Site::prepare();
    let pages = site.path("pages");
    std::fs::create_dir(&pages).unwrap();
    std::fs::write(pages.join("503.html"), "<h1>back soon</h1>").unwrap();
    let mut site = site.before(&["--pages", pages.to_str().unwrap()]);
    drop((site.behind.one.take(), site.behind.two.take()));
    let answer = site.edge.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.json()["code"], "Unavailable");
    let mut stream = TcpStream::connect(site.edge.plain_address()).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n").unwrap();
    let (status, page) = read_answer(&mut BufReader::new(stream)).unwrap();
    assert_eq!((status, page.as_str()), (503, "<h1>back soon</h1>"));
}

/// Starts an edge whose door is `socket`, as systemd does it.
fn start_on(socket: &TcpListener, site: &Site) -> Running {
    let (config, data) = (site.path("edge.toml"), site.path("kept"));
    let config = ["--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
    Running::start_on(socket, "edge", &site.path(""), &config)
}

#[test]
fn an_edge_that_is_started_again_on_a_kept_socket_fails_no_request() {
    let site = Site::start(&[]);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let ask = || {
        let mut connection = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET /api/streams HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             X-Auth-Token: {TOKEN}\r\n\r\n"
        );
        connection.write_all(request.as_bytes()).unwrap();
        read_answer(&mut BufReader::new(connection)).map(|(status, _)| status)
    };
    let is_over = AtomicBool::new(false);
    let mut edge = start_on(&socket, &site);
    let answers = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut answers = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                answers.push(ask());
            }
            answers
        });
        for _ in 0..3 {
            // One more answer, which the edge that is to end has begun by now.
            ask();
            edge.end();
            edge = start_on(&socket, &site);
        }
        ask();
        is_over.store(true, Ordering::Relaxed);
        asking.join().unwrap()
    });
    assert!(answers.len() > 3 && answers.iter().all(|answer| *answer == Some(200)), "{answers:?}");
}
