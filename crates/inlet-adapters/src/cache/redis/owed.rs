//! The removals that did not get through.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many keys are remembered; about 100 kB. Beyond them everything is owed.
const KEYS_MAX: usize = 1_024;

/// What must be removed before anything may be asked.
#[derive(Debug, Default)]
pub(super) struct Owed {
    is_any: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Each with the number of the removal that failed last.
    keys: BTreeMap<String, u64>,
    /// The same, where they became too many.
    everything: Option<u64>,
    number: u64,
    latest: Option<Instant>,
}

/// What was owed at a moment.
#[derive(Debug)]
pub(super) struct Debt {
    pub(super) keys: Vec<(String, u64)>,
    pub(super) everything: Option<u64>,
}

impl Owed {
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Acquire)
    }

    /// Notes a removal that failed.
    pub(super) fn add(&self, key: &str) {
        let mut state = self.state();
        state.number += 1;
        state.latest = Some(Instant::now());
        let number = state.number;
        if state.keys.len() < KEYS_MAX || state.keys.contains_key(key) {
            state.keys.insert(key.to_owned(), number);
        } else {
            state.everything = Some(number);
        }
        self.is_any.store(true, Ordering::Release);
    }

    pub(super) fn debt(&self) -> Debt {
        let state = self.state();
        let keys = state.keys.iter().map(|(key, number)| (key.clone(), *number)).collect();
        Debt { keys, everything: state.everything }
    }

    /// Notes that `debt` was made up for. What failed again since then is still owed.
    pub(super) fn settled(&self, debt: &Debt) {
        let mut state = self.state();
        for (key, number) in &debt.keys {
            if state.keys.get(key) == Some(number) {
                state.keys.remove(key);
            }
        }
        if state.everything == debt.everything {
            state.everything = None;
        }
        let is_any = !state.keys.is_empty() || state.everything.is_some();
        self.is_any.store(is_any, Ordering::Release);
    }

    /// Forgets all of it if the last removal failed longer ago than that.
    pub(super) fn forgive_after(&self, age: Duration) {
        let mut state = self.state();
        if state.latest.is_some_and(|latest| latest.elapsed() > age) {
            *state = State { number: state.number, ..State::default() };
            self.is_any.store(false, Ordering::Release);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_again_meanwhile_is_still_owed() {
        let owed = Owed::default();
        assert!(!owed.is_any());
        owed.add("a");
        owed.add("b");
        let debt = owed.debt();
        owed.add("a");
        owed.settled(&debt);
        assert!(owed.is_any());
        let keys: Vec<String> = owed.debt().keys.into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a"]);
        owed.settled(&owed.debt());
        assert!(!owed.is_any());
    }

    #[test]
    fn too_many_become_everything() {
        let owed = Owed::default();
        for n in 0..=KEYS_MAX {
            owed.add(&n.to_string());
        }
        let debt = owed.debt();
        assert_eq!(debt.keys.len(), KEYS_MAX);
        assert!(debt.everything.is_some());
        owed.add("more");
        owed.settled(&debt);
        assert!(owed.is_any(), "one more failed since");
        owed.settled(&owed.debt());
        assert!(!owed.is_any());
    }

    #[test]
    fn what_has_expired_since_is_forgiven() {
        let owed = Owed::default();
        owed.add("a");
        owed.forgive_after(Duration::from_secs(3_600));
        assert!(owed.is_any());
        while owed.is_any() {
            owed.forgive_after(Duration::from_nanos(1));
        }
        assert!(owed.debt().keys.is_empty());
    }
}
