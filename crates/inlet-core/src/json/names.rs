//! Whether an object has a member name twice.
//!
//! Names are compared as what they mean, not as they are escaped. Each name gets a tag of 64
//! bits, and each object a filter of 64 bits over its tags: most names are known to be new by
//! the filter alone, the others are compared with the tags before them. That is about
//! two nanoseconds a name and needs no memory beyond a list that is kept for the next text.
//!
//! An object with more than [`COMPARED_MAX`] names gets a hash set with random keys. So the worst
//! a text can do on purpose is to make every name of objects of that size collide, which compares
//! each byte of a name with [`COMPARED_MAX`] others; more names cost one keyed hash (SipHash)
//! each, and the time stays proportional to the length of the text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use super::scan::{string, unescape};

/// How many names of an object are compared one by one.
const COMPARED_MAX: usize = 64;

/// How many names are kept room for between two texts.
const KEPT_MAX: usize = 1_024;

/// The names of the objects that are open.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names of all open objects, the innermost last.
    names: Vec<Name>,
    /// The large objects, the innermost last.
    sets: Vec<NameSet>,
    keys: RandomState,
}

/// What is known of the names of one object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope {
    /// How many names of other objects come before its own.
    first: usize,
    filter: u64,
}

impl Scope {
    pub(super) const EMPTY: Self = Self { first: 0, filter: 0 };
}

#[derive(Debug, Clone, Copy)]
struct Name {
    tag: u64,
    /// The offset of its opening quote.
    open: usize,
}

#[derive(Debug)]
struct NameSet {
    /// The [`Scope::first`] of its object, which no other object that is open shares.
    first: usize,
    /// Keyed hashes of the names.
    hashes: HashSet<u64, BuildHasherDefault<Hashed>>,
}

impl Names {
    /// Forgets everything, and gives back the room of a large text.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.names.shrink_to(KEPT_MAX);
        self.sets.clear();
    }

    /// An object begins.
    #[inline(always)]
    pub(super) fn begin(&self) -> Scope {
        Scope { first: self.names.len(), ..Scope::EMPTY }
    }

    /// The innermost object ends.
    #[inline(always)]
    pub(super) fn end(&mut self, scope: Scope) {
        if self.names.len() - scope.first > COMPARED_MAX {
            self.sets.pop_if(|set| set.first == scope.first);
        }
        self.names.truncate(scope.first);
    }

    /// Adds the name between the quotes at `open` and before `end` to the innermost object; false
    /// where it is there already.
    #[inline(always)]
    pub(super) fn add(
        &mut self,
        scope: &mut Scope,
        bytes: &[u8],
        open: usize,
        end: usize,
        escaped: bool,
    ) -> bool {
        let tag = match bytes.get(open + 1..end - 1) {
            Some(inside) if !escaped => tag(inside),
            _ => tag(&meaning(bytes, open)),
        };
        let name = Name { tag, open };
        let bit = 1 << (tag >> 58);
        let is_large = self.names.len() - scope.first >= COMPARED_MAX;
        if (scope.filter & bit != 0 || is_large) && self.has(scope.first, bytes, name) {
            return false;
        }
        scope.filter |= bit;
        self.names.push(name);
        true
    }

    #[inline(never)]
    fn has(&mut self, first: usize, bytes: &[u8], wanted: Name) -> bool {
        let Self { names, sets, keys } = self;
        let names = names.get(first..).unwrap_or_default();
        if names.len() >= COMPARED_MAX {
            let hash = |name: &Name| keys.hash_one(meaning(bytes, name.open));
            if sets.last().is_none_or(|set| set.first != first) {
                let mut hashes =
                    HashSet::with_capacity_and_hasher(4 * names.len(), Default::default());
                hashes.extend(names.iter().map(hash));
                sets.push(NameSet { first, hashes });
            }
            if sets.last_mut().is_none_or(|set| set.hashes.insert(hash(&wanted))) {
                return false;
            }
        }
        names
            .iter()
            .filter(|name| name.tag == wanted.tag)
            .any(|name| meaning(bytes, name.open) == meaning(bytes, wanted.open))
    }
}

/// What the good string with that opening quote means.
fn meaning(bytes: &[u8], open: usize) -> Cow<'_, [u8]> {
    let (end, escaped) = string(bytes, open).unwrap_or((bytes.len(), false));
    let inside = bytes.get(open + 1..end - 1).unwrap_or_default();
    if !escaped {
        return Cow::Borrowed(inside);
    }
    let mut text = Vec::with_capacity(inside.len());
    unescape(inside, &mut text);
    Cow::Owned(text)
}

/// A tag that differs for nearly all names that differ: made of the length, the first eight and
/// the last eight bytes. Names that matter are short, and tags that are equal are followed up.
#[inline(always)]
pub(crate) fn tag(name: &[u8]) -> u64 {
    let (first, last) = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => short(name),
    };
    // Odd constants with well-spread bits: the golden ratio, and one of xxHash's primes.
    let mixed = (first ^ (name.len() as u64).rotate_left(56)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32 ^ last).wrapping_mul(0xc2b2_ae3d_27d4_eb4f)
}

/// Two words that hold all of up to seven bytes.
#[inline(always)]
fn short(name: &[u8]) -> (u64, u64) {
    match (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        (Some(first), Some(last)) => {
            (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
        }
        _ => (name.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)), 0),
    }
}

/// Takes a number that is a hash already as it is.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
