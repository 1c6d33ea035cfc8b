//! A task that has the kernel write groups: `io_uring`, direct, each write synced (`RWF_DSYNC`).
//!
//! The completion makes the ring's descriptor readable, which the runtime polls beside its
//! sockets, so neither a thread nor a second system call stands between a durable group and its
//! waiters. One group is in flight at a time.
//!
//! Safety: the kernel reads a group's buffer until its completion is taken from the ring. The
//! buffer and the file lie in [`Flying`], which is given up only after that. Where the task is
//! dropped before, the drop waits for it; where even that fails, they are leaked.

use std::future::poll_fn;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use io_uring::{IoUring, opcode, types};
use rustix::io::ReadWriteFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::buffer::AlignedBuffer;
use crate::committer::{Committer, Write, WriteFailure};
use crate::disk::{Access, Disk};
use crate::driver::Running;
use crate::error::Poison;
use crate::log::Shared;
use crate::segment::{BLOCK_BYTES, Segment};

/// One write is in flight at a time; the ring's size is a power of two above that.
const ENTRIES: u32 = 2;

/// A write that the kernel has, and how much of it is done.
struct Flying {
    write: Write,
    done: usize,
}

struct Driver {
    ring: AsyncFd<IoUring>,
    flying: Option<Flying>,
    running: Running,
}

