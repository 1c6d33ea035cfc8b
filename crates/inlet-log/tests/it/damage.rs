//! What a crash left is cut off and told; what is damaged is named and refused.

use std::path::Path;

use inlet_log::fsck::{self, ProblemKind};
use inlet_log::{BLOCK_BYTES, LogOptions, OpenError, Position, Reader};

use crate::simulated::{DIR, Simulated, append, finish, payload, poll};

/// Options with which a first segment has room for seven blocks of groups.
fn small() -> LogOptions {
    LogOptions { first_segment_bytes: 32 << 10, ..crate::simulated::small() }
}

/// A log whose last group, with the records 3, 4 and 5, starts at this offset.
const LAST_GROUP: usize = 4 * BLOCK_BYTES;

/// A closed log with records 0 to 2 in groups of their own, and 3 to 5 together in the last.
fn written(seed: u64, bytes: usize) -> (Simulated, Vec<Vec<u8>>) {
    let disk = Simulated::new(seed);
    let (log, _) = disk.open(&small()).unwrap();
    let payloads: Vec<_> = (0..6).map(|number| payload(number, bytes)).collect();
    for payload in &payloads[..3] {
        append(&log, payload).unwrap();
    }
    let parts: Vec<[&[u8]; 1]> = payloads[3..].iter().map(|payload| [&payload[..]]).collect();
    let mut last: Vec<_> = parts.iter().map(|parts| log.append(parts)).collect();
    assert!(last.iter_mut().all(|append| poll(append).is_pending()));
    log.write_group();
    drop(last);
    (disk, payloads)
}

fn segment(disk: &Simulated) -> std::path::PathBuf {
    disk.segments().remove(0)
}

#[test]
fn a_last_write_cut_at_any_byte_leaves_its_whole_records_and_is_told() {
    let (disk, payloads) = written(1, 300);
    let path = segment(&disk);
    let whole = disk.disk().contents(&path).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let ends: Vec<usize> =
        (0..3).map(|n| LAST_GROUP + (n + 1) * (32 + payloads[3].len())).collect();
    assert_eq!(ends[2], end);
    for cut in LAST_GROUP..=end {
        for zeros in [false, true] {
            let disk = disk.copy();
            let mut bytes = whole[..cut].to_vec();
            if zeros {
                bytes.resize(whole.len(), 0);
            }
            disk.disk().set_contents(&path, &bytes).unwrap();
            let left = 3 + ends.iter().filter(|&&end| end <= cut).count();
            let (log, recovery) = disk.open(&small()).unwrap();
            assert_eq!(recovery.records, left as u64, "cut at {cut}");
            let within = cut != LAST_GROUP && !ends.contains(&cut);
            assert_eq!(recovery.torn.is_some(), within, "cut at {cut}: {:?}", recovery.torn);
            if let Some(torn) = recovery.torn {
                let at = usize::try_from(torn.offset).unwrap();
                let kept = disk.disk().contents(&torn.kept).unwrap();
                let last = whole[..cut].iter().rposition(|&byte| byte != 0).unwrap() + 1;
                assert_eq!(kept, whole[at..last], "cut at {cut}");
                // They are kept for good: the power may go now.
                let later = disk.copy();
                later.disk().crash();
                assert_eq!(later.disk().contents(&torn.kept).unwrap(), kept, "cut at {cut}");
            }
            append(&log, b"after").unwrap();
            let mut expected = payloads[..left].to_vec();
            expected.push(b"after".to_vec());
            assert_eq!(disk.payloads(), expected, "cut at {cut}");
            assert_eq!(fsck::check(&disk, Path::new(DIR), Position::START).unwrap().problems, []);
        }
    }
}

#[test]
fn every_flipped_bit_is_found_and_refused_unless_it_is_a_torn_tail() {
    let disk = Simulated::new(2);
    let smallest = LogOptions { first_segment_bytes: 12 << 10, segment_bytes: 12 << 10, ..small() };
    // Two runs, so that damage in the first is never at the tail.
    for run in 0..2 {
        let (log, _) = disk.open(&smallest).unwrap();
        for record in 0..2 - run {
            let payloads = [payload(record, 9), payload(record, 30)];
            let parts: [[&[u8]; 1]; 2] = [[&payloads[0]], [&payloads[1]]];
            finish(&log, log.append_all(&[&parts[0], &parts[1]])).unwrap();
        }
    }
    let segments = disk.segments();
    assert_eq!(segments.len(), 4, "each run left one that was prepared ahead");
    for path in segments.iter().chain([&Path::new(DIR).join("log.id")]) {
        let whole = disk.disk().contents(path).unwrap();
        for (byte, &holds) in whole.iter().enumerate() {
            // All bits of what is written; of zeros one bit each, a different one in turn.
            let bits = if holds != 0 { 0..8 } else { byte % 8..byte % 8 + 1 };
            for bit in bits {
                let may_be_torn = segments[2..].contains(path) && byte >= BLOCK_BYTES;
                // An open that succeeds changes the disk.
                let flipped = if may_be_torn { disk.copy() } else { disk.clone() };
                flipped.disk().flip(path, byte, 1 << bit).unwrap();
                let at = format!("bit {bit} of byte {byte} of {}", path.display());
                look_at_flipped(&flipped, &smallest, path, byte, may_be_torn, &at);
                if !may_be_torn {
                    flipped.disk().flip(path, byte, 1 << bit).unwrap();
                }
            }
        }
    }
    drop(disk.open(&smallest).unwrap());
}

