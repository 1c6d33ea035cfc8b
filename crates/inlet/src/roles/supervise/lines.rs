//! What children write to stderr: passed on with the child's name in front, and the last of it
//! kept for when it ends.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// The longest line that is passed on, in bytes; what is beyond it is left out.
const LINE_BYTES_MAX: usize = 16 << 10;
/// How many of a child's last lines are kept.
const KEPT_MAX: usize = 12;
/// The longest part of a line that is kept, in bytes.
const KEPT_BYTES_MAX: usize = 512;

/// The last lines of a child.
#[derive(Debug, Default, Clone)]
pub(super) struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn keep(&self, line: &[u8]) {
        let kept = String::from_utf8_lossy(&line[..line.len().min(KEPT_BYTES_MAX)]).into_owned();
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT_MAX {
            lines.pop_front();
        }
        lines.push_back(kept);
    }

    /// Why the child ended, as far as it said so: its `error:` and what followed it, or else its
    /// last lines.
    pub(super) fn reason(&self) -> Option<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let error = lines.iter().rposition(|line| line.starts_with("error: "));
        let begin = error.unwrap_or_else(|| lines.len().saturating_sub(3));
        let said: Vec<&str> = lines.iter().skip(begin).map(|line| line.trim()).collect();
        Some(said.join("; ")).filter(|said| !said.is_empty())
    }
}

/// Passes on every line of `stream` until it ends. `name` goes in front of each, where the lines
/// are not JSON.
pub(super) async fn pass_on(stream: impl AsyncRead + Unpin, name: Option<String>, tail: Tail) {
    let mut reader = BufReader::new(stream);
    while let Some(line) = next_line(&mut reader).await {
        tail.keep(&line);
        let mut out = Vec::with_capacity(line.len() + 40);
        if let Some(name) = &name {
            out.extend_from_slice(format!("[{name}] ").as_bytes());
        }
        out.extend_from_slice(&line);
        out.push(b'\n');
        crate::lines::push(&out);
    }
}

/// The next line without its end, cut off at [`LINE_BYTES_MAX`]; `None` at the end of the stream.
pub(super) async fn next_line(reader: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let mut has_begun = false;
    loop {
        let chunk = reader.fill_buf().await.ok()?;
        if chunk.is_empty() {
            return has_begun.then_some(line);
        }
        has_begun = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        let room = LINE_BYTES_MAX - line.len();
        line.extend_from_slice(&part[..part.len().min(room)]);
        let used = end.map_or(chunk.len(), |end| end + 1);
        reader.consume(used);
        if end.is_some() {
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut reader = BufReader::new(bytes);
            let mut lines = Vec::new();
            while let Some(line) = next_line(&mut reader).await {
                lines.push(line);
            }
            lines
        })
    }

    #[test]
    fn a_line_without_an_end_is_bounded_and_the_next_one_is_whole() {
        let mut bytes = vec![b'x'; 3 * LINE_BYTES_MAX];
        bytes.extend_from_slice(b"\nnext\n\nlast");
        let lines = read(&bytes);
        assert_eq!(lines[0].len(), LINE_BYTES_MAX);
        assert_eq!(lines[1..], [b"next".to_vec(), Vec::new(), b"last".to_vec()]);
    }

    #[test]
    fn the_reason_is_the_error_and_what_followed_it() {
        let tail = Tail::default();
        assert_eq!(tail.reason(), None);
        for line in ["INFO begun", "error: no room", "hint: make room"] {
            tail.keep(line.as_bytes());
        }
        assert_eq!(tail.reason().as_deref(), Some("error: no room; hint: make room"));
    }

    #[test]
    fn no_more_than_the_last_lines_are_kept() {
        let tail = Tail::default();
        for number in 0..1_000 {
            tail.keep(format!("line {number}").as_bytes());
        }
        assert_eq!(tail.0.lock().unwrap().len(), KEPT_MAX);
        assert_eq!(tail.reason().as_deref(), Some("line 997; line 998; line 999"));
    }
}
