//! Reading: while the log is written, from another handle, from any position.

use std::path::Path;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use inlet_log::{BLOCK_BYTES, Log, Position, ReadError, Reader, release};

use crate::simulated::{DIR, Simulated, append, payload, poll, small};

fn reader(disk: &Simulated, from: Position) -> Reader {
    Reader::open(disk.arc(), Path::new(DIR), from).unwrap()
}

/// How many records the next batch brings.
fn next(reader: &mut Reader, tail: Option<Position>) -> usize {
    reader.next_batch(100, 1 << 20, tail).unwrap().records.len()
}

#[test]
fn a_reader_follows_the_writer_of_its_process_up_to_what_is_durable() {
    let disk = Simulated::new(1);
    let (log, _) = disk.open(&small()).unwrap();
    let mut reader = reader(&disk, Position::START);
    assert_eq!(next(&mut reader, Some(log.tail())), 0);
    let mut read = 0;
    for number in 0..40 {
        let payload = payload(number, 1000);
        let parts: [&[u8]; 1] = [&payload];
        let mut waits = log.append(&parts);
        while poll(&mut waits).is_pending() {
            // Written or not, it is not durable before it is acknowledged.
            assert_eq!(next(&mut reader, Some(log.tail())), 0);
            if !log.write_group() {
                log.make_segment();
            } else {
                break;
            }
        }
        let batch = reader.next_batch(100, 1 << 20, Some(log.tail())).unwrap();
        let records = batch.records;
        assert_eq!((records.len(), &records[0].payload[..]), (1, &payload[..]));
        assert_eq!((records[0].end, batch.end), (log.tail(), log.tail()));
        read += records.len();
    }
    assert_eq!(read, 40);
}

#[test]
fn a_reader_elsewhere_follows_over_segments_without_the_writers_word() {
    let disk = Simulated::new(2);
    let (log, _) = disk.open(&small()).unwrap();
    let mut reader = reader(&disk, Position::START);
    assert_eq!(next(&mut reader, None), 0);
    for number in 0..40 {
        append(&log, &payload(number, 1000)).unwrap();
        assert_eq!(next(&mut reader, None), 1, "record {number}");
        assert_eq!(next(&mut reader, None), 0, "record {number}");
    }
    assert!(reader.position().segment > 3);
    // Another run goes on in another segment.
    drop(log);
    let (log, _) = disk.open(&small()).unwrap();
    assert_eq!(next(&mut reader, None), 0);
    append(&log, b"in the next run").unwrap();
    assert_eq!(next(&mut reader, None), 1);
    assert_eq!(reader.position(), log.tail());
}

#[test]
fn a_batch_is_bounded_in_records_and_bytes() {
    let disk = Simulated::new(3);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..10 {
        append(&log, &payload(number, 100)).unwrap();
    }
    let one = payload(0, 100).len();
    let mut reader = reader(&disk, Position::START);
    let mut sizes = Vec::new();
    for (records_max, bytes_max) in
        [(3, 1 << 20), (100, 2 * one), (100, 1), (100, 0), (100, 1 << 20)]
    {
        let batch = reader.next_batch(records_max, bytes_max, Some(log.tail())).unwrap();
        sizes.push(batch.records.len());
    }
    assert_eq!(sizes, [3, 2, 1, 1, 3]);
}

#[test]
fn a_reader_goes_on_from_every_position_there_is() {
    let disk = Simulated::new(4);
    let (log, _) = disk.open(&small()).unwrap();
    for number in 0..30 {
        append(&log, &payload(number, number * 40)).unwrap();
    }
    let all = reader(&disk, Position::START).next_batch(100, 1 << 20, None).unwrap().records;
    assert_eq!(all.len(), 30);
    for (at, record) in all.iter().enumerate() {
        for tail in [None, Some(log.tail())] {
            let mut later = reader(&disk, record.end);
            let batch = later.next_batch(100, 1 << 20, tail).unwrap();
            assert_eq!(batch.records, all[at + 1..], "from {}", record.end);
            later.seek(Position::START);
            assert_eq!(next(&mut later, tail), 30);
        }
    }
}

