//! Which fields documents have, for the summary: counted while they are stored, so that the
//! summary need not read them again.
//!
//! A path names a field by the members and arrays around it:
//!
//! ```text
//! user.address.city    a member of a member of a member
//! items[].sku          a member of the elements of an array; items[] are the elements themselves
//! $                    the document itself, where it is no object
//! $[].sku              a member of the elements of a document that is an array
//! user."first.name"    a name that is empty, `$` or `…`, or has one of . [ ] " \ or a control
//!                      character in it, quoted as in JSON
//! …                    fields for which there is no room here
//! ```
//!
//! What is counted is how many documents have a field of a type: a document that has it twice, as
//! elements of an array have, counts once. A field that is a number in some documents and a string
//! in others is counted under both.
//!
//! Everything is bounded, whatever the documents are: paths have at most
//! [`FIELD_NAMES_MAX`] names and [`FIELD_NESTING_MAX`] arrays and objects around them (what is
//! deeper is not looked at), at most [`FIELD_PATH_BYTES_MAX`] bytes, and there are at most
//! [`FIELD_PATHS_MAX`] of them. Fields that are too many or whose path is too long are counted
//! under `…`, without what is in them.

mod path;
mod walk;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::path::join;
use crate::json::tag;

/// How many member names a path has at most.
pub const FIELD_NAMES_MAX: u8 = 4;
/// How many arrays and objects may be around a field.
pub const FIELD_NESTING_MAX: u8 = 8;
/// The longest path, in bytes.
pub const FIELD_PATH_BYTES_MAX: usize = 200;
/// How many paths are told apart, `…` not counted.
pub const FIELD_PATHS_MAX: usize = 256;

/// The path of the document itself.
const ROOT: &str = "$";
/// The path that stands for all for which there is no room.
const REST: &str = "…";

/// Where the document itself is in the list of fields.
const ROOT_INDEX: u16 = 0;
/// Where the rest is in the list of fields.
const REST_INDEX: u16 = 1;
/// A power of two, so that at most half of the slots are taken.
const SLOTS: usize = 2 * FIELD_PATHS_MAX.next_power_of_two();

/// The type of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldType {
    /// A string.
    String,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// `null`.
    Null,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl FieldType {
    /// All types.
    pub const ALL: [Self; 6] =
        [Self::String, Self::Number, Self::Boolean, Self::Null, Self::Array, Self::Object];

    /// Its name: `string`, `number`, `boolean`, `null`, `array` or `object`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Null => "null",
            Self::Array => "array",
            Self::Object => "object",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many documents have which fields, of which types.
///
/// It holds at most 256 paths of at most 200 bytes: with everything, about 150 KiB. One that has
/// counted nothing holds no memory.
#[derive(Debug, Clone, Default)]
pub struct FieldCounts {
    /// The document, the rest, and then each path behind that of what is around it.
    fields: Vec<Field>,
    /// Indices of fields by the hash of their [`FieldKey`], 0 where there is none.
    slots: Vec<u16>,
    documents: u64,
}

#[derive(Debug, Clone)]
struct Field {
    key: FieldKey<Box<[u8]>>,
    path: Box<str>,
    /// How many names its path has.
    names: u8,
    /// How many arrays and objects are around it.
    nesting: u8,
    /// How many documents have it, by type.
    documents: [u64; FieldType::ALL.len()],
    /// The document that had it last, counted from 1, and the types it had there, one bit each.
    seen: (u64, u8),
}

/// What tells a field from others: the field around it, and its name in there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldKey<N> {
    around: u16,
    /// The member's name, without quotes and escapes; `None` for the elements of an array.
    name: Option<N>,
}

impl FieldCounts {
    /// Counts the fields of one document.
    ///
    /// The body is one that was found to be JSON. Of what is not, the fields up to there are
    /// counted and the rest is ignored.
    pub fn count(&mut self, body: &[u8]) {
        self.begin();
        self.documents += 1;
        walk::walk(body, self);
    }

