//! An open log: what appends, reads its end, releases and closes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::committer::{Bounds, Committer, Wakers, Write, WriteFailure};
use crate::disk::{Access, DirLock, Disk, LockError, is_full, write_full};
use crate::driver::Drivers;
use crate::durability::{Durability, Method};
use crate::error::{AppendError, IoError, OpenError, Poison, ReadError, ReleaseError};
use crate::identity;
use crate::ledger::{self, End};
use crate::pair;
use crate::position::{LogId, Position};
use crate::record::{RECORD_BYTES_MAX, RECORD_HEADER_BYTES};
use crate::recover::{self, Recovery};
use crate::segment::{self, BLOCK_BYTES, GROUPS_START, Plan, RunStart, Segment};

/// The method that groups are written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// [`Method::IoUring`] where the system has it and the file system is known to keep such
    /// writes, else [`Sync::Thread`].
    #[default]
    Auto,
    /// [`Method::Thread`], everywhere.
    Thread,
}

/// The settings of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Up to where everything is stored already; segments before that are not read at the open.
    /// Default: nothing is.
    pub drained: Position,
    /// The most bytes gathered into one write; a single append may be larger and is then written
    /// alone. Default 4 MiB, at least 4096.
    pub group_bytes_max: usize,
    /// The size of a segment, in bytes, once the log is busy. An append is at most this less 4096
    /// bytes. Default 64 MiB, at least 8192.
    pub segment_bytes: u64,
    /// The size of the first segment of a run; those after it are four times the one before, up
    /// to `segment_bytes`. It is small because an open waits for it. Default 4 MiB.
    pub first_segment_bytes: u64,
    /// The most bytes of undrained groups. Default 4 GiB.
    pub queue_bytes_max: u64,
    /// The most appends that may wait because the filling group is full. Default 65,536.
    pub appends_waiting_max: usize,
    /// The method that groups are written by. Default [`Sync::Auto`].
    pub sync: Sync,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            drained: Position::START,
            group_bytes_max: 4 << 20,
            segment_bytes: 64 << 20,
            first_segment_bytes: 4 << 20,
            queue_bytes_max: 4 << 30,
            appends_waiting_max: 65_536,
            sync: Sync::Auto,
        }
    }
}

impl LogOptions {
    fn bounds(&self) -> Result<Bounds, OpenError> {
        let refuse = |option, value, why| Err(OpenError::Option { option, value, why });
        let block = BLOCK_BYTES as u64;
        for (option, value) in [
            ("segment_bytes", self.segment_bytes),
            ("first_segment_bytes", self.first_segment_bytes),
        ] {
            if value < 2 * block || value % block != 0 {
                return refuse(option, value, "it must be a multiple of 4096, at least 8192");
            }
        }
        if self.segment_bytes > 1 << 40 {
            return refuse("segment_bytes", self.segment_bytes, "it must be at most 1 TiB");
        }
        if self.group_bytes_max < BLOCK_BYTES {
            let value = self.group_bytes_max as u64;
            return refuse("group_bytes_max", value, "it must be at least 4096");
        }
        let segment_room = usize::try_from(self.segment_bytes - block).unwrap_or(usize::MAX);
        Ok(Bounds {
            group_bytes_max: self.group_bytes_max,
            append_bytes_max: segment_room.min(RECORD_BYTES_MAX + RECORD_HEADER_BYTES),
            segment_bytes: self.segment_bytes,
            queue_bytes_max: self.queue_bytes_max,
            appends_waiting_max: self.appends_waiting_max,
        })
    }
}

/// An open log. Clones are handles to the same log.
///
/// Something has to drive it: see [`Log::drive`]. When the last handle is dropped, what was
/// accepted is still written, then the drivers end.
#[derive(Clone)]
pub struct Log {
    handle: Arc<Handle>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared().fmt(f)
    }
}

struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.with(Committer::close);
    }
}

/// What handles, appends and drivers share.
pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
    pub(crate) drivers: Drivers,
    pub(crate) durability: Durability,
    id: LogId,
    committer: Mutex<Committer>,
    /// Told after the tail has moved. The tail itself is in the committer, where it is known at
    /// the same moment as the outcome of the group that moved it.
    moved: watch::Sender<()>,
    lock: Mutex<Option<DirLock>>,
    /// A segment that was made and is not recorded yet: it keeps its room, and its turn.
    unrecorded: Mutex<Option<Segment>>,
    releasing: Mutex<()>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.dir).field("tail", &self.tail()).finish()
    }
}

