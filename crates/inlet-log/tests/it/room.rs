//! Rotation, release, and the limits of what may wait.

use std::path::Path;

use inlet_log::{
    AppendError, Full, LogOptions, Position, RECORD_BYTES_MAX, release, remove_drained,
};
use inlet_testkit::simulated_disk::Fault;

use crate::simulated::{DIR, Simulated, append, payload, small};

fn numbers(disk: &Simulated) -> Vec<u64> {
    let stem = |path: &std::path::PathBuf| path.file_stem().unwrap().to_str().unwrap().parse();
    disk.segments().iter().map(|path| stem(path).unwrap()).collect()
}

#[test]
fn a_log_goes_on_in_the_next_segment_which_is_prepared_before_it_is_needed() {
    let disk = Simulated::new(1);
    let (log, _) = disk.open(&small()).unwrap();
    assert_eq!(numbers(&disk), [1]);
    for number in 0..20 {
        append(&log, &payload(number, 3000)).unwrap();
        let (active, newest) = (log.tail().segment, *numbers(&disk).last().unwrap());
        assert_eq!(newest, active + 1, "one is prepared ahead");
    }
    assert!(log.tail().segment >= 3);
    assert_eq!(disk.payloads().len(), 20);
}

#[test]
fn released_segments_are_removed_and_the_one_written_to_stays() {
    let disk = Simulated::new(2);
    let (log, _) = disk.open(&small()).unwrap();
    let ends: Vec<Position> =
        (0..20).map(|number| append(&log, &payload(number, 3000)).unwrap()).collect();
    let full = log.bytes();
    assert_eq!(full, 20 * 4096);
    // The first segment holds three of them; one that stands in a segment's middle frees no block.
    log.release(ends[2]).unwrap();
    assert_eq!(log.bytes(), full - 3 * 4096);
    log.release(Position::START).unwrap();
    assert_eq!(log.bytes(), full - 3 * 4096, "never backwards");
    log.release(ends[3]).unwrap();
    assert_eq!(log.bytes(), full - 3 * 4096 - (ends[3].offset - 4096));
    log.release(ends[12]).unwrap();
    assert_eq!(numbers(&disk)[0], ends[12].segment, "{ends:?}");
    log.release(log.tail()).unwrap();
    assert_eq!(numbers(&disk)[0], log.tail().segment);
    append(&log, b"more").unwrap();
    assert_eq!(disk.payloads().last().map(Vec::as_slice), Some(&b"more"[..]));
    // A position beyond all that is there is no more than all.
    log.release(Position { segment: u64::MAX, offset: 0 }).unwrap();
    append(&log, b"still").unwrap();
}

#[test]
fn no_number_comes_again_after_everything_was_drained() {
    let disk = Simulated::new(3);
    let mut newest = 0;
    let mut drained = Position::START;
    for _ in 0..5 {
        let (log, recovery) = disk.open(&LogOptions { drained, ..small() }).unwrap();
        assert_eq!(recovery.torn, None);
        assert!(drained == Position::START || recovery.tail <= drained);
        for number in 0..10 {
            let end = append(&log, &payload(number, 3000)).unwrap();
            assert!(end.segment > newest, "{end} after segment {newest}");
        }
        newest = log.tail().segment;
        drained = log.tail();
        log.release(drained).unwrap();
        assert!(numbers(&disk).len() <= 2, "{:?}", numbers(&disk));
    }
}

#[test]
fn a_full_queue_refuses_until_something_is_released() {
    let disk = Simulated::new(4);
    let options = LogOptions { queue_bytes_max: 10 * 4096, ..small() };
    let (log, _) = disk.open(&options).unwrap();
    let mut ends = Vec::new();
    let full = loop {
        match append(&log, b"small") {
            Ok(end) => ends.push(end),
            Err(error) => break error,
        }
    };
    let is_full = matches!(&full, AppendError::Full { cause: Full::Queue { .. }, .. });
    assert!(is_full, "{full}");
    assert_eq!(ends.len(), 10);
    assert!(log.has_room().is_err());
    assert_eq!(
        full.to_string(),
        "the log /data/log takes no more: 40960 bytes wait to be stored, 40960 may"
    );
    // A queue that was left full is full.
    drop(log);
    let (log, _) = disk.open(&options).unwrap();
    append(&log, b"refused").unwrap_err();
    log.release(ends[5]).unwrap();
    log.has_room().unwrap();
    append(&log, b"taken").unwrap();
}

#[test]
fn a_payload_beyond_the_limit_is_refused() {
    let disk = Simulated::new(5);
    let (log, _) = disk.open(&LogOptions { segment_bytes: 64 << 20, ..small() }).unwrap();
    let refused = append(&log, &vec![1; RECORD_BYTES_MAX + 1]).unwrap_err();
    assert!(matches!(refused, AppendError::TooLarge { .. }), "{refused}");
    assert_eq!(log.bytes(), 0);
}

