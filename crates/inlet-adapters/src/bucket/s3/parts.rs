//! How a large object is cut into parts.
//!
//! | parts | of | together |
//! | --- | --- | --- |
//! | 1 to 1,000 | 8 MiB | 7.8 GiB |
//! | 1,001 to 2,000 | 16 MiB | 23 GiB |
//! | 2,001 to 3,000 | 32 MiB | 55 GiB |
//! | 3,001 to 10,000 | 64 MiB | 492 GiB |
//!
//! Two parts are in memory at a time, so they can't grow without end; what is larger than all of
//! them is refused.

/// The size of the first parts, in bytes. An object that is smaller is put in one call.
pub const PART_BYTES: usize = 8 << 20;

/// The most parts of an object.
/// Source: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>.
pub(super) const PARTS_MAX: i32 = 10_000;

/// The size of the part of that number (from 1), in bytes, unless it is the last one.
pub(super) fn part_bytes(number: i32) -> usize {
    let doublings = ((number.max(1) - 1) / 1_000).min(3);
    PART_BYTES << doublings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_grow_as_the_table_says() {
        assert_eq!([1, 1_000, 1_001, 2_000].map(part_bytes).map(|n| n >> 20), [8, 8, 16, 16]);
        assert_eq!([2_001, 3_001, 10_000].map(part_bytes).map(|n| n >> 20), [32, 64, 64]);
        let most: usize = (1..=PARTS_MAX).map(part_bytes).sum();
        assert_eq!(most >> 30, 492);
        // A file of 5 GiB is sent without any larger part.
        let first: usize = (1..=1_000).map(part_bytes).sum();
        assert!(first > 5 << 30);
    }
}
