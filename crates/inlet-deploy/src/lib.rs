//! Stands Inlet up on AWS with the binary that does the work: packages it, plans and applies
//! templates, and shows how it goes.
//!
//! - [`package`] makes a function's zip and a container's image, the same bytes for the same
//!   input, pushes the image to a registry, and lists what is in them.
//!
//! May import nothing of ours: it is given paths, names and texts.
//!
//! Invariants: nothing is changed without having been shown before; what holds data is never
//! removed without being named; the same input gives the same digests.
//!
//! Start reading at [`package`].

pub mod package;