impl Log {
    /// Opens the log in a directory, or makes one; the directory is made if need be.
    ///
    /// Reads everything that is not drained, makes good what a crash left, and starts a new
    /// segment. Blocks while it does. A full disk does not refuse the open: what is there can be
    /// drained, appends get [`AppendError::Full`] until there is room.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; damage that is not the rest of a torn write refuses the open.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &LogOptions,
    ) -> Result<(Self, Recovery), OpenError> {
        let bounds = options.bounds()?;
        disk.create_dir(dir).map_err(IoError::on("make the directory", dir))?;
        let lock = disk.lock(dir).map_err(|error| match error {
            LockError::Held { pid } => OpenError::InUse { dir: dir.to_owned(), pid },
            LockError::Io(error) => IoError::on("lock", &dir.join("LOCK"))(error).into(),
        })?;
        let id = match identity::read_id(&*disk, dir)? {
            Some(id) => id,
            None => {
                let numbers = segment::numbers(&*disk, dir).map_err(IoError::on("list", dir))?;
                if !numbers.is_empty() || ledger::read::<End>(&*disk, dir)?.is_some() {
                    return Err(identity::lost_id(dir).into());
                }
                identity::make_id(&*disk, dir)?
            }
        };
        let recovered = recover::recover(&*disk, dir, id, options.drained)?;
        let recovery = recovered.recovery;
        if let Some(torn) = &recovery.torn {
            tracing::warn!(
                segment = %torn.path.display(),
                offset = torn.offset,
                bytes = torn.bytes,
                kept = %torn.kept.display(),
                "{}",
                torn.meaning()
            );
        }
        let durability = Durability::probe(&*disk, dir, options.sync)
            .map_err(IoError::on("look at the file system of", dir))?;
        let number = recovered.next_number;
        let run = Some(RunStart::new(number, recovered.previous_sequence));
        let first = Plan { number, bytes: options.first_segment_bytes, run };
        let dir: Arc<Path> = Arc::from(dir);
        let committer = Committer::new(
            Arc::clone(&dir),
            bounds,
            recovered.extents,
            first,
            recovery.tail,
            options.drained,
        );
        let shared = Arc::new(Shared {
            disk,
            drivers: Drivers::default(),
            durability,
            id,
            committer: Mutex::new(committer),
            moved: watch::Sender::new(()),
            lock: Mutex::new(Some(lock)),
            unrecorded: Mutex::new(None),
            releasing: Mutex::new(()),
            dir,
        });
        if let Some(Err(error)) = shared.make_segment()
            && !is_full(&error)
        {
            return Err(IoError::on("make a segment in", &shared.dir)(error).into());
        }
        Ok((Self { handle: Arc::new(Handle { shared }) }, recovery))
    }

    /// The identity of the log in a directory; `None` where there is none yet. The place a
    /// cursor kept elsewhere is looked up by, before the log is opened.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn read_id(disk: &dyn Disk, dir: &Path) -> Result<Option<LogId>, ReadError> {
        identity::read_id(disk, dir)
    }

    /// The log's identity.
    pub fn id(&self) -> LogId {
        self.shared().id
    }

    /// The log's directory.
    pub fn dir(&self) -> &Path {
        &self.shared().dir
    }

    /// The method that groups are written by, and what the file system is known to keep of that.
    pub fn durability(&self) -> &Durability {
        &self.shared().durability
    }

    /// Whether an append would be taken now, as far as can be known without one. Cheap; meant to
    /// be asked before a body is read.
    ///
    /// # Errors
    ///
    /// The error that an append would get.
    pub fn has_room(&self) -> Result<(), AppendError> {
        self.shared().committer().has_room()
    }

    /// Bytes of groups that are not released, on the disk or on their way to it.
    pub fn bytes(&self) -> u64 {
        self.shared().committer().bytes()
    }

    /// The end of the last durable record.
    pub fn tail(&self) -> Position {
        self.shared().tail()
    }

    /// Waits until there is a durable record beyond `position`, and gives the end of the last.
    /// Never comes back if there will be none.
    pub async fn tail_beyond(&self, position: Position) -> Position {
        let mut moved = self.shared().moved.subscribe();
        loop {
            let tail = self.tail();
            if tail > position {
                return tail;
            }
            moved.changed().await.expect("the log that sends is held by this handle");
        }
    }

    /// Poisons the log if the segment that is written to is not at its path any more: its
    /// directory was removed, renamed, replaced or unmounted. Every acknowledgement asks that
    /// too; this is for the time between two. Blocks for one look at the path.
    pub fn check_place(&self) {
        let shared = self.shared();
        let Some(segment) = shared.committer().active().cloned() else { return };
        if let Err(WriteFailure { attempted, source }) = is_in_place(&segment) {
            let poison = Poison { attempted, path: segment.path.clone(), source };
            shared.with(|committer, wake| committer.set_poison(poison, wake));
        }
    }

    /// Why nothing is acknowledged any more, if a write or a sync failed. The process should say
    /// so and end; the next open recovers.
    pub fn poisoned(&self) -> Option<Arc<Poison>> {
        self.shared().committer().poison().cloned()
    }

    /// Notes that everything before `position` is stored, so that its bytes count no more, and
    /// removes nothing: for a process beside the one that drains the log and removes segments.
    pub fn note_drained(&self, position: Position) {
        self.shared().with(|committer, _| committer.drained(position));
    }

    /// Removes the segments that are wholly before `position`, up to which everything is stored
    /// for good; the segment that is written to stays. For the one that drains the log. Blocks.
    ///
    /// # Errors
    ///
    /// [`ReleaseError`]; what was not removed is at the next release.
    pub fn release(&self, position: Position) -> Result<(), ReleaseError> {
        let shared = self.shared();
        let failed = |source| ReleaseError { dir: shared.dir.to_path_buf(), position, source };
        let _one_at_a_time = shared.releasing.lock().expect("no release panics");
        let (drained, released) = shared.with(|committer, _| committer.drained(position));
        if let Some(last) = drained.last() {
            let noted = pair::note_release(&*shared.disk, &shared.dir, last + 1, released);
            noted.map_err(failed)?;
        }
        for number in drained {
            let removed = shared.disk.remove(&segment::path(&shared.dir, number));
            let removed = removed.or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            // One at a time and synced, oldest first: a crash leaves no gap between two.
            removed
                .and_then(|()| shared.disk.sync_dir(&shared.dir))
                .map_err(|error| failed(IoError::on("remove", &shared.dir)(error).into()))?;
            shared.with(|committer, wake| committer.removed_before(number + 1, wake));
        }
        Ok(())
    }

    /// Takes note of segments that another process removed with [`release`](crate::release()).
    ///
    /// # Errors
    ///
    /// [`IoError`] where the directory can't be listed.
    pub fn notice_released(&self) -> Result<(), IoError> {
        self.shared().notice_released()
    }

    /// Takes no more appends, waits until those that were taken have come to an outcome, ends the
    /// drivers, and seals the end, so that damage to it is told from a write that was cut off.
    /// Then another may open the directory. Where nothing drives the log, this writes what waits
    /// itself.
    pub async fn close(&self) {
        let shared = self.shared();
        shared.with(Committer::close);
        shared.drivers.ended().await;
        while shared.write_group() {}
        let lock = shared.lock.lock().expect("nothing panics with it").take();
        if lock.is_some()
            && let Err(error) = shared.seal()
        {
            tracing::warn!(%error, dir = %shared.dir.display(), "the log's end is not sealed");
        }
        drop(lock);
    }

    /// Writes and syncs one group if one waits, and says whether it did; blocks while it does.
    ///
    /// This is what the drivers do; it is public for those who drive a log by hand.
    pub fn write_group(&self) -> bool {
        self.shared().write_group()
    }

    /// Makes the next segment if one is wanted, and says whether it was; blocks while it does.
    /// After a failure it is wanted again.
    ///
    /// This is what the drivers do; it is public for those who drive a log by hand.
    pub fn make_segment(&self) -> bool {
        self.shared().make_segment().is_some()
    }

    /// Makes the next segment anew, as large as planned, where it was made smaller for want of
    /// room and there is room now; says whether it did. Blocks while it does.
    ///
    /// This is what the drivers do; it is public for those who drive a log by hand.
    pub fn make_roomier(&self) -> bool {
        self.shared().make_roomier().is_some_and(|made| made.is_ok())
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl Shared {
    /// Runs `change` under the lock, then wakes whom it said to wake.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut Committer, &mut Wakers) -> R) -> R {
        let mut wake = Wakers::new();
        let result = change(&mut self.committer(), &mut wake);
        for waker in wake {
            waker.wake();
        }
        result
    }

    pub(crate) fn tail(&self) -> Position {
        self.committer().tail()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.to_path_buf()
    }

    /// Passes the outcome of a write to everyone it concerns. A write into a file that is not at
    /// its path any more has failed: nobody would find it.
    pub(crate) fn complete(&self, write: Write, result: Result<(), WriteFailure>) {
        let result = result.and_then(|()| is_in_place(&write.segment));
        self.with(|committer, wake| committer.complete(write, result, wake));
        self.moved.send_replace(());
    }

    pub(crate) fn write_group(&self) -> bool {
        let Some(write) = self.with(Committer::take_write) else { return false };
        let result = write_and_sync(&write);
        self.complete(write, result);
        true
    }

    /// Makes the next segment if one is wanted.
    pub(crate) fn make_segment(&self) -> Option<std::io::Result<()>> {
        let plan = self.committer().take_plan()?;
        Some(self.made(self.make(plan)))
    }

    /// Makes the next segment anew, as large as planned, where it was made smaller for want of
    /// room and there is room now. Says whether that was so.
    pub(crate) fn make_roomier(&self) -> Option<std::io::Result<()>> {
        let plan = self.committer().roomier_plan()?;
        if self.free_bytes() < plan.bytes {
            return None;
        }
        // Until it is replaced nothing may be written to it.
        let plan = self.committer().take_cramped()?;
        Some(self.made(self.make_file(plan)))
    }

    /// Hands over the segment that was made, or the reason why there is none.
    fn made(&self, made: std::io::Result<Segment>) -> std::io::Result<()> {
        let result = made.as_ref().map(|_| ()).map_err(|error| {
            let kind = error.kind();
            error.raw_os_error().map_or_else(|| kind.into(), std::io::Error::from_raw_os_error)
        });
        self.with(|committer, wake| committer.made(made, wake));
        result
    }

    /// Makes the segment, smaller where there is no room for all of it, and records it.
    fn make(&self, plan: Plan) -> std::io::Result<Segment> {
        let mut unrecorded = self.unrecorded.lock().expect("making a segment does not panic");
        let segment = match unrecorded.take().filter(|made| made.number == plan.number) {
            Some(made) => made,
            None => self.make_fitting(plan)?,
        };
        let recorded =
            ledger::write(&*self.disk, &self.dir, &End { newest: plan.number, sealed: None });
        match recorded {
            Ok(()) => Ok(segment),
            Err(error) => {
                // It may be recorded all the same, so it stays.
                *unrecorded = Some(segment);
                Err(error.source)
            }
        }
    }

    fn make_fitting(&self, plan: Plan) -> std::io::Result<Segment> {
        let mut now = plan;
        loop {
            // Zeros would take the last room from everyone else before they end in a failure.
            let fits = now.bytes <= self.free_bytes();
            match if fits { self.make_file(now) } else { Err(no_room()) } {
                Err(error) if is_full(&error) => now = now.smaller().ok_or(error)?,
                made => return Ok(Segment { cramped: now.bytes < plan.bytes, ..made? }),
            }
        }
    }

    fn make_file(&self, plan: Plan) -> std::io::Result<Segment> {
        let access = match self.durability.method {
            Method::IoUring => Access::Direct,
            Method::Thread => Access::Write,
        };
        let closing = || self.committer().is_closing();
        plan.make(&*self.disk, &self.dir, self.id, access, &closing)
    }

    /// The free space of the disk, in bytes; unlimited where the system can't tell, so that it is
    /// tried.
    fn free_bytes(&self) -> u64 {
        self.disk.free_bytes(&self.dir).unwrap_or(u64::MAX)
    }

    /// Records where the log ends.
    fn seal(&self) -> Result<(), IoError> {
        let (poisoned, sealed) = {
            let committer = self.committer();
            (committer.poison().is_some(), committer.tail())
        };
        let numbers = segment::numbers(&*self.disk, &self.dir);
        let newest = numbers.map_err(IoError::on("list", &self.dir))?.last().copied();
        match newest {
            Some(newest) if !poisoned => {
                let end = End { newest, sealed: Some(sealed) };
                ledger::write(&*self.disk, &self.dir, &end)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn notice_released(&self) -> Result<(), IoError> {
        let numbers = segment::numbers(&*self.disk, &self.dir);
        let numbers = numbers.map_err(IoError::on("list", &self.dir))?;
        if let Some(&first) = numbers.first() {
            self.with(|committer, wake| committer.removed_before(first, wake));
        }
        Ok(())
    }

    fn committer(&self) -> MutexGuard<'_, Committer> {
        self.committer.lock().expect("nothing panics under the committer's lock")
    }
}

/// Writes a group and syncs it, once.
pub(crate) fn write_and_sync(write: &Write) -> Result<(), WriteFailure> {
    let failure = |attempted| move |source| WriteFailure { attempted, source };
    let file = &*write.segment.file;
    debug_assert!(write.offset >= GROUPS_START);
    write_full(file, write.buffer.as_slice(), write.offset).map_err(failure("write to"))?;
    file.sync().map_err(failure("sync"))
}

/// The error for a segment that is not tried because it can't fit.
pub(crate) fn no_room() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::StorageFull, "there is no room for it on the disk")
}

/// Checks that a segment's path still leads to the file that is written to.
fn is_in_place(segment: &Segment) -> Result<(), WriteFailure> {
    match segment.file.is_at(&segment.path) {
        Ok(false) => {
            let what = "its directory was removed, renamed, replaced or unmounted";
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, what);
            Err(WriteFailure { attempted: "find at its path", source })
        }
        // A path that may not be looked up, or not now, is not a file that is gone.
        Ok(true) | Err(_) => Ok(()),
    }
}
