//! What a message looks like, so that people and other clients can read and write it.
//!
//! One document:
//!
//! ```text
//! body                  the document's JSON as it was sent
//! inlet-id              its id
//! inlet-stream          its stream; `default` where it is not said
//! inlet-received-us     when it was accepted, in microseconds since the epoch
//! inlet-generation      its generation, where the door that accepted it knew of erasures
//! inlet-key             its idempotency key, if it has one
//! inlet-encoding        `base64` where the JSON has characters that SQS takes none of
//! inlet-overflow        the key in the bucket where the JSON lies; the body says so in JSON
//! ```
//!
//! Several documents, when many were waiting to be sent: the body has one after the other, each
//! with a line feed behind it, and `inlet-documents` is a JSON array with an object for each:
//! `id`, `stream`, `received_us`, `generation`, `key` and `bytes`, the length of
//! its JSON.
//!
//! A message without `inlet-id` and `inlet-documents` is of another client: any JSON is a
//! document, received when it was sent, of the stream `inlet-stream` names. Its id follows from
//! SQS's message id, so that delivered again it is the same document.

use std::collections::HashMap;

use aws_smithy_types::base64;
use bytes::Bytes;
use inlet_core::document::{Document, IdempotencyKey, StreamName, Timestamp};
use inlet_core::id::DocumentId;
use inlet_core::json;
use inlet_core::limits::Limits;
use inlet_core::ports::Undecodable;
use serde::{Deserialize, Serialize};

/// How deep a document may be nested that passed a door of ours, whose limit is not known here.
const OWN_DEPTH_MAX: usize = 100_000;

pub(super) const ID: &str = "inlet-id";
const STREAM: &str = "inlet-stream";
const RECEIVED: &str = "inlet-received-us";
const GENERATION: &str = "inlet-generation";
const KEY: &str = "inlet-key";
const ENCODING: &str = "inlet-encoding";
const OVERFLOW: &str = "inlet-overflow";
pub(super) const DOCUMENTS: &str = "inlet-documents";

/// A document as it goes into a message.
#[derive(Debug)]
pub(super) struct Parcel {
    head: Head,
    form: Form,
    /// The text in the message's body.
    text: String,
    /// What it takes in a message, at most, in bytes.
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Base64,
    Overflow,
}

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    id: String,
    stream: String,
    received_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generation: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    bytes: usize,
    #[serde(skip)]
    overflow: Option<String>,
}

/// A message as it is sent.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) body: String,
    pub(super) attributes: Attributes,
}

/// The names and values of attributes.
type Attributes = Vec<(&'static str, String)>;

/// A message as SQS delivers it, to a worker or in an event of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqsMessage {
    /// SQS's id of it.
    pub message_id: String,
    /// Its body.
    pub body: String,
    /// Its attributes of type `String` and `Number`, by name.
    pub attributes: HashMap<String, String>,
    /// When it was sent.
    pub sent: Timestamp,
}

/// One document of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Read {
    /// Here it is, or what could not be read as one.
    Here(Result<Document, Undecodable>),
    /// Its body, of that many bytes, is in the bucket under the key.
    Elsewhere { document: Document, key: String, bytes: usize },
}

impl Parcel {
    /// The document, as text if SQS takes all its characters.
    pub(super) fn new(document: &Document) -> Self {
        let (form, text) = match std::str::from_utf8(&document.body) {
            Ok(text) if !text.is_empty() && text.chars().all(is_taken) => {
                (Form::Plain, text.to_owned())
            }
            _ => (Form::Base64, base64::encode(&document.body)),
        };
        Self::of(Head::of(document, text.len(), None), form, text)
    }

    /// A pointer to the document's body in the bucket.
    pub(super) fn elsewhere(document: &Document, key: &str) -> Self {
        let bytes = document.body.len();
        let text = serde_json::json!({ "inlet-overflow": key, "bytes": bytes }).to_string();
        let head = Head::of(document, bytes, Some(key.to_owned()));
        Self::of(head, Form::Overflow, text)
    }

    fn of(head: Head, form: Form, text: String) -> Self {
        let mut parcel = Self { head, form, text, bytes: 0 };
        // In a message of its own, or beside others.
        let alone = bytes_of(&parcel.attributes());
        let shared = match form {
            Form::Plain => bytes_of(&documents(&[&parcel])) + "\n".len(),
            Form::Base64 | Form::Overflow => 0,
        };
        parcel.bytes = parcel.text.len() + alone.max(shared);
        parcel
    }