    /// Each path and type, with the number of documents that have it: at least 1. The order is
    /// that in which paths were first seen, with `…` before the others.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FieldType, u64)> {
        self.fields.iter().flat_map(|field| {
            let counts = FieldType::ALL.into_iter().zip(field.documents);
            counts.filter(|(_, n)| *n > 0).map(|(kind, n)| (&*field.path, kind, n))
        })
    }

    /// Adds what `other` has counted in other documents.
    ///
    /// Where there is no room for all paths of both, those of `other` are added to `…`, and as it
    /// is not known which of them the same documents have, `…` is then the most it can be.
    pub fn merge(&mut self, other: &Self) {
        self.begin();
        let mut indices = Vec::with_capacity(other.fields.len());
        for (index, field) in other.fields.iter().enumerate() {
            let own = if index <= usize::from(REST_INDEX) {
                u16::try_from(index).unwrap_or(REST_INDEX)
            } else {
                // What is around a field comes before it, so its index here is known.
                let around = indices.get(usize::from(field.key.around)).copied();
                self.find(around.unwrap_or(REST_INDEX), field.key.name.as_deref())
            };
            indices.push(own);
            for (sum, documents) in
                self.fields[usize::from(own)].documents.iter_mut().zip(field.documents)
            {
                *sum += documents;
            }
        }
    }

    /// Makes room, the first time.
    fn begin(&mut self) {
        if self.fields.is_empty() {
            self.fields.extend([Field::named(ROOT), Field::named(REST)]);
            self.slots.resize(SLOTS, 0);
        }
    }

    /// Notes that the document being counted has a field of that type.
    #[inline]
    fn note(&mut self, index: u16, kind: FieldType) {
        let field = &mut self.fields[usize::from(index)];
        let bit = 1 << kind as u8;
        if field.seen.0 != self.documents {
            field.seen = (self.documents, 0);
        }
        if field.seen.1 & bit == 0 {
            field.seen.1 |= bit;
            field.documents[kind as usize] += 1;
        }
    }

    /// The field with that name in the field around it; a new one if it is not there yet, or the
    /// rest if there is no room for it.
    #[inline]
    fn find(&mut self, around: u16, name: Option<&[u8]>) -> u16 {
        if around == REST_INDEX {
            return REST_INDEX;
        }
        let key = FieldKey { around, name };
        let mut slot = key.slot();
        while self.slots[slot] != 0 {
            let index = self.slots[slot];
            if self.fields[usize::from(index)].key.is(&key) {
                return index;
            }
            slot = (slot + 1) % SLOTS;
        }
        self.add(slot, &key)
    }

    #[cold]
    fn add(&mut self, slot: usize, key: &FieldKey<&[u8]>) -> u16 {
        let named = FIELD_PATHS_MAX + usize::from(REST_INDEX) + 1;
        let index = self.fields.len();
        let around = &self.fields[usize::from(key.around)];
        let path = join(if key.around == ROOT_INDEX { None } else { Some(&around.path) }, key.name);
        let (Some(path), Ok(number), true) = (path, u16::try_from(index), index < named) else {
            return REST_INDEX;
        };
        self.fields.push(Field {
            key: FieldKey { around: key.around, name: key.name.map(Box::from) },
            names: around.names + u8::from(key.name.is_some()),
            nesting: around.nesting + 1,
            ..Field::named(&path)
        });
        self.slots[slot] = number;
        number
    }
}

impl Field {
    fn named(path: &str) -> Self {
        Self {
            key: FieldKey { around: ROOT_INDEX, name: None },
            path: path.into(),
            names: 0,
            nesting: 0,
            documents: [0; FieldType::ALL.len()],
            seen: (0, 0),
        }
    }
}

impl FieldKey<Box<[u8]>> {
    #[inline]
    fn is(&self, other: &FieldKey<&[u8]>) -> bool {
        self.around == other.around && self.name.as_deref() == other.name
    }
}

impl FieldKey<&[u8]> {
    #[inline]
    fn slot(&self) -> usize {
        // An odd constant with well-spread bits, of which the highest are taken.
        let around = (u64::from(self.around) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = self.name.map_or(around, |name| tag(name) ^ around);
        usize::try_from(hash >> (u64::BITS - SLOTS.ilog2())).unwrap_or_default()
    }
}
