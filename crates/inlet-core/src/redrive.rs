//! The step that sends dead letters back to the queue.

use crate::dead_letter::{Cause, DeadLetter, DeadLetterFilter};
use crate::document::Document;
use crate::failure::Failure;
use crate::ports::{Clock, Queue, Store};

/// How many dead letters one step sends at most.
const PAGE: usize = 500;

/// What a redrive did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedriveReport {
    /// Dead letters that meet the filter.
    pub matched: u64,
    /// Those that were sent to the queue.
    pub redriven: u64,
    /// Those that can't be: their bytes are no document.
    pub skipped: u64,
}

/// Sends the dead letters that meet `filter` back to the queue with the ids they have, or with
/// `dry_run` only counts them.
///
/// A dead letter stays listed until the store has taken the document: sent and not yet stored it
/// is in one place still, and a crash in between loses nothing and makes nothing twice.
pub async fn redrive(
    store: &dyn Store,
    queue: &dyn Queue,
    clock: &dyn Clock,
    filter: &DeadLetterFilter,
    dry_run: bool,
) -> Result<RedriveReport, Failure> {
    let mut report = RedriveReport::default();
    let mut after: Option<String> = None;
    loop {
        let page = store.dead_letters(filter, PAGE, after.as_deref()).await?;
        let (documents, skipped) = documents_of(&page.items);
        report.matched += page.items.len() as u64;
        report.skipped += skipped;
        report.redriven += documents.len() as u64;
        if !dry_run && !documents.is_empty() {
            let ids: Vec<_> = documents.iter().map(|document| document.id).collect();
            queue.send(&documents).await?;
            store.mark_redriven(&ids, clock.now()).await?;
        }
        if !page.more {
            return Ok(report);
        }
        after = page.next;
    }
}

fn documents_of(letters: &[DeadLetter]) -> (Vec<Document>, u64) {
    let mut skipped = 0;
    let mut documents = Vec::with_capacity(letters.len());
    for letter in letters {
        if matches!(letter.cause, Cause::Undecodable(_)) {
            skipped += 1;
            continue;
        }
        documents.push(Document {
            id: letter.id,
            stream: letter.stream.clone(),
            key: letter.key.clone(),
            received: letter.received,
            generation: letter.generation,
            body: letter.body.clone(),
        });
    }
    (documents, skipped)
}
