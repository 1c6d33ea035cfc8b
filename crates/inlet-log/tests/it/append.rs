//! Appending: what is taken, when it is acknowledged, and what becomes of it.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use inlet_log::{AppendError, Full, Log, LogOptions, OpenError, Position};

use crate::simulated::{DIR, Simulated, append, finish, payload, poll, small};

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn poll_with<F: Future + Unpin>(future: &mut F, count: &Arc<Count>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(count));
    Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[test]
fn records_are_there_in_order_after_another_open() {
    let disk = Simulated::new(1);
    let (log, recovery) = disk.open(&small()).unwrap();
    assert_eq!((recovery.segments, recovery.records, recovery.torn), (0, 0, None));
    let mut positions = Vec::new();
    for number in 0..40 {
        positions.push(append(&log, &payload(number, number * 7)).unwrap());
    }
    assert!(positions.is_sorted_by(|a, b| a < b));
    assert_eq!(log.tail(), positions[39]);
    drop(log);
    let (_log, recovery) = disk.open(&small()).unwrap();
    assert_eq!(recovery.records, 40);
    assert_eq!(recovery.tail, positions[39]);
    assert_eq!(disk.payloads(), (0..40).map(|n| payload(n, n * 7)).collect::<Vec<_>>());
}

#[test]
fn nothing_is_acknowledged_before_its_group_is_synced() {
    let disk = Simulated::new(2);
    let (log, _) = disk.open(&small()).unwrap();
    let first: [&[u8]; 2] = [b"a", b"b"];
    let (mut one, mut two) = (log.append(&first), log.append(&[b"c"]));
    assert!(poll(&mut one).is_pending());
    assert!(poll(&mut two).is_pending());
    assert_eq!(log.tail(), Position::START);
    assert!(log.write_group());
    assert!(poll(&mut one).is_ready());
    let Poll::Ready(Ok(end)) = poll(&mut two) else { panic!("the second is in the same group") };
    assert_eq!(log.tail(), end);
    assert!(!log.write_group(), "both went with one write");
    assert_eq!(disk.payloads(), [b"ab".to_vec(), b"c".to_vec()]);
}

#[test]
fn a_group_wakes_each_of_its_waiters_once_with_the_waker_it_had_last() {
    let disk = Simulated::new(3);
    let (log, _) = disk.open(&small()).unwrap();
    let (old, new) = (Arc::new(Count::default()), Arc::new(Count::default()));
    let mut waiter = log.append(&[b"moved to another task"]);
    assert!(poll_with(&mut waiter, &old).is_pending());
    assert!(poll_with(&mut waiter, &new).is_pending());
    log.write_group();
    assert_eq!((old.0.load(Ordering::Relaxed), new.0.load(Ordering::Relaxed)), (0, 1));
}

#[test]
fn an_append_that_is_dropped_harms_no_other() {
    let disk = Simulated::new(4);
    let (log, _) = disk.open(&small()).unwrap();
    let mut dropped = log.append(&[b"dropped"]);
    assert!(poll(&mut dropped).is_pending());
    drop(dropped);
    drop(log.append(&[b"never polled"]));
    append(&log, b"kept").unwrap();
    assert_eq!(disk.payloads(), [b"dropped".to_vec(), b"kept".to_vec()]);
}

#[test]
fn many_records_go_in_one_group_or_not_at_all() {
    let disk = Simulated::new(5);
    let (log, _) = disk.open(&small()).unwrap();
    let records: Vec<[Vec<u8>; 2]> = (0..5).map(|n| [payload(n, 100), payload(n, 9)]).collect();
    let parts: Vec<[&[u8]; 2]> = records.iter().map(|[a, b]| [&a[..], &b[..]]).collect();
    let records: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
    let end = finish(&log, log.append_all(&records)).unwrap();
    assert_eq!(log.tail(), end);
    assert_eq!(disk.payloads(), parts.iter().map(|p| p.concat()).collect::<Vec<_>>());
    assert_eq!(finish(&log, log.append_all(&[])).unwrap(), end);

    let large = vec![7; 20 << 10];
    let too_large: [&[&[u8]]; 2] = [&[&large], &[&large]];
    let refused = finish(&log, log.append_all(&too_large));
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(log.tail(), end);
}

#[test]
fn an_append_larger_than_a_group_is_written_alone() {
    let disk = Simulated::new(6);
    let (log, _) = disk.open(&small()).unwrap();
    let large = payload(0, 20 << 10);
    append(&log, b"before").unwrap();
    append(&log, &large).unwrap();
    append(&log, b"after").unwrap();
    append(&log, b"").unwrap();
    assert_eq!(disk.payloads(), [b"before".to_vec(), large, b"after".to_vec(), b"".to_vec()]);
}