#[test]
fn what_another_process_released_is_noticed() {
    let disk = Simulated::new(6);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..20 {
        append(&log, &payload(number, 3000)).unwrap();
    }
    let (full, tail) = (log.bytes(), log.tail());
    release(&disk, Path::new(DIR), tail).unwrap();
    assert_eq!(numbers(&disk)[0], tail.segment);
    log.notice_released().unwrap();
    assert!(log.bytes() < full / 2, "{} of {full}", log.bytes());
    append(&log, b"more").unwrap();
    // The newest stays, whatever it is asked for.
    release(&disk, Path::new(DIR), Position { segment: 99, offset: 0 }).unwrap();
    assert!(!numbers(&disk).is_empty());
}

#[test]
fn a_release_that_fails_is_made_up_for_by_the_next() {
    let disk = Simulated::new(7);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..20 {
        append(&log, &payload(number, 3000)).unwrap();
    }
    let tail = log.tail();
    for nth in 0..3 {
        disk.disk().fail_change(nth, Fault::Io);
        let refused = log.release(tail).unwrap_err();
        assert!(refused.to_string().contains(DIR), "{refused}");
        let numbers = numbers(&disk);
        assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "no gap: {numbers:?}");
    }
    log.release(tail).unwrap();
    assert_eq!(numbers(&disk)[0], tail.segment);
    append(&log, b"more").unwrap();
}

#[test]
fn a_drained_log_without_a_writer_can_be_removed_and_no_other() {
    let disk = Simulated::new(8);
    let dir = Path::new(DIR);
    let (log, _) = disk.open(&small()).unwrap();
    let first = append(&log, b"one").unwrap();
    let last = append(&log, b"two").unwrap();
    assert!(!remove_drained(&disk, dir, last, || true).unwrap(), "it has a writer");
    drop(log);
    assert!(!remove_drained(&disk, dir, first, || true).unwrap(), "something is not drained");
    let copy = disk.copy();
    let segment = copy.segments().remove(0);
    copy.disk().flip(&segment, 4096 * 2 + 5, 1).unwrap();
    assert!(!remove_drained(&copy, dir, last, || true).unwrap(), "something can't be read");
    assert!(remove_drained(&disk, dir, last, || true).unwrap());
    assert!(disk.disk().list(dir).is_err());
    let (log, recovery) = disk.open(&small()).unwrap();
    assert_eq!(recovery.segments, 0);
    append(&log, b"anew").unwrap();
}

/// Has the disk hold its files and that many bytes more.
fn leave_room(disk: &Simulated, bytes: u64) {
    let used = disk.disk().used_bytes();
    disk.disk().set_room(Some(used + bytes));
}

/// Options of a log whose segments are larger than the room that is left.
fn large() -> LogOptions {
    LogOptions {
        first_segment_bytes: 128 << 10,
        segment_bytes: 2 << 20,
        group_bytes_max: 64 << 10,
        queue_bytes_max: 64 << 20,
        ..small()
    }
}

#[test]
fn less_room_than_a_segment_makes_smaller_segments_until_there_is_none() {
    let disk = Simulated::new(9);
    let (log, _) = disk.open(&large()).unwrap();
    leave_room(&disk, 1 << 20);
    let mut acked = Vec::new();
    let full = loop {
        let payload = payload(acked.len(), 3000);
        match append(&log, &payload) {
            Ok(_) => acked.push(payload),
            Err(error) => break error,
        }
    };
    assert!(matches!(&full, AppendError::Full { cause: Full::Disk(_), .. }), "{full}");
    // Each of them takes a block; of the last 64 KiB and of the headers none can be made.
    let blocks = (128 << 10) / 4096 + (1 << 20) / 4096;
    assert!(acked.len() > blocks - 32, "{} of {blocks} blocks were used", acked.len());
    assert_eq!(disk.payloads(), acked);
    assert!(log.poisoned().is_none());
    let tail = log.tail();
    log.release(tail).unwrap();
    // The room of what was released is used at once.
    log.make_segment();
    append(&log, b"again").unwrap();
}

#[test]
fn an_append_that_finds_no_room_does_not_keep_smaller_ones_out() {
    let disk = Simulated::new(10);
    let (log, _) = disk.open(&large()).unwrap();
    append(&log, b"first").unwrap();
    log.make_segment();
    // The next segment is there; fill up to it, with little room left for one more.
    leave_room(&disk, 100 << 10);
    let mut small = 0;
    let big = vec![7; 300 << 10];
    let refused = loop {
        match append(&log, &payload(small, 3000)) {
            Ok(_) => small += 1,
            Err(error) => panic!("{error} after {small}"),
        }
        if disk.segments().len() == 3
            && let Err(refused) = append(&log, &big)
        {
            break refused;
        }
    };
    assert!(matches!(&refused, AppendError::Full { cause: Full::Disk(_), .. }), "{refused}");
    append(&log, b"small ones go on").unwrap();
    disk.disk().set_room(None);
    // The next segment is made anew with all its room, and is used.
    assert!(log.make_roomier());
    append(&log, &big).unwrap();
    append(&log, b"after it").unwrap();
    let payloads = disk.payloads();
    let last: Vec<usize> = payloads.iter().rev().take(3).map(Vec::len).collect();
    assert_eq!(last, [b"after it".len(), big.len(), b"small ones go on".len()]);
}
