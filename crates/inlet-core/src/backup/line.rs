//! One line of a backup: what it says, and how it is written.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dead_letter::{Cause, DeadLetter};
use crate::document::{
    Document, IdempotencyKey, StoredDocument, StreamName, Timestamp, hex, unhex,
};
use crate::id::DocumentId;
use crate::summary::text;

/// What a line that is neither the first nor the last brings.
pub(super) enum Item {
    /// A document.
    Document(Document),
    /// A dead letter.
    DeadLetter(DeadLetter),
}

/// A line as it is written.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Line<'a> {
    #[serde(rename = "inlet-backup")]
    Header {
        format: u32,
        #[serde(with = "text")]
        made: Timestamp,
    },
    DeadLetter {
        #[serde(flatten, borrow)]
        common: Common<'a>,
        cause: String,
        detail: String,
        attempts: u32,
        #[serde(with = "text")]
        died: Timestamp,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        redriven: Option<String>,
    },
    Document {
        #[serde(flatten, borrow)]
        common: Common<'a>,
        #[serde(with = "text")]
        stored: Timestamp,
    },
    End {
        documents: u64,
        dead_letters: u64,
    },
}

/// What documents and dead letters have in common.
#[derive(Serialize, Deserialize)]
pub(super) struct Common<'a> {
    #[serde(with = "text")]
    id: DocumentId,
    stream: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(with = "text")]
    received: Timestamp,
    /// Left out by older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(default, borrow, skip_serializing_if = "Option::is_none")]
    body: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_hex: Option<String>,
}

impl<'a> Line<'a> {
    /// The line of a document.
    pub(super) fn of_document(stored: &'a StoredDocument) -> Self {
        let Document { id, stream, key, received, generation, body } = &stored.document;
        let common = Common::new(*id, stream, key.as_ref(), *received, body);
        Self::Document {
            common: Common { generation: *generation, ..common },
            stored: stored.stored,
        }
    }

    /// The line of a dead letter.
    pub(super) fn of_dead_letter(letter: &'a DeadLetter) -> Self {
        let DeadLetter { id, stream, key, received, generation, body, .. } = letter;
        let common = Common::new(*id, stream, key.as_ref(), *received, body);
        Self::DeadLetter {
            common: Common { generation: *generation, ..common },
            cause: letter.cause.code().to_owned(),
            detail: letter.cause.detail().to_owned(),
            attempts: letter.attempts,
            died: letter.died,
            redriven: letter.redriven.map(|moment| moment.to_string()),
        }
    }
}

impl<'a> Common<'a> {
    fn new(
        id: DocumentId,
        stream: &StreamName,
        key: Option<&IdempotencyKey>,
        received: Timestamp,
        body: &'a Bytes,
    ) -> Self {
        let text = std::str::from_utf8(body).ok();
        Self {
            id,
            stream: stream.as_str().to_owned(),
            key: key.map(|key| key.as_str().to_owned()),
            received,
            generation: None,
            body: text.map(Cow::Borrowed),
            body_hex: text.is_none().then(|| hex(body)),
        }
    }

    /// The document they are of, or what is wrong with them.
    pub(super) fn into_document(self) -> Result<Document, String> {
        let body = match (self.body, self.body_hex) {
            (Some(text), None) => Bytes::from(text.into_owned().into_bytes()),
            (None, Some(digits)) => {
                unhex(&digits).map(Bytes::from).ok_or("body_hex is not hexadecimal digits")?
            }
            _ => return Err("it has not one of body and body_hex".to_owned()),
        };
        let wrong = |error: crate::rejection::Rejection| error.to_string();
        Ok(Document {
            id: self.id,
            stream: StreamName::new(&self.stream).map_err(wrong)?,
            key: self.key.as_deref().map(IdempotencyKey::new).transpose().map_err(wrong)?,
            received: self.received,
            generation: self.generation,
            body,
        })
    }
}

/// The item of a line that is neither the first nor the last, or what is wrong with it.
pub(super) fn item(line: Line<'_>) -> Result<Item, String> {
    match line {
        Line::Document { common, .. } => common.into_document().map(Item::Document),
        Line::DeadLetter { common, cause, detail, attempts, died, redriven } => {
            let Document { id, stream, key, received, generation, body } =
                common.into_document()?;
            let redriven = redriven
                .map(|moment| moment.parse())
                .transpose()
                .map_err(|error: jiff::Error| error.to_string())?;
            let cause = match Cause::from_parts(&cause, &detail) {
                known if known.code() == cause => known,
                _ => return Err(format!("the cause `{cause}` is not known")),
            };
            Ok(Item::DeadLetter(DeadLetter {
                id,
                stream,
                key,
                received,
                generation,
                body,
                cause,
                attempts,
                died,
                redriven,
            }))
        }
        Line::Header { .. } | Line::End { .. } => Err("it stands in the wrong place".to_owned()),
    }
}
