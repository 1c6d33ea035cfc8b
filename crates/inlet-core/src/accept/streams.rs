//! The streams there are, and how many a token may begin.
//!
//! A stream costs rows and tallies for good, so their number is limited: for one token, and for
//! all together. `default` counts for nobody and is always open, and so is every stream that is
//! there already.
//!
//! Which token began a stream is known to the instance that accepted its first document since the
//! start; for a stream that was there before, the first token that sends to it again. The places
//! of streams are those of the store, as of the last look, and of what was accepted here since.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use crate::document::StreamName;
use crate::limits::Limits;
use crate::ports::StreamFigures;
use crate::rejection::Rejection;

/// How long a stream keeps its place without the store having it: its documents may be queued.
const QUEUED_MAX: Duration = Duration::from_secs(600);
/// How old the last look at the store may be where a new stream is refused.
const REFUSE_FRESH: Duration = Duration::from_secs(1);
/// The same where it is let in.
const ADMIT_FRESH: Duration = Duration::from_secs(10);

/// The streams that hold a place.
#[derive(Debug)]
pub(super) struct Streams {
    per_token_max: usize,
    total_max: usize,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<StreamName, Place>,
    /// How many places each token has.
    owned: HashMap<Arc<str>, usize>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Place {
    owner: Option<Arc<str>>,
    accepted: Instant,
}

impl Streams {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            per_token_max: limits.streams_max,
            total_max: limits.streams_total_max,
            state: RwLock::default(),
        }
    }

    /// Refuses a stream that would be one too many for this token or for all.
    pub(super) fn check(&self, stream: &StreamName, owner: &Arc<str>) -> Result<(), Rejection> {
        if stream.is_default() {
            return Ok(());
        }
        self.read().check(stream, owner, self.per_token_max, self.total_max)
    }

    /// Gives the stream a place, if it has none, for a document that is about to be kept.
    pub(super) fn claim(&self, stream: &StreamName, owner: &Arc<str>) -> Result<(), Rejection> {
        if stream.is_default() || self.read().is_owned(stream) {
            return Ok(());
        }
        let mut state = self.write();
        state.check(stream, owner, self.per_token_max, self.total_max)?;
        let now = Instant::now();
        let place = state.places.entry(stream.clone());
        let place = place.or_insert(Place { owner: None, accepted: now });
        place.accepted = now;
        if place.owner.is_none() {
            place.owner = Some(Arc::clone(owner));
            *state.owned.entry(Arc::clone(owner)).or_default() += 1;
        }
        Ok(())
    }

    /// Whether the store should be looked at before the stream is let in or refused.
    pub(super) fn should_look(&self, stream: &StreamName, owner: &Arc<str>) -> bool {
        let state = self.read();
        if stream.is_default() || state.places.contains_key(stream) {
            return false;
        }
        let is_admitted = state.check(stream, owner, self.per_token_max, self.total_max).is_ok();
        let fresh = if is_admitted { ADMIT_FRESH } else { REFUSE_FRESH };
        state.looked.is_none_or(|looked| looked.elapsed() >= fresh)
    }

    /// Notes that a document was erased: a place may be free.
    pub(super) fn note_erased(&self) {
        self.write().looked = None;
    }

    /// Takes over what the store has: a stream without documents has no place, unless some may
    /// still be queued.
    pub(super) fn update(&self, stored: impl IntoIterator<Item = StreamFigures>) {
        let mut state = self.write();
        let now = Instant::now();
        let mut before = std::mem::take(&mut state.places);
        for figures in stored {
            let known = before.remove(&figures.stream);
            if figures.documents > 0 && !figures.stream.is_default() {
                let place = known.unwrap_or(Place { owner: None, accepted: now });
                state.places.insert(figures.stream, place);
            }
        }
        before.retain(|_, place| now.duration_since(place.accepted) < QUEUED_MAX);
        state.places.extend(before);
        let mut owned = HashMap::new();
        for owner in state.places.values().filter_map(|place| place.owner.clone()) {
            *owned.entry(owner).or_default() += 1;
        }
        state.owned = owned;
        state.looked = Some(now);
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_owned(&self, stream: &StreamName) -> bool {
        self.places.get(stream).is_some_and(|place| place.owner.is_some())
    }

    fn check(
        &self,
        stream: &StreamName,
        owner: &Arc<str>,
        per_token_max: usize,
        total_max: usize,
    ) -> Result<(), Rejection> {
        if self.places.contains_key(stream) {
            return Ok(());
        }
        if self.owned.get(owner).is_some_and(|owned| *owned >= per_token_max) || per_token_max == 0
        {
            return Err(Rejection::StreamQuota { limit: per_token_max });
        }
        if self.places.len() >= total_max {
            return Err(Rejection::StreamLimit { limit: total_max });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    fn figures(stream: &str, documents: u64) -> StreamFigures {
        StreamFigures { stream: name(stream), documents, bytes: 0, first: None, last: None }
    }

    fn streams() -> (Streams, Arc<str>, Arc<str>) {
        let limits = Limits { streams_max: 2, streams_total_max: 3, ..Limits::default() };
        (Streams::new(&limits), Arc::from("a"), Arc::from("b"))
    }

    #[test]
    fn a_token_that_has_begun_its_streams_closes_none_to_others_and_default_to_nobody() {
        let (streams, a, b) = streams();
        for stream in ["s1", "s2", "s1"] {
            streams.claim(&name(stream), &a).unwrap();
        }
        let refused = Err(Rejection::StreamQuota { limit: 2 });
        assert_eq!(streams.claim(&name("s3"), &a), refused);
        assert_eq!(streams.check(&name("s3"), &a), refused);
        streams.claim(&name("s3"), &b).unwrap();
        streams.claim(&name("s3"), &a).unwrap();
        assert_eq!(streams.claim(&name("s4"), &b), Err(Rejection::StreamLimit { limit: 3 }));
        for owner in [&a, &b] {
            streams.claim(&StreamName::default(), owner).unwrap();
        }
    }

    #[test]
    fn the_place_of_a_stream_without_documents_is_free_once_the_store_was_looked_at() {
        let (streams, a, _) = streams();
        streams.claim(&name("s1"), &a).unwrap();
        streams.claim(&name("s2"), &a).unwrap();
        assert!(streams.should_look(&name("s3"), &a), "it was never looked at");
        assert!(!streams.should_look(&name("s2"), &a), "it has its place");
        // The store has not got the second one yet: it may be queued.
        streams.update([figures("s1", 0), figures("default", 9)]);
        assert!(!streams.should_look(&name("s3"), &a));
        streams.claim(&name("s3"), &a).unwrap();
        assert!(streams.check(&name("s4"), &a).is_err(), "s2 and s3 have their places");
        streams.note_erased();
        assert!(streams.should_look(&name("s4"), &a));
    }

    #[test]
    fn a_stream_of_the_store_belongs_to_the_first_token_that_sends_to_it_again() {
        let (streams, a, b) = streams();
        streams.update([figures("s1", 1), figures("s2", 1)]);
        streams.claim(&name("s1"), &a).unwrap();
        streams.claim(&name("s2"), &a).unwrap();
        assert_eq!(streams.check(&name("s3"), &a), Err(Rejection::StreamQuota { limit: 2 }));
        streams.claim(&name("s3"), &b).unwrap();
    }
}
