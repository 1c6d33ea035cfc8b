//! For every kind of damage either a start works or a repair makes it work, and no record that is
//! whole anywhere is lost.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use inlet_log::fsck::{self, Loss, RepairError};
use inlet_log::{BLOCK_BYTES, Position};

use crate::simulated::{DIR, Simulated, append, finish, payload, small};

/// A log of three runs over several segments, each record with a payload of its own.
fn written(seed: u64, close: bool) -> (Simulated, Vec<Vec<u8>>) {
    let disk = Simulated::new(seed);
    let mut payloads = Vec::new();
    for run in 0..3 {
        let (log, _) = disk.open(&small()).unwrap();
        for _ in 0..8 {
            let payload = payload(payloads.len(), 200 + 900 * run);
            append(&log, &payload).unwrap();
            payloads.push(payload);
        }
        if run < 2 || close {
            finish(&log, log.close());
        }
    }
    (disk, payloads)
}

/// All files of the log: its segments and its records of itself.
fn files(disk: &Simulated) -> Vec<PathBuf> {
    let names = disk.disk().list(Path::new(DIR)).unwrap();
    names.into_iter().map(|name| Path::new(DIR).join(name)).collect()
}

fn contents(disk: &Simulated, path: &Path) -> Vec<u8> {
    disk.disk().contents(path).unwrap()
}

fn replace(disk: &Simulated, path: &Path, bytes: &[u8]) {
    let mut disk = disk.disk();
    if disk.open(path).is_err() {
        disk.create(path).unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
    }
    disk.set_contents(path, bytes).unwrap();
}

/// The bytes of a record with its header, as they stand in an undamaged log.
fn record_of(disk: &Simulated, payload: &[u8]) -> Vec<u8> {
    let in_file = |path: PathBuf| {
        let bytes = contents(disk, &path);
        let mut blocks = bytes.chunks(BLOCK_BYTES);
        let block = blocks.find(|block| block.get(32..).is_some_and(|b| b.starts_with(payload)))?;
        Some(block[..32 + payload.len()].to_vec())
    };
    disk.segments().into_iter().find_map(in_file).unwrap()
}

/// Sees that the log starts, after a repair if need be; says what the repair counted as lost.
///
/// `whole` are the payloads that nothing happened to.
fn starts(disk: &Simulated, whole: &BTreeSet<&[u8]>, at: &str) -> Vec<Loss> {
    let dir = Path::new(DIR);
    let mut lost = Vec::new();
    let damaged = fsck::check(disk, dir, Position::START).unwrap().is_damaged();
    let log = match disk.copy().open(&small()) {
        Ok(_) => {
            assert!(!damaged, "{at}: damage that a start does not refuse");
            disk.open(&small()).unwrap().0
        }
        Err(refused) => {
            assert!(damaged, "{at}: refused with {refused}, and no damage is listed");
            let repair = fsck::repair(&disk.arc(), dir, Position::START)
                .unwrap_or_else(|error| panic!("{at}: {refused}: {error}"));
            assert_ne!(repair.damage, [], "{at}");
            lost = repair.lost;
            disk.open(&small()).unwrap_or_else(|error| panic!("{at}: after the repair: {error}")).0
        }
    };
    append(&log, b"after").unwrap();
    finish(&log, log.close());
    let left = disk.payloads();
    let left: BTreeSet<&[u8]> = left.iter().map(Vec::as_slice).collect();
    for payload in whole {
        let text = String::from_utf8_lossy(&payload[..10]);
        assert!(left.contains(payload), "{at}: {text} is lost");
    }
    assert!(left.contains(&b"after"[..]), "{at}");
    let report = fsck::check(disk, dir, Position::START).unwrap();
    assert_eq!(report.problems, [], "{at}: after all");
    lost
}

fn all(payloads: &[Vec<u8>]) -> BTreeSet<&[u8]> {
    payloads.iter().map(Vec::as_slice).collect()
}

/// The payloads whose records are whole somewhere in the files of a damaged log, at the start of
/// a block, where they were and where the tests move them to.
fn still_whole<'a>(
    damaged: &Simulated,
    sound: &Simulated,
    payloads: &'a [Vec<u8>],
) -> BTreeSet<&'a [u8]> {
    let files = files(damaged);
    let bytes: Vec<_> =
        files.iter().map(|path| damaged.disk().contents(path).unwrap_or_default()).collect();
    let is_whole = |payload: &&[u8]| {
        let record = record_of(sound, payload);
        bytes.iter().any(|bytes| bytes.chunks(BLOCK_BYTES).any(|block| block.starts_with(&record)))
    };
    all(payloads).into_iter().filter(is_whole).collect()
}

