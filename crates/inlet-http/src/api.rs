//! The handlers of `/api`.

pub(crate) mod dead_letters;
pub(crate) mod documents;
mod page;
pub(crate) mod receipts;
pub(crate) mod save;
pub(crate) mod streams;
pub(crate) mod summaries;