    /// The attributes of a message that carries this document alone.
    fn attributes(&self) -> Attributes {
        let Self { head, form, .. } = self;
        let mut attributes = vec![
            (ID, head.id.clone()),
            (STREAM, head.stream.clone()),
            (RECEIVED, head.received_us.to_string()),
        ];
        let generation = head.generation.map(|generation| (GENERATION, generation.to_string()));
        attributes.extend(generation);
        attributes.extend(head.key.clone().map(|key| (KEY, key)));
        attributes.extend(head.overflow.clone().map(|key| (OVERFLOW, key)));
        if *form == Form::Base64 {
            attributes.push((ENCODING, "base64".to_owned()));
        }
        attributes
    }

    /// What it takes in a message, at most, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it can be in a message with others.
    pub(super) fn is_plain(&self) -> bool {
        self.form == Form::Plain
    }
}

impl Head {
    fn of(document: &Document, bytes: usize, overflow: Option<String>) -> Self {
        Self {
            id: document.id.to_string(),
            stream: document.stream.as_str().to_owned(),
            received_us: document.received.as_micros(),
            generation: document.generation,
            key: document.key.as_ref().map(|key| key.as_str().to_owned()),
            bytes,
            overflow,
        }
    }

    /// The document without its body; `None` where a name is not one that we let in.
    fn document(&self) -> Option<Document> {
        Some(Document {
            id: self.id.parse().ok()?,
            stream: StreamName::new(&self.stream).ok()?,
            key: match &self.key {
                Some(key) => Some(IdempotencyKey::new(key).ok()?),
                None => None,
            },
            received: Timestamp::from_micros(self.received_us),
            generation: self.generation,
            body: Bytes::new(),
        })
    }
}

/// The message that carries these: one of any form, or several plain ones.
pub(super) fn write(parcels: &[&Parcel]) -> Written {
    if let [parcel] = parcels {
        return Written { body: parcel.text.clone(), attributes: parcel.attributes() };
    }
    debug_assert!(parcels.iter().all(|parcel| parcel.is_plain()), "several are plain");
    let mut body = String::with_capacity(parcels.iter().map(|it| it.text.len() + 1).sum());
    for parcel in parcels {
        body.push_str(&parcel.text);
        body.push('\n');
    }
    Written { body, attributes: documents(parcels) }
}

/// The attributes of a message that carries several documents.
fn documents(parcels: &[&Parcel]) -> Attributes {
    let heads: Vec<&Head> = parcels.iter().map(|parcel| &parcel.head).collect();
    vec![(DOCUMENTS, serde_json::to_string(&heads).expect("heads are text and numbers"))]
}

/// The bytes of attributes as SQS counts them: name, type and value.
/// Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html>.
fn bytes_of(attributes: &Attributes) -> usize {
    const TYPE_BYTES: usize = "String".len();
    attributes.iter().map(|(name, value)| name.len() + TYPE_BYTES + value.len()).sum()
}

/// Whether the attribute is a number.
pub(super) fn is_number(attribute: &str) -> bool {
    matches!(attribute, RECEIVED | GENERATION)
}

/// The documents of a message; at least one.
pub(super) fn read(message: &SqsMessage) -> Vec<Read> {
    let attribute = |name: &str| message.attributes.get(name).map(String::as_str);
    let result = if let Some(heads) = attribute(DOCUMENTS) {
        read_several(message, heads)
    } else if let Some(id) = attribute(ID) {
        read_one(message, id).map(|read| vec![read])
    } else {
        read_foreign(message).map(|document| vec![Read::Here(Ok(document))])
    };
    result.unwrap_or_else(|cause| {
        let payload = Bytes::copy_from_slice(message.body.as_bytes());
        vec![Read::Here(Err(Undecodable { payload, cause }))]
    })
}

fn read_one(message: &SqsMessage, id: &str) -> Result<Read, String> {
    let attribute = |name: &str| message.attributes.get(name).cloned();
    let received = attribute(RECEIVED).and_then(|received| received.parse().ok());
    let head = Head {
        id: id.to_owned(),
        stream: attribute(STREAM).unwrap_or_else(|| StreamName::default().as_str().to_owned()),
        received_us: received.unwrap_or_else(|| message.sent.as_micros()),
        generation: attribute(GENERATION).and_then(|number| number.parse().ok()),
        key: attribute(KEY),
        bytes: 0,
        overflow: attribute(OVERFLOW),
    };
    let mut document = head.document().ok_or(NAMES)?;
    if let Some(key) = head.overflow {
        let pointer: Pointer = serde_json::from_str(&message.body)
            .map_err(|_| "the message's body is no pointer to the bucket".to_owned())?;
        return Ok(Read::Elsewhere { document, key, bytes: pointer.bytes });
    }
    document.body = match attribute(ENCODING).as_deref() {
        None => Bytes::copy_from_slice(message.body.as_bytes()),
        Some("base64") => base64::decode(&message.body)
            .map_err(|_| "the message's body is not base64, as inlet-encoding says".to_owned())?
            .into(),
        Some(other) => {
            return Err(format!("inlet-encoding is {other:?}, this binary knows base64"));
        }
    };
    check(&document.body, OWN_DEPTH_MAX)?;
    Ok(Read::Here(Ok(document)))
}