#[test]
fn each_flipped_byte_of_each_file_costs_one_record_at_most() {
    for close in [true, false] {
        let (disk, payloads) = written(1, close);
        for path in files(&disk) {
            let bytes = contents(&disk, &path);
            // Every byte that says something, and of long runs of zeros one in a hundred.
            let last = bytes.iter().rposition(|&byte| byte != 0).unwrap_or(0);
            let near = |at: usize| at <= last && (bytes[at] != 0 || at.is_multiple_of(101));
            let bytes = (0..bytes.len()).filter(|&at| at.is_multiple_of(41) && near(at));
            for byte in bytes {
                let flipped = disk.copy();
                flipped.disk().flip(&path, byte, 0x41).unwrap();
                let at = format!("byte {byte} of {}", path.display());
                let whole = still_whole(&flipped, &disk, &payloads);
                assert!(whole.len() + 1 >= payloads.len(), "{at}");
                starts(&flipped, &whole, &at);
            }
        }
    }
}

#[test]
fn each_file_can_be_missing_emptied_or_cut_anywhere() {
    for close in [true, false] {
        let (disk, payloads) = written(2, close);
        for path in files(&disk) {
            let whole_file = contents(&disk, &path);
            let gone = disk.copy();
            gone.disk().lose(&path);
            let at = format!("{} is missing", path.display());
            starts(&gone, &still_whole(&gone, &disk, &payloads), &at);
            for cut in (0..whole_file.len()).step_by(2039).chain([1, BLOCK_BYTES, BLOCK_BYTES + 32])
            {
                let Some(bytes) = whole_file.get(..cut) else { continue };
                for zeros in [false, true] {
                    let cut_off = disk.copy();
                    let mut bytes = bytes.to_vec();
                    if zeros {
                        bytes.resize(whole_file.len(), 0);
                    }
                    replace(&cut_off, &path, &bytes);
                    let at = format!("{} is cut at {cut}, zeros {zeros}", path.display());
                    starts(&cut_off, &still_whole(&cut_off, &disk, &payloads), &at);
                }
            }
        }
    }
}

#[test]
fn segments_can_be_swapped_duplicated_moved_and_mixed_with_those_of_another_log() {
    let (disk, payloads) = written(3, true);
    let (other, _) = written(99, true);
    let segments = disk.segments();
    let beyond = |number: u64| Path::new(DIR).join(format!("{number:020}.seg"));
    for (at, one) in segments.iter().enumerate() {
        for two in &segments[at + 1..] {
            let swapped = disk.copy();
            let (first, second) = (contents(&disk, one), contents(&disk, two));
            replace(&swapped, one, &second);
            replace(&swapped, two, &first);
            let name = format!("{} and {} are swapped", one.display(), two.display());
            starts(&swapped, &all(&payloads), &name);
            // One of them twice, and the other nowhere.
            let twice = disk.copy();
            replace(&twice, two, &first);
            let name = format!("{} is also {}", one.display(), two.display());
            let whole = still_whole(&twice, &disk, &payloads);
            starts(&twice, &whole, &name);
        }
        for number in [segments.len() as u64 + 1, 1000, u64::MAX - 1] {
            let copied = disk.copy();
            replace(&copied, &beyond(number), &contents(&disk, one));
            let name = format!("{} is also segment {number}", one.display());
            starts(&copied, &all(&payloads), &name);
            assert_eq!(copied.payloads().len(), payloads.len() + 1, "{name}: nothing comes twice");
            let moved = disk.copy();
            replace(&moved, &beyond(number), &contents(&disk, one));
            moved.disk().lose(one);
            starts(&moved, &all(&payloads), &format!("{} is segment {number}", one.display()));
        }
        let foreign = disk.copy();
        let theirs = other.segments().into_iter().nth(at).unwrap();
        replace(&foreign, one, &contents(&other, &theirs));
        let name = format!("{} is of another log", one.display());
        let whole = still_whole(&foreign, &disk, &payloads);
        let lost = starts(&foreign, &whole, &name);
        assert!(whole.len() == payloads.len() || !lost.is_empty(), "{name}: nothing is told");
        // Records that were only in the other log are not taken over.
        assert!(foreign.payloads().len() <= payloads.len() + 1, "{name}");
    }
    for number in [segments.len() as u64 + 1, 7777] {
        for bytes in [vec![], vec![0; 9000], vec![7; 9000]] {
            let stray = disk.copy();
            replace(&stray, &beyond(number), &bytes);
            starts(&stray, &all(&payloads), &format!("rubbish as segment {number}"));
        }
    }
}

#[test]
fn a_directory_in_the_place_of_any_file_is_set_aside() {
    let (disk, payloads) = written(4, true);
    for path in files(&disk).into_iter().filter(|path| !path.ends_with("LOCK")) {
        let blocked = disk.copy();
        blocked.disk().lose(&path);
        blocked.disk().create_dir(&path);
        let at = format!("{} is a directory", path.display());
        starts(&blocked, &still_whole(&blocked, &disk, &payloads), &at);
    }
}

