//! Pages that are bounded in bytes as well as in items.
//!
//! A store counts items, and a thousand documents may be a gigabyte. So a page is gathered in
//! steps that begin small and grow only while what came was small.

use inlet_core::error::Error;
use inlet_core::failure::FailureKind;
use inlet_core::rejection::Rejection;

/// The most bytes of bodies on a page, but for what one step brings beyond it.
const PAGE_BYTES_MAX: usize = 8 << 20;
/// How many items the first step asks for.
const FIRST_STEP: usize = 16;

/// How much of a page is still to come.
#[derive(Debug)]
pub(super) struct PageRoom {
    items_left: usize,
    bytes_left: usize,
    step: usize,
}

impl PageRoom {
    pub(super) fn new(items_max: usize) -> Self {
        Self { items_left: items_max, bytes_left: PAGE_BYTES_MAX, step: FIRST_STEP }
    }

    /// How many items to ask for now; `None` once the page is full.
    pub(super) fn next_step(&self) -> Option<usize> {
        (self.items_left > 0 && self.bytes_left > 0).then(|| self.step.min(self.items_left))
    }

    /// Notes what came.
    pub(super) fn took(&mut self, items: usize, bytes: usize) {
        self.items_left = self.items_left.saturating_sub(items);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        // The next step may be larger as long as items of this size would fit.
        let fitting = self.bytes_left / (bytes / items.max(1)).max(1);
        self.step = (self.step * 4).min(fitting).max(1);
    }
}

/// What a store could not do with a cursor that the client gave is the client's doing.
pub(super) fn cursor_error(failure: inlet_core::failure::Failure, given: bool) -> Error {
    if given && failure.kind() == FailureKind::Refused {
        let expected = "the member `next` of the page before, as it was";
        return Rejection::ParameterInvalid { name: "cursor", expected }.into();
    }
    failure.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_small_items_takes_few_steps_and_one_of_large_items_ends_early() {
        let mut small = PageRoom::new(1000);
        let mut steps = 0;
        while let Some(step) = small.next_step() {
            small.took(step, step * 256);
            steps += 1;
        }
        assert!(steps <= 5, "{steps}");
        let mut large = PageRoom::new(1000);
        let mut items = 0;
        while let Some(step) = large.next_step() {
            large.took(step, step << 20);
            items += step;
        }
        assert!((8..=16).contains(&items), "{items}");
    }
}
