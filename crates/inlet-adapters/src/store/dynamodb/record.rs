//! The item of an id: the document, the mark of its erasure, and whether it has dead letters.
//!
//! ```text
//! d#ID / d    rev          grows with every write; each write names the one it saw
//!             erased_us    when the id was erased last
//!             generation   which erasure of the table that was; none where it was not counted
//!             letters      how many dead letters the id has
//!             stream, received_us, stored_us, key, bytes, sha256, lane, n
//!             body         the bytes, or
//!             overflow     where in the bucket they are
//! ```
//!
//! All that must hold of an id holds by this one item: that it is stored once, that it stays
//! erased, that a letter goes when its document is stored.

use aws_sdk_dynamodb::types::builders::{PutBuilder, UpdateBuilder};
use aws_sdk_dynamodb::types::{Put, Update};
use bytes::Bytes;
use inlet_core::document::{Document, IdempotencyKey, StoredDocument, StreamName, Timestamp};
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::Plan;
use inlet_core::ports::EraseMark;

use super::attributes::{
    Item, PK, binary, find_binary, find_number, find_text, key, must, number, text,
};

/// The item of an id; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// 0 where there is no item.
    pub(super) rev: u64,
    pub(super) erased: Option<EraseMark>,
    pub(super) letters: u32,
    pub(super) stored: Option<Stored>,
}

/// A document in its record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) stream: StreamName,
    pub(super) key: Option<IdempotencyKey>,
    pub(super) received: Timestamp,
    pub(super) stored: Timestamp,
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
    pub(super) body: Body,
    /// Where in the order of the store it is.
    pub(super) lane: u8,
    pub(super) n: u64,
}

/// A body, or where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Here(Bytes),
    There(String),
}

impl Body {
    pub(super) fn overflow(&self) -> Option<&str> {
        match self {
            Self::Here(_) => None,
            Self::There(key) => Some(key),
        }
    }

    pub(super) fn write(&self, item: &mut Item) {
        match self {
            Self::Here(body) => item.insert("body".to_owned(), binary(body.as_ref())),
            Self::There(key) => item.insert("overflow".to_owned(), text(key)),
        };
    }

    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        if let Some(key) = find_text(item, "overflow") {
            return Ok(Self::There(key.to_owned()));
        }
        let body = must(find_binary(item, "body"), item, "body")?;
        Ok(Self::Here(Bytes::copy_from_slice(body)))
    }
}

/// The mark in an item, if it has one.
pub(super) fn read_mark(item: &Item) -> Option<EraseMark> {
    Some(EraseMark {
        generation: find_number(item, "generation").unwrap_or(0),
        at: Timestamp::from_micros(find_number(item, "erased_us")?),
    })
}

pub(super) fn write_mark(mark: &EraseMark, item: &mut Item) {
    item.insert("erased_us".to_owned(), number(mark.at.as_micros()));
    item.insert("generation".to_owned(), number(mark.generation));
}

impl Record {
    /// The generation of what is there under the id: that of its mark, which it came after.
    pub(super) fn generation(&self) -> u64 {
        self.erased.map_or(0, |mark| mark.generation)
    }

    pub(super) fn key(id: DocumentId) -> Item {
        key(format!("d#{id}"), "d")
    }

    pub(super) fn read(item: &Item) -> Result<Self, Failure> {
        let stored = match find_text(item, "stream") {
            None => None,
            Some(stream) => Some(Stored {
                stream: must(StreamName::new(stream).ok(), item, "stream")?,
                key: match find_text(item, "key") {
                    None => None,
                    Some(key) => Some(must(IdempotencyKey::new(key).ok(), item, "key")?),
                },
                received: moment(item, "received_us")?,
                stored: moment(item, "stored_us")?,
                bytes: must(find_number(item, "bytes"), item, "bytes")?,
                sha256: sha256(item)?,
                body: Body::read(item)?,
                lane: must(find_number(item, "lane"), item, "lane")?,
                n: must(find_number(item, "n"), item, "n")?,
            }),
        };
        Ok(Self {
            rev: must(find_number(item, "rev"), item, "rev")?,
            erased: read_mark(item),
            letters: find_number(item, "letters").unwrap_or(0),
            stored,
        })
    }

