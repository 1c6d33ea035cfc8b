//! The suites themselves: each promise of a port has a function, and each function is run.

use std::collections::BTreeSet;

const SUITES: [(&str, &str, &str); 5] = [
    (
        "store",
        concat!(
            include_str!("../../src/contract/store.rs"),
            include_str!("../../src/contract/store/put.rs"),
            include_str!("../../src/contract/store/read.rs"),
            include_str!("../../src/contract/store/erase.rs"),
            include_str!("../../src/contract/store/known.rs"),
            include_str!("../../src/contract/store/weeks.rs"),
            include_str!("../../src/contract/store/count.rs"),
            include_str!("../../src/contract/store/last.rs"),
        ),
        include_str!("../../../inlet-core/src/ports/store.rs"),
    ),
    (
        "queue",
        include_str!("../../src/contract/queue.rs"),
        include_str!("../../../inlet-core/src/ports/queue.rs"),
    ),
    (
        "bucket",
        include_str!("../../src/contract/bucket.rs"),
        include_str!("../../../inlet-core/src/ports/bucket.rs"),
    ),
    (
        "cache",
        include_str!("../../src/contract/cache.rs"),
        include_str!("../../../inlet-core/src/ports/cache.rs"),
    ),
    (
        "secrets",
        include_str!("../../src/contract/secrets.rs"),
        include_str!("../../../inlet-core/src/ports/secrets.rs"),
    ),
];

#[test]
fn every_function_of_a_suite_is_in_its_macro() {
    for (port, suite, _) in SUITES {
        let written: BTreeSet<_> = suite
            .lines()
            .filter_map(|line| line.strip_prefix("pub async fn "))
            .filter_map(|rest| rest.split('(').next())
            .filter(|name| name.starts_with(&format!("{port}_")))
            .collect();
        let run: BTreeSet<_> = suite
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(&format!("{port}_")))
            .filter_map(|line| line.strip_suffix(','))
            .collect();
        assert!(!written.is_empty());
        assert_eq!(written, run, "the suite of the {port} port");
    }
}

#[test]
fn every_numbered_promise_of_a_port_has_a_function() {
    for (port, suite, docs) in SUITES {
        let promises: Vec<usize> = docs
            .lines()
            .filter_map(|line| line.strip_prefix("/// "))
            .filter_map(|line| line.split_once(". ")?.0.parse().ok())
            .collect();
        assert_eq!(promises, (1..=promises.len()).collect::<Vec<_>>(), "{port}");
        assert!(promises.len() >= 4, "the promises of the {port} port were not found");
        for number in promises {
            let function = format!("pub async fn {port}_{number}_");
            assert!(suite.contains(&function), "promise {number} of the {port} port has no test");
        }
    }
}