/// Tries all that the driver needs in a directory, with a file that is removed again.
pub(crate) fn probe(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    // Another process may be trying, too.
    let path = dir.join(format!("probe-{}.seg.new", std::process::id()));
    let file = disk.create(&path, Access::Direct)?;
    let mut buffer = AlignedBuffer::with_capacity(BLOCK_BYTES);
    buffer.grow(BLOCK_BYTES).fill(0);
    let (number, identity, bytes) = (0, 0, 0);
    let (run, cramped) = (None, false);
    let segment = Segment { number, identity, bytes, path: path.clone(), file, run, cramped };
    let mut flying = Flying { write: Write::new(Arc::new(segment), 0, buffer), done: 0 };
    let written = new_ring().and_then(|mut ring| {
        let more = push(&mut ring, &flying).and_then(|()| finish(&mut ring, &mut flying));
        // Without a completion the kernel may still have the buffer.
        more.inspect_err(|_| std::mem::forget(flying))
    });
    disk.remove(&path)?;
    match written?.map_err(|failure| failure.source)? {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Writes groups until the log is closed or poisoned.
pub(crate) async fn run(shared: &Shared, running: Running) {
    let ring = new_ring().and_then(watch);
    let mut driver = match ring {
        Ok(ring) => Driver { ring, flying: None, running },
        Err(source) => {
            let poison = Poison { attempted: "set up io_uring for", path: shared.path(), source };
            shared.with(|committer, wake| committer.set_poison(poison, wake));
            return;
        }
    };
    loop {
        poll_fn(|cx| shared.with(|committer, _| committer.poll_group(cx))).await;
        // The first append of a group woke this; those that are ready as well come first.
        tokio::task::yield_now().await;
        match shared.with(Committer::take_write) {
            Some(write) => driver.write(write).await,
            None if shared.with(|committer, _| committer.is_ended()) => return,
            None => {}
        }
    }
}

impl Driver {
    async fn write(&mut self, write: Write) {
        let flying = self.flying.insert(Flying { write, done: 0 });
        let mut result = push(self.ring.get_mut(), flying).map(|()| None);
        while let Ok(None) = result {
            result = self.completion().await.and_then(|()| {
                let flying = self.flying.as_mut().expect("it flies until it is landed");
                finish_one(self.ring.get_mut(), flying)
            });
        }
        match result {
            Ok(Some(result)) => self.land(result),
            // The ring itself failed, so the kernel may still have the buffer: the group's waiters
            // are told now, and the buffer is kept for the drop to wait for.
            Ok(None) | Err(_) => {
                let source = result.err().unwrap_or_else(|| io::ErrorKind::Other.into());
                let path = self.running.shared().path();
                let poison = Poison { attempted: "write with io_uring to", path, source };
                let shared = self.running.shared();
                shared.with(|committer, wake| committer.set_poison(poison, wake));
            }
        }
    }

    /// Waits until the kernel has put a completion into the ring.
    async fn completion(&mut self) -> io::Result<()> {
        while self.ring.get_mut().completion().is_empty() {
            let mut ready = self.ring.readable_mut().await?;
            if ready.get_inner_mut().completion().is_empty() {
                ready.clear_ready();
            }
        }
        Ok(())
    }

    fn land(&mut self, result: Result<(), WriteFailure>) {
        if let Some(Flying { write, .. }) = self.flying.take() {
            self.running.shared().complete(write, result);
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let Some(mut flying) = self.flying.take() else { return };
        match finish(self.ring.get_mut(), &mut flying) {
            Ok(result) => {
                let result = result.and_then(|whole| if whole { Ok(()) } else { Err(cut_off()) });
                self.running.shared().complete(flying.write, result);
            }
            Err(error) => {
                tracing::error!(%error, "a write was given up while the kernel may still do it");
                std::mem::forget(flying);
            }
        }
    }
}

fn new_ring() -> io::Result<IoUring> {
    IoUring::builder().setup_coop_taskrun().build(ENTRIES)
}

/// Has the runtime watch the ring's descriptor.
fn watch(ring: IoUring) -> io::Result<AsyncFd<IoUring>> {
    #[allow(unsafe_code, reason = "a descriptor is watched by its number")]
    // SAFETY: the ring owns its descriptor, gives always the same, and closes it only when it is
    // dropped with the `AsyncFd` that owns it.
    let watched = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) };
    Ok(watched?)
}

fn cut_off() -> WriteFailure {
    let source = io::Error::other("it was cut off when the task that writes was dropped");
    WriteFailure { attempted: "write to", source }
}

/// Hands the kernel what is not yet done of a write.
fn push(ring: &mut IoUring, flying: &Flying) -> io::Result<()> {
    let Flying { write, done } = flying;
    let fd = write.segment.file.fd().ok_or(io::ErrorKind::Unsupported)?;
    let rest = &write.buffer.as_slice()[*done..];
    let length = u32::try_from(rest.len()).map_err(io::Error::other)?;
    let dsync = i32::try_from(ReadWriteFlags::DSYNC.bits()).map_err(io::Error::other)?;
    let entry = opcode::Write::new(types::Fd(fd.as_raw_fd()), rest.as_ptr(), length)
        .offset(write.offset + *done as u64)
        .rw_flags(dsync)
        .build();
    #[allow(unsafe_code, reason = "the kernel is given an address")]
    // SAFETY: the buffer and the file lie in `flying`, on the heap, and nothing changes or frees
    // them before the completion is taken; see the head of the module.
    unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
    ring.submit().map(|_| ())
}

/// Takes one completion: `None` where the rest of a short write was handed on.
fn finish_one(
    ring: &mut IoUring,
    flying: &mut Flying,
) -> io::Result<Option<Result<(), WriteFailure>>> {
    let Some(entry) = ring.completion().next() else { return Ok(None) };
    let failure = |source| WriteFailure { attempted: "write and sync", source };
    let written = match usize::try_from(entry.result()) {
        Ok(0) => return Ok(Some(Err(failure(io::ErrorKind::WriteZero.into())))),
        Ok(written) => written,
        Err(_) => {
            let source = io::Error::from_raw_os_error(-entry.result());
            return Ok(Some(Err(failure(source))));
        }
    };
    flying.done += written;
    if flying.done == flying.write.buffer.len() {
        return Ok(Some(Ok(())));
    }
    push(ring, flying).map(|()| None)
}

/// Waits for the completion of what is in flight, blocking. Says whether all of it was written.
fn finish(ring: &mut IoUring, flying: &mut Flying) -> io::Result<Result<bool, WriteFailure>> {
    while ring.completion().is_empty() {
        ring.submit_and_wait(1)?;
    }
    let entry = ring.completion().next().expect("there is one");
    Ok(match usize::try_from(entry.result()) {
        Ok(written) => Ok(flying.done + written == flying.write.buffer.len()),
        Err(_) => {
            let source = io::Error::from_raw_os_error(-entry.result());
            Err(WriteFailure { attempted: "write and sync", source })
        }
    })
}
