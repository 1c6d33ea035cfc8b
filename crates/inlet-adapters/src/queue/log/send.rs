//! Documents into the log.

use bytes::Bytes;
use inlet_core::document::Document;
use inlet_core::envelope;
use inlet_log::{AppendError, Log, LogOptions};

/// How many bytes go into the log with one append. More would hold up those beside it.
const APPEND_BYTES_MAX: usize = 1 << 20;
/// What a document takes in the log beside its body, at most.
const AROUND_BYTES_MAX: usize = 512;
/// How many documents go into the log with one append.
const APPEND_DOCUMENTS_MAX: usize = 4_096;

/// Appends the documents, and comes back once all of them are durable.
/// With one append at most `append_bytes_max` bytes go in, or one document.
pub(super) async fn send(
    log: &Log,
    documents: &[Document],
    append_bytes_max: usize,
) -> Result<(), AppendError> {
    if let [document] = documents {
        let head = envelope::head(document);
        log.append(&[&head, &document.body]).await?;
        return Ok(());
    }
    let mut rest = documents;
    while !rest.is_empty() {
        let (some, more) = rest.split_at(fitting(rest, append_bytes_max));
        let heads: Vec<Bytes> = some.iter().map(envelope::head).collect();
        let parts: Vec<[&[u8]; 2]> =
            heads.iter().zip(some).map(|(head, document)| [&head[..], &document.body]).collect();
        let records: Vec<&[&[u8]]> = parts.iter().map(|parts| &parts[..]).collect();
        log.append_all(&records).await?;
        rest = more;
    }
    Ok(())
}

/// How many bytes may go into a log of this kind with one append, so that it fits into a segment.
pub(super) fn append_bytes_max(options: &LogOptions) -> usize {
    let half_a_segment = usize::try_from(options.segment_bytes / 2).unwrap_or(usize::MAX);
    APPEND_BYTES_MAX.min(half_a_segment)
}

/// How many of the documents fit into one append; at least one.
fn fitting(documents: &[Document], append_bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fitting = documents.iter().take(APPEND_DOCUMENTS_MAX).take_while(|document| {
        bytes += document.body.len() + AROUND_BYTES_MAX;
        bytes <= append_bytes_max
    });
    fitting.count().max(1)
}
