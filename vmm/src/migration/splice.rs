//! Guest memory into a socket without copying it: pages are lent to a pipe (vmsplice(2)) and moved
//! on from there (splice(2)), so that the only copy is the one the reader makes.
//!
//! What the guest writes meanwhile may or may not be seen by the reader, as with a copy that is
//! made a moment later: such a page is logged as dirty, and sent again. The machine must not run
//! again while its last pages are on their way, so this is for sockets over which the other side
//! says that it has everything.
#![allow(unsafe_code)] // vmsplice(2), splice(2)

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::link::{MOST_PIECES, advance};

/// Asked for as the pipe's size: what an unprivileged user may have.
const PIPE: i32 = 1 << 20;
/// Less than that is copied: two system calls more cost about as much.
const LEAST: usize = 64 << 10;

/// A pipe for pages on their way.
#[derive(Debug)]
pub struct Splicer {
    read: OwnedFd,
    write: OwnedFd,
    inside: usize,
    moved: bool,
}

/// How far it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything is in the socket.
    Done,
    /// The socket takes no more now.
    Full,
    /// The host cannot do it with this socket; nothing of the last pieces was sent.
    Unable,
}

impl Splicer {
    /// # Errors
    /// When the host is out of descriptors.
    pub fn new() -> io::Result<Self> {
        let (read, write) = crate::sys::pipe()?;
        crate::sys::set_nonblocking(&read)?;
        crate::sys::set_nonblocking(&write)?;
        // SAFETY: no pointers. A wish: smaller ones need more turns.
        unsafe { libc::fcntl(write.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE) };
        Ok(Splicer {
            read,
            write,
            inside: 0,
            moved: false,
        })
    }

    /// Whether so many bytes are worth it.
    pub const fn is_for(bytes: usize) -> bool {
        bytes >= LEAST
    }

    /// Before the pieces of another write.
    pub const fn begin(&mut self) {
        self.moved = false;
    }

    /// Moves pieces of guest RAM on; `left` shrinks.
    ///
    /// # Errors
    /// When the other side is gone.
    ///
    /// # Safety
    /// The pieces must be memory that stays mapped.
    pub unsafe fn step(
        &mut self,
        left: &mut &mut [libc::iovec],
        socket: RawFd,
    ) -> io::Result<Step> {
        loop {
            // SAFETY: the caller's promise.
            let lent = unsafe { self.lend(left) };
            let moved = lent.and_then(|()| self.pass_on(socket, left.is_empty()));
            match moved {
                Ok(true) if self.inside == 0 && left.is_empty() => return Ok(Step::Done),
                Ok(true) => {}
                Ok(false) => return Ok(Step::Full),
                Err(error) if !self.moved && is_refusal(&error) => return Ok(Step::Unable),
                Err(error) => return Err(error),
            }
        }
    }

    /// As much as fits.
    ///
    /// # Safety
    /// As [`Splicer::step`].
    unsafe fn lend(&mut self, left: &mut &mut [libc::iovec]) -> io::Result<()> {
        while !left.is_empty() {
            let count = left.len().min(MOST_PIECES);
            // SAFETY: `count` pieces are there; the caller answers for what they name.
            let lent = unsafe {
                let flags = libc::SPLICE_F_NONBLOCK;
                libc::vmsplice(self.write.as_raw_fd(), left.as_ptr(), count, flags)
            };
            match usize::try_from(lent) {
                Ok(0) => return Ok(()),
                Ok(lent) => {
                    self.inside = self.inside.saturating_add(lent);
                    *left = advance(std::mem::take(left), lent);
                }
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// False when the socket is full.
    fn pass_on(&mut self, socket: RawFd, last: bool) -> io::Result<bool> {
        let more = if last { 0 } else { libc::SPLICE_F_MORE };
        while self.inside > 0 {
            // SAFETY: no offsets are pointed to.
            let moved = unsafe {
                libc::splice(
                    self.read.as_raw_fd(),
                    std::ptr::null_mut(),
                    socket,
                    std::ptr::null_mut(),
                    self.inside,
                    libc::SPLICE_F_NONBLOCK | more,
                )
            };
            match usize::try_from(moved) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => {
                    self.moved = true;
                    self.inside = self.inside.saturating_sub(moved);
                }
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                    error => return Err(error),
                },
            }
        }
        Ok(true)
    }
}

/// What a host says that has no such thing.
fn is_refusal(error: &io::Error) -> bool {
    let no = [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP, libc::EFAULT];
    error.raw_os_error().is_some_and(|code| no.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    fn pieces(memory: &[u8]) -> Vec<libc::iovec> {
        let piece = |part: &[u8]| libc::iovec {
            iov_base: part.as_ptr().cast_mut().cast(),
            iov_len: part.len(),
        };
        memory.chunks(300 << 10).map(piece).collect()
    }

    #[test]
    fn a_full_socket_is_waited_for_and_nothing_is_lost() {
        let memory: Vec<u8> = (0u32..2 << 20).flat_map(u32::to_ne_bytes).collect();
        let (near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        let mut splicer = Splicer::new().unwrap();
        let mut pieces = pieces(&memory);
        let mut left = &mut pieces[..];
        let mut got = vec![0; memory.len()];
        let (mut at, mut waits) = (0, 0);
        splicer.begin();
        // SAFETY: `memory` lives longer.
        while unsafe { splicer.step(&mut left, near.as_raw_fd()) }.unwrap() == Step::Full {
            waits += 1;
            at += far.read(&mut got[at..]).unwrap();
        }
        far.read_exact(&mut got[at..]).unwrap();
        assert!(waits > 0);
        assert!(got == memory);
    }

    #[test]
    fn where_it_cannot_be_done_nothing_is_sent() {
        let memory = vec![1; 128 << 10];
        let mut splicer = Splicer::new().unwrap();
        let mut pieces = pieces(&memory);
        let mut left = &mut pieces[..];
        splicer.begin();
        // splice(2) knows no files opened for appending.
        let path = std::env::temp_dir().join(format!("qvmd-splice-{}", std::process::id()));
        let file = std::fs::File::options();
        let file = file.clone().create(true).append(true).open(&path).unwrap();
        // SAFETY: `memory` lives longer.
        let step = unsafe { splicer.step(&mut left, file.as_raw_fd()) };
        std::fs::remove_file(path).unwrap();
        assert_eq!(step.unwrap(), Step::Unable);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error() {
        let memory = vec![1; 128 << 10];
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let mut splicer = Splicer::new().unwrap();
        let mut pieces = pieces(&memory);
        let mut left = &mut pieces[..];
        splicer.begin();
        // SAFETY: `memory` lives longer.
        let step = unsafe { splicer.step(&mut left, near.as_raw_fd()) };
        assert_eq!(step.unwrap_err().raw_os_error(), Some(libc::EPIPE));
    }
}