#[test]
fn blocks_within_a_segment_can_be_swapped_zeroed_copied_and_cut_out() {
    let (disk, payloads) = written(5, true);
    for path in disk.segments() {
        let bytes = contents(&disk, &path);
        let blocks = bytes.len() / BLOCK_BYTES;
        for one in 0..blocks {
            for two in 0..blocks {
                let range = |block: usize| block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
                let mut copied = bytes.clone();
                copied.copy_within(range(one), two * BLOCK_BYTES);
                let mut swapped = copied.clone();
                swapped[range(one)].copy_from_slice(&bytes[range(two)]);
                let mut cut_out = bytes.clone();
                cut_out.drain(range(one));
                let mut zeroed = bytes.clone();
                zeroed[range(one)].fill(0);
                for (what, bytes) in [
                    ("copied to", copied),
                    ("swapped with", swapped),
                    ("cut out, not", cut_out),
                    ("zeroed, not", zeroed),
                ] {
                    if bytes == contents(&disk, &path) {
                        continue;
                    }
                    let mixed = disk.copy();
                    replace(&mixed, &path, &bytes);
                    let at = format!("block {one} {what} {two} of {}", path.display());
                    starts(&mixed, &still_whole(&mixed, &disk, &payloads), &at);
                }
            }
        }
    }
}

#[test]
fn what_is_lost_is_told_by_its_neighbours_and_its_number() {
    let (disk, payloads) = written(6, true);
    let all: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
    let before_after = |loss: &Loss| {
        let at = |payload: &Option<bytes::Bytes>| {
            payload.as_ref().map(|payload| all.iter().position(|known| *known == payload).unwrap())
        };
        (at(&loss.before), loss.records, at(&loss.after))
    };
    for path in disk.segments() {
        let missing = disk.copy();
        missing.disk().lose(&path);
        let whole = still_whole(&missing, &disk, &payloads);
        let gone: Vec<usize> = (0..all.len()).filter(|&at| !whole.contains(&all[at])).collect();
        let lost = starts(&missing, &whole, &path.display().to_string());
        let told: Vec<_> = lost.iter().map(before_after).collect();
        match (gone.first(), gone.last()) {
            (Some(&first), Some(&last)) => {
                let before = first.checked_sub(1);
                let after = Some(last + 1).filter(|after| *after < all.len());
                assert_eq!(told.len(), 1, "{}: {told:?}", path.display());
                assert_eq!((told[0].0, told[0].2), (before, after), "{}", path.display());
                if let Some(records) = told[0].1 {
                    assert_eq!(records, gone.len() as u64, "{}", path.display());
                }
            }
            _ => assert!(told.iter().all(|loss| loss.1.is_none()), "{told:?}"),
        }
    }
    // Within a segment the number is known.
    let path = disk.segments().remove(0);
    let flipped = disk.copy();
    flipped.disk().flip(&path, BLOCK_BYTES + 40, 1).unwrap();
    let lost = starts(&flipped, &still_whole(&flipped, &disk, &payloads), "a flipped bit");
    assert_eq!(lost.iter().map(before_after).collect::<Vec<_>>(), [(None, None, Some(1))]);
}

#[test]
fn a_repair_that_is_cut_off_can_be_done_again() {
    for nth in 0..200 {
        let (sound, payloads) = written(7, true);
        let disk = sound.copy();
        let segments = disk.segments();
        let (first, second) = (contents(&disk, &segments[0]), contents(&disk, &segments[1]));
        replace(&disk, &segments[0], &second);
        replace(&disk, &segments[1], &first);
        let third = segments[2..].iter().find(|path| contents(&disk, path).len() > BLOCK_BYTES);
        disk.disk().flip(third.unwrap(), BLOCK_BYTES + 40, 1).unwrap();
        let whole = still_whole(&disk, &sound, &payloads);
        disk.disk().fail_change(nth, inlet_testkit::simulated_disk::Fault::Io);
        let cut_off = fsck::repair(&disk.arc(), Path::new(DIR), Position::START);
        disk.disk().take_fault();
        disk.disk().crash();
        if cut_off.is_ok() {
            assert!(nth > 20, "a repair has more changes than {nth}");
            return;
        }
        starts(&disk, &whole, &format!("cut off at change {nth}"));
    }
    panic!("the repair never came through");
}

#[test]
fn a_segment_of_a_newer_binary_is_left_alone() {
    let (disk, _) = written(8, true);
    let path = disk.segments().remove(1);
    let mut bytes = contents(&disk, &path);
    bytes[8] = 2;
    bytes[12..16].fill(0);
    let checksum = crc32fast::hash(&bytes[..BLOCK_BYTES]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    replace(&disk, &path, &bytes);
    let refused = disk.open(&small()).unwrap_err().to_string();
    assert!(refused.contains("format version 2"), "{refused}");
    let refused = fsck::repair(&disk.arc(), Path::new(DIR), Position::START).unwrap_err();
    assert!(matches!(&refused, RepairError::Beyond { .. }), "{refused}");
    assert!(refused.to_string().contains("newer binary"), "{refused}");
    assert_eq!(contents(&disk, &path), bytes);
}
