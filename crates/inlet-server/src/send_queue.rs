//! The queue in the system of bytes for a client: its bound, and the client's progress through it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The unsent bytes from which a socket takes no more; without a bound it takes megabytes of an
/// answer that nobody reads (`tcp_wmem`). Bytes on their way do not count, so that a client far away
/// loses no speed.
const UNSENT_BYTES_MAX: libc::c_int = 128 << 10;
/// The place of `tcpi_bytes_acked` in the kernel's `struct tcp_info` (include/uapi/linux/tcp.h, since
/// Linux 4.1), in units of 8 bytes.
const BYTES_ACKED: usize = 15;

/// Bounds the unsent bytes of each connection that this listener accepts.
///
/// # Errors
/// Those of `setsockopt`.
pub(crate) fn bound(listener: BorrowedFd<'_>) -> io::Result<()> {
    let bytes = UNSENT_BYTES_MAX;
    #[allow(unsafe_code, reason = "neither rustix nor socket2 has this option")]
    // SAFETY: the descriptor is open, and the option is an int that lives through the call.
    let done = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            length_of::<libc::c_int>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The bytes that the client has acknowledged so far; `None` if the system does not tell.
pub(crate) fn acknowledged(socket: BorrowedFd<'_>) -> Option<u64> {
    let mut info = [0u64; BYTES_ACKED + 1];
    let mut length = length_of::<[u64; BYTES_ACKED + 1]>();
    #[allow(unsafe_code, reason = "neither rustix nor socket2 has this option")]
    // SAFETY: the descriptor is open, and the system writes no more than `length` bytes.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    let is_whole = done == 0 && length == length_of::<[u64; BYTES_ACKED + 1]>();
    is_whole.then(|| info[BYTES_ACKED])
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}
