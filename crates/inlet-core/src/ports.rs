//! The ports: what core needs of an engine, with the contract each adapter is held to.
//!
//! The contracts are numbered in each trait's docs, and each number is a test in
//! `inlet-testkit` that runs on every adapter. No type of a driver, of SQL or of HTTP may
//! appear here.

mod bucket;
mod cache;
mod clock;
mod look_ahead;
mod queue;
mod secrets;
mod store;

pub use bucket::{
    BUCKET_KEY_BYTES_MAX, Bucket, BucketKey, ByteRange, ByteStream, Finished, FixedBytes, Object,
    ObjectMeta, PART_BYTES_MAX, PART_BYTES_MIN, PARTS_MAX, Part, PartNumber, Precondition,
    RESERVED_SEGMENT, UPLOAD_ID_BYTES_MAX, UploadId,
};
pub use cache::Cache;
pub use clock::{Clock, SystemClock};
pub use look_ahead::LookAhead;
pub use queue::{BatchLimit, Damaged, Delivered, Delivery, Depth, Oldest, Queue, Undecodable};
pub use secrets::{SECRET_BYTES_MAX, Secrets, Swapped};
pub use store::{
    Batch, Cursor, EraseMark, Erasure, Found, Known, KnownLetter, Outcome, Page, PageQuery, Store,
    StoreId, StoreIdError, StreamFigures, Tallies, TallyKind, TallyRow, TallyWeek, Written,
    ZoneTally,
};
