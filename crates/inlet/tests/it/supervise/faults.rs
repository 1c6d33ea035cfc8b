//! Instances, zones and the worker that end or hang.

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;

use super::{Fleet, log, send};
use crate::kill::{Sent, check_acknowledged, check_nothing_else};
use crate::lifecycle::flip_a_bit;
use crate::load::{Load, read_answer};
use crate::server::{Server, TOKEN, until};

#[test]
fn an_instance_killed_under_load_fails_no_request_and_is_back() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let load = Load::start_without_keys(fleet.server.plain_address());
    load.wait_for(100);
    for id in ["t-a1", "t-b2"] {
        let before = fleet.pid(id);
        send(before, Signal::KILL);
        let killed = Instant::now();
        until("it is back", || fleet.up().get(id).is_some_and(|pid| *pid != before));
        println!("{id} was back after {:?}", killed.elapsed());
        load.wait_for(100);
    }
    load.finish_without_failure();
    let back = fleet.instance("t-a1").unwrap();
    assert_eq!(back["restarts"], 1);
    assert_eq!(back["reason"], "signal: 9 (SIGKILL)");
    fleet.wait_until_drained();
    assert!(fleet.server.stop().success());
}

#[test]
fn nobody_but_the_edge_chooses_the_id_of_a_document() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let id = fleet.server.save("[1]");
    let headers = [("X-Inlet-Document-Id", id.as_str()), ("X-Inlet-Edge", "guessed")];
    let answer = fleet.server.post("/api/save", &headers, b"[2]");
    assert_eq!(answer.status, 400, "{}", answer.text());
    let instance = fleet.instance("t-a1").unwrap()["address"].as_str().unwrap().to_owned();
    let answer = ureq::post(format!("http://{instance}/api/save"))
        .config()
        .http_status_as_error(false)
        .build()
        .header("X-Auth-Token", TOKEN)
        .header("Content-Type", "application/json")
        .header("X-Inlet-Document-Id", &id)
        .header("X-Inlet-Edge", "guessed")
        .send("[2]")
        .unwrap();
    assert_eq!(answer.status(), 400);
    fleet.server.wait_until_stored(&id);
    assert_eq!(fleet.server.get(&format!("/api/documents/{id}")).text(), "[1]");
}

#[test]
fn a_crash_loop_is_backed_off_and_told_and_ends_when_its_cause_does() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = log(&directory.path().join("data"), "t-a1");
    fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    fs::write(&in_the_way, "a file where the log should be").unwrap();
    let begun = Instant::now();
    let fleet = Fleet::start_in(directory, &[]);
    until("it has ended five times", || {
        fleet.instance("t-a1").unwrap()["restarts"].as_u64().unwrap() >= 5
    });
    // After the first four it was started again, after 0, 250, 500 and 1,000 ms.
    assert!(begun.elapsed() >= Duration::from_millis(1_750), "{:?}", begun.elapsed());
    until("it is said to wait", || fleet.instance("t-a1").unwrap()["state"] == "backing-off");
    let reason = fleet.instance("t-a1").unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains(in_the_way.to_str().unwrap()), "{reason}");
    assert!(reason.starts_with("exit status: 1: error: "), "{reason}");
    fleet.server.save("[1]");
    // The others can be replaced nevertheless.
    let reload = fleet.run(&["reload"]);
    assert!(reload.status.success(), "{}", String::from_utf8_lossy(&reload.stderr));
    fs::remove_file(in_the_way).unwrap();
    fleet.wait_until_up(&["t-a1", "t-a2.2", "t-b1.2", "t-b2.2"]);
}

