//! The end of a body, and the data among its bytes.
//!
//! ```text
//! chunked:  SIZE *( ";" extension ) CRLF  data CRLF  …  "0" … CRLF  *( trailer CRLF )  CRLF
//! ```

use bytes::{Bytes, BytesMut};

use super::head::{Delimited, HeadFault, HeadLimits, HeadScan};

/// The most digits of a chunk's size: with them it fits in 60 bits.
const DIGITS_MAX: u8 = 15;
/// The most bytes of chunk extensions in a body.
const EXTENSION_BYTES_MAX: u32 = (16 << 10) - 1;
/// The limits of a trailer section.
const TRAILERS: HeadLimits = HeadLimits { bytes_max: 16 << 10, lines_max: 100 };
/// Data of a chunk is shared from here on in bytes, and copied below that.
const SHARED_BYTES_MIN: usize = 8 << 10;

/// The part that was taken of the bytes that have come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Data of the body, as much of it as was there at once.
    pub(crate) data: Bytes,
    /// True once the body has ended.
    pub(crate) is_over: bool,
}

/// The place in a body up to which it was read.
#[derive(Debug)]
pub(crate) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Box<Chunked>),
}

/// The place in a chunked body.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    place: Place,
    /// Of the chunk, in bytes; what is left of it while its data comes.
    size: u64,
    extension_bytes: u32,
    trailers: Option<HeadScan>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first digit of a size.
    #[default]
    Size,
    /// After so many digits.
    Digits(u8),
    /// In whitespace before an extension.
    Blank,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
}

impl Framing {
    pub(crate) fn new(body: Delimited) -> Self {
        match body {
            Delimited::Length(bytes) => Self::Length(bytes),
            Delimited::Chunked => Self::Chunked(Box::default()),
        }
    }

    /// The number of bytes still to come, where that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) => None,
        }
    }

    /// Takes out of `bytes` what is there of the body.
    ///
    /// # Errors
    /// A description of the fault in the framing. Nothing after that can be trusted.
    pub(crate) fn take(&mut self, bytes: &mut BytesMut) -> Result<Taken, &'static str> {
        match self {
            Self::Length(left) => {
                let available = bytes.len();
                let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
                *left -= taken as u64;
                Ok(Taken { data: bytes.split_to(taken).freeze(), is_over: *left == 0 })
            }
            Self::Chunked(chunked) => chunked.take(bytes),
        }
    }
}

impl Chunked {
    fn take(&mut self, bytes: &mut BytesMut) -> Result<Taken, &'static str> {
        let mut gathered = BytesMut::new();
        while !bytes.is_empty() {
            match self.place {
                Place::Data => {
                    let available = bytes.len();
                    let part =
                        usize::try_from(self.size).map_or(available, |size| size.min(available));
                    if part >= SHARED_BYTES_MIN && !gathered.is_empty() {
                        break;
                    }
                    let data = bytes.split_to(part);
                    self.size -= part as u64;
                    if self.size == 0 {
                        self.place = Place::DataCr;
                    }
                    if part >= SHARED_BYTES_MIN {
                        return Ok(Taken { data: data.freeze(), is_over: false });
                    }
                    gathered.extend_from_slice(&data);
                }
                Place::Trailers => {
                    let scan = self.trailers.get_or_insert_with(HeadScan::trailers);
                    match scan.scan(bytes, TRAILERS) {
                        Ok(Some(section)) => {
                            drop(bytes.split_to(section.bytes));
                            return Ok(Taken { data: gathered.freeze(), is_over: true });
                        }
                        Ok(None) => break,
                        Err(HeadFault::Malformed(reason)) => return Err(reason),
                        Err(HeadFault::TooLarge) => return Err("the trailers are too large"),
                    }
                }
                _ => {
                    let line = self.take_line(bytes)?;
                    drop(bytes.split_to(line));
                }
            }
        }
        Ok(Taken { data: gathered.freeze(), is_over: false })
    }

    /// Follows what is between data, and tells how many bytes that was.
    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.place = match (self.place, byte) {
                (Place::Data | Place::Trailers, _) => return Ok(index),
                (Place::Size, _) if digit(byte).is_some() => self.push_digit(byte, 0)?,
                (Place::Digits(digits), _) if digit(byte).is_some() => {
                    self.push_digit(byte, digits)?
                }
                (Place::Digits(_) | Place::Blank, b';') => Place::Extension,
                (Place::Digits(_) | Place::Blank, b' ' | b'\t') => {
                    self.count_extension()?;
                    Place::Blank
                }
                (Place::Digits(_) | Place::Extension, b'\r') => Place::SizeLf,
                (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.count_extension()?;
                    Place::Extension
                }
                (Place::SizeLf, b'\n') if self.size == 0 => Place::Trailers,
                (Place::SizeLf, b'\n') => Place::Data,
                (Place::DataCr, b'\r') => Place::DataLf,
                (Place::DataLf, b'\n') => Place::Size,
                (place, _) => return Err(fault_at(place)),
            };
        }
        Ok(bytes.len())
    }

    fn push_digit(&mut self, byte: u8, digits: u8) -> Result<Place, &'static str> {
        if digits == DIGITS_MAX {
            return Err("a chunk is too large");
        }
        let size = if digits == 0 { 0 } else { self.size };
        self.size = size << 4 | u64::from(digit(byte).unwrap_or(0));
        Ok(Place::Digits(digits + 1))
    }

    fn count_extension(&mut self) -> Result<(), &'static str> {
        self.extension_bytes += 1;
        match self.extension_bytes > EXTENSION_BYTES_MAX {
            true => Err("the chunk extensions are too large"),
            false => Ok(()),
        }
    }
}

fn fault_at(place: Place) -> &'static str {
    match place {
        Place::Size | Place::Digits(_) | Place::Blank => {
            "a chunk's size is not in hexadecimal digits"
        }
        Place::Extension => "a chunk's extension has a control character",
        Place::SizeLf => "a chunk's line does not end in CRLF",
        Place::Data | Place::DataCr | Place::DataLf | Place::Trailers => {
            "a chunk does not end in CRLF"
        }
    }
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}
