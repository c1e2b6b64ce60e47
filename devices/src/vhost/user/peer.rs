//! Where peers come from.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

/// The host's end of the socket.
pub struct Peer {
    /// A connection that is there already.
    pub first: Option<UnixStream>,
    /// Where others come from.
    pub door: Door,
}

/// Where peers come from.
pub enum Door {
    /// They connect to us.
    Listen(Arc<UnixListener>),
    /// We connect to them.
    Dial {
        /// Makes one attempt, which does not block for long.
        dial: Box<dyn FnMut() -> io::Result<UnixStream> + Send>,
        /// When to try again; `None` leaves it at the first connection.
        again: Option<Duration>,
    },
}

impl Peer {
    /// Readable when a peer waits; -1 where nobody comes by himself.
    pub(super) fn fd(&self) -> RawFd {
        match &self.door {
            Door::Listen(listener) => listener.as_raw_fd(),
            Door::Dial { .. } => -1,
        }
    }

    /// A connection that is to be had now.
    pub(super) fn take(&mut self) -> Option<UnixStream> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        match &mut self.door {
            Door::Listen(listener) => listener.accept().ok().map(|(stream, _)| stream),
            Door::Dial { dial, again } => again.and_then(|_| dial().ok()),
        }
    }

    /// When to look again, where nothing tells of it.
    pub(super) fn pause(&self) -> Option<Duration> {
        match &self.door {
            Door::Listen(_) => None,
            Door::Dial { again, .. } => *again,
        }
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        match &self.door {
            Door::Listen(listener) => listener.set_nonblocking(true),
            Door::Dial { .. } => Ok(()),
        }
    }
}
