//! Sockets, as far as the standard library leaves them out: messages that carry descriptors
//! (SCM_RIGHTS, unix(7)), reading and writing by a bare number, and paths that are cleared away.
#![allow(unsafe_code)] // sendmsg and recvmsg have no safe face

mod path;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

pub use path::SocketPath;

/// The most descriptors that a message carries here.
pub const FDS_MAX: usize = 64;

/// Whether a call waits, on a socket that is not non-blocking.
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

/// What came.
#[derive(Debug)]
pub struct Received {
    /// How many bytes; none where the other end is gone.
    pub len: usize,
    /// The descriptors that came along, closed on exec.
    pub fds: Vec<OwnedFd>,
    /// There was more, of bytes of a packet or of descriptors, than there was room for.
    pub cut: bool,
}

/// Sends bytes, and descriptors along with the first of them, without SIGPIPE. Tells how many
/// bytes went.
///
/// # Errors
/// Those of sendmsg(2); `InvalidInput` for more than [`FDS_MAX`] descriptors.
pub fn send(to: &impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>], wait: Wait) -> io::Result<usize> {
    if fds.len() > FDS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut ancillary = Ancillary::new();
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let mut message = header(&mut part);
    if !fds.is_empty() {
        let len = size_of_val(fds);
        message.msg_control = (&raw mut ancillary).cast();
        message.msg_controllen = space(fds.len()) as _;
        // SAFETY: the header lies in `ancillary`, which has room for FDS_MAX descriptors;
        // BorrowedFd is the bare number.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const message);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(len as u32) as _;
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), libc::CMSG_DATA(first), len);
        }
    }
    let flags = libc::MSG_NOSIGNAL | wait.flag();
    // SAFETY: everything that `message` points to lives across the call.
    let sent = unsafe { libc::sendmsg(to.as_fd().as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Takes bytes, and up to `most` descriptors ([`FDS_MAX`] at most); the kernel closes the rest.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(
    from: &impl AsFd,
    buffer: &mut [u8],
    most: usize,
    wait: Wait,
) -> io::Result<Received> {
    let mut ancillary = Ancillary::new();
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = header(&mut part);
    message.msg_control = (&raw mut ancillary).cast();
    message.msg_controllen = space(most.min(FDS_MAX)) as _;
    let flags = libc::MSG_CMSG_CLOEXEC | wait.flag();
    // SAFETY: everything that `message` points to lives across the call.
    let got = unsafe { libc::recvmsg(from.as_fd().as_raw_fd(), &raw mut message, flags) };
    let len = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    Ok(Received {
        len,
        fds: passed(&message),
        cut: message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0,
    })
}

/// Room for the control message that carries [`FDS_MAX`] descriptors, aligned as one.
#[repr(C, align(8))]
struct Ancillary([u8; 16 + FDS_MAX * size_of::<RawFd>()]);

impl Ancillary {
    const fn new() -> Self {
        Ancillary([0; 16 + FDS_MAX * size_of::<RawFd>()])
    }
}

/// What of [`Ancillary`] so many descriptors take.
fn space(fds: usize) -> usize {
    // SAFETY: plain arithmetic.
    unsafe { libc::CMSG_SPACE((fds * size_of::<RawFd>()) as u32) as usize }
}

fn header(part: &mut libc::iovec) -> libc::msghdr {
    // SAFETY: all zeroes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message
}

/// The descriptors in a message that recvmsg has filled in.
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

/// Reads; what the kernel says.
///
/// # Errors
/// Those of read(2).
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the kernel writes at most `len` bytes to the buffer, which is ours.
    let count = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Writes; what the kernel says. Into a connection that is gone it raises SIGPIPE, which Rust's
/// programs ignore.
///
/// # Errors
/// Those of write(2).
pub fn write(fd: RawFd, data: &[u8]) -> io::Result<usize> {
    // SAFETY: the kernel reads at most `len` bytes of the slice.
    let count = unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A connected socket, for what reads and writes through traits. It is open as long as the
/// caller has it so.
#[derive(Debug)]
pub struct Wire(pub RawFd);

impl io::Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read(self.0, buffer)
    }
}

impl io::Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        write(self.0, data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn borrowed(files: &[File]) -> Vec<BorrowedFd<'_>> {
        files.iter().map(AsFd::as_fd).collect()
    }

    fn files(count: usize) -> Vec<File> {
        let file = || File::open("/dev/null").unwrap();
        std::iter::repeat_with(file).take(count).collect()
    }

    #[test]
    fn descriptors_come_along_and_are_closed_on_exec() {
        let (a, b) = UnixStream::pair().unwrap();
        let sent = files(FDS_MAX);
        assert_eq!(send(&a, b"hello", &borrowed(&sent), Wait::Yes).unwrap(), 5);
        let mut buffer = [0; 16];
        let came = receive(&b, &mut buffer, FDS_MAX, Wait::No).unwrap();
        assert_eq!((came.len, came.fds.len(), came.cut), (5, FDS_MAX, false));
        for fd in &came.fds {
            // SAFETY: no memory is involved.
            let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFD) };
            assert_eq!(flags, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn more_than_there_is_room_for_is_cut() {
        let (a, b) = UnixDatagram::pair().unwrap();
        send(&a, b"hello", &borrowed(&files(4)), Wait::Yes).unwrap();
        let mut buffer = [0; 3];
        let came = receive(&b, &mut buffer, 2, Wait::Yes).unwrap();
        assert_eq!((came.len, came.fds.len(), came.cut), (3, 2, true));
        let error = send(&a, b"x", &borrowed(&files(FDS_MAX + 1)), Wait::Yes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn who_does_not_want_to_wait_does_not() {
        let (a, b) = UnixStream::pair().unwrap();
        let later = receive(&b, &mut [0; 4], 0, Wait::No).unwrap_err();
        assert_eq!(later.kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(receive(&b, &mut [0; 4], 0, Wait::Yes).unwrap().len, 0);
        let gone = send(&b, b"x", &[], Wait::Yes).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_wire_reads_and_writes() {
        let (a, b) = UnixStream::pair().unwrap();
        Wire(a.as_raw_fd()).write_all(b"hello").unwrap();
        drop(a);
        let mut text = String::new();
        Wire(b.as_raw_fd()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert!(Wire(b.as_raw_fd()).write_all(b"x").is_err());
    }
}
