//! Packets with descriptors: a pair of sockets of the kind SOCK_SEQPACKET.
#![allow(unsafe_code)] // socketpair, sendmsg and recvmsg have no safe face

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Whether a call waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until there is room, or something.
    Yes,
    /// `WouldBlock` instead.
    No,
}

impl Wait {
    fn flag(self) -> i32 {
        match self {
            Wait::Yes => 0,
            Wait::No => libc::MSG_DONTWAIT,
        }
    }
}

/// Room for the control message that carries [`FDS_MAX`] descriptors, aligned as one.
#[repr(C, align(8))]
struct Ancillary([u8; 16 + FDS_MAX * size_of::<RawFd>()]);

impl Ancillary {
    const fn new() -> Self {
        Ancillary([0; 16 + FDS_MAX * size_of::<RawFd>()])
    }
}

/// Sends one packet.
///
/// # Errors
/// Those of sendmsg(2); `InvalidInput` for too many descriptors.
pub fn send(to: &impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], wait: Wait) -> io::Result<()> {
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut ancillary = Ancillary::new();
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        let len = size_of_val(fds);
        message.msg_control = (&raw mut ancillary).cast();
        // SAFETY: plain arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(len as u32) } as _;
        // SAFETY: the header lies in `ancillary`, which has room for FDS_MAX descriptors;
        // BorrowedFd is the bare number.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len as u32) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), len);
        }
    }
    let socket = to.as_fd().as_raw_fd();
    let flags = libc::MSG_NOSIGNAL | wait.flag();
    loop {
        // SAFETY: everything that `message` points to lives across the call.
        let sent = unsafe { libc::sendmsg(socket, &raw const message, flags) };
        match usize::try_from(sent) {
            Ok(_) => return Ok(()),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}

/// Takes one packet of up to `room` bytes.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(from: &impl AsFd, room: usize, wait: Wait) -> io::Result<Packet> {
    let mut bytes = vec![0; room];
    let mut ancillary = Ancillary::new();
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut ancillary).cast();
    message.msg_controllen = size_of::<Ancillary>() as _;
    let socket = from.as_fd().as_raw_fd();
    let flags = libc::MSG_CMSG_CLOEXEC | wait.flag();
    let got = loop {
        // SAFETY: everything that `message` points to lives across the call.
        let got = unsafe { libc::recvmsg(socket, &raw mut message, flags) };
        match usize::try_from(got) {
            Ok(got) => break got,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    };
    let fds = passed(&message);
    bytes.truncate(got);
    let cut = message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0;
    Ok(Packet { bytes, fds, cut })
}

/// How long the packet is that comes next; 0 where the other end is gone.
///
/// # Errors
/// Those of recv(2).
pub fn next_len(from: &impl AsFd, wait: Wait) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_TRUNC | wait.flag();
    let socket = from.as_fd().as_raw_fd();
    // SAFETY: no byte is written where there is room for none.
    let len = unsafe { libc::recv(socket, std::ptr::null_mut(), 0, flags) };
    usize::try_from(len).map_err(|_| io::Error::last_os_error())
}

fn passed(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel filled the control part of `message` in.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so the kernel's; the descriptors in it are new and ours.
        unsafe {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize;
                let bytes = bytes.saturating_sub(libc::CMSG_LEN(0) as usize);
                let first = libc::CMSG_DATA(header).cast::<RawFd>();
                for index in 0..bytes / size_of::<RawFd>() {
                    let fd = std::ptr::read_unaligned(first.add(index));
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}
