//! The guest's side: one frame in each message, with a queue for what the socket has no room for.
#![allow(unsafe_code)] // send, recv and an ioctl on a socket of messages

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::clock::Seen;

/// Bytes that wait for a guest that is slow; what is beyond is dropped, as networks do. TCP's
/// windows stay far below.
const QUEUE_MAX: usize = 8 << 20;

/// See the module.
pub struct Frames {
    socket: OwnedFd,
    waiting: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Since [`Self::seen`] was asked.
    sent: Cell<usize>,
    heard: Cell<bool>,
}

impl Frames {
    pub fn new(socket: OwnedFd) -> Self {
        Frames {
            socket,
            waiting: VecDeque::new(),
            bytes: 0,
            sent: Cell::new(0),
            heard: Cell::new(false),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Whether some wait for room.
    pub fn backlog(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Sends a frame, now or later, in order.
    pub fn send(&mut self, frame: &[u8]) {
        if frame.is_empty() || (self.waiting.is_empty() && self.offer(frame)) {
            return;
        }
        if self.bytes.saturating_add(frame.len()) <= QUEUE_MAX {
            self.bytes = self.bytes.saturating_add(frame.len());
            self.waiting.push_back(frame.into());
        }
    }

    /// Sends what waited, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(frame) = self.waiting.pop_front() {
            if !self.offer(&frame) {
                self.waiting.push_front(frame);
                return;
            }
            self.bytes = self.bytes.saturating_sub(frame.len());
        }
    }

    /// False when there is no room. A side that is gone takes everything: the loop sees its end.
    fn offer(&self, frame: &[u8]) -> bool {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: `frame` lives across the call.
        let sent = unsafe { libc::send(self.fd(), frame.as_ptr().cast(), frame.len(), flags) };
        if let Ok(sent) = usize::try_from(sent) {
            self.sent.set(self.sent.get().saturating_add(sent));
            return true;
        }
        !matches!(
            io::Error::last_os_error().raw_os_error(),
            Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR)
        )
    }

    /// The next frame from the guest: its length. `None` when there is none.
    pub fn receive(&self, room: &mut [u8]) -> io::Result<Option<usize>> {
        // SAFETY: `room` lives across the call.
        let got = unsafe {
            libc::recv(
                self.fd(),
                room.as_mut_ptr().cast(),
                room.len(),
                libc::MSG_DONTWAIT,
            )
        };
        match usize::try_from(got) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                self.heard.set(true);
                Ok(Some(got))
            }
            Err(_) => match io::Error::last_os_error() {
                error
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) =>
                {
                    Ok(None)
                }
                error => Err(error),
            },
        }
    }

    /// What can be seen of the guest since this was asked the last time.
    pub fn seen(&self) -> Seen {
        let mut bytes: libc::c_int = 0;
        // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int.
        let result = unsafe { libc::ioctl(self.fd(), libc::TIOCOUTQ, &raw mut bytes) };
        Seen {
            untaken: if result < 0 {
                0
            } else {
                usize::try_from(bytes).unwrap_or(0)
            },
            sent: self.sent.take(),
            heard: self.heard.take(),
        }
    }
}
