//! A disk without room: everything that fits is taken, the rest is refused, and it goes on.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use super::mounts::Mount;
use crate::server::{Server, TOKEN, inlet, until};

/// A body of 200 KB.
fn large(n: usize) -> String {
    format!("{{\"n\": {n}, \"f\": \"{}\"}}", "x".repeat(200_000))
}

/// Starts an instance whose warnings go to a file.
fn start(role: &str, data: &Path, log: &Path) -> Server {
    let mut command = inlet(data.parent().unwrap());
    command.stderr(File::create(log).unwrap());
    Server::start_command(command, role, data, &[], Some(TOKEN))
}

/// Saves until the door says `503`; says how many were taken.
fn fill(server: &Server) -> usize {
    for n in 0.. {
        let answer = server.post("/api/save", &[], large(n).as_bytes());
        if answer.status == 503 {
            assert!(answer.headers.contains_key("retry-after"), "{}", answer.text());
            return n;
        }
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
    unreachable!("a disk ends")
}

fn warnings(log: &Path) -> usize {
    let text = fs::read_to_string(log).unwrap();
    text.lines().filter(|line| line.contains("WARN")).count()
}

/// The processor time that a process took so far, in hundredths of a second.
fn ticks(server: &Server) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Leaves about that many MiB on a file system, by a file that takes the rest.
fn leave(mount: &Mount, mib: u64) -> std::path::PathBuf {
    let ballast = mount.at.join("ballast");
    let file = File::create(&ballast).unwrap();
    // The log may reserve more meanwhile.
    until("the disk is full", || {
        let stat = rustix::fs::statvfs(&mount.at).unwrap();
        let free = stat.f_bavail * stat.f_frsize;
        let bytes = free.checked_sub(mib << 20).expect("there is more room than that");
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).is_ok()
    });
    ballast
}

#[test]
fn less_room_than_a_segment_is_used_and_a_full_disk_is_quiet_and_goes_on_within_five_seconds() {
    let Some(mount) = Mount::ext4(260) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let log = elsewhere.path().join("stderr");
    // Nobody drains, so that the log alone takes room.
    let server = start("serve", &mount.at.join("data"), &log);
    let ballast = leave(&mount, 46);
    let taken = fill(&server);
    // The space reserved before, and all but the last of the 46 MiB.
    assert!(taken > 200, "{taken} documents of 200 KB fit into more than 46 MiB");
    // Small ones fit where large ones do not, down to the last blocks.
    let (before, warned) = (ticks(&server), warnings(&log));
    let began = Instant::now();
    until("two seconds have passed", || began.elapsed() > Duration::from_secs(2));
    let (ticks, warned) = (ticks(&server) - before, warnings(&log) - warned);
    assert!(warned <= 2, "{warned} warnings in two seconds");
    assert!(ticks < 20, "{ticks} hundredths of a second of two seconds without load");
    fs::remove_file(ballast).unwrap();
    let began = Instant::now();
    until("there is room again", || {
        server.post("/api/save", &[], large(0).as_bytes()).status == 202
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(server.stop().success());
}

#[test]
fn a_disk_that_fills_under_a_whole_server_loses_nothing_and_it_goes_on_when_there_is_room() {
    let Some(mount) = Mount::tmpfs(300) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let data = mount.at.join("data");
    let server = start("up", &data, &elsewhere.path().join("stderr"));
    let first = server.save("[1]");
    server.wait_until_stored(&first);
    let ballast = leave(&mount, 1);
    let mut taken = vec![first];
    for n in 0.. {
        let answer = server.post("/api/save", &[], large(n).as_bytes());
        if answer.status != 202 {
            assert_eq!(answer.status, 503, "{}", answer.text());
            break;
        }
        taken.push(answer.json()["MessageId"].as_str().unwrap().to_owned());
    }
    assert_eq!(server.get("/healthz").status, 200);
    fs::remove_file(ballast).unwrap();
    let mut last = String::new();
    until("there is room again", || {
        let answer = server.post("/api/save", &[], b"[2]");
        if answer.status == 202 {
            last = answer.json()["MessageId"].as_str().unwrap().to_owned();
        }
        answer.status == 202
    });
    for id in taken.iter().chain([&last]) {
        server.wait_until_stored(id);
    }
    assert!(server.stop().success());
}

#[test]
fn a_disk_without_inodes_refuses_and_goes_on_once_there_are_some() {
    // An ext4 with few of them; the system rounds up.
    let Some(mount) = Mount::ext4_with(260, &["-N", "128"]) else { return };
    let elsewhere = tempfile::tempdir().unwrap();
    let server = start("serve", &mount.at.join("data"), &elsewhere.path().join("stderr"));
    let litter = mount.at.join("litter");
    fs::create_dir(&litter).unwrap();
    for n in 0.. {
        if File::create(litter.join(n.to_string())).is_err() {
            break;
        }
    }
    let taken = fill(&server);
    assert!(taken > 0, "the segment that was there is used");
    fs::remove_dir_all(&litter).unwrap();
    until("there are inodes again", || {
        server.post("/api/save", &[], large(0).as_bytes()).status == 202
    });
    assert!(server.stop().success());
}

#[test]
fn a_data_directory_that_may_only_be_read_is_refused_with_a_hint() {
    let Some(mount) = Mount::ext4(260) else { return };
    let data = mount.at.join("data");
    let server = Server::start(&data);
    let id = server.save("[1]");
    server.wait_until_stored(&id);
    assert!(server.stop().success());
    assert!(mount.remount("ro"));
    let text = super::refused(&data, "up", &[]);
    assert!(text.to_lowercase().contains("read-only"), "{text}");
    assert!(text.contains("hint:"), "{text}");
    assert!(mount.remount("rw"));
    let server = Server::start(&data);
    assert_eq!(server.get(&format!("/api/documents/{id}")).status, 200);
}
