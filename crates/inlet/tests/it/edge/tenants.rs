//! One tenant's flood, and another tenant beside it.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::site::Site;
use crate::load::read_answer;
use crate::server::until;

/// The token of the tenant that sends without a pause.
const LOUD: &str = "a_token_that_sends_without_a_pause";
/// How many connections it has.
const CONNECTIONS: usize = 8;
/// How many documents the other one sends for each figure.
const DOCUMENTS: usize = 60;

/// What the loud one was answered.
#[derive(Default)]
struct Flood {
    is_over: AtomicBool,
    passed: AtomicU64,
    refused: AtomicU64,
}

impl Flood {
    fn send(&self, address: &str) {
        let stream = TcpStream::connect(address).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        let request = format!(
            "POST /api/save HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {LOUD}\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        while !self.is_over.load(Ordering::Relaxed) {
            writer.write_all(request.as_bytes()).unwrap();
            let (status, _) = read_answer(&mut reader).unwrap();
            let counter = if status == 429 { &self.refused } else { &self.passed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The median time in which a document of the quiet tenant is accepted.
fn median(site: &Site) -> Duration {
    let mut times: Vec<Duration> = (0..DOCUMENTS)
        .map(|_| {
            let begun = Instant::now();
            site.edge.save("{\"quiet\": true}");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[DOCUMENTS / 2]
}

/// How many requests reached an instance.
fn asked(site: &Site) -> u64 {
    let status = site.edge.get("/edge/status").json();
    let backends = status["backends"].as_array().unwrap();
    backends.iter().map(|backend| backend["requests"].as_u64().unwrap()).sum()
}

#[test]
fn the_flood_of_one_tenant_does_not_slow_another() {
    let site = Site::prepare();
    let plans = site.path("plans.toml");
    let hash: String = Sha256::digest(LOUD).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&plans, format!("[tokens]\n{hash} = \"bronze\"\n")).unwrap();
    let site = site.before(&["--plans", plans.to_str().unwrap()]);
    let alone = median(&site);
    let flood = Flood::default();
    let before = asked(&site);
    let begun = Instant::now();
    let beside = std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| flood.send(site.edge.plain_address()));
        }
        until("the flood is there", || flood.refused.load(Ordering::Relaxed) > 500);
        let beside = median(&site);
        flood.is_over.store(true, Ordering::Relaxed);
        beside
    });
    let seconds = begun.elapsed().as_secs() + 1;
    let (passed, refused) = (flood.passed.into_inner(), flood.refused.into_inner());
    eprintln!("median alone {alone:?}, beside a flood of {refused} refused requests {beside:?}");
    // Bronze is 10 a second and 20 that were saved up, also on all connections together.
    assert!(passed <= 20 + 10 * seconds, "{passed} passed in {seconds} s");
    assert!(refused > 10 * passed, "{passed} passed, {refused} were refused");
    let reached = asked(&site) - before;
    let others = u64::try_from(DOCUMENTS).unwrap();
    assert_eq!(reached, passed + others, "what is refused costs no instance anything");
    // It shares two cores with whatever else the machine does.
    let bound = alone * 5 + Duration::from_millis(20);
    assert!(beside <= bound, "alone {alone:?}, beside the flood {beside:?}");
}
