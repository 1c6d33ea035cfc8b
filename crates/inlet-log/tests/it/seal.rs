//! A close seals the end of a log: from then on the last byte is as sure as the first.

use std::path::Path;

use inlet_log::fsck;
use inlet_log::{BLOCK_BYTES, Log, LogOptions, OpenError, Position};

use crate::simulated::{DIR, Simulated, append, finish, payload, small};

/// A log of a few records that was closed, or whose process just ended.
fn written(seed: u64, close: bool) -> (Simulated, Position) {
    let disk = Simulated::new(seed);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..5 {
        append(&log, &payload(number, 700)).unwrap();
    }
    let tail = log.tail();
    if close {
        finish(&log, log.close());
    }
    (disk, tail)
}

fn open(disk: &Simulated) -> Result<Log, OpenError> {
    disk.open(&small()).map(|(log, _)| log)
}

fn is_damaged(disk: &Simulated) -> bool {
    fsck::check(disk, Path::new(DIR), Position::START).unwrap().is_damaged()
}

/// The segment with the last record.
fn last(disk: &Simulated, tail: Position) -> std::path::PathBuf {
    let name = format!("{:020}.seg", tail.segment);
    disk.segments().into_iter().find(|path| path.ends_with(&name)).unwrap()
}

#[test]
fn after_a_close_each_flipped_bit_of_the_last_record_is_damage() {
    let (disk, tail) = written(1, true);
    let path = last(&disk, tail);
    let end = usize::try_from(tail.offset).unwrap();
    for bit in (end - 740) * 8..end * 8 {
        let disk = disk.copy();
        disk.disk().flip(&path, bit / 8, 1 << (bit % 8)).unwrap();
        let refused = open(&disk).map(drop);
        assert!(matches!(refused, Err(OpenError::Damage(_))), "bit {bit}: {refused:?}");
        assert!(is_damaged(&disk), "bit {bit}");
    }
}

#[test]
fn without_a_close_the_words_say_what_is_not_known() {
    let (disk, tail) = written(2, false);
    let path = last(&disk, tail);
    disk.disk().flip(&path, usize::try_from(tail.offset).unwrap() - 1, 1).unwrap();
    assert!(!is_damaged(&disk));
    let (_log, recovery) = disk.open(&small()).unwrap();
    let meaning = recovery.torn.unwrap().meaning();
    assert!(meaning.contains("which of the two is not known"), "{meaning}");
    assert!(!meaning.contains("none of it was acknowledged"), "{meaning}");
}

#[test]
fn after_a_close_an_end_that_is_cut_off_or_zeroed_is_damage() {
    let (disk, tail) = written(3, true);
    let path = last(&disk, tail);
    let whole = disk.disk().contents(&path).unwrap();
    let end = usize::try_from(tail.offset).unwrap();
    for cut in (BLOCK_BYTES..end).step_by(64).chain([end - 1]) {
        for zeros in [false, true] {
            let disk = disk.copy();
            let mut bytes = whole[..cut].to_vec();
            if zeros {
                bytes.resize(whole.len(), 0);
            }
            disk.disk().set_contents(&path, &bytes).unwrap();
            let refused = open(&disk).map(drop);
            assert!(matches!(refused, Err(OpenError::Damage(_))), "cut at {cut}: {refused:?}");
            assert!(is_damaged(&disk), "cut at {cut}");
        }
    }
}

#[test]
fn a_newest_segment_that_is_missing_is_damage_closed_or_not() {
    for close in [true, false] {
        let (disk, _) = written(4, close);
        let segments = disk.segments();
        for first_lost in 0..segments.len() {
            let disk = disk.copy();
            segments[first_lost..].iter().for_each(|path| disk.disk().lose(path));
            let refused = open(&disk).unwrap_err().to_string();
            let missing = format!("segment {} is missing", first_lost + 1);
            assert!(refused.contains(&missing), "{refused}");
            assert!(is_damaged(&disk), "{first_lost}");
        }
    }
}

#[test]
fn an_oldest_segment_that_is_missing_is_damage_unless_it_was_released() {
    let (disk, tail) = written(5, true);
    let oldest = disk.segments().remove(0);
    let lost = disk.copy();
    lost.disk().lose(&oldest);
    let refused = open(&lost).unwrap_err().to_string();
    assert!(refused.contains("segment 1 is missing"), "{refused}");
    assert!(is_damaged(&lost));
    // Records that are stored wholly are not missed, as an older binary removes them without a
    // record.
    let options = LogOptions { drained: tail, ..small() };
    assert!(tail.segment > 1);
    drop(lost.open(&options).unwrap());
    // Released in good order it is not missed either, whatever is known of the store.
    let log = disk.open(&options).unwrap().0;
    log.release(tail).unwrap();
    finish(&log, log.close());
    assert!(disk.disk().open(&oldest).is_err());
    drop(open(&disk).unwrap());
    assert!(!is_damaged(&disk));
}

#[test]
fn a_log_can_be_closed_and_opened_again_and_again_with_nothing_written() {
    let (disk, tail) = written(6, true);
    for _ in 0..3 {
        let log = open(&disk).unwrap();
        assert_eq!(log.tail(), tail);
        finish(&log, log.close());
        assert!(!is_damaged(&disk));
    }
    // All of it stored and released.
    let log = open(&disk).unwrap();
    log.release(tail).unwrap();
    finish(&log, log.close());
    for _ in 0..2 {
        let log = disk.open(&LogOptions { drained: tail, ..small() }).unwrap().0;
        finish(&log, log.close());
        assert!(!is_damaged(&disk));
    }
    assert_eq!(disk.payloads(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_poisoned_log_is_not_sealed() {
    let disk = Simulated::new(7);
    let (log, _) = disk.open(&small()).unwrap();
    append(&log, b"acked").unwrap();
    disk.disk().fail_change(1, inlet_testkit::simulated_disk::Fault::Io);
    append(&log, b"lost").unwrap_err();
    finish(&log, log.close());
    let end = disk.disk().contents(&Path::new(DIR).join("log.end")).unwrap();
    assert!(String::from_utf8(end).unwrap().contains("\nsealed no\n"));
}