#[test]
fn the_instances_of_a_zone_that_stays_down_run_in_the_other_until_it_is_back() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let load = Load::start_without_keys(fleet.server.plain_address());
    load.wait_for(50);
    let up = fleet.up();
    ["t-b1", "t-b2"].iter().for_each(|id| send(up[*id], Signal::KILL));
    until("the killed zone is back by itself", || {
        let now = fleet.up();
        now.len() == 4 && now["t-b1"] != up["t-b1"] && now["t-b2"] != up["t-b2"]
    });
    load.wait_for(50);
    // From here on nothing starts in zone b.
    let up = fleet.up();
    for id in ["t-b1", "t-b2"] {
        let (place, aside) = (log(&fleet.data, id), fleet.data.join(id));
        // Stopped, so that it takes no document while its log is not there: it would refuse it.
        send(up[id], Signal::STOP);
        fs::rename(&place, aside).unwrap();
        fs::write(place, "a file where the log should be").unwrap();
        send(up[id], Signal::KILL);
    }
    fleet.wait_until_up(&["t-a1", "t-a2", "t-a3", "t-a4"]);
    assert_eq!(fleet.status()["zones"][1]["state"], "down");
    load.wait_for(50);
    for id in ["t-b1", "t-b2"] {
        let (place, aside) = (log(&fleet.data, id), fleet.data.join(id));
        fs::remove_file(&place).unwrap();
        fs::rename(aside, place).unwrap();
    }
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    assert_eq!(fleet.status()["zones"][1]["state"], "up");
    load.wait_for(50);
    load.finish_without_failure();
    fleet.wait_until_drained();
}

