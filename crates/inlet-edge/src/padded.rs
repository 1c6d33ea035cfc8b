//! Keeping what different threads write apart.

use std::ops::Deref;

/// Something with cache lines of its own (two, for processors that fetch them in pairs), so that
/// threads that write it do not slow down those that use what lies beside it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

impl<T> Deref for Padded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
