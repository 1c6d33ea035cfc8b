//! What the tests of Inlet stand on: contract suites, in-memory adapters, fault decorators, a
//! clock that a test sets, and a simulated disk.
//!
//! It is a dev-dependency only. It may import `inlet-core` and nothing else of ours, so that
//! every adapter can be held to the suites without a circle.
//!
//! - [`contract`] has one function a numbered promise of a port. `store_contract!(fixture)` and
//!   its siblings make one test of each of them; an adapter's tests name the macro once and can't
//!   leave a number out.
//! - [`memory`] has adapters that keep the same promises in memory.
//! - [`fault`] has decorators that let the nth call fail, before or after its effect, or all of
//!   them while an engine is away.
//!
//! Invariants: a suite knows an adapter only through its port and a fixture; an in-memory adapter
//! and a decorator without a fault pass the same suites as the real engines.
//!
//! Start reading at [`contract`].

pub mod clock;
pub mod contract;
pub mod fault;
pub mod memory;
pub mod proxy;
pub mod sample;
pub mod server;
pub mod simulated_disk;
