//! The handlers of `/api`.

pub(crate) mod dead_letters;
pub(crate) mod documents;
pub(crate) mod files;
mod page;
pub(crate) mod receipts;
pub(crate) mod save;
pub(crate) mod streams;
pub(crate) mod summaries;
pub(crate) mod tokens;
