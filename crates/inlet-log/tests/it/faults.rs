//! Failing writes, short writes, failing syncs, no room: at every change in turn.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use inlet_log::{AppendError, DriveError, Full, Log, OpenError};
use inlet_testkit::simulated_disk::Fault;

use crate::simulated::{DIR, Simulated, append, finish, payload, poll, small};

/// What came of a run in which one change failed.
struct Run {
    disk: Simulated,
    acked: Vec<Vec<u8>>,
    struck: bool,
    poisoned: bool,
}

/// Opens a log, appends, rotates, releases; the `nth` change of all that fails.
fn run(nth: u64, fault: Fault) -> Run {
    let disk = Simulated::new(nth);
    disk.disk().fail_change(nth, fault);
    let mut acked = Vec::new();
    let mut poisoned = false;
    if let Ok((log, _)) = disk.open(&small()) {
        for number in 0..20 {
            let payload = payload(number, 1500);
            match append(&log, &payload) {
                Ok(position) => {
                    assert!(!poisoned, "change {nth}: acknowledged after a failure");
                    assert_eq!(log.tail(), position);
                    acked.push(payload);
                }
                Err(AppendError::Poisoned(poison)) => {
                    poisoned = true;
                    assert!(poison.to_string().contains(".seg"), "{poison}");
                    assert!(log.has_room().is_err());
                }
                // Refused before it was written: the one who asks may ask again.
                Err(AppendError::Full { .. } | AppendError::NoSegment(_)) => {}
                Err(other) => panic!("change {nth}: {other}"),
            }
        }
        assert_eq!(log.poisoned().is_some(), poisoned);
        poisoned = log.poisoned().is_some();
    }
    let struck = !disk.disk().take_fault();
    Run { disk, acked, struck, poisoned }
}

/// Runs with a fault at each change in turn, until there are no more changes.
fn at_every_change(fault: Fault, check: impl Fn(u64, &Run)) {
    for nth in 0.. {
        let run = run(nth, fault);
        if !run.struck {
            assert!(nth > 70, "there are more changes than {nth}");
            assert_eq!(run.acked.len(), 20, "nothing failed");
            return;
        }
        assert_eq!(run.disk.disk().changes_after_failure(), 0, "change {nth}: gone on with a file");
        check(nth, &run);
        // With the power cut and without: what was acknowledged is there, in order.
        for crash in [false, true] {
            let disk = run.disk.copy();
            if crash {
                disk.disk().crash();
            }
            let (log, _) = disk.open(&small()).unwrap_or_else(|error| panic!("{nth}: {error}"));
            append(&log, b"the last").unwrap();
            let mut found = disk.payloads();
            assert_eq!(found.pop().as_deref(), Some(&b"the last"[..]), "change {nth}");
            found.retain(|payload| run.acked.contains(payload));
            assert_eq!(found, run.acked, "change {nth}, crash {crash}");
        }
    }
}

#[test]
fn an_error_at_any_change_loses_nothing_that_was_acknowledged() {
    at_every_change(Fault::Io, |nth, run| {
        // A segment that could not be made is tried again; a write or a sync is not.
        if run.poisoned {
            assert!(run.acked.len() < 20, "change {nth}");
        }
    });
}

#[test]
fn a_full_disk_at_any_change_loses_nothing_that_was_acknowledged() {
    at_every_change(Fault::Full, |_, _| {});
}

#[test]
fn a_short_write_is_written_on() {
    at_every_change(Fault::Short, |nth, run| {
        assert!(!run.poisoned, "change {nth}");
        assert_eq!(run.acked.len(), 20, "change {nth}");
    });
}

/// A log with one acknowledged record, and how many changes a write takes to its sync.
fn with_one(disk: &Simulated) -> Log {
    let (log, _) = disk.open(&small()).unwrap();
    append(&log, b"acked").unwrap();
    log.make_segment();
    log
}

#[test]
fn a_failed_sync_fails_all_waiters_and_is_never_tried_again() {
    let disk = Simulated::new(1);
    let log = with_one(&disk);
    let tail = log.tail();
    let payloads: Vec<Vec<u8>> = (0..5).map(|number| payload(number, 3000)).collect();
    let parts: Vec<[&[u8]; 1]> = payloads.iter().map(|payload| [&payload[..]]).collect();
    let mut appends: Vec<_> = parts.iter().map(|parts| log.append(parts)).collect();
    assert!(appends.iter_mut().map(poll).all(|polled| polled.is_pending()));
    // The write goes, the sync after it does not.
    disk.disk().fail_change(1, Fault::Io);
    assert!(log.write_group());
    for append in &mut appends {
        let polled = poll(append);
        assert!(matches!(polled, Poll::Ready(Err(AppendError::Poisoned(_)))), "{polled:?}");
    }
    let changes = disk.disk().trace().len();
    for _ in 0..3 {
        let refused = finish(&log, log.append(&[b"later"]));
        assert!(matches!(refused, Err(AppendError::Poisoned(_))), "{refused:?}");
        assert!(!log.write_group());
        assert!(!log.make_segment());
    }
    finish(&log, log.close());
    assert_eq!(disk.disk().trace().len(), changes, "nothing was written or synced any more");
    assert_eq!(log.tail(), tail);
    let poison = log.poisoned().unwrap();
    assert!(poison.to_string().starts_with("could not sync /data/log/0000"), "{poison}");
    drop(appends);
    drop(log);

    disk.disk().crash();
    drop(disk.open(&small()).unwrap());
    assert_eq!(disk.payloads().first().map(Vec::as_slice), Some(&b"acked"[..]));
}

