//! Dead letters: documents that could not be stored, kept whole.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

use crate::document::{Document, IdempotencyKey, StreamName, Timestamp};
use crate::id::DocumentId;
use crate::rejection::Rejection;

/// The longest text of a [`DeadLetterFilter`], in bytes.
pub const FILTER_BYTES_MAX: usize = 1_024;

/// Why a document is dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its idempotency key was used before in its stream, with another body.
    KeyConflict,
    /// The store refuses it for good; the text is the store's.
    Refused(String),
    /// Its bytes in the queue are no document; the text says why.
    Undecodable(String),
}

impl Cause {
    /// The code of the cause: `key_conflict`, `refused`, `undecodable`. Stable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::KeyConflict => "key_conflict",
            Self::Refused(_) => "refused",
            Self::Undecodable(_) => "undecodable",
        }
    }

    /// The class of the cause: `conflict` (the client's doing), `poison` (the document can't be
    /// stored as it is), `damage` (ours). Stable.
    pub fn class(&self) -> &'static str {
        match self {
            Self::KeyConflict => "conflict",
            Self::Refused(_) => "poison",
            Self::Undecodable(_) => "damage",
        }
    }

    /// What is known beyond the code; empty where there is no more.
    pub fn detail(&self) -> &str {
        match self {
            Self::KeyConflict => "",
            Self::Refused(detail) | Self::Undecodable(detail) => detail,
        }
    }

    /// The cause with that code and detail, as a store reads it back.
    pub fn from_parts(code: &str, detail: &str) -> Self {
        match code {
            "key_conflict" => Self::KeyConflict,
            "refused" => Self::Refused(detail.to_owned()),
            _ => Self::Undecodable(detail.to_owned()),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detail() {
            "" => f.write_str(self.code()),
            detail => write!(f, "{}: {detail}", self.code()),
        }
    }
}

/// A document that could not be stored, with its cause and its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The document's id; for bytes that are no document, an id made for them.
    pub id: DocumentId,
    /// Its stream.
    pub stream: StreamName,
    /// Its key, if it had one.
    pub key: Option<IdempotencyKey>,
    /// When it was accepted; for bytes that are no document, when they were found.
    pub received: Timestamp,
    /// The generation of its document.
    pub generation: Option<u64>,
    /// Its body, or the bytes that are no document.
    pub body: Bytes,
    /// Why it is dead.
    pub cause: Cause,
    /// How often it was tried in all.
    pub attempts: u32,
    /// When it died first.
    pub died: Timestamp,
    /// When it was last sent to the queue again.
    pub redriven: Option<Timestamp>,
}

impl DeadLetter {
    /// The letter of a document that died at `died` after so many attempts.
    pub fn of(document: &Document, cause: Cause, attempts: u32, died: Timestamp) -> Self {
        Self {
            id: document.id,
            stream: document.stream.clone(),
            key: document.key.clone(),
            received: document.received,
            generation: document.generation,
            body: document.body.clone(),
            cause,
            attempts,
            died,
            redriven: None,
        }
    }
}

/// Which dead letters are meant: those that meet every condition that is set.
///
/// As text it is conditions with commas between them: `stream=orders,cause=refused`, with the
/// names `id`, `stream`, `cause` (its code), `class`, `since` and `before` (when they died,
/// RFC 3339). The empty text means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadLetterFilter {
    /// The document's id.
    pub id: Option<DocumentId>,
    /// The stream.
    pub stream: Option<StreamName>,
    /// The code of the cause.
    pub cause: Option<String>,
    /// The class of the cause.
    pub class: Option<String>,
    /// Died at this moment or later.
    pub since: Option<Timestamp>,
    /// Died before this moment.
    pub before: Option<Timestamp>,
}

impl DeadLetterFilter {
    /// Whether `letter` meets every condition.
    pub fn matches(&self, letter: &DeadLetter) -> bool {
        self.id.is_none_or(|id| id == letter.id)
            && self.stream.as_ref().is_none_or(|stream| *stream == letter.stream)
            && self.cause.as_ref().is_none_or(|cause| cause == letter.cause.code())
            && self.class.as_ref().is_none_or(|class| class == letter.cause.class())
            && self.since.is_none_or(|since| letter.died >= since)
            && self.before.is_none_or(|before| letter.died < before)
    }
}

impl FromStr for DeadLetterFilter {
    type Err = Rejection;

    fn from_str(text: &str) -> Result<Self, Rejection> {
        let invalid = |expected| Rejection::ParameterInvalid { name: "where", expected };
        let moment = |value: &str| {
            Timestamp::from_rfc3339(value).ok_or(invalid("a moment as in 2026-11-21T02:03:18Z"))
        };
        if text.len() > FILTER_BYTES_MAX {
            return Err(invalid("at most 1,024 bytes"));
        }
        let mut filter = Self::default();
        for condition in text.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
            let (name, value) = condition
                .split_once('=')
                .ok_or(invalid("conditions as in stream=orders,cause=refused"))?;
            match name.trim() {
                "id" => filter.id = Some(value.parse()?),
                "stream" => filter.stream = Some(StreamName::new(value)?),
                "cause" => filter.cause = Some(value.to_owned()),
                "class" => filter.class = Some(value.to_owned()),
                "since" => filter.since = Some(moment(value)?),
                "before" => filter.before = Some(moment(value)?),
                _ => return Err(invalid("one of id, stream, cause, class, since, before")),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_from_its_text() {
        let filter: DeadLetterFilter =
            "stream=orders, cause=refused,since=2026-11-21T00:00:00Z".parse().unwrap();
        assert_eq!(filter.stream, Some(StreamName::new("orders").unwrap()));
        assert_eq!(filter.cause.as_deref(), Some("refused"));
        assert_eq!(
            filter.since.map(|since| since.to_string()).as_deref(),
            Some("2026-11-21T00:00:00.000000Z")
        );
        assert_eq!("".parse::<DeadLetterFilter>().unwrap(), DeadLetterFilter::default());
    }

    #[test]
    fn a_condition_that_is_not_known_is_refused_by_name() {
        for text in ["colour=red", "stream", "stream=a/b", "since=yesterday"] {
            assert!(text.parse::<DeadLetterFilter>().is_err(), "{text}");
        }
    }
}