    fn write(&self, id: DocumentId) -> Item {
        let mut item = Self::key(id);
        let mut set = |name: &str, value| drop(item.insert(name.to_owned(), value));
        set("rev", number(self.rev));
        if self.letters > 0 {
            set("letters", number(self.letters));
        }
        if let Some(mark) = &self.erased {
            write_mark(mark, &mut item);
        }
        if let Some(stored) = &self.stored {
            stored.write(&mut item);
        }
        item
    }

    /// Whether the item is a record.
    pub(super) fn is_record(item: &Item) -> bool {
        find_text(item, PK).is_some_and(|pk| pk.starts_with("d#"))
    }

    /// Puts this in the place of what was seen as `before`, and of nothing else.
    pub(super) fn put(&self, id: DocumentId, before: u64) -> PutBuilder {
        let after = Self { rev: before + 1, ..self.clone() };
        let put = Put::builder().set_item(Some(after.write(id)));
        if before == 0 {
            return put.condition_expression("attribute_not_exists(pk)");
        }
        put.condition_expression("rev = :rev").expression_attribute_values(":rev", number(before))
    }
}

/// What a plan changes in a record.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The revision that the plan rests on; 0 where there is no record.
    before: u64,
    /// How many dead letters the id has afterwards.
    pub(super) letters: i64,
    /// The document that is stored.
    pub(super) stored: Option<Stored>,
}

/// How a change is written.
pub(super) enum RecordWrite {
    Put(PutBuilder),
    Update(UpdateBuilder),
}

impl Change {
    /// No change yet, to the state that the plan rests on.
    pub(super) fn of(plan: &Plan, id: DocumentId) -> Self {
        let (before, letters) =
            plan.known(id).map_or((0, 0), |known| (known.version, known.letters.len()));
        Self { before, letters: i64::try_from(letters).unwrap_or(i64::MAX), stored: None }
    }

    /// Writes it to the record that the plan rests on, and to no other.
    pub(super) fn write(self, id: DocumentId) -> RecordWrite {
        let letters = u32::try_from(self.letters).unwrap_or(0);
        if self.before == 0 {
            let record = Record { letters, stored: self.stored, ..Record::default() };
            return RecordWrite::Put(record.put(id, 0));
        }
        let mut set = Item::new();
        set.insert("rev".to_owned(), number(self.before + 1));
        set.insert("letters".to_owned(), number(letters));
        if let Some(stored) = &self.stored {
            stored.write(&mut set);
        }
        let mut update = Update::builder().set_key(Some(Record::key(id)));
        let mut expression = Vec::with_capacity(set.len());
        for (index, (name, value)) in set.into_iter().enumerate() {
            expression.push(format!("#a{index} = :a{index}"));
            update = update
                .expression_attribute_names(format!("#a{index}"), name)
                .expression_attribute_values(format!(":a{index}"), value);
        }
        let update = update
            .update_expression(format!("SET {}", expression.join(", ")))
            .condition_expression("rev = :before")
            .expression_attribute_values(":before", number(self.before));
        RecordWrite::Update(update)
    }
}

impl Stored {
    fn write(&self, item: &mut Item) {
        let mut set = |name: &str, value| drop(item.insert(name.to_owned(), value));
        set("stream", text(self.stream.as_str()));
        set("received_us", number(self.received.as_micros()));
        set("stored_us", number(self.stored.as_micros()));
        set("bytes", number(self.bytes));
        set("sha256", binary(self.sha256));
        set("lane", number(self.lane));
        set("n", number(self.n));
        if let Some(key) = &self.key {
            set("key", text(key.as_str()));
        }
        self.body.write(item);
    }

    /// The document with this body.
    pub(super) fn with(self, id: DocumentId, generation: u64, body: Bytes) -> StoredDocument {
        let Self { stream, key, received, stored, .. } = self;
        StoredDocument {
            document: Document { id, stream, key, received, generation: Some(generation), body },
            stored,
        }
    }
}

pub(super) fn moment(item: &Item, attribute: &'static str) -> Result<Timestamp, Failure> {
    must(find_number(item, attribute), item, attribute).map(Timestamp::from_micros)
}

pub(super) fn sha256(item: &Item) -> Result<[u8; 32], Failure> {
    must(find_binary(item, "sha256").and_then(|sum| sum.try_into().ok()), item, "sha256")
}
