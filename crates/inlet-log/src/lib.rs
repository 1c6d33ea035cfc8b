//! The durable queue of Inlet: a log of records in segments, with group commit.
//!
//! This crate owns how bytes are kept on a disk until they are stored elsewhere, and how they are
//! got back. What the bytes mean is not its business. It imports no other crate of Inlet.
//!
//! What it promises, and where that is argued:
//! - A record is acknowledged only after the sync of its group returned (`committer.rs`).
//! - After a failed write or sync nothing more is acknowledged, and nothing is written or synced
//!   again (`committer.rs`).
//! - What was acknowledged is there after a crash, once and in order; what was never appended is
//!   not (`segment.rs` and `record.rs` for the format, `recover.rs` for the start).
//! - Damage is found and named, never skipped (`scan.rs`); what a crash leaves of an
//!   unacknowledged write is told from damage (`torn.rs`), and only `recover.rs` cuts it. A close
//!   seals the end; a segment that is missing is missed (`ledger.rs`).
//! - A log and the store that it was let go of into are a pair (`pair.rs`).
//! - Nothing is acknowledged that was written into a file that is not at its path any more.
//! - Refused before lost: room for what is taken is reserved on the disk before it is taken, and
//!   everything that could grow has a limit ([`LogOptions`]).
//!
//! A log is a directory: `log.id`, its identity; `log.end` and `log.released`, its extent
//! (`ledger.rs`); `LOCK`, the writer's lock; the segments; and what recovery and repair set aside
//! (`….seg.torn-OFFSET`, `quarantine/`).
//!
//! Start reading at [`Log::open`], then `committer.rs`, then `recover.rs`.
//!
//! ```no_run
//! # use std::{path::Path, sync::Arc};
//! # use inlet_log::{Log, LogOptions, RealDisk, Reader, Position};
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = Path::new("inlet-data/log/one");
//! let (log, _recovery) = Log::open(Arc::new(RealDisk), dir, &LogOptions::default())?;
//! let driven = tokio::spawn(log.drive());
//! let position = log.append(&[b"head", b"body"]).await?;
//! let mut reader = Reader::open(Arc::new(RealDisk), dir, Position::START)?;
//! let batch = reader.next_batch(100, 1 << 20, Some(log.tail()))?;
//! assert_eq!(batch.records.last().map(|record| record.end), Some(position));
//! log.release(batch.end)?;
//! log.close().await;
//! driven.await??;
//! # Ok(())
//! # }
//! ```

mod append;
mod buffer;
mod chain;
mod committer;
mod disk;
mod driver;
mod durability;
mod error;
pub mod fsck;
mod identity;
mod ledger;
mod log;
mod pair;
mod position;
mod reader;
mod record;
mod recover;
mod release;
mod scan;
mod segment;
mod torn;

pub use append::Append;
pub use chain::check_extent;
pub use disk::{Access, DirLock, Disk, DiskFile, FileSystem, Keeps, LockError, RealDisk};
pub use durability::{Durability, Method};
pub use error::{
    AppendError, Damage, DriveError, Full, IoError, OpenError, Poison, ReadError, ReleaseError,
    SegmentError,
};
pub use log::{Log, LogOptions, Sync};
pub use pair::{AdoptError, PairError, adopt_store, bind_store, check_pair, recorded_store};
pub use position::{IdentityError, LogId, Position, PositionError, StoreId};
pub use reader::{ReadBatch, Reader, Record};
pub use record::{RECORD_BYTES_MAX, RECORD_HEADER_BYTES};
pub use recover::{Recovery, Torn};
pub use release::{release, remove_drained};
pub use segment::BLOCK_BYTES;
