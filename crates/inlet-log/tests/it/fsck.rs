//! Listing all that is wrong, and setting it aside.

use std::path::Path;

use inlet_log::fsck::{self, ProblemKind, RepairError};
use inlet_log::{BLOCK_BYTES, Position};

use crate::simulated::{DIR, Simulated, append, finish, payload, small};

/// A log of two runs over several segments, with two records in each group.
fn written(seed: u64) -> (Simulated, Vec<Vec<u8>>) {
    let disk = Simulated::new(seed);
    let payloads: Vec<_> = (0..24).map(|number| payload(number, 500 + number * 30)).collect();
    for run in payloads.chunks(12) {
        let (log, _) = disk.open(&small()).unwrap();
        for pair in run.chunks(2) {
            let parts: [[&[u8]; 1]; 2] = [[&pair[0]], [&pair[1]]];
            finish(&log, log.append_all(&[&parts[0], &parts[1]])).unwrap();
        }
    }
    // A third run, so that nothing of the others is at the tail.
    let (log, _) = disk.open(&small()).unwrap();
    append(&log, b"the tail").unwrap();
    drop(log);
    (disk, payloads)
}

fn check(disk: &Simulated) -> fsck::Report {
    fsck::check(disk, Path::new(DIR), Position::START).unwrap()
}

/// Repairs, and sees that the log opens and is sound; gives what was repaired and what is left.
fn repair(disk: &Simulated, at: &str) -> (fsck::Repair, Vec<Vec<u8>>) {
    let repair = fsck::repair(&disk.arc(), Path::new(DIR), Position::START)
        .unwrap_or_else(|error| panic!("{at}: {error}"));
    let left = disk.payloads();
    assert_eq!(repair.records, left.len() as u64, "{at}");
    let (log, _) = disk.open(&small()).unwrap_or_else(|error| panic!("{at}: {error}"));
    append(&log, b"after").unwrap();
    drop(log);
    assert_eq!(check(disk).problems, [], "{at}");
    assert_eq!(disk.payloads().len(), left.len() + 1, "{at}");
    (repair, left)
}

/// The payloads but those at these places, and the tail.
fn without(payloads: &[Vec<u8>], gone: &[usize]) -> Vec<Vec<u8>> {
    let kept = payloads.iter().enumerate().filter(|(at, _)| !gone.contains(at));
    kept.map(|(_, payload)| payload.clone()).chain([b"the tail".to_vec()]).collect()
}

#[test]
fn a_sound_log_has_no_problems() {
    let (disk, payloads) = written(1);
    let report = check(&disk);
    assert_eq!((report.problems.as_slice(), report.is_damaged()), (&[][..], false));
    assert_eq!(report.records, 25);
    let bytes = payloads.iter().map(|payload| payload.len() as u64).sum::<u64>() + 8;
    assert_eq!(report.bytes, bytes);
    let (repair, left) = repair(&disk, "nothing to repair");
    assert_eq!((repair.damage, repair.taken), (vec![], vec![]));
    assert_eq!(left, without(&payloads, &[]));
}

#[test]
fn a_damaged_record_is_taken_out_and_the_others_stay_where_they_were() {
    let (disk, payloads) = written(2);
    let before: Vec<Position> = ends(&disk);
    // The first and the second record of each group in the first segment.
    let path = disk.segments().remove(0);
    let whole = disk.disk().contents(&path).unwrap();
    for (gone, first) in (0..6).zip([true, false].into_iter().cycle()) {
        let group = BLOCK_BYTES * (1 + gone / 2);
        let second = group + 32 + payloads[gone - usize::from(!first)].len();
        let start = if first { group } else { second };
        for (byte, what) in [(3, "checksum"), (5, "length"), (20, "identity"), (40, "payload")] {
            let disk = disk.copy();
            disk.disk().flip(&path, start + byte, 0x10).unwrap();
            let at = format!("{what} of record {gone}");
            let problems = check(&disk).problems;
            assert_eq!(problems.len(), 1, "{at}: {problems:?}");
            assert_eq!((problems[0].offset, problems[0].kind), (start as u64, ProblemKind::Damage));
            let (repair, left) = repair(&disk, &at);
            assert_eq!(left, without(&payloads, &[gone]), "{at}");
            assert_eq!(repair.damage, problems, "{at}");
            let taken = &repair.taken[0];
            let kept = disk.disk().contents(&taken.kept).unwrap();
            let mut expected = whole[start..start + kept.len()].to_vec();
            expected[byte] ^= 0x10;
            assert_eq!((kept, taken.offset), (expected, start as u64), "{at}");
            assert!(taken.kept.starts_with("/data/log/quarantine"));
            // Positions that are kept elsewhere stay right.
            let mut expected = before.clone();
            expected.remove(gone);
            assert_eq!(ends(&disk)[..expected.len()], expected, "{at}");
        }
    }
}

