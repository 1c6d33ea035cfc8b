//! The idempotency keys an instance saw lately, with what body each came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::id::DocumentId;
use crate::rejection::Rejection;

/// How many keys are remembered; about 6 MiB.
const KEYS_MAX: usize = 65_536;

/// Remembers the last [`KEYS_MAX`] keys by the id that follows from them.
#[derive(Debug, Default)]
pub(super) struct RecentKeys(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    seen: HashMap<DocumentId, [u8; 16]>,
    order: VecDeque<DocumentId>,
}

/// A key that is being used. Dropped without [`Reservation::keep`], because the append failed,
/// it frees the key again if nobody had used it before.
#[derive(Debug)]
pub(super) struct Reservation<'a> {
    keys: &'a RecentKeys,
    id: DocumentId,
    first: bool,
    kept: bool,
}

impl RecentKeys {
    /// Notes that the key of `id` is used with a body of this MD5.
    pub(super) fn reserve(
        &self,
        id: DocumentId,
        md5: [u8; 16],
    ) -> Result<Reservation<'_>, Rejection> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = match recent.seen.get(&id) {
            Some(known) if *known != md5 => return Err(Rejection::KeyConflict),
            Some(_) => false,
            None => {
                // A key of an erased or failed document may stand in the order twice.
                if recent.order.len() == KEYS_MAX
                    && let Some(oldest) = recent.order.pop_front()
                {
                    recent.seen.remove(&oldest);
                }
                recent.order.push_back(id);
                recent.seen.insert(id, md5);
                true
            }
        };
        Ok(Reservation { keys: self, id, first, kept: false })
    }

    /// Forgets the key of `id`.
    pub(super) fn forget(&self, id: &DocumentId) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Its place in the order stays: at worst a later use of the key is forgotten early.
        recent.seen.remove(id);
    }
}

impl Reservation<'_> {
    /// Whether this instance had not seen the key before.
    pub(super) fn is_first(&self) -> bool {
        self.first
    }

    /// The document is safe: the key stays used.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if self.first && !self.kept {
            self.keys.forget(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: DocumentId = DocumentId::from_bytes([1; 16]);

    #[test]
    fn a_key_used_with_another_body_is_a_conflict() {
        let keys = RecentKeys::default();
        keys.reserve(ID, [1; 16]).unwrap().keep();
        assert!(!keys.reserve(ID, [1; 16]).unwrap().is_first());
        assert_eq!(keys.reserve(ID, [2; 16]).unwrap_err(), Rejection::KeyConflict);
    }

    #[test]
    fn a_key_whose_document_was_not_kept_is_free_again() {
        let keys = RecentKeys::default();
        drop(keys.reserve(ID, [1; 16]).unwrap());
        assert!(keys.reserve(ID, [2; 16]).unwrap().is_first());
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
            keys.reserve(id(n), [1; 16]).unwrap().keep();
        }
        assert!(keys.reserve(id(0), [2; 16]).unwrap().is_first());
        assert!(keys.reserve(id(KEYS_MAX), [2; 16]).is_err());
    }
}
