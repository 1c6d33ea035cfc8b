//! Two instances and two workers share a queue and a store. Under load any of the four is killed
//! at random and started again; afterwards every `202` is found once.

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::servers::{AWS, Namespace, POSTGRES, start};
use crate::kill::{Sent, check_acknowledged, check_nothing_else, send};
use crate::server::{Server, inlet, until};

/// How often one of the four is killed; `INLET_KILLS=100` for the long run.
const KILLS: u32 = 8;

#[test]
fn any_of_two_instances_and_two_workers_on_postgres_and_sqs_may_be_killed() {
    kill_at_random(&POSTGRES.database());
}

#[test]
fn any_of_two_instances_and_two_workers_on_dynamodb_and_sqs_may_be_killed() {
    kill_at_random(&AWS.table());
}

/// A process that serves, and the thread that sends to it until it is killed.
struct Instance {
    server: Server,
    sender: std::thread::JoinHandle<()>,
}

impl Instance {
    fn start(data: &Path, flags: &[&str], round: u32, index: usize, sent: &Shared) -> Self {
        let server = start("serve", data, flags, AWS.variables());
        let (address, sent) = (server.plain_address().to_owned(), sent.clone());
        let sender = std::thread::spawn(move || {
            while !sent.enough.load(Ordering::Relaxed) {
                send(&address, round, index, &sent.sent);
                if std::net::TcpStream::connect(&address).is_err() {
                    return;
                }
            }
        });
        Self { server, sender }
    }

    fn kill(self) {
        self.server.kill();
        self.sender.join().unwrap();
    }
}

#[derive(Clone, Default)]
struct Shared {
    sent: Arc<Mutex<Sent>>,
    enough: Arc<AtomicBool>,
}

/// A worker; ended when it is dropped.
struct Worker(Child);

impl Worker {
    fn start(data: &Path, flags: &[&str]) -> Self {
        let child = inlet(data.parent().unwrap())
            .args(["persist", "--data"])
            .arg(data)
            .args(flags)
            .envs(AWS.variables())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn kill_at_random(store: &str) {
    let kills = std::env::var("INLET_KILLS").map_or(KILLS, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("INLET_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    let mut random = SmallRng::seed_from_u64(seed);
    let queue = AWS.queue(&Namespace::new());
    let bucket = AWS.bucket();
    let flags = ["--store", store, "--queue", &queue, "--bucket", &bucket];
    let directory = tempfile::tempdir().unwrap();
    // Each process has a directory of its own, as on a machine of its own.
    let data = |name: String| directory.path().join(name).join("data");
    for name in ["i0", "i1", "w0", "w1"] {
        std::fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    let shared = Shared::default();
    let instance =
        |round, index| Instance::start(&data(format!("i{index}")), &flags, round, index, &shared);
    let worker = |index| Worker::start(&data(format!("w{index}")), &flags);
    let mut instances = vec![instance(0, 0), instance(0, 1)];
    let mut workers = vec![worker(0), worker(1)];
    for round in 1..=kills {
        // The moment is random on purpose: nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.random_range(50..400)));
        let index = random.random_range(0..2);
        if random.random() {
            instances.remove(index).kill();
            instances.insert(index, instance(round, index));
        } else {
            drop(workers.remove(index));
            workers.insert(index, worker(index));
        }
    }
    shared.enough.store(true, Ordering::Relaxed);
    let keep = instances.remove(0);
    instances.into_iter().for_each(Instance::kill);
    let Instance { server, sender } = keep;
    server.kill();
    sender.join().unwrap();
    let server = start("serve", &data("i0".to_owned()), &flags, AWS.variables());
    let sent = shared.sent.lock().unwrap();
    let (acknowledged, all) = (sent.acknowledged.len(), sent.bodies.len());
    assert!(acknowledged > 20, "INLET_SEED={seed}: {acknowledged} of {all} were acknowledged");
    for (id, _) in &sent.acknowledged {
        until("what was acknowledged is stored", || {
            server.get(&format!("/api/receipts/{id}")).json()["state"] == "stored"
        });
    }
    check_acknowledged(&server, &sent);
    check_nothing_else(&server, &sent);
}
