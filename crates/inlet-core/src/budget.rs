//! The memory that bodies may take while they are in flight, in the whole process.
//!
//! A limit on one body says nothing about five hundred of them. Every body, compressed and
//! inflated, every document that waits for the queue, and every large answer holds a [`Share`] of
//! one [`Budget`] for as long as it lives; what the budget does not cover is refused.
//!
//! Invariants:
//! - The shares together are never larger than the budget.
//! - An eighth of the budget is kept for small shares, so that a few clients with large bodies
//!   that never end can't close the door to everybody else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::failure::{Failure, FailureKind};

/// The largest share that may use the part of the budget that is kept for small ones, in bytes.
const SMALL_BYTES_MAX: usize = 64 << 10;

/// A number of bytes that shares are taken from. Clones are the same budget.
#[derive(Debug, Clone)]
pub struct Budget(Arc<State>);

#[derive(Debug)]
struct State {
    bytes_max: usize,
    taken_bytes: AtomicUsize,
    refused: AtomicU64,
}

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self(Arc::new(State {
            bytes_max,
            taken_bytes: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        }))
    }

    /// A share of nothing, to grow as bytes come.
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), bytes: 0 }
    }

    /// The bytes that all shares have now.
    pub fn taken_bytes(&self) -> usize {
        self.0.taken_bytes.load(Relaxed)
    }

    /// The size of the budget, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// How often a share could not grow.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }
}

impl Share {
    /// Takes `bytes` more.
    ///
    /// # Errors
    /// [`FailureKind::Full`] where the budget has no more; the share is as it was.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Failure> {
        let state = &*self.budget.0;
        let is_small = self.bytes.saturating_add(bytes) <= SMALL_BYTES_MAX;
        let kept_bytes = if is_small { 0 } else { state.bytes_max / 8 };
        let limit_bytes = state.bytes_max - kept_bytes;
        let grown = state.taken_bytes.fetch_update(Relaxed, Relaxed, |taken_bytes| {
            taken_bytes.checked_add(bytes).filter(|sum| *sum <= limit_bytes)
        });
        match grown {
            Ok(_) => {
                self.bytes += bytes;
                Ok(())
            }
            Err(_) => {
                state.refused.fetch_add(1, Relaxed);
                let bytes_max = state.bytes_max;
                let subject = format!("in memory: bodies already take the {bytes_max} bytes");
                Err(Failure::new(FailureKind::Full, "hold another body", subject)
                    .hint("raise bodies_bytes_max, or spread the load over more instances"))
            }
        }
    }

    /// Gives back all but `bytes`, where it has more.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(freed_bytes) = self.bytes.checked_sub(bytes) {
            self.budget.0.taken_bytes.fetch_sub(freed_bytes, Relaxed);
            self.bytes = bytes;
        }
    }

    /// Its size, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_come_to_more_than_the_budget_and_are_given_back() {
        let budget = Budget::new(8 << 20);
        let mut shares: Vec<Share> = Vec::new();
        loop {
            let mut share = budget.share();
            if share.grow(1 << 20).is_err() {
                assert_eq!(share.bytes(), 0);
                break;
            }
            shares.push(share);
        }
        assert_eq!(shares.len(), 7, "an eighth is kept for small ones");
        assert_eq!((budget.taken_bytes(), budget.refused()), (7 << 20, 1));
        shares[0].shrink_to(5);
        assert_eq!(budget.taken_bytes(), (6 << 20) + 5);
        shares.clear();
        assert_eq!(budget.taken_bytes(), 0);
    }

    #[test]
    fn large_bodies_leave_room_for_small_ones() {
        let budget = Budget::new(1 << 20);
        let mut large = budget.share();
        while large.grow(32 << 10).is_ok() {}
        let mut small = budget.share();
        small.grow(SMALL_BYTES_MAX).unwrap();
        assert!(small.grow(1).is_err(), "it is no longer small");
        let mut more: Vec<Share> = (0..3).map(|_| budget.share()).collect();
        let full = more.iter_mut().map(|share| share.grow(SMALL_BYTES_MAX).is_ok());
        assert_eq!(full.collect::<Vec<_>>(), [true, false, false]);
    }
}
