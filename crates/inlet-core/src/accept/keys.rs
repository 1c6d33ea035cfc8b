//! The idempotency keys an instance saw lately, each with the body it came with and the generation
//! of its document.
//!
//! The memory of a document that was erased since, by whatever instance, is worth nothing: the
//! store's mark is of a later generation, and the key is as good as new.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::DocumentId;
use crate::rejection::Rejection;

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
    /// The generation of its document.
    generation: u64,
    /// How many requests use the key at this moment.
    users: u32,
    /// Whether the document of one of them is safe.
    kept: bool,
}

/// The known erasures of a key that is being used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Generations {
    /// The last erasure of the key; 0 where none is known.
    pub(super) erased: u64,
    /// The generation of the document that uses it now.
    pub(super) generation: u64,
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
    ///
    /// # Errors
    /// A rejection where it was used with another body, or is being used with one.
    pub(super) fn reserve(
        &self,
        id: DocumentId,
        md5: [u8; 16],
        Generations { erased, generation }: Generations,
    ) -> Result<Reservation<'_>, Rejection> {
        let mut recent = self.lock();
        match recent.seen.get_mut(&id) {
            Some(seen) if seen.generation < erased => {
                let users = seen.users + 1;
                *seen = Seen { md5, generation, users, kept: false };
            }
            Some(seen) if seen.md5 != md5 => return Err(Rejection::KeyConflict),
            Some(seen) => {
                seen.users += 1;
                seen.generation = seen.generation.max(generation);
            }
            None => {
                // A key of an erased or failed document may stand in the order twice.
                if recent.order.len() == KEYS_MAX
                    && let Some(oldest) = recent.order.pop_front()
                {
                    recent.seen.remove(&oldest);
                }
                recent.order.push_back(id);
                recent.seen.insert(id, Seen { md5, generation, users: 1, kept: false });
            }
        }
        Ok(Reservation { keys: self, id })
    }

    /// Returns true if a document of that key is safe that was accepted in knowledge of this
    /// erasure or a later one.
    pub(super) fn has_kept_since(&self, id: &DocumentId, erasure: u64) -> bool {
        self.lock().seen.get(id).is_some_and(|seen| seen.kept && seen.generation >= erasure)
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
    const NEVER_ERASED: Generations = Generations { erased: 0, generation: 0 };

    fn reserve(keys: &RecentKeys, id: DocumentId, body: u8) -> Option<Reservation<'_>> {
        keys.reserve(id, [body; 16], NEVER_ERASED).ok()
    }

    fn used(keys: &RecentKeys, body: u8) -> Reservation<'_> {
        reserve(keys, ID, body).unwrap()
    }

    #[test]
    fn a_key_used_with_another_body_is_a_conflict() {
        let keys = RecentKeys::default();
        assert!(!used(&keys, 1).keep());
        assert!(used(&keys, 1).keep());
        assert!(reserve(&keys, ID, 2).is_none());
        assert!(used(&keys, 1).keep(), "the conflict freed nothing");
    }

    #[test]
    fn a_key_whose_document_was_not_kept_is_free_again() {
        let keys = RecentKeys::default();
        drop(used(&keys, 1));
        assert!(!used(&keys, 2).keep());
    }

    #[test]
    fn of_a_repeat_that_races_its_first_exactly_one_was_first() {
        let keys = RecentKeys::default();
        let (first, second) = (used(&keys, 1), used(&keys, 1));
        assert_eq!((second.keep(), first.keep()), (false, true), "whoever was safe first");
        let keys = RecentKeys::default();
        let (first, second) = (used(&keys, 1), used(&keys, 1));
        drop(first);
        assert!(reserve(&keys, ID, 2).is_none(), "the second still uses it");
        assert!(!second.keep(), "the first was never safe");
        assert!(reserve(&keys, ID, 2).is_none());
    }

    #[test]
    fn a_key_that_was_erased_since_is_as_good_as_new() {
        let keys = RecentKeys::default();
        used(&keys, 1).keep();
        let erased = Generations { erased: 4, generation: 4 };
        assert!(!keys.has_kept_since(&ID, 4));
        let anew = keys.reserve(ID, [2; 16], erased).unwrap();
        assert!(!anew.keep(), "it is no repeat");
        assert!(keys.has_kept_since(&ID, 4));
        // The same erasure says nothing against what came after it.
        assert!(keys.reserve(ID, [1; 16], erased).is_err());
        assert!(keys.reserve(ID, [2; 16], erased).unwrap().keep());
    }

    #[test]
    fn a_failed_use_of_a_key_that_was_erased_leaves_it_free() {
        let keys = RecentKeys::default();
        used(&keys, 1).keep();
        drop(keys.reserve(ID, [2; 16], Generations { erased: 4, generation: 4 }).unwrap());
        assert!(!used(&keys, 3).keep());
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
            reserve(&keys, id(n), 1).unwrap().keep();
        }
        assert!(reserve(&keys, id(0), 2).is_some());
        assert!(reserve(&keys, id(KEYS_MAX), 2).is_none());
    }
}