fn read_several(message: &SqsMessage, heads: &str) -> Result<Vec<Read>, String> {
    let heads: Vec<Head> = serde_json::from_str(heads)
        .map_err(|error| format!("inlet-documents can't be read: {error}"))?;
    let body = Bytes::copy_from_slice(message.body.as_bytes());
    let mut at = 0;
    let mut documents = Vec::with_capacity(heads.len());
    for head in heads {
        let mut document = head.document().ok_or(NAMES)?;
        let end = at + head.bytes;
        if body.get(end) != Some(&b'\n') {
            return Err(format!("a document of the message does not end at byte {end}"));
        }
        document.body = body.slice(at..end);
        check(&document.body, OWN_DEPTH_MAX)?;
        documents.push(Read::Here(Ok(document)));
        at = end + 1;
    }
    if at != body.len() || documents.is_empty() {
        return Err(format!("the message's body does not end with its last document, at {at}"));
    }
    Ok(documents)
}

/// A message that another client wrote.
fn read_foreign(message: &SqsMessage) -> Result<Document, String> {
    check(message.body.as_bytes(), Limits::default().depth_max)?;
    let stream = match message.attributes.get(STREAM) {
        None => StreamName::default(),
        Some(name) => StreamName::new(name).map_err(|_| NAMES.to_owned())?,
    };
    let origin = format!("sqs message {}", message.message_id);
    let key = IdempotencyKey::new(&origin).map_err(|_| "the message has no id".to_owned())?;
    Ok(Document {
        id: DocumentId::derive(&StreamName::default(), &key),
        stream,
        key: None,
        received: message.sent,
        generation: Some(0),
        body: Bytes::copy_from_slice(message.body.as_bytes()),
    })
}

fn check(body: &[u8], depth_max: usize) -> Result<(), String> {
    json::check(body, depth_max).map_err(|fault| format!("the body is no JSON: {fault}"))
}

const NAMES: &str = "the message names an id, a stream or a key that is not allowed";

#[derive(Deserialize)]
struct Pointer {
    bytes: usize,
}

/// What SQS takes in a body: the characters of XML 1.0.
fn is_taken(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        || character >= '\u{10000}'
}

#[cfg(test)]
mod tests {
    use inlet_core::document::{KEY_BYTES_MAX, STREAM_NAME_BYTES_MAX};

    use super::*;
    use crate::queue::sqs::MESSAGE_BYTES_MIN;

    #[test]
    fn a_pointer_to_the_bucket_fits_into_the_smallest_message_that_a_queue_can_allow() {
        let document = Document {
            id: DocumentId::mint(Timestamp::from_micros(i64::MAX)),
            stream: StreamName::new(&"s".repeat(STREAM_NAME_BYTES_MAX)).unwrap(),
            key: Some(IdempotencyKey::new(&"\"".repeat(KEY_BYTES_MAX)).unwrap()),
            received: Timestamp::from_micros(i64::MAX),
            generation: Some(0),
            body: Bytes::from(vec![b'1'; 100]),
        };
        let key = format!("overflow/queue/{}/{}", document.id, "f".repeat(16));
        let parcel = Parcel::elsewhere(&document, &key);
        assert!(parcel.bytes() <= MESSAGE_BYTES_MIN, "{}", parcel.bytes());
    }

    #[test]
    fn the_bytes_of_a_message_are_counted_as_sqs_counts_them() {
        let document = Document {
            id: DocumentId::mint(Timestamp::default()),
            stream: StreamName::default(),
            key: None,
            received: Timestamp::from_micros(7),
            generation: Some(0),
            body: Bytes::from_static(b"{}"),
        };
        let parcel = Parcel::new(&document);
        let written = write(&[&parcel]);
        let alone = written.body.len() + bytes_of(&written.attributes);
        assert_eq!(alone, 2 + (8 + 6 + 36) + (12 + 6 + 7) + (17 + 6 + 1) + (16 + 6 + 1));
        let written = write(&[&parcel, &parcel]);
        let shared = written.body.len() + bytes_of(&written.attributes);
        assert!(alone <= parcel.bytes() && shared <= 2 * parcel.bytes());
    }
}
