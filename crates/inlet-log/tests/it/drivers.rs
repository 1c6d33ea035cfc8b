//! Both drivers against real files.

use std::path::Path;
use std::sync::Arc;

use inlet_log::{
    AppendError, DriveError, Log, LogOptions, Method, OpenError, Position, Reader, RealDisk, Sync,
};
use tokio::runtime::{Builder, Runtime};

use crate::simulated::payload;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().unwrap()
}

fn options(sync: Sync) -> LogOptions {
    LogOptions {
        first_segment_bytes: 64 << 10,
        segment_bytes: 256 << 10,
        sync,
        ..Default::default()
    }
}

fn open(dir: &Path, sync: Sync) -> Log {
    Log::open(Arc::new(RealDisk), dir, &options(sync)).unwrap().0
}

/// Opens a log that `io_uring` writes; where it can't be had, says that a test did not run.
#[allow(clippy::print_stderr, reason = "a test that could not run is told, not passed in silence")]
fn open_uring(dir: &Path, test: &str) -> Option<Log> {
    let log = open(dir, Sync::Auto);
    if log.durability().method != Method::IoUring {
        eprintln!("not run: {test}: io_uring or direct writes are not to be had here");
        return None;
    }
    Some(log)
}

fn read_all(dir: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(Arc::new(RealDisk), dir, Position::START).unwrap();
    let mut payloads = Vec::new();
    loop {
        let batch = reader.next_batch(100, 1 << 20, None).unwrap();
        if batch.records.is_empty() {
            return payloads;
        }
        payloads.extend(batch.records.into_iter().map(|record| record.payload.to_vec()));
    }
}

/// Many tasks append at once over several segments; all is there afterwards, and after an open.
fn many_append(dir: &Path, log: Log) {
    runtime().block_on(async {
        let driven = tokio::spawn(log.drive());
        let tasks: Vec<_> = (0..50)
            .map(|task| {
                let log = log.clone();
                tokio::spawn(async move {
                    for turn in 0..20 {
                        let payload = payload(task * 20 + turn, task * 13);
                        let end = log.append(&[&payload]).await.unwrap();
                        assert!(log.tail() >= end);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let tail = log.tail();
        assert!(tail.segment > 2, "{tail}");
        log.close().await;
        driven.await.unwrap().unwrap();
    });
    let mut found = read_all(dir);
    let mut expected: Vec<_> = (0..1000).map(|number| payload(number, number / 20 * 13)).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    drop(log);
    let (_log, recovery) = Log::open(Arc::new(RealDisk), dir, &options(Sync::Thread)).unwrap();
    assert_eq!((recovery.records, recovery.torn), (1000, None));
}

#[test]
fn a_thread_writes_what_many_tasks_append() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Sync::Thread);
    assert_eq!(log.durability().method, Method::Thread);
    many_append(dir.path(), log);
}

#[test]
fn io_uring_writes_what_many_tasks_append() {
    let dir = tempfile::tempdir().unwrap();
    if let Some(log) = open_uring(dir.path(), "io_uring_writes_what_many_tasks_append") {
        many_append(dir.path(), log);
    }
}

#[test]
fn tasks_of_other_threads_are_answered_too() {
    for sync in [Sync::Thread, Sync::Auto] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), sync);
        runtime().block_on(async {
            let driven = tokio::spawn(log.drive());
            let others: Vec<_> = (0..3)
                .map(|number| {
                    let log = log.clone();
                    std::thread::spawn(move || {
                        runtime().block_on(async {
                            for turn in 0..20 {
                                log.append(&[&payload(number * 20 + turn, 50)]).await.unwrap();
                            }
                        });
                    })
                })
                .collect();
            let mut tail = Position::START;
            while read_all(dir.path()).len() < 60 {
                tail = log.tail_beyond(tail).await;
            }
            others.into_iter().for_each(|other| other.join().unwrap());
            log.close().await;
            driven.await.unwrap().unwrap();
        });
    }
}

#[test]
fn a_driver_dropped_in_the_middle_answers_everyone() {
    for (sync, turns) in [Sync::Thread, Sync::Auto].into_iter().flat_map(|sync| {
        // Before it has taken the group, while the kernel has it, and between two groups.
        (0..12).map(move |turns| (sync, turns))
    }) {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path(), sync);
        let by_uring = log.durability().method == Method::IoUring;
        let mut acked = 0;
        runtime().block_on(async {
            let driven = tokio::spawn(log.drive());
            let other = log.clone();
            let appended = tokio::spawn(async move {
                let mut results = Vec::new();
                for number in 0..3 {
                    results.push(other.append(&[&payload(number, 10)]).await);
                }
                results
            });
            for _ in 0..turns {
                tokio::task::yield_now().await;
            }
            driven.abort();
            let results = appended.await.unwrap();
            acked = results.iter().filter(|result| result.is_ok()).count();
            assert!(results.iter().is_sorted_by_key(|result| result.is_err()), "{results:?}");
            let poisoned = results
                .iter()
                .all(|result| matches!(result, Ok(_) | Err(AppendError::Poisoned(_))));
            assert!(poisoned, "{results:?}");
            // With a thread the task only waits for it; with io_uring it is what writes.
            assert!(by_uring || acked == 3, "{results:?}");
            assert_eq!(log.poisoned().is_some(), by_uring);
            log.close().await;
        });
        drop(log);
        // What was acknowledged is there; of the others nobody knows.
        let log = open(dir.path(), sync);
        let found = read_all(dir.path());
        assert!(found.len() >= acked, "{acked} were acknowledged, {} found", found.len());
        drop(log);
    }
}

#[test]
fn a_log_that_is_dropped_still_writes_what_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Sync::Thread);
    runtime().block_on(async {
        let driven = tokio::spawn(log.drive());
        let end = log.append(&[b"taken"]).await.unwrap();
        assert_eq!(log.tail(), end);
        drop(log);
        driven.await.unwrap().unwrap();
    });
    assert_eq!(read_all(dir.path()), [b"taken".to_vec()]);
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Sync::Thread);
    let refused = Log::open(Arc::new(RealDisk), dir.path(), &options(Sync::Thread)).unwrap_err();
    let OpenError::InUse { pid, .. } = &refused else { panic!("{refused}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(refused.to_string().contains(dir.path().to_str().unwrap()), "{refused}");
    runtime().block_on(log.close());
    drop(open(dir.path(), Sync::Thread));
}

#[test]
fn a_log_is_driven_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), Sync::Thread);
    runtime().block_on(async {
        let driven = tokio::spawn(log.drive());
        let twice = log.drive().await;
        assert!(matches!(twice, Err(DriveError::Twice { .. })), "{twice:?}");
        log.close().await;
        driven.await.unwrap().unwrap();
    });
}

#[test]
fn a_directory_that_can_not_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"no directory").unwrap();
    let refused = Log::open(Arc::new(RealDisk), &file, &LogOptions::default()).unwrap_err();
    assert!(refused.to_string().contains(file.to_str().unwrap()), "{refused}");
}
