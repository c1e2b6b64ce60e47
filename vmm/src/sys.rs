//! The few system calls that have no safe face elsewhere.
#![allow(unsafe_code)] // thin wrappers over libc

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The status flags of an open file (F_GETFL).
///
/// # Errors
/// Those of fcntl(2).
pub fn status_flags(fd: &impl AsRawFd) -> io::Result<i32> {
    // SAFETY: F_GETFL takes no pointer; the descriptor is open while `fd` is borrowed.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })
}

/// A duplicate of a descriptor that we got by number (inherited from our parent).
///
/// # Errors
/// EBADF when nothing is open under that number.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes no pointer and fails on a number that is not open.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: `copy` was just made and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Takes over a descriptor inherited from our parent, and sets FD_CLOEXEC on it.
///
/// # Errors
/// EBADF when nothing is open under that number.
pub fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; fails on a number that is not open.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: the descriptor is open, and the user named it for this one use.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
