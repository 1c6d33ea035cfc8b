//! The lines of a file, one document each.

use std::io::{self, BufRead};

use inlet_core::limits::Limits;

/// A line that is not empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A document, without the whitespace around it.
    Document {
        /// The number of the line, from 1.
        number: u64,
        bytes: Vec<u8>,
        /// Bytes of the file from the line before up to its end.
        read: u64,
    },
    /// One that is longer than any request may be.
    TooLong { number: u64, read: u64 },
}

impl Line {
    /// Bytes of the file that were read for it.
    pub(super) fn bytes_read(&self) -> u64 {
        match self {
            Self::Document { read, .. } | Self::TooLong { read, .. } => *read,
        }
    }
}

/// Reads lines, of which one at most is in memory, and of that no more than a request may have.
pub(super) struct Lines<R> {
    reader: R,
    number: u64,
    bytes_max: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0, bytes_max: Limits::default().batch_bytes_max }
    }

    /// The next line that is not empty.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut read = 0;
        loop {
            let mut bytes = Vec::new();
            let (of_line, is_whole) = self.read_line(&mut bytes)?;
            if of_line == 0 {
                return Ok(None);
            }
            read += of_line;
            self.number += 1;
            let number = self.number;
            if !is_whole {
                return Ok(Some(Line::TooLong { number, read }));
            }
            let document = bytes.trim_ascii();
            if !document.is_empty() {
                return Ok(Some(Line::Document { number, bytes: document.to_vec(), read }));
            }
        }
    }

    /// Reads up to the next line feed; what is too long is passed over.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<(u64, bool)> {
        let (mut read, mut is_whole) = (0, true);
        loop {
            let buffered = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffered => buffered?,
            };
            if buffered.is_empty() {
                return Ok((read, is_whole));
            }
            let end = buffered.iter().position(|byte| *byte == b'\n');
            let piece = &buffered[..end.map_or(buffered.len(), |end| end + 1)];
            if line.len() + piece.len() > self.bytes_max {
                (is_whole, *line) = (false, Vec::new());
            }
            if is_whole {
                line.extend_from_slice(piece);
            }
            let taken = piece.len();
            read += taken as u64;
            self.reader.consume(taken);
            if end.is_some() {
                return Ok((read, is_whole));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on has failed")]

    use super::*;

    #[test]
    fn lines_are_read_one_by_one_and_one_that_is_too_long_hides_no_other() {
        let text = format!("\n 1 \r\n\n\"{}\"\n2\n{}", "x".repeat(40), "y".repeat(40));
        for capacity in [1, 3, 16, 4_096] {
            let reader = io::BufReader::with_capacity(capacity, text.as_bytes());
            let mut lines = Lines { bytes_max: 32, ..Lines::new(reader) };
            let document = |number, bytes: &[u8], read| {
                Some(Line::Document { number, bytes: bytes.to_vec(), read })
            };
            assert_eq!(lines.next().unwrap(), document(2, b"1", 6), "{capacity}");
            assert_eq!(lines.next().unwrap(), Some(Line::TooLong { number: 4, read: 44 }));
            assert_eq!(lines.next().unwrap(), document(5, b"2", 2));
            assert_eq!(lines.next().unwrap(), Some(Line::TooLong { number: 6, read: 40 }));
            assert_eq!(lines.next().unwrap(), None);
        }
    }
}
