//! Our HTTP/1 against hyper's, on whatever libFuzzer comes up with.
//!
//! ```text
//! cargo install cargo-fuzz
//! cd crates/inlet-server && cargo +nightly fuzz run http1
//! ```
//!
//! Inputs begin in `fuzz/corpus/http1`; one that fails is minimised (`cargo +nightly fuzz tmin`)
//! and kept there, so that `cargo test -p inlet-server differential` tries it from then on.

#![no_main]

#[path = "../../tests/it/differential/compare.rs"]
mod compare;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The same bytes are cut in the same places.
    let seed = bytes.iter().fold(0, |sum: u64, byte| sum.rotate_left(5) ^ u64::from(*byte));
    compare::compare(bytes, seed);
});
