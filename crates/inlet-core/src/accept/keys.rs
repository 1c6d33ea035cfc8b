//! The idempotency keys an instance saw lately, each with the body it came with.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::DocumentId;

/// How many keys are remembered; about 6 MiB.
const KEYS_MAX: usize = 65_536;

/// Remembers the last [`KEYS_MAX`] keys by the id that follows from them.
#[derive(Debug, Default)]
pub(super) struct RecentKeys(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    seen: HashMap<DocumentId, Seen>,
    order: VecDeque<DocumentId>,
}

#[derive(Debug)]
struct Seen {
    md5: [u8; 16],
    /// How many requests use the key at this moment.
    users: u32,
    /// Whether the document of one of them is safe.
    kept: bool,
}

/// The outcome of [`RecentKeys::reserve`].
#[derive(Debug)]
pub(super) enum Use<'a> {
    /// This instance does not remember the key.
    New(Reservation<'a>),
    /// It was used with the same body, or is being used with it.
    Again(Reservation<'a>),
    /// It was used with another body, or is being used with one.
    Conflict,
}

/// A key that is being used. Dropped without [`Reservation::keep`], because the append failed,
/// it frees the key again unless somebody else uses or has used it.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    keys: &'a RecentKeys,
    id: DocumentId,
}

impl RecentKeys {
    /// Notes that the key of `id` is used with a body of this MD5.
    pub(super) fn reserve(&self, id: DocumentId, md5: [u8; 16]) -> Use<'_> {
        let mut recent = self.lock();
        let reservation = Reservation { keys: self, id };
        match recent.seen.get_mut(&id) {
            Some(seen) if seen.md5 != md5 => {
                // It reserved nothing, so it must free nothing.
                std::mem::forget(reservation);
                Use::Conflict
            }
            Some(seen) => {
                seen.users += 1;
                Use::Again(reservation)
            }
            None => {
                // A key of an erased or failed document may stand in the order twice.
                if recent.order.len() == KEYS_MAX
                    && let Some(oldest) = recent.order.pop_front()
                {
                    recent.seen.remove(&oldest);
                }
                recent.order.push_back(id);
                recent.seen.insert(id, Seen { md5, users: 1, kept: false });
                Use::New(reservation)
            }
        }
    }

    /// Forgets the key of `id`.
    pub(super) fn forget(&self, id: &DocumentId) {
        // Its place in the order stays: at worst a later use of the key is forgotten early.
        self.lock().seen.remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// The document is safe: the key stays used. Returns whether a document with this key was
    /// safe before, so that of several at once exactly one was the first.
    pub(super) fn keep(self) -> bool {
        let mut recent = self.keys.lock();
        recent.seen.get_mut(&self.id).is_some_and(|seen| std::mem::replace(&mut seen.kept, true))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut recent = self.keys.lock();
        if let Some(seen) = recent.seen.get_mut(&self.id) {
            seen.users = seen.users.saturating_sub(1);
            if seen.users == 0 && !seen.kept {
                recent.seen.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DocumentId = DocumentId::from_bytes([1; 16]);

    fn new(keys: &RecentKeys, id: DocumentId, body: u8) -> Reservation<'_> {
        match keys.reserve(id, [body; 16]) {
            Use::New(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    fn again(keys: &RecentKeys, body: u8) -> Reservation<'_> {
        match keys.reserve(ID, [body; 16]) {
            Use::Again(reservation) => reservation,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_used_with_another_body_is_a_conflict() {
        let keys = RecentKeys::default();
        assert!(!new(&keys, ID, 1).keep());
        assert!(again(&keys, 1).keep());
        assert!(matches!(keys.reserve(ID, [2; 16]), Use::Conflict));
        assert!(again(&keys, 1).keep(), "the conflict freed nothing");
    }

    #[test]
    fn a_key_whose_document_was_not_kept_is_free_again() {
        let keys = RecentKeys::default();
        drop(new(&keys, ID, 1));
        assert!(!new(&keys, ID, 2).keep());
    }

    #[test]
    fn of_a_repeat_that_races_its_first_exactly_one_was_first() {
        let keys = RecentKeys::default();
        let (first, second) = (new(&keys, ID, 1), again(&keys, 1));
        assert_eq!((second.keep(), first.keep()), (false, true), "whoever was safe first");
        let keys = RecentKeys::default();
        let (first, second) = (new(&keys, ID, 1), again(&keys, 1));
        drop(first);
        assert!(matches!(keys.reserve(ID, [2; 16]), Use::Conflict), "the second still uses it");
        assert!(!second.keep(), "the first was never safe");
        assert!(matches!(keys.reserve(ID, [2; 16]), Use::Conflict));
    }

    #[test]
    fn the_oldest_key_is_forgotten_first() {
        let keys = RecentKeys::default();
        let id = |n: usize| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&n.to_be_bytes());
            DocumentId::from_bytes(bytes)
        };
        for n in 0..=KEYS_MAX {
            new(&keys, id(n), 1).keep();
        }
        assert!(matches!(keys.reserve(id(0), [2; 16]), Use::New(_)));
        assert!(matches!(keys.reserve(id(KEYS_MAX), [2; 16]), Use::Conflict));
    }
}
