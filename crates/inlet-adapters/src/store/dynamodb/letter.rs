//! Dead letters: each has an item with all that is known of it, and one in the list of all.
//!
//! ```text
//! l#ID / SHA256                the letter: stream, key, received_us, generation, cause, detail,
//!                              attempts, died_us, redriven_us, listed (its place in the list), and
//!                              body or overflow
//! letters / DIED#ID#SHA256     its place in the list, oldest first; stream, cause and class, so
//!                              that a filter reads no letters in vain
//! ```
//!
//! They are written together with the record of their id, which counts them: where the count is
//! nought, none has to be looked for.

use inlet_core::dead_letter::{Cause, DeadLetter, DeadLetterFilter};
use inlet_core::document::{IdempotencyKey, StreamName, Timestamp, hex};
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;

use super::attributes::{
    Item, binary, find_number, find_text, from_sortable, key, must, number, sortable, text,
};
use super::record::{Body, moment, sha256};

/// The partition of the list.
pub(super) const LIST: &str = "letters";

/// A dead letter, and where its body is.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    /// The letter; its body is empty where it was read and is elsewhere.
    pub(super) letter: DeadLetter,
    pub(super) sha256: [u8; 32],
    pub(super) body: Body,
}

impl Letter {
    /// The partition of the letters of an id.
    pub(super) fn partition(id: DocumentId) -> String {
        format!("l#{id}")
    }

    pub(super) fn key_of(id: DocumentId, sha256: &[u8; 32]) -> Item {
        key(Self::partition(id), hex(sha256))
    }

    pub(super) fn key(&self) -> Item {
        Self::key_of(self.letter.id, &self.sha256)
    }

    pub(super) fn listed_key(&self) -> Item {
        key(LIST, self.listed())
    }

    /// Its place in the list.
    pub(super) fn listed(&self) -> String {
        let died = sortable(self.letter.died.as_micros());
        format!("{died}#{}#{}", self.letter.id, hex(&self.sha256))
    }

    pub(super) fn write(&self) -> Item {
        let Self { letter, sha256, body } = self;
        let mut item = self.key();
        let mut set = |name: &str, value| drop(item.insert(name.to_owned(), value));
        set("stream", text(letter.stream.as_str()));
        if let Some(key) = &letter.key {
            set("key", text(key.as_str()));
        }
        set("received_us", number(letter.received.as_micros()));
        if let Some(generation) = letter.generation {
            set("generation", number(generation));
        }
        set("cause", text(letter.cause.code()));
        set("detail", text(letter.cause.detail()));
        set("attempts", number(letter.attempts));
        set("died_us", number(letter.died.as_micros()));
        if let Some(redriven) = letter.redriven {
            set("redriven_us", number(redriven.as_micros()));
        }
        set("sha256", binary(*sha256));
        body.write(&mut item);
        item
    }

    pub(super) fn write_listed(&self) -> Item {
        let mut item = self.listed_key();
        for (name, value) in [
            ("stream", self.letter.stream.as_str()),
            ("cause", self.letter.cause.code()),
            ("class", self.letter.cause.class()),
        ] {
            item.insert(name.to_owned(), text(value));
        }
        item
    }

    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        let id = find_text(item, "pk").and_then(|pk| pk.strip_prefix("l#")?.parse().ok());
        let code = must(find_text(item, "cause"), item, "cause")?;
        let detail = find_text(item, "detail").unwrap_or_default();
        let body = Body::read(item)?;
        let letter = DeadLetter {
            id: must(id, item, "pk")?,
            stream: {
                let stream = find_text(item, "stream").and_then(|name| StreamName::new(name).ok());
                must(stream, item, "stream")?
            },
            key: match find_text(item, "key") {
                None => None,
                Some(key) => Some(must(IdempotencyKey::new(key).ok(), item, "key")?),
            },
            received: moment(item, "received_us")?,
            generation: find_number(item, "generation"),
            body: match &body {
                Body::Here(body) => body.clone(),
                Body::There(_) => bytes::Bytes::new(),
            },
            cause: Cause::from_parts(code, detail),
            attempts: must(find_number(item, "attempts"), item, "attempts")?,
            died: moment(item, "died_us")?,
            redriven: find_number(item, "redriven_us").map(Timestamp::from_micros),
        };
        Ok(Self { letter, sha256: sha256(item)?, body })
    }
}

/// What the list says of a letter.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Its place.
    pub(super) place: String,
    pub(super) key: Item,
    id: DocumentId,
    died: Timestamp,
    stream: String,
    cause: String,
    class: String,
}

impl Listed {
    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        let place = must(find_text(item, "sk"), item, "sk")?;
        let mut parts = place.split('#');
        let died = parts.next().and_then(from_sortable).map(Timestamp::from_micros);
        let id: Option<DocumentId> = parts.next().and_then(|id| id.parse().ok());
        let (died, id) = (must(died, item, "sk")?, must(id, item, "sk")?);
        let sum = must(parts.next(), item, "sk")?;
        let of = |name| find_text(item, name).unwrap_or_default().to_owned();
        Ok(Self {
            place: place.to_owned(),
            key: key(Letter::partition(id), sum),
            id,
            died,
            stream: of("stream"),
            cause: of("cause"),
            class: of("class"),
        })
    }

    /// Whether the letter meets every condition.
    pub(super) fn meets(&self, filter: &DeadLetterFilter) -> bool {
        filter.id.is_none_or(|id| id == self.id)
            && filter.stream.as_ref().is_none_or(|stream| stream.as_str() == self.stream)
            && filter.cause.as_ref().is_none_or(|cause| *cause == self.cause)
            && filter.class.as_ref().is_none_or(|class| *class == self.class)
            && filter.since.is_none_or(|since| self.died >= since)
            && filter.before.is_none_or(|before| self.died < before)
    }
}