#[test]
fn appends_wait_outside_a_full_group_in_order_and_only_so_many() {
    let disk = Simulated::new(7);
    let (log, _) = disk.open(&small()).unwrap();
    let payloads: Vec<Vec<u8>> = (0..12).map(|number| payload(number, 3000)).collect();
    let parts: Vec<[&[u8]; 1]> = payloads.iter().map(|payload| [&payload[..]]).collect();
    let mut appends: Vec<_> = parts.iter().map(|parts| log.append(parts)).collect();
    let refused = appends.iter_mut().map(poll).filter(Poll::is_ready).count();
    assert_eq!(refused, 2, "two are in the group, eight wait outside, the others are refused");
    let full = finish(&log, log.append(&[b"one more"])).unwrap_err();
    let is_full = matches!(&full, AppendError::Full { cause: Full::Appends { appends: 8 }, .. });
    assert!(is_full, "{full}");
    assert!(log.has_room().is_err());
    // One that gives up makes way for those behind it.
    drop(appends.remove(4));
    appends.truncate(9);
    for _ in 0..100 {
        appends.retain_mut(|append| poll(append).is_pending());
        log.write_group();
        log.make_segment();
    }
    assert!(appends.is_empty(), "{} still wait", appends.len());
    let expected = [0, 1, 2, 3, 5, 6, 7, 8, 9].map(|number: usize| payloads[number].clone());
    assert_eq!(disk.payloads(), expected);
}

#[test]
fn a_second_writer_is_refused_and_the_directory_named() {
    let disk = Simulated::new(8);
    let (log, _) = disk.open(&small()).unwrap();
    let refused = disk.open(&small()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
    assert!(refused.to_string().contains(DIR), "{refused}");
    drop(log);
    disk.open(&small()).unwrap();
}

#[test]
fn a_closed_log_has_written_what_it_took_and_takes_no_more() {
    let disk = Simulated::new(9);
    let (log, _) = disk.open(&small()).unwrap();
    let mut taken = log.append(&[b"taken"]);
    assert!(poll(&mut taken).is_pending());
    let other = log.clone();
    assert!(poll(&mut Box::pin(other.close())).is_ready());
    assert!(matches!(poll(&mut taken), Poll::Ready(Ok(_))));
    let refused = finish(&log, log.append(&[b"late"]));
    assert!(matches!(refused, Err(AppendError::Closed { .. })), "{refused:?}");
    assert!(matches!(log.has_room(), Err(AppendError::Closed { .. })));
    disk.open(&small()).unwrap();
    assert_eq!(disk.payloads(), [b"taken".to_vec()]);
}

#[test]
fn the_identity_is_made_once() {
    let disk = Simulated::new(10);
    let read = |disk: &Simulated| Log::read_id(disk, Path::new(DIR)).unwrap();
    disk.disk().create_dir(Path::new(DIR));
    assert_eq!(read(&disk), None);
    let (log, _) = disk.open(&small()).unwrap();
    let id = log.id();
    drop(log);
    assert_eq!(read(&disk), Some(id));
    assert_eq!(disk.open(&small()).unwrap().0.id(), id);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(id.to_string().to_uppercase().parse::<inlet_log::LogId>().is_err());
}

#[test]
fn a_position_has_one_text() {
    let position = Position { segment: 7, offset: 4096 };
    assert_eq!(position.to_string(), "7:4096");
    assert_eq!("7:4096".parse(), Ok(position));
    for wrong in ["", "7", "7:", ":4096", "+7:4096", "7:+1", "7:4096:1", "a:b"] {
        assert!(wrong.parse::<Position>().is_err(), "{wrong}");
    }
}

#[test]
fn an_option_out_of_its_range_is_refused_by_name() {
    let disk = Simulated::new(11);
    for (options, name) in [
        (LogOptions { segment_bytes: 4096, ..small() }, "segment_bytes"),
        (LogOptions { segment_bytes: 10_000, ..small() }, "segment_bytes"),
        (LogOptions { first_segment_bytes: 0, ..small() }, "first_segment_bytes"),
        (LogOptions { group_bytes_max: 100, ..small() }, "group_bytes_max"),
    ] {
        let refused = disk.open(&options).unwrap_err();
        assert!(refused.to_string().starts_with(name), "{refused}");
    }
}
