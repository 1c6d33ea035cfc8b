//! The thread that writes.

use std::path::Path;
use std::sync::Arc;

use inlet_core::calendar::Week;
use inlet_core::document::Timestamp;
use inlet_core::failure::Failure;
use inlet_core::id::DocumentId;
use inlet_core::persist::plan::Plan;
use inlet_core::ports::{Erasure, Written};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::failure::{failure, is_full};
use super::known;
use super::put::{self, Put};
use super::reserve::Reserve;
use super::streams::StreamIds;
use super::tallies::{self, signed};
use crate::files::Place;

/// Where the answer to a command goes. A caller that no longer waits is no fault.
type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// What the thread is asked to do.
pub(super) enum Command {
    Write { plan: Arc<Plan>, reply: Reply<Written> },
    Erase { id: DocumentId, now: Timestamp, reply: Reply<Erasure> },
    MarkRedriven { ids: Vec<DocumentId>, now: Timestamp, reply: Reply<()> },
    MarkSummarized { week: Week, revision: u64, reply: Reply<()> },
    Close { reply: Reply<()> },
}

/// What the thread owns.
pub(super) struct Writer {
    connection: Connection,
    path: Arc<Path>,
    place: Place,
    streams: StreamIds,
    reserve: Reserve,
    /// Whether the write-ahead log may still hold what was erased.
    wal_holds_erased: bool,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        path: Arc<Path>,
        place: Place,
        reserve: Reserve,
    ) -> Self {
        let streams = StreamIds::default();
        Self { connection, path, place, streams, reserve, wal_holds_erased: false }
    }

    /// Does what it is asked to until the store is closed or dropped.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let command = match commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    self.tidy();
                    let Some(command) = commands.blocking_recv() else { return };
                    command
                }
            };
            match command {
                Command::Write { plan, reply } => drop(reply.send(self.write_plan(&plan))),
                Command::Erase { id, now, reply } => {
                    let result = self.write("erase from", |tx, _| erase(tx, id, now));
                    self.wal_holds_erased |= result.as_ref().is_ok_and(|done| done.was_there);
                    drop(reply.send(result));
                }
                Command::MarkRedriven { ids, now, reply } => {
                    let result = self.write("note a redrive in", |tx, _| {
                        ids.iter().try_for_each(|id| mark_redriven(tx, *id, now))
                    });
                    drop(reply.send(result));
                }
                Command::MarkSummarized { week, revision, reply } => {
                    let result = self.write("note a summary in", |tx, _| {
                        tallies::mark_summarized(tx, week, revision)
                    });
                    drop(reply.send(result));
                }
                Command::Close { reply } => {
                    commands.close();
                    drop(reply.send(self.close()));
                    return;
                }
            }
        }
    }

    fn write_plan(&mut self, plan: &Plan) -> Result<Written, Failure> {
        const ATTEMPTED: &str = "write a batch to";
        let work = |tx: &Transaction<'_>, streams: &mut StreamIds| put::put(tx, streams, plan);
        match self.write_if(ATTEMPTED, work, |put| matches!(put, Put::Done))? {
            Put::Done => Ok(Written::Done),
            Put::Refused(items) => Ok(Written::Refused(items)),
            Put::Changed => known::changed(&self.connection, plan)
                .map(Written::Changed)
                .map_err(|error| failure(error, ATTEMPTED, &self.path)),
        }
    }

    fn write<T>(
        &mut self,
        attempted: &'static str,
        work: impl Fn(&Transaction<'_>, &mut StreamIds) -> rusqlite::Result<T>,
    ) -> Result<T, Failure> {
        self.write_if(attempted, work, |_| true)
    }

    /// Runs `work` in a transaction of its own, which is committed where `is_done`. Where
    /// the disk is full, the reserve is given up and it is tried once more.
    fn write_if<T>(
        &mut self,
        attempted: &'static str,
        work: impl Fn(&Transaction<'_>, &mut StreamIds) -> rusqlite::Result<T>,
        is_done: impl Fn(&T) -> bool,
    ) -> Result<T, Failure> {
        self.place.check(attempted)?;
        let mut result = self.transact(&work, &is_done);
        if result.as_ref().is_err_and(is_full) && self.reserve.give_up() {
            tracing::warn!(path = %self.path.display(), "the disk is full: the reserve is used");
            result = self.transact(&work, &is_done);
        }
        let value = result.map_err(|error| failure(error, attempted, &self.path))?;
        // Data written to a file that is not there any more is not stored.
        self.place.check(attempted)?;
        Ok(value)
    }

    fn transact<T>(
        &mut self,
        work: impl Fn(&Transaction<'_>, &mut StreamIds) -> rusqlite::Result<T>,
        is_done: impl Fn(&T) -> bool,
    ) -> rusqlite::Result<T> {
        let behavior = TransactionBehavior::Immediate;
        let attempt = |connection: &mut Connection, streams: &mut StreamIds| {
            let tx = connection.transaction_with_behavior(behavior)?;
            let value = work(&tx, streams)?;
            if is_done(&value) {
                tx.commit()?;
            } else {
                tx.rollback()?;
            }
            Ok(value)
        };
        let result = attempt(&mut self.connection, &mut self.streams);
        if !result.as_ref().is_ok_and(&is_done) {
            // What was looked up in a transaction that is undone may not be there.
            self.streams.forget();
        }
        result
    }

    /// Does what can wait until nothing else is to be done.
    fn tidy(&mut self) {
        self.reserve.take_back();
        if self.wal_holds_erased {
            match self.empty_wal() {
                Ok(emptied) => self.wal_holds_erased = !emptied,
                Err(error) => {
                    let path = self.path.display();
                    tracing::warn!(%path, %error, "the write-ahead log was not emptied yet");
                }
            }
        }
    }

    /// Moves the write-ahead log into the file and cuts it. Whether it is empty now: a reader
    /// that is not done yet keeps it.
    fn empty_wal(&self) -> rusqlite::Result<bool> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(sql, [], |row| Ok(row.get::<_, i64>(0)? == 0))
    }

    fn close(self) -> Result<(), Failure> {
        let path = Arc::clone(&self.path);
        let told = |error| failure(error, "close the store", &path);
        self.empty_wal().map_err(told)?;
        self.connection.close().map_err(|(_, error)| told(error))
    }
}

/// Erases the document and the dead letters with that id, and leaves the mark of it.
fn erase(tx: &Transaction<'_>, id: DocumentId, now: Timestamp) -> rusqlite::Result<Erasure> {
    let erased: Option<(i64, i64)> = tx
        .prepare_cached("DELETE FROM documents WHERE id = ?1 RETURNING stream_id, length(body)")?
        .query_row([id.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if let Some((stream_id, bytes)) = erased {
        tx.prepare_cached(
            "UPDATE streams SET documents = documents - 1, bytes = bytes - ?2 WHERE stream_id = ?1",
        )?
        .execute([stream_id, bytes])?;
    }
    let letters =
        tx.prepare_cached("DELETE FROM dead_letters WHERE id = ?1")?.execute([id.as_bytes()])?;
    let generation = known::erasures(tx)? + 1;
    tx.prepare_cached(
        "INSERT INTO erased (id, erased_us, generation) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET erased_us = max(erased_us, excluded.erased_us),
             generation = excluded.generation",
    )?
    .execute(params![id.as_bytes(), now.as_micros(), signed(generation)?])?;
    Ok(Erasure { was_there: erased.is_some() || letters > 0, generation })
}

fn mark_redriven(tx: &Transaction<'_>, id: DocumentId, now: Timestamp) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE dead_letters SET redriven_us = ?2 WHERE id = ?1")?
        .execute(params![id.as_bytes(), now.as_micros()])
        .map(drop)
}
