//! Where peers come from.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

/// The host's end of the socket.
pub enum Peer {
    /// Peers connect to us.
    Listen(UnixListener),
    /// We connect to a peer.
    Dial {
        /// Makes one attempt, which does not block for long.
        dial: Box<dyn FnMut() -> io::Result<UnixStream> + Send>,
        /// A connection that is there already.
        first: Option<UnixStream>,
        /// When to try again; `None` leaves it at one connection.
        again: Option<Duration>,
    },
}

impl Peer {
    /// Readable when a peer waits; -1 where nobody comes by himself.
    pub(super) fn fd(&self) -> RawFd {
        match self {
            Peer::Listen(listener) => listener.as_raw_fd(),
            Peer::Dial { .. } => -1,
        }
    }

    /// A connection that is to be had now.
    pub(super) fn take(&mut self) -> Option<UnixStream> {
        match self {
            Peer::Listen(listener) => listener.accept().ok().map(|(stream, _)| stream),
            Peer::Dial { dial, first, again } => match first.take() {
                None if again.is_some() => dial().ok(),
                first => first,
            },
        }
    }

    /// When to look again, where nothing tells of it.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Peer::Listen(_) => None,
            Peer::Dial { again, .. } => *again,
        }
    }

    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Peer::Listen(listener) => listener.set_nonblocking(true),
            Peer::Dial { .. } => Ok(()),
        }
    }
}
