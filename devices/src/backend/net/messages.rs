//! A port whose other side is a process of ours: one frame in each message of a connected socket
//! (SOCK_SEQPACKET), without a header.
#![allow(unsafe_code)] // socketpair, and calls with lists of guest memory

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use block::Buffers;

use super::{NetPort, Sent};

/// The kernel takes no longer lists (UIO_MAXIOV).
const MOST_PARTS: usize = 1024;
/// Messages that are passed over in one call, because they are too long.
const MOST_TRIES: usize = 64;

/// The port. Nothing of it blocks.
pub struct MessagePort(OwnedFd);

impl MessagePort {
    /// A port, and the descriptor for the other side, which may block.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let mut ends = [0; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: `ends` has room for two descriptors.
        if unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: both were just made and belong to nobody else.
        let [near, far] = ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Ok((MessagePort(near), far))
    }
}

impl NetPort for MessagePort {
    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        for _ in 0..MOST_TRIES {
            // SAFETY: all zeroes are a valid msghdr.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = room.parts().as_ptr().cast_mut().cast();
            message.msg_iovlen = room.parts().len().min(MOST_PARTS) as _;
            // SAFETY: the parts may be written to for as long as `room` lives; they are laid out
            // as iovecs.
            let got = unsafe { libc::recvmsg(self.fd(), &raw mut message, libc::MSG_DONTWAIT) };
            match usize::try_from(got) {
                // Messages are never empty.
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) if message.msg_flags & libc::MSG_TRUNC != 0 => {}
                Ok(got) => return Ok(Some(got)),
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        // The descriptor tells of what is left; others have their turn first.
        Ok(None)
    }

    fn send(&mut self, frame: &Buffers) -> Sent {
        if frame.is_empty() {
            return Sent::Done;
        }
        // SAFETY: all zeroes are a valid msghdr.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = frame.parts().as_ptr().cast_mut().cast();
        message.msg_iovlen = frame.parts().len().min(MOST_PARTS) as _;
        loop {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: the parts may be read for as long as `frame` lives; they are laid out as
            // iovecs.
            if unsafe { libc::sendmsg(self.fd(), &raw const message, flags) } >= 0 {
                return Sent::Done;
            }
            match io::Error::last_os_error().kind() {
                io::ErrorKind::WouldBlock => return Sent::Full,
                io::ErrorKind::Interrupted => {}
                // Too long, or nobody is there any more.
                _ => return Sent::Done,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use block::HostBuffer;

    use super::*;

    fn buffers(content: &[u8]) -> Buffers {
        let buffers = Buffers::owned(Arc::new(HostBuffer::new(content.len(), 1)));
        buffers.write_at(0, content);
        buffers
    }

    fn content(buffers: &Buffers, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        buffers.read_at(0, &mut bytes);
        bytes
    }

    #[test]
    fn frames_keep_their_bounds_both_ways() {
        let (mut port, far) = MessagePort::pair().unwrap();
        let mut far = UnixStream::from(far);
        assert_eq!(port.send(&buffers(b"one")), Sent::Done);
        assert_eq!(port.send(&buffers(b"two!")), Sent::Done);
        let mut bytes = [0; 100];
        assert_eq!(far.read(&mut bytes).unwrap(), 3);
        assert_eq!(far.read(&mut bytes).unwrap(), 4);

        let room = buffers(&[0; 8]);
        assert_eq!(port.receive(&room).unwrap(), None);
        far.write_all(b"longer than there is room").unwrap();
        far.write_all(b"three").unwrap();
        assert_eq!(port.receive(&room).unwrap(), Some(5));
        assert_eq!(content(&room, 5), b"three");
        assert_eq!(port.receive(&room).unwrap(), None);
    }

    #[test]
    fn a_side_that_does_not_read_makes_it_full_and_then_not() {
        let (mut port, far) = MessagePort::pair().unwrap();
        let frame = buffers(&[7; 1500]);
        let mut sent = 0;
        while port.send(&frame) == Sent::Done {
            sent += 1;
            assert!(sent < 100_000);
        }
        let mut far = UnixStream::from(far);
        let mut bytes = [0; 2000];
        for _ in 0..sent {
            assert_eq!(far.read(&mut bytes).unwrap(), 1500);
        }
        assert_eq!(port.send(&frame), Sent::Done);
    }

    #[test]
    fn the_other_sides_end_is_an_error_and_swallows() {
        let (mut port, far) = MessagePort::pair().unwrap();
        drop(far);
        assert!(port.receive(&buffers(&[0; 8])).is_err());
        assert_eq!(port.send(&buffers(b"x")), Sent::Done);
    }
}
