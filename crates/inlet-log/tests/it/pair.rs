//! A log and the store that it was let go of into know each other.

use std::path::Path;

use inlet_log::{
    LogOptions, PairError, Position, StoreId, bind_store, check_pair, recorded_store, release,
};

use crate::simulated::{DIR, Simulated, append, finish, payload, small};

const STORE: StoreId = StoreId::from_bytes([7; 16]);
const OTHER: StoreId = StoreId::from_bytes([9; 16]);

/// A log over several segments, and the ends of its records.
fn written(seed: u64) -> (Simulated, Vec<Position>) {
    let disk = Simulated::new(seed);
    let (log, _) = disk.open(&small()).unwrap();
    let ends = (0..20).map(|number| append(&log, &payload(number, 3000)).unwrap()).collect();
    finish(&log, log.close());
    (disk, ends)
}

#[test]
fn another_store_than_the_one_that_a_log_was_stored_in_is_refused_by_both_names() {
    let (disk, ends) = written(1);
    let dir = Path::new(DIR);
    assert_eq!(recorded_store(&disk, dir).unwrap(), None);
    // Before anything was stored any store will do.
    check_pair(&disk, dir, OTHER, Position::START).unwrap();
    bind_store(&disk, dir, STORE, ends[0]).unwrap();
    disk.disk().crash();
    assert_eq!(recorded_store(&disk, dir).unwrap(), Some(STORE));
    check_pair(&disk, dir, STORE, ends[0]).unwrap();
    for refused in [
        check_pair(&disk, dir, OTHER, ends[19]).unwrap_err(),
        bind_store(&disk, dir, OTHER, ends[19]).unwrap_err(),
    ] {
        assert!(matches!(&refused, PairError::OtherStore { .. }), "{refused}");
        let text = refused.to_string();
        for name in [DIR, &STORE.to_string(), &OTHER.to_string()] {
            assert!(text.contains(name), "{text}");
        }
    }
    assert_eq!(recorded_store(&disk, dir).unwrap(), Some(STORE));
}

#[test]
fn an_older_copy_of_the_right_store_is_refused() {
    for elsewhere in [false, true] {
        let (disk, ends) = written(2);
        let dir = Path::new(DIR);
        bind_store(&disk, dir, STORE, ends[9]).unwrap();
        let options = LogOptions { drained: ends[9], ..small() };
        if elsewhere {
            release(&disk, dir, ends[9]).unwrap();
        } else {
            disk.open(&options).unwrap().0.release(ends[9]).unwrap();
        }
        assert!(disk.segments().len() < 7, "something was let go of");
        disk.disk().crash();
        check_pair(&disk, dir, STORE, ends[9]).unwrap();
        check_pair(&disk, dir, STORE, ends[12]).unwrap();
        for stored in [Position::START, ends[0], ends[8]] {
            let refused = check_pair(&disk, dir, STORE, stored).unwrap_err();
            assert!(matches!(&refused, PairError::OlderStore { .. }), "{refused}");
            assert!(refused.to_string().contains("older copy"), "{refused}");
        }
    }
}

#[test]
fn a_log_that_only_an_older_binary_has_opened_is_bound_when_it_is_drained() {
    let (disk, ends) = written(3);
    let dir = Path::new(DIR);
    for record in ["log.end", "log.released"] {
        disk.disk().lose(&dir.join(record));
    }
    let oldest = disk.segments().remove(0);
    disk.disk().lose(&oldest);
    // Nothing says how far it was released, so what is there is all there should be.
    check_pair(&disk, dir, STORE, Position::START).unwrap();
    drop(disk.open(&small()).unwrap());
    bind_store(&disk, dir, STORE, ends[3]).unwrap();
    assert_eq!(recorded_store(&disk, dir).unwrap(), Some(STORE));
    let log = disk.open(&small()).unwrap().0;
    append(&log, b"more").unwrap();
}
