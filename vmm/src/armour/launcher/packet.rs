//! Packets with descriptors: a pair of sockets of the kind SOCK_SEQPACKET.
#![allow(unsafe_code)] // socketpair and recv have no safe face

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use descriptors::Wait;

/// Most descriptors that come along with a packet.
pub const FDS_MAX: usize = 20;

/// What came.
#[derive(Debug)]
pub struct Packet {
    /// Its bytes; none where the other end is gone.
    pub bytes: Vec<u8>,
    /// Its descriptors, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// There was more of it than there was room for.
    pub cut: bool,
}

/// Two ends of a new connection, closed on exec.
///
/// # Errors
/// Those of socketpair(2).
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two numbers.
    if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both were just made and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Sends one packet.
///
/// # Errors
/// Those of sendmsg(2); `InvalidInput` for too many descriptors.
pub fn send(to: &impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], wait: Wait) -> io::Result<()> {
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    undisturbed(|| descriptors::send(to, bytes, fds, wait)).map(drop)
}

/// Takes one packet of up to `room` bytes.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(from: &impl AsFd, room: usize, wait: Wait) -> io::Result<Packet> {
    let mut bytes = vec![0; room];
    let came = undisturbed(|| descriptors::receive(from, &mut bytes, FDS_MAX, wait))?;
    bytes.truncate(came.len);
    Ok(Packet {
        bytes,
        fds: came.fds,
        cut: came.cut,
    })
}

/// Again, when a signal came.
fn undisturbed<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// How long the packet is that comes next; 0 where the other end is gone.
///
/// # Errors
/// Those of recv(2).
pub fn next_len(from: &impl AsFd, wait: Wait) -> io::Result<usize> {
    let wait = match wait {
        Wait::Yes => 0,
        Wait::No => libc::MSG_DONTWAIT,
    };
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC | wait;
    let socket = from.as_fd().as_raw_fd();
    // SAFETY: no byte is written where there is room for none.
    let len = unsafe { libc::recv(socket, std::ptr::null_mut(), 0, flags) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}
