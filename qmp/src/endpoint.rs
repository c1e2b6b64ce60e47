//! Where a monitor's clients come from.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use descriptors::SocketPath;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

use crate::connection::Stream;
use crate::sys;

/// Where a monitor's clients come from. The descriptors were opened by the caller.
#[derive(Debug)]
pub enum Endpoint {
    /// A unix socket that listens; the path is removed at the end.
    Unix(UnixListener, Option<SocketPath>),
    /// A TCP socket that listens.
    Tcp(TcpListener),
    /// A socket that is connected already.
    Connected(OwnedFd),
    /// Standard input and output, or the like: one descriptor for each direction.
    Pair(OwnedFd, OwnedFd),
    /// Connects to a path, again and again if told so.
    ConnectUnix(PathBuf, Option<Duration>),
    /// Connects to an address, again and again if told so.
    ConnectTcp(SocketAddr, Option<Duration>),
    /// A listening or connecting socket that speaks TLS.
    Secured(Box<Endpoint>, Arc<tls::Gate>),
    /// Any of these; what is sent to clients is also written to a file.
    Logged(Box<Endpoint>, File),
}

pub(crate) fn listen(poll: &Poll, token: Token, fd: RawFd) -> io::Result<()> {
    sys::set_nonblocking(fd)?;
    poll.registry()
        .register(&mut SourceFd(&fd), token, Interest::READABLE)
}

/// Before the descriptors are closed: others may hold the same open files.
pub(crate) fn unwatch(poll: &Poll, stream: &Stream) {
    for fd in [Some(&stream.input), stream.output.as_ref()]
        .into_iter()
        .flatten()
    {
        // It may not be watched at all.
        let _ = poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }
}

/// Duplicates of standard input and output.
///
/// # Errors
/// When they are closed.
pub fn stdio() -> io::Result<Endpoint> {
    Ok(Endpoint::Pair(duplicate(0)?, unblocked(duplicate(1)?)))
}

/// The same pipe or terminal as an open file of our own that does not block, so that a reader
/// that is stuck holds up nobody else. Those who share the original feel nothing of it.
fn unblocked(fd: OwnedFd) -> OwnedFd {
    let file = File::from(fd);
    let opens = file.metadata().is_ok_and(|metadata| {
        let kind = metadata.file_type();
        kind.is_fifo() || kind.is_char_device()
    });
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut options = OpenOptions::new();
    options
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    match opens.then(|| options.open(path)) {
        Some(Ok(own)) => own.into(),
        Some(Err(_)) | None => file.into(),
    }
}

#[allow(unsafe_code)] // takes a number for a descriptor
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl makes a new descriptor that nothing else owns.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(OwnedFd::from_raw_fd(copy))
        }
    }
}