fn ends(disk: &Simulated) -> Vec<Position> {
    let mut reader = inlet_log::Reader::open(disk.arc(), Path::new(DIR), Position::START).unwrap();
    let records = reader.next_batch(1000, 1 << 20, None).unwrap().records;
    records.into_iter().map(|record| record.end).collect()
}

#[test]
fn every_damage_of_a_byte_can_be_repaired_and_costs_one_record_at_most() {
    let (disk, payloads) = written(3);
    let all = without(&payloads, &[]);
    let segments = disk.segments();
    for path in segments.iter().chain([&Path::new(DIR).join("log.id")]) {
        let length = disk.disk().contents(path).unwrap().len();
        for byte in (0..length).step_by(97).chain(0..length.min(64)) {
            let disk = disk.copy();
            disk.disk().flip(path, byte, 0x41).unwrap();
            if !check(&disk).is_damaged() {
                continue;
            }
            let at = format!("byte {byte} of {}", path.display());
            let (_, left) = repair(&disk, &at);
            let lost = all.iter().filter(|payload| !left.contains(payload)).count();
            assert!(lost <= 1, "{at}: {lost} lost");
            assert_eq!(left.len() + lost, all.len(), "{at}");
        }
    }
}

#[test]
fn a_run_of_zeros_and_a_missing_segment_cost_what_was_in_them() {
    let (disk, payloads) = written(4);
    let mut looked_at = 0;
    for path in disk.segments() {
        let mut bytes = disk.disk().contents(&path).unwrap();
        // Those of the runs before; what was prepared and never used holds nothing.
        if bytes.len() <= 3 * BLOCK_BYTES || bytes[2 * BLOCK_BYTES] == 0 {
            continue;
        }
        looked_at += 1;
        let zeroed = disk.copy();
        bytes[2 * BLOCK_BYTES..3 * BLOCK_BYTES].fill(0);
        zeroed.disk().set_contents(&path, &bytes).unwrap();
        let (_, left) = repair(&zeroed, &format!("zeros in {}", path.display()));
        assert_eq!(left.len(), payloads.len() + 1 - 2, "{}", path.display());
        let missing = disk.copy();
        missing.disk().lose(&path);
        // The oldest may have been released.
        if looked_at > 1 {
            assert!(check(&missing).is_damaged());
            let (_, left) = repair(&missing, &format!("{} is missing", path.display()));
            assert!((10..25).contains(&left.len()), "{}", left.len());
        }
    }
    assert!(looked_at > 2, "{looked_at}");
}

#[test]
fn a_torn_tail_is_told_and_left_to_the_next_start() {
    let (disk, _) = written(5);
    let path = disk.segments().into_iter().rev().nth(1).unwrap();
    let mut bytes = disk.disk().contents(&path).unwrap();
    bytes[2 * BLOCK_BYTES..][..100].fill(3);
    disk.disk().set_contents(&path, &bytes).unwrap();
    let report = check(&disk);
    assert!(!report.is_damaged());
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].kind, ProblemKind::Torn);
    assert_eq!(report.problems[0].bytes, 100);
    let text = report.problems[0].to_string();
    assert!(text.contains(".seg: 100 bytes at offset 8192: no whole record at the end"), "{text}");
    let repair = fsck::repair(&disk.arc(), Path::new(DIR), Position::START).unwrap();
    assert_eq!((repair.damage, repair.taken), (vec![], vec![]));
    assert_eq!(check(&disk), report, "nothing was changed");
}

#[test]
fn a_log_with_a_writer_is_not_repaired() {
    let (disk, _) = written(6);
    let _log = disk.open(&small()).unwrap();
    let refused = fsck::repair(&disk.arc(), Path::new(DIR), Position::START).unwrap_err();
    assert!(matches!(refused, RepairError::InUse { .. }), "{refused}");
    assert_eq!(check(&disk).problems, []);
}

#[test]
fn a_look_changes_nothing() {
    let (disk, _) = written(7);
    let path = disk.segments().remove(0);
    disk.disk().flip(&path, 5000, 1).unwrap();
    let changes = disk.disk().trace().len();
    assert!(check(&disk).is_damaged());
    assert_eq!(disk.disk().trace().len(), changes);
}
