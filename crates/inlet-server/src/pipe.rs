//! The channel that carries a body from its connection to its reader: one piece at a time, when
//! asked for.
//!
//! The two may be in one task or in two, on one thread or on two: a reader may hand its body on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::body::BodyError;

/// A body under way.
#[derive(Debug)]
pub(crate) struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    piece: Bytes,
    /// Set once nothing comes after the piece.
    end: Option<Result<(), BodyError>>,
    /// Bytes that the reader has not got, where that is known.
    left: Option<u64>,
    /// True while the reader waits.
    is_wanted: bool,
    is_abandoned: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
}

/// The reader's demand on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Nothing just now.
    None,
    More,
    /// Nothing ever again: the reader is gone.
    Abandoned,
}

impl Pipe {
    /// A pipe for a body of so many bytes, where that is known.
    pub(crate) fn new(left: Option<u64>) -> Self {
        Self(Mutex::new(State { left, ..State::default() }))
    }

    /// The reader's demand; the task of `cx` is woken when that changes.
    pub(crate) fn demand(&self, cx: &mut Context<'_>) -> Demand {
        let mut state = self.state();
        if state.is_abandoned {
            return Demand::Abandoned;
        }
        if state.is_wanted {
            return Demand::More;
        }
        match &mut state.connection {
            Some(waker) => waker.clone_from(cx.waker()),
            connection => *connection = Some(cx.waker().clone()),
        }
        Demand::None
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().is_abandoned
    }

    /// Gives the reader a piece, and says that it was the last where it is. An empty piece that
    /// is not the last changes nothing.
    pub(crate) fn push(&self, piece: Bytes, is_last: bool, cx: &mut Context<'_>) {
        let mut state = self.state();
        if piece.is_empty() && !is_last {
            return;
        }
        debug_assert!(state.piece.is_empty(), "a piece is given when it is wanted");
        state.piece = piece;
        if is_last {
            state.end = Some(Ok(()));
        }
        Self::wake_reader(state, cx);
    }

    /// Breaks the body off.
    pub(crate) fn fail(&self, error: BodyError, cx: &mut Context<'_>) {
        let mut state = self.state();
        state.end.get_or_insert(Err(error));
        Self::wake_reader(state, cx);
    }

    pub(crate) fn poll_read(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut state = self.state();
        if !state.piece.is_empty() {
            let piece = std::mem::take(&mut state.piece);
            state.left = state.left.map(|left| left.saturating_sub(piece.len() as u64));
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(end) = state.end {
            return Poll::Ready(end.err().map(Err));
        }
        match &mut state.reader {
            Some(waker) => waker.clone_from(cx.waker()),
            reader => *reader = Some(cx.waker().clone()),
        }
        state.is_wanted = true;
        // If both are in one task, the connection looks again without being woken.
        let connection = state.connection.take().filter(|waker| !waker.will_wake(cx.waker()));
        drop(state);
        wake(connection);
        Poll::Pending
    }

    pub(crate) fn left(&self) -> Option<u64> {
        self.state().left
    }

    /// Returns true if the reader has got all of it.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.state();
        state.piece.is_empty() && (state.end == Some(Ok(())) || state.left == Some(0))
    }

    /// Says that nobody reads on.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        state.is_abandoned = true;
        state.piece = Bytes::new();
        let connection = state.connection.take();
        drop(state);
        wake(connection);
    }

    /// Wakes the reader, unless it is in the connection's task, which polls it next.
    fn wake_reader(mut state: MutexGuard<'_, State>, cx: &mut Context<'_>) {
        state.is_wanted = false;
        let reader = state.reader.take().filter(|waker| !waker.will_wake(cx.waker()));
        drop(state);
        wake(reader);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
