//! A loss of power, on file systems that sync by themselves what they say and on others.

use std::fs;

use super::mounts::Mount;
use crate::server::{Server, TOKEN};

/// Documents saved before the power goes.
const DOCUMENTS: usize = 60;

/// Saves documents with the data directory on `mount`, cuts the power, and gives what the disk
/// had, and the ids and bodies of what was acknowledged.
fn cut_off(mount: &Mount) -> (Mount, Vec<(String, String)>) {
    let server = Server::start(&mount.at.join("data"));
    let acknowledged = (0..DOCUMENTS)
        .map(|n| {
            let body = format!("{{\"n\": {n}, \"f\": \"{}\"}}", "x".repeat(n * 37 % 900));
            (server.save(&body), body)
        })
        .collect();
    // A control: what nobody has synced is lost.
    fs::write(mount.at.join("control"), "x".repeat(5_000)).unwrap();
    let disk = mount.after_power_cut();
    server.kill();
    (disk, acknowledged)
}

fn check(data: &std::path::Path, acknowledged: &[(String, String)]) {
    let server = Server::start(data);
    server.wait_until_drained();
    for (id, body) in acknowledged {
        let found = server.get(&format!("/api/documents/{id}"));
        assert_eq!((found.status, &found.text()), (200, body), "{id} was acknowledged");
    }
    assert!(server.stop().success());
}

fn is_lost(control: &std::path::Path) -> bool {
    fs::read(control).map_or(true, |bytes| bytes.iter().all(|&byte| byte == 0))
}

#[test]
fn on_ext4_what_was_acknowledged_survives_a_loss_of_power() {
    let Some(mount) = Mount::ext4(260) else { return };
    let (disk, acknowledged) = cut_off(&mount);
    assert!(is_lost(&disk.at.join("control")), "the power was not cut");
    check(&disk.at.join("data"), &acknowledged);
}

#[test]
fn on_fuse_what_was_acknowledged_survives_a_loss_of_power() {
    let Some(under) = Mount::ext4(260) else { return };
    let Some(mount) = Mount::fuse_over(under) else { return };
    let (disk, acknowledged) = cut_off(&mount);
    assert!(is_lost(&disk.upper().join("control")), "the power was not cut");
    check(&disk.upper().join("data"), &acknowledged);
}

#[test]
fn the_method_in_force_and_the_file_system_are_told_and_what_is_not_known_is_warned_of() {
    let told = |data: &std::path::Path| {
        let mut command = crate::server::inlet(data.parent().unwrap());
        let log = data.with_extension("stderr");
        command.stderr(fs::File::create(&log).unwrap());
        let server = Server::start_command(command, "up", data, &[], Some(TOKEN));
        let metrics = server.get("/metrics").text();
        let info = metrics.lines().find(|line| line.starts_with("inlet_log_durability_info"));
        let info = info.unwrap().to_owned();
        assert!(server.stop().success());
        let (code, config) =
            super::run(data.parent().unwrap(), &["config", "--data", data.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{config}");
        let config = config.lines().find(|line| line.starts_with("log durability"));
        (info, config.unwrap().to_owned(), fs::read_to_string(log).unwrap())
    };
    if let Some(mount) = Mount::ext4(260) {
        let (info, config, log) = told(&mount.at.join("data"));
        assert!(info.contains("file_system=\"ext4\",known=\"true\""), "{info}");
        assert!(config.contains(" on ext4"), "{config}");
        assert!(log.contains(" on ext4") && !log.contains("may not survive"), "{log}");
        let Some(mount) = Mount::fuse_over(mount) else { return };
        let (info, config, log) = told(&mount.at.join("data"));
        let expected = "method=\"thread\",file_system=\"fuse.fuse-overlayfs\",known=\"false\"";
        assert!(info.contains(expected), "{info}");
        assert!(config.contains("thread on fuse.fuse-overlayfs"), "{config}");
        assert!(log.contains("may not survive a power cut"), "{log}");
    }
    if let Some(mount) = Mount::tmpfs(200) {
        let (info, config, log) = told(&mount.at.join("data"));
        assert!(info.contains("file_system=\"tmpfs\",known=\"false\""), "{info}");
        assert!(config.contains("tmpfs, lives in memory"), "{config}");
        assert!(log.contains("tmpfs, lives in memory"), "{log}");
    }
}
