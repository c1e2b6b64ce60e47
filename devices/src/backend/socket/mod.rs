//! Sockets that character devices and networks share: where they are, who connects to whom, and
//! what users are told about it. Nothing here waits for a peer.

mod address;
mod dialer;
mod epoll;
mod listener;
pub(in crate::backend) mod sys;

pub(in crate::backend) use address::refused;
pub use address::{InetAddress, Place, UnixAddress, system_words};
pub use descriptors::SocketPath;
pub use dialer::{Attempt, Dialer, Peer};
pub(in crate::backend) use epoll::{Epoll, Ready};
pub use listener::{Access, ListenSocket, Listener};

/// What a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketKind {
    /// Bytes.
    Stream,
    /// Messages.
    Datagrams,
    /// Something that we do not speak.
    Other,
}

impl SocketKind {
    /// Of an open descriptor.
    ///
    /// # Errors
    /// ENOTSOCK for what is none.
    pub fn of(fd: &std::os::fd::OwnedFd) -> std::io::Result<Self> {
        Ok(match sys::socket_kind(fd)? {
            libc::SOCK_STREAM => SocketKind::Stream,
            libc::SOCK_DGRAM | libc::SOCK_SEQPACKET => SocketKind::Datagrams,
            _ => SocketKind::Other,
        })
    }
}

/// Something that may take its time, as name servers do.
pub type Errand = Box<dyn FnOnce() + Send>;

/// Runs errands, each on a thread of its own.
pub type Errands = std::sync::Arc<dyn Fn(Errand) -> std::io::Result<()> + Send + Sync>;