fn look_at_flipped(
    flipped: &Simulated,
    options: &LogOptions,
    path: &Path,
    byte: usize,
    may_be_torn: bool,
    at: &str,
) {
    let report = fsck::check(flipped, Path::new(DIR), Position::START).unwrap();
    assert_ne!(report.problems, [], "not found: {at}");
    assert!(report.is_damaged() || may_be_torn, "{at}: {:?}", report.problems);
    match flipped.open(options) {
        Err(OpenError::Damage(damage)) => {
            assert!(!report.is_damaged() || damage.path.starts_with(DIR), "{at}: {damage}");
            assert!(report.is_damaged(), "{at}: refused, but no damage to fsck: {damage}");
            let before = damage.offset <= byte as u64;
            assert!(before || damage.path != path, "{at}: {damage}");
        }
        Err(other) => panic!("{at}: {other}"),
        Ok((_, recovery)) => {
            assert!(may_be_torn, "not refused: {at}");
            assert!(recovery.torn.is_some(), "not told: {at}");
        }
    }
}

#[test]
fn a_hole_in_the_last_write_is_a_torn_group() {
    // Records of 700 bytes: each holds a whole sector.
    let (disk, payloads) = written(3, 700);
    let path = segment(&disk);
    let whole = disk.disk().contents(&path).unwrap();
    let end = whole.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    let record = 32 + payloads[3].len();
    for sector in LAST_GROUP / 512..end.div_ceil(512) {
        let disk = disk.copy();
        let mut bytes = whole.clone();
        bytes[sector * 512..(sector + 1) * 512].fill(0);
        disk.disk().set_contents(&path, &bytes).unwrap();
        let (_log, recovery) = disk.open(&small()).unwrap();
        let torn = recovery.torn.unwrap_or_else(|| panic!("not told: sector {sector}"));
        // What stood before the hole is whole; everything from the damaged record on is cut.
        let left = 3 + (sector * 512 - LAST_GROUP) / record;
        assert_eq!(recovery.records, left as u64, "sector {sector}");
        // There is a hole where the last of the three records is not touched by it.
        let hole = (sector + 1) * 512 <= LAST_GROUP + 2 * record;
        assert_eq!(torn.hole, hole, "sector {sector}");
        assert_eq!(disk.payloads(), payloads[..left], "sector {sector}");
    }
}

#[test]
fn a_flipped_bit_in_the_last_write_is_damage_when_its_later_records_are_whole() {
    let (disk, _) = written(4, 700);
    let path = segment(&disk);
    disk.disk().flip(&path, LAST_GROUP + 100, 4).unwrap();
    let refused = disk.open(&small()).unwrap_err();
    let OpenError::Damage(damage) = refused else { panic!("{refused}") };
    assert_eq!((damage.path, damage.offset), (path, LAST_GROUP as u64));
}

#[test]
fn zeros_in_an_earlier_write_are_damage() {
    let (disk, _) = written(5, 700);
    let path = segment(&disk);
    let mut bytes = disk.disk().contents(&path).unwrap();
    bytes[2 * BLOCK_BYTES..3 * BLOCK_BYTES].fill(0);
    disk.disk().set_contents(&path, &bytes).unwrap();
    let refused = disk.open(&small()).unwrap_err();
    let OpenError::Damage(damage) = refused else { panic!("{refused}") };
    assert_eq!((damage.path, damage.offset), (path, 2 * BLOCK_BYTES as u64));
}

