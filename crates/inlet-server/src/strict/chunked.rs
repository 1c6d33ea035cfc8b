//! The framing of a chunked body: `SIZE CRLF data CRLF`, and `0 CRLF` before the trailers.

/// The most digits of a chunk's size: with them it fits in 60 bits.
const DIGITS_MAX: u8 = 15;

/// Where in a chunked body we are. Bytes are judged one by one, so that nothing need be held
/// back: what was let through is the beginning of a good body.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    size: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the size, after so many digits.
    #[default]
    SizeStart,
    Size(u8),
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// What was taken of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// So many are good.
    pub(super) bytes: usize,
    /// Whether the last chunk's line is among them; the trailers follow.
    pub(super) last: bool,
    /// What is wrong with the byte that follows.
    pub(super) fault: Option<&'static str>,
}

impl Chunked {
    /// Takes what is good of `bytes`, up to the last chunk's line.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Taken {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let next = match (self.place, byte) {
                (Place::Data, _) => {
                    let left = bytes.len() - at;
                    let taken = usize::try_from(self.size).map_or(left, |size| size.min(left));
                    self.size -= taken as u64;
                    at += taken;
                    if self.size == 0 {
                        self.place = Place::DataCr;
                    }
                    continue;
                }
                (Place::SizeStart, _) if digit(byte).is_some() => self.push_digit(byte, 0),
                (Place::Size(digits), _) if digit(byte).is_some() => {
                    if digits == DIGITS_MAX {
                        return Taken {
                            bytes: at,
                            last: false,
                            fault: Some("a chunk is too large"),
                        };
                    }
                    self.push_digit(byte, digits)
                }
                (Place::Size(_), b'\r') => Place::SizeLf,
                (Place::SizeLf, b'\n') if self.size == 0 => {
                    return Taken { bytes: at + 1, last: true, fault: None };
                }
                (Place::SizeLf, b'\n') => Place::Data,
                (Place::DataCr, b'\r') => Place::DataLf,
                (Place::DataLf, b'\n') => Place::SizeStart,
                (place, _) => {
                    return Taken { bytes: at, last: false, fault: Some(fault_at(place, byte)) };
                }
            };
            self.place = next;
            at += 1;
        }
        Taken { bytes: at, last: false, fault: None }
    }

    fn push_digit(&mut self, byte: u8, digits: u8) -> Place {
        let size = if digits == 0 { 0 } else { self.size };
        self.size = size << 4 | u64::from(digit(byte).unwrap_or(0));
        Place::Size(digits + 1)
    }
}

fn fault_at(place: Place, byte: u8) -> &'static str {
    match (place, byte) {
        (Place::Size(_), b';') => "a chunk has an extension",
        (Place::SizeStart | Place::Size(_), _) => "a chunk's size is not in hexadecimal digits",
        (Place::SizeLf, _) => "a chunk's line does not end in CRLF",
        (Place::Data | Place::DataCr | Place::DataLf, _) => "a chunk does not end in CRLF",
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
