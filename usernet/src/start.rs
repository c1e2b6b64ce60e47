//! The descriptors that we are started with.
#![allow(unsafe_code)] // descriptors by number

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use usernet::wire::{CONTROL_FD, FRAMES_FD};

/// Our ends of the control and the frames' socket, moved away from the standard descriptors,
/// which lead nowhere afterwards. Everything else but the error output is closed. `None` when
/// these are not two sockets: somebody started us by hand.
pub fn sockets() -> Option<(UnixStream, OwnedFd)> {
    // SAFETY: nothing else of this process has a descriptor yet.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
    let stream = socket_type(CONTROL_FD)? == libc::SOCK_STREAM;
    let messages = socket_type(FRAMES_FD)? == libc::SOCK_SEQPACKET;
    if !(stream && messages) {
        return None;
    }
    let (control, frames) = (duplicate(CONTROL_FD)?, duplicate(FRAMES_FD)?);
    let nowhere = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .ok()?;
    for fd in [CONTROL_FD, FRAMES_FD] {
        // SAFETY: no pointers; both numbers are open.
        unsafe { libc::dup2(nowhere.as_raw_fd(), fd) };
    }
    Some((UnixStream::from(control), frames))
}

fn socket_type(fd: RawFd) -> Option<i32> {
    let mut kind: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: an int and its size.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_TYPE,
            (&raw mut kind).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(kind)
}

fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: no pointers; fails on a number that is not open.
    let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
    // SAFETY: just made, and nobody else's.
    (copy >= 0).then(|| unsafe { OwnedFd::from_raw_fd(copy) })
}

/// poll(2): how many are ready; `timeout` in milliseconds, -1 for none.
///
/// # Errors
/// Those of poll(2).
pub fn poll(fds: &mut [libc::pollfd], timeout: i32) -> io::Result<usize> {
    // SAFETY: the list lives across the call.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
    usize::try_from(ready).map_err(|_| io::Error::last_os_error())
}