#[test]
fn records_that_are_missing_altogether_are_damage() {
    // The last group of a segment that another run follows is zeros, or cut off.
    let (disk, _) = written(6, 20);
    drop(disk.open(&small()).unwrap());
    let path = segment(&disk);
    let whole = disk.disk().contents(&path).unwrap();
    for zeros in [false, true] {
        let disk = disk.copy();
        let mut bytes = whole[..LAST_GROUP].to_vec();
        if zeros {
            bytes.resize(whole.len(), 0);
        }
        disk.disk().set_contents(&path, &bytes).unwrap();
        let refused = disk.open(&small()).unwrap_err();
        assert!(refused.to_string().contains("records are missing"), "{refused}");
        assert!(fsck::check(&disk, Path::new(DIR), Position::START).unwrap().is_damaged());
        let mut reader = Reader::open(disk.arc(), Path::new(DIR), Position::START).unwrap();
        assert_eq!(reader.next_batch(100, 1 << 20, None).unwrap().records.len(), 3);
        reader.next_batch(100, 1 << 20, None).unwrap_err();
    }
}

#[test]
fn records_missing_at_the_end_of_a_full_segment_are_damage() {
    let disk = Simulated::new(7);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..12 {
        append(&log, &payload(number, 1000)).unwrap();
    }
    drop(log);
    let path = segment(&disk);
    let mut bytes = disk.disk().contents(&path).unwrap();
    let last = bytes.len() - BLOCK_BYTES;
    bytes[last..].fill(0);
    disk.disk().set_contents(&path, &bytes).unwrap();
    let refused = disk.open(&small()).unwrap_err();
    assert!(matches!(&refused, OpenError::Damage(_)), "{refused}");
    assert!(fsck::check(&disk, Path::new(DIR), Position::START).unwrap().is_damaged());
}

#[test]
fn a_missing_segment_is_damage() {
    let disk = Simulated::new(8);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..30 {
        append(&log, &payload(number, 1000)).unwrap();
    }
    drop(log);
    let segments = disk.segments();
    assert!(segments.len() > 3);
    disk.disk().lose(&segments[1]);
    let refused = disk.open(&small()).unwrap_err();
    assert!(refused.to_string().contains("segment 2 is missing"), "{refused}");
    let mut reader = Reader::open(disk.arc(), Path::new(DIR), Position::START).unwrap();
    reader.next_batch(100, 1 << 20, None).unwrap();
    let refused = reader.next_batch(100, 1 << 20, None).unwrap_err();
    assert!(refused.to_string().contains("segment 2 is missing"), "{refused}");
}

#[test]
fn a_log_that_lacks_what_was_drained_is_refused() {
    let disk = Simulated::new(9);
    drop(disk.open(&small()).unwrap());
    let drained = Position { segment: 9, offset: 4096 };
    let options = LogOptions { drained, ..small() };
    let refused = disk.open(&options).unwrap_err();
    assert!(refused.to_string().contains("stored up to 9:4096"), "{refused}");
}

#[test]
fn a_segment_prepared_ahead_and_not_written_to_is_not_the_last() {
    let disk = Simulated::new(10);
    let (log, _) = disk.open(&small()).unwrap();
    append(&log, b"acked").unwrap();
    assert_eq!(disk.segments().len(), 2, "the next one is prepared");
    drop(log);
    let path = segment(&disk);
    let mut bytes = disk.disk().contents(&path).unwrap();
    bytes[2 * BLOCK_BYTES..][..64].fill(9);
    disk.disk().set_contents(&path, &bytes).unwrap();
    let report = fsck::check(&disk, Path::new(DIR), Position::START).unwrap();
    assert_eq!(report.problems.iter().map(|p| p.kind).collect::<Vec<_>>(), [ProblemKind::Torn]);
    let (log, recovery) = disk.open(&small()).unwrap();
    assert_eq!(recovery.torn.unwrap().offset, 2 * BLOCK_BYTES as u64);
    finish(&log, log.append(&[b"more"])).unwrap();
    assert_eq!(disk.payloads(), [b"acked".to_vec(), b"more".to_vec()]);
}

#[test]
fn a_first_write_that_was_cut_off_leaves_nothing_behind_though_all_before_it_is_gone() {
    let disk = Simulated::new(11);
    let (log, _) = disk.open(&small()).unwrap();
    let end = append(&log, b"stored").unwrap();
    drop(log);
    // The second run writes one group, which is torn; the first run's segment is stored and gone.
    let (log, _) = disk.open(&small()).unwrap();
    append(&log, b"torn").unwrap();
    log.release(end).unwrap();
    drop(log);
    let path = segment(&disk);
    disk.disk().flip(&path, BLOCK_BYTES + 33, 1).unwrap();
    let options = LogOptions { drained: end, ..small() };
    let (log, recovery) = disk.open(&options).unwrap();
    assert_eq!((recovery.records, recovery.torn.is_some()), (0, true));
    append(&log, b"after").unwrap();
    assert_eq!(disk.payloads(), [b"after"]);
    assert_eq!(fsck::check(&disk, Path::new(DIR), end).unwrap().problems, []);
}
