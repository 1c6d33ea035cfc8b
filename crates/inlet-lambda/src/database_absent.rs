//! What stands for a database where this executable was built without one.

/// There is none.
pub(crate) enum Database {}

impl Database {
    /// Nothing is there to read again.
    pub(crate) async fn refresh(&self) {
        match *self {}
    }
}
