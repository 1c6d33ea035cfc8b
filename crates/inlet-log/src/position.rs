//! A place in a log, and the log's name.

use std::fmt;
use std::str::FromStr;

/// A place in a log: all records before it and none after it.
///
/// Positions of one log are totally ordered: segment numbers only ever grow, and offsets grow
/// within a segment. The text form is `SEGMENT:OFFSET` in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The number of the segment; the first segment of a log is 1.
    pub segment: u64,
    /// The offset in the segment's file, in bytes: where the last record before it ends.
    pub offset: u64,
}

impl Position {
    /// Before the first record of every log.
    pub const START: Self = Self { segment: 0, offset: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a position of the form SEGMENT:OFFSET")]
pub struct PositionError(String);

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let digits = |part: &str| match part.as_bytes() {
            [b'0'..=b'9', ..] => part.parse().ok(),
            _ => None,
        };
        text.split_once(':')
            .and_then(|(segment, offset)| {
                Some(Self { segment: digits(segment)?, offset: digits(offset)? })
            })
            .ok_or_else(|| PositionError(text.to_owned()))
    }
}

/// Defines an identity of 16 bytes whose text form is 32 lower-case hex digits.
macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The identity with these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The bytes of the identity.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;

            fn from_str(text: &str) -> Result<Self, IdentityError> {
                parse(text).map(Self)
            }
        }
    };
}

identity! {
    /// The identity of a log: 16 random bytes, made once when its directory is made.
    ///
    /// It is what a cursor kept elsewhere names, so that a cursor of one log is never applied to
    /// another that happens to lie in the same place.
    LogId
}

identity! {
    /// The identity of a store that records of a log go to, as the store itself gives it.
    StoreId
}

/// A text that is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an identity is 32 lower-case hex digits")]
pub struct IdentityError;

/// Upper case is refused: one identity has one text, so that a flipped bit in it shows.
fn parse(text: &str) -> Result<[u8; 16], IdentityError> {
    let digits: &[u8; 32] = text.as_bytes().try_into().map_err(|_| IdentityError)?;
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(IdentityError),
    };
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Ok(bytes)
}