#[test]
fn an_operator_takes_a_zone_out_of_use_and_back_without_a_failed_request() {
    let fleet = Fleet::start(&[]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let load = Load::start_without_keys(fleet.server.plain_address());
    load.wait_for(50);
    assert!(fleet.run(&["zone", "down", "b"]).status.success());
    fleet.wait_until_up(&["t-a1", "t-a2", "t-a3", "t-a4"]);
    assert_eq!(fleet.status()["zones"][1]["state"], "closed");
    let refused = fleet.run(&["zone", "down", "a"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("zone a is the last one that is up"), "{said}");
    let unknown = fleet.run(&["zone", "down", "c"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("there is no zone c"));
    assert!(fleet.run(&["zone", "up", "b"]).status.success());
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    load.finish_without_failure();
}

#[test]
fn an_instance_that_hangs_is_taken_out_and_started_again() {
    let fleet = Fleet::start(&["--hang-s", "4"]);
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    let load = Load::start_without_keys(fleet.server.plain_address());
    load.wait_for(50);
    let before = fleet.pid("t-a2");
    send(before, Signal::STOP);
    // Asked of the edge itself: the fleet's status waits for the one that hangs.
    until("the edge says that it is down", || {
        let status = fleet.server.get("/edge/status").json();
        let backends = status["backends"].as_array().unwrap();
        backends.iter().any(|it| it["id"] == "t-a2" && it["health"] == "down")
    });
    load.wait_for(50);
    until("it is started again", || fleet.up().get("t-a2").is_some_and(|pid| *pid != before));
    load.finish_without_failure();
    let reason = fleet.instance("t-a2").unwrap()["reason"].clone();
    assert_eq!(reason, "it did not answer for 4 s, and was killed");
}

#[test]
fn a_worker_that_ends_or_hangs_is_started_again_and_stores_what_came_meanwhile() {
    let fleet = Fleet::start(&["--hang-s", "1"]);
    for (restarts, signal) in [(1, Signal::KILL), (2, Signal::STOP)] {
        let before = fleet.status()["worker"]["pid"].as_i64().unwrap();
        send(i32::try_from(before).unwrap(), signal);
        let id = fleet.server.save(&format!("{{\"restarts\": {restarts}}}"));
        fleet.server.wait_until_stored(&id);
        until("it is up", || fleet.status()["worker"]["state"] == "up");
        let worker = fleet.status()["worker"].take();
        assert_ne!(worker["pid"], before, "{worker}");
        assert_eq!(worker["restarts"], restarts);
    }
}

#[test]
fn a_damaged_log_holds_up_none_of_the_others_and_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    // An instance that is gone, whose documents nobody has stored.
    let gone = Server::start_as("serve", &data, &["--instance", "gone"], Some(TOKEN));
    let ids: Vec<String> = (0..9).map(|n| gone.save(&format!("{{\"number\": {n}}}"))).collect();
    gone.kill();
    let damaged = flip_a_bit(&data, b"{\"number\": 7}");
    let fleet = Fleet::start_in(directory, &[]);
    fleet.server.wait_until_stored(&ids[0]);
    until("it is told which log is damaged", || {
        let failing = fleet.status()["worker"]["failing"].to_string();
        failing.contains(damaged.to_str().unwrap())
    });
    let id = fleet.server.save("[1]");
    fleet.server.wait_until_stored(&id);
    assert_ne!(fleet.server.get(&format!("/api/documents/{}", ids[7])).status, 200);
}

#[test]
fn instances_killed_at_random_under_load_fail_no_request_lose_nothing_and_make_nothing_twice() {
    let kills: u32 = std::env::var("INLET_KILLS").map_or(10, |text| text.parse().unwrap());
    let seed: u64 = std::env::var("INLET_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |text| text.parse().unwrap());
    println!("INLET_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let fleet = Fleet::start(&[]);
    let sent = Arc::new(Mutex::new(Sent::default()));
    let is_over = Arc::new(Mutex::new(false));
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let address = fleet.server.plain_address().to_owned();
            let (sent, is_over) = (Arc::clone(&sent), Arc::clone(&is_over));
            std::thread::spawn(move || send_until(&is_over, &address, sender, &sent))
        })
        .collect();
    for _ in 0..kills {
        // The moment is random on purpose: nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.random_range(5..250)));
        let up = fleet.up();
        if !up.is_empty() {
            let unlucky = random.random_range(0..up.len());
            send(*up.values().nth(unlucky).unwrap(), Signal::KILL);
        }
    }
    *is_over.lock().unwrap() = true;
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    fleet.wait_until_up(&["t-a1", "t-a2", "t-b1", "t-b2"]);
    fleet.wait_until_drained();
    let sent = sent.lock().unwrap();
    println!("{} acknowledged, {} sent", sent.acknowledged.len(), sent.bodies.len());
    assert!(sent.acknowledged.len() > usize::try_from(kills).unwrap(), "hardly anything was sent");
    check_acknowledged(&fleet.server, &sent);
    check_nothing_else(&fleet.server, &sent);
    assert!(fleet.server.stop().success());
}

/// Sends documents without a key, each unlike any other. None fails because of an instance's end,
/// as long as there is another.
fn send_until(is_over: &Mutex<bool>, address: &str, sender: u32, sent: &Mutex<Sent>) {
    let mut connection = None;
    for number in 0.. {
        if *is_over.lock().unwrap() {
            return;
        }
        let (mut writer, mut reader) = connection.take().unwrap_or_else(|| {
            let stream = TcpStream::connect(address).unwrap();
            let reader = BufReader::new(stream.try_clone().unwrap());
            (stream, reader)
        });
        let filler = "x".repeat((number * 37) % 900);
        let body = format!("{{\"sender\": {sender},\t\"number\": {number}, \"f\": \"{filler}\"}}");
        sent.lock().unwrap().bodies.insert(body.clone(), 0);
        let request = format!(
            "POST /api/save HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if writer.write_all(request.as_bytes()).is_err() {
            continue;
        }
        match read_answer(&mut reader) {
            Some((202, receipt)) => {
                let receipt: Value = serde_json::from_str(&receipt).unwrap();
                let id = receipt["MessageId"].as_str().unwrap().to_owned();
                sent.lock().unwrap().acknowledged.push((id, body));
            }
            // With all four killed there is nobody to take it, and that is what is said.
            Some((503, said)) if said.contains("nothing was accepted") => {}
            other => panic!("{number} of {sender}: {other:?}"),
        }
        connection = Some((writer, reader));
    }
}
