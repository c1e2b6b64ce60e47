//! Sockets that character devices and networks share: where they are, who connects to whom, and
//! what users are told about it. Nothing here waits for a peer.

mod address;
mod dialer;
mod epoll;
mod listener;
pub(in crate::backend) mod sys;

pub(in crate::backend) use address::refused;
pub use address::{InetAddress, Place, UnixAddress, system_words};
pub use dialer::{Attempt, Dialer, Peer};
pub(in crate::backend) use epoll::{Epoll, Ready};
pub use listener::{ListenSocket, Listener, SocketPath};

/// Something that may take its time, as name servers do.
pub type Errand = Box<dyn FnOnce() + Send>;

/// Runs errands, each on a thread of its own.
pub type Errands = std::sync::Arc<dyn Fn(Errand) -> std::io::Result<()> + Send + Sync>;
