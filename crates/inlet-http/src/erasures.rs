//! Following the erasures of a store.
//!
//! A document with a key carries the number of erasures that the instance which accepts it knows
//! of. Mostly the store is asked about the key itself; where it does not answer in time, the count
//! of the last look stands in for it. So that this count is fresh, it is looked at all the time;
//! and so that a key can be used again at once, wherever, the erasure of a document with a key is
//! answered only when every instance that can reach the store has looked.

use std::time::Duration;

use inlet_core::accept::Intake;
use inlet_core::ports::Store;

/// The interval between two looks at the count.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
/// The time after an erasure by which every instance has looked.
pub(crate) const SETTLE: Duration = Duration::from_millis(300);

/// Keeps what `intake` knows of the erasures of `store` up to date until there are more than were
/// known, and returns how many there are.
pub async fn more_erasures(store: &dyn Store, intake: &Intake) -> u64 {
    loop {
        match store.erasures().await {
            Ok(erasures) if intake.note_erasures(erasures) => return erasures,
            Ok(_) => {}
            Err(failure) => {
                tracing::debug!(failure = failure.chain(), "the erasures could not be counted");
            }
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}