#[test]
fn a_group_that_fills_while_a_sync_fails_is_never_written() {
    let disk = Simulated::new(7);
    // A waiter is to outlive the hook that makes it.
    let log: &'static Log = Box::leak(Box::new(with_one(&disk)));
    let waiter = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&waiter);
    disk.before_sync(move || {
        let mut append = log.append(&[b"beside the failing one"]);
        assert!(poll(&mut append).is_pending());
        *slot.lock().unwrap() = Some(append);
    });
    let mut failing = log.append(&[b"failing"]);
    assert!(poll(&mut failing).is_pending());
    disk.disk().fail_change(1, Fault::Io);
    assert!(log.write_group());
    let mut beside = waiter.lock().unwrap().take().expect("the hook ran");
    for append in [&mut failing, &mut beside] {
        let polled = poll(append);
        assert!(matches!(polled, Poll::Ready(Err(AppendError::Poisoned(_)))), "{polled:?}");
    }
    assert!(!log.write_group(), "what filled meanwhile is not written");
    finish(log, log.close());
    assert_eq!(disk.disk().changes_after_failure(), 0);
    let path = disk.segments().remove(0);
    let bytes = disk.disk().contents(&path).unwrap();
    assert!(!bytes.windows(6).any(|bytes| bytes == b"beside"));
}

#[test]
fn a_group_fills_while_another_is_written_and_goes_with_the_next_write() {
    let disk = Simulated::new(8);
    let log: &'static Log = Box::leak(Box::new(with_one(&disk)));
    disk.before_sync(move || {
        assert!(poll(&mut log.append(&[b"second"])).is_pending());
        assert!(!log.write_group(), "one write at a time");
    });
    let mut first = log.append(&[b"first"]);
    assert!(poll(&mut first).is_pending());
    assert!(log.write_group());
    assert!(matches!(poll(&mut first), Poll::Ready(Ok(end)) if end == log.tail()));
    assert!(log.write_group());
    assert_eq!(disk.payloads(), [&b"acked"[..], b"first", b"second"].map(<[u8]>::to_vec));
}

#[test]
fn what_drives_the_log_ends_with_the_poison() {
    let disk = Simulated::new(2);
    let log = with_one(&disk);
    let driven = log.drive();
    let mut twice = Box::pin(log.drive());
    let polled = poll(&mut twice);
    assert!(matches!(polled, Poll::Ready(Err(DriveError::Twice { .. }))), "{polled:?}");
    disk.disk().fail_change(0, Fault::Io);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let refused = log.append(&[b"lost"]).await;
        assert!(matches!(refused, Err(AppendError::Poisoned(_))), "{refused:?}");
        let ended = driven.await;
        assert!(matches!(ended, Err(DriveError::Poisoned(_))), "{ended:?}");
        log.close().await;
    });
}

#[test]
fn a_full_disk_refuses_appends_and_lets_them_in_again_when_there_is_room() {
    let disk = Simulated::new(3);
    let log = with_one(&disk);
    let used = disk.disk().used_bytes();
    disk.disk().set_room(Some(used));
    let mut acked = vec![b"acked".to_vec()];
    let full = loop {
        let payload = payload(acked.len(), 3000);
        match append(&log, &payload) {
            Ok(_) => acked.push(payload),
            Err(error) => break error,
        }
        assert!(acked.len() < 100, "the disk is never full");
    };
    let is_full = matches!(&full, AppendError::Full { cause: Full::Disk(_), .. });
    assert!(is_full, "{full}");
    assert!(acked.len() > 5, "the room that was reserved ahead is used: {}", acked.len());
    assert!(log.has_room().is_err());
    assert!(log.poisoned().is_none());
    // Reading goes on.
    assert_eq!(disk.payloads(), acked);

    disk.disk().set_room(None);
    assert!(log.make_segment());
    log.has_room().unwrap();
    append(&log, b"again").unwrap();
    acked.push(b"again".to_vec());
    assert_eq!(disk.payloads(), acked);
}

#[test]
fn a_log_opens_on_a_full_disk_and_can_be_drained() {
    let disk = Simulated::new(4);
    let log = with_one(&disk);
    let tail = log.tail();
    drop(log);
    let used = disk.disk().used_bytes();
    // The open gives back what the last run had reserved; a guest takes it.
    disk.disk().set_room(Some(0));
    let (log, recovery) = disk.open(&small()).unwrap();
    assert_eq!(recovery.records, 1);
    assert_eq!(disk.payloads(), [b"acked".to_vec()]);
    let refused = append(&log, b"refused").unwrap_err();
    assert!(matches!(refused, AppendError::Full { cause: Full::Disk(_), .. }), "{refused}");
    log.release(tail).unwrap();
    disk.disk().set_room(Some(used));
    assert!(log.make_segment());
    append(&log, b"taken").unwrap();
    assert_eq!(disk.payloads().last().map(Vec::as_slice), Some(&b"taken"[..]));
}

#[test]
fn an_open_that_fails_names_the_file() {
    let disk = Simulated::new(5);
    drop(with_one(&disk));
    let path = Path::new(DIR).join("log.id");
    disk.disk().lose(&path);
    let refused = disk.open(&small()).unwrap_err();
    let OpenError::Damage(damage) = &refused else { panic!("{refused}") };
    assert_eq!(damage.path, path);
    let other = Simulated::new(6);
    other.disk().fail_change(0, Fault::Io);
    let refused = other.open(&small()).unwrap_err();
    assert!(refused.to_string().contains("/data/log/log.released.new"), "{refused}");
}
