//! What stands for a database where this executable was built without one.

use std::sync::Arc;

use anyhow::bail;
use inlet_core::ports::Secrets;

use crate::engines::Opened;

/// There is none.
pub(crate) enum Database {}

impl Database {
    /// Nothing is there to read again.
    pub(crate) async fn refresh(&self) {
        match *self {}
    }
}

/// Refuses.
pub(crate) async fn open(_: &str, _: Option<&Arc<dyn Secrets>>) -> anyhow::Result<Opened> {
    bail!("INLET_STORE: this function was built without the feature `postgres`")
}

/// Refuses.
pub(crate) async fn migrate(_: &str, _: Option<&Arc<dyn Secrets>>) -> anyhow::Result<Vec<String>> {
    bail!("INLET_STORE: this function was built without the feature `postgres`")
}