#[test]
fn a_reader_whose_segment_was_released_starts_at_the_oldest_there_is() {
    let disk = Simulated::new(5);
    let (log, _) = disk.open(&small()).unwrap();
    let ends: Vec<Position> =
        (0..30).map(|number| append(&log, &payload(number, 2000)).unwrap()).collect();
    release(&disk, Path::new(DIR), ends[20]).unwrap();
    log.notice_released().unwrap();
    let mut old = reader(&disk, ends[2]);
    let first = old.next_batch(1, 1 << 20, None).unwrap().records.remove(0);
    assert!(first.end > ends[2] && first.end <= ends[20], "{}", first.end);
    let mut from = reader(&disk, ends[20]);
    assert_eq!(next(&mut from, None), 9);
}

/// A log whose last write is torn, as another process sees it while it is written.
fn under_way(seed: u64) -> (Simulated, Log, std::path::PathBuf, Vec<u8>) {
    let disk = Simulated::new(seed);
    let (log, _) = disk.open(&small()).unwrap();
    append(&log, b"durable").unwrap();
    append(&log, &payload(1, 3000)).unwrap();
    let path = disk.segments().remove(0);
    let whole = disk.disk().contents(&path).unwrap();
    let mut torn = whole.clone();
    torn[2 * BLOCK_BYTES + 1024..3 * BLOCK_BYTES].fill(0);
    disk.disk().set_contents(&path, &torn).unwrap();
    (disk, log, path, whole)
}

#[test]
fn a_write_under_way_is_no_more_yet_and_is_read_once_it_is_whole() {
    let (disk, _log, path, whole) = under_way(6);
    let mut reader = reader(&disk, Position::START);
    assert_eq!(next(&mut reader, None), 1);
    for _ in 0..10 {
        assert_eq!(next(&mut reader, None), 0);
    }
    disk.disk().set_contents(&path, &whole).unwrap();
    assert_eq!(next(&mut reader, None), 1);
}

#[test]
fn damage_is_an_error_and_never_skipped() {
    // Before the tail that the writer tells of, in the middle of a segment, and in one that is
    // finished.
    let (disk, log, ..) = under_way(7);
    let mut follower = reader(&disk, Position::START);
    assert_eq!(next(&mut follower, Some(log.tail())), 1, "what is before it is read");
    for _ in 0..3 {
        let refused = follower.next_batch(100, 1 << 20, Some(log.tail())).unwrap_err();
        let ReadError::Damage(damage) = refused else { panic!("{refused}") };
        assert_eq!(damage.offset, 2 * BLOCK_BYTES as u64);
    }
    append(&log, b"later").unwrap();
    let mut elsewhere = reader(&disk, Position::START);
    assert_eq!(next(&mut elsewhere, None), 1);
    elsewhere.next_batch(100, 1 << 20, None).unwrap_err();
    for number in 0..10 {
        append(&log, &payload(number, 3000)).unwrap();
    }
    let mut elsewhere = reader(&disk, Position::START);
    assert_eq!(next(&mut elsewhere, None), 1);
    elsewhere.next_batch(100, 1 << 20, None).unwrap_err();
}

#[test]
fn a_reader_changes_nothing() {
    let (disk, log, ..) = under_way(8);
    let changes = disk.disk().trace().len();
    let mut reader = reader(&disk, Position::START);
    assert_eq!(next(&mut reader, None), 1);
    assert_eq!(next(&mut reader, None), 0);
    reader.next_batch(1, 1, Some(log.tail())).unwrap_err();
    assert_eq!(disk.disk().trace().len(), changes);
}

#[test]
fn where_there_is_no_log_a_reader_says_so() {
    let disk = Simulated::new(9);
    disk.disk().create_dir(Path::new(DIR));
    let refused = Reader::open(disk.arc(), Path::new(DIR), Position::START).unwrap_err();
    assert!(refused.to_string().contains("there is no log here"), "{refused}");
}

#[test]
fn who_waits_for_the_tail_is_woken_when_it_moves() {
    let disk = Simulated::new(10);
    let (log, _) = disk.open(&small()).unwrap();
    let mut waits = pin!(log.tail_beyond(Position::START));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(waits.as_mut().poll(&mut cx).is_pending());
    let end = append(&log, b"moved").unwrap();
    assert_eq!(waits.as_mut().poll(&mut cx), Poll::Ready(end));
    let mut waits = pin!(log.tail_beyond(end));
    assert!(waits.as_mut().poll(&mut cx).is_pending());
}
