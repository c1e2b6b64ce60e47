//! Sockets that connect to somebody.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use api_spec::{QmpError, QmpResult};

use super::address::{InetAddress, UnixAddress, describe_connection, refused};
use super::listener::tune;
use super::sys;

/// How long the caller waits for a refusal at most. Peers on this host answer at once.
const FIRST_WAIT_MS: i32 = 100;

/// Whom to connect to.
#[derive(Debug, Clone)]
pub enum Peer {
    /// A unix socket.
    Unix(UnixAddress),
    /// The addresses of a host, to be tried in turn.
    Inet(Vec<SocketAddr>),
    /// Somebody else connected it.
    Passed,
}

/// A connection, made or under way.
#[derive(Debug)]
pub enum Attempt {
    /// Made.
    Connected(OwnedFd),
    /// The socket becomes writable when it is known.
    UnderWay(OwnedFd),
}

/// Connects, and again after a loss if told so.
#[derive(Debug)]
pub struct Dialer {
    peer: Peer,
    /// A host whose addresses have to be looked up, each time anew.
    named: Option<InetAddress>,
    /// The next of several addresses.
    turn: usize,
    first: Option<Attempt>,
    again: Option<Duration>,
    name: String,
    nodelay: bool,
    keep_alive: bool,
    gate: Option<Arc<tls::Gate>>,
}

impl Dialer {
    /// Speaks TLS.
    pub fn secured(mut self, gate: Option<Arc<tls::Gate>>) -> Self {
        self.gate = gate;
        self
    }

    /// What TLS needs, if it is spoken.
    pub fn gate(&self) -> Option<&Arc<tls::Gate>> {
        self.gate.as_ref()
    }

    /// To a unix socket. With `again`, the first attempt is made later as well.
    ///
    /// # Errors
    /// When it is refused, or the name is too long.
    pub fn unix(address: UnixAddress, again: Option<Duration>) -> QmpResult<Self> {
        address.check()?;
        let what = format!("Failed to connect to '{}'", address.path);
        let name = address.describe();
        Self::new(Peer::Unix(address), name, again).dial_now(&what)
    }

    /// To a host and port.
    ///
    /// # Errors
    /// When it is refused at once, or the host is not known.
    pub fn inet(address: &InetAddress, nodelay: bool, again: Option<Duration>) -> QmpResult<Self> {
        Self::inet_at(address, address.resolve()?, nodelay, again)
    }

    /// The same with the addresses that its name stands for.
    ///
    /// # Errors
    /// When it is refused at once.
    pub fn inet_at(
        address: &InetAddress,
        found: Vec<SocketAddr>,
        nodelay: bool,
        again: Option<Duration>,
    ) -> QmpResult<Self> {
        let what = format!("Failed to connect to '{}:{}'", address.host, address.port);
        let mut dialer = Self::new(Peer::Inet(found), address.describe(), again);
        dialer.nodelay = nodelay;
        dialer.keep_alive = address.keep_alive;
        dialer.dial_now(&what)
    }

    /// To a unix socket, later.
    ///
    /// # Errors
    /// When the name is too long.
    pub fn unix_later(address: UnixAddress, again: Option<Duration>) -> QmpResult<Self> {
        address.check()?;
        let name = address.describe();
        Ok(Self::new(Peer::Unix(address), name, again))
    }

    /// To a host and port, later. A name is looked up by whoever calls
    /// [`Self::attempt`].
    ///
    /// # Errors
    /// When there cannot be such an address.
    pub fn inet_later(address: &InetAddress, again: Option<Duration>) -> QmpResult<Self> {
        let (found, named) = match address.resolve_now() {
            Some(found) => (found?, None),
            None => (Vec::new(), Some(address.clone())),
        };
        let mut dialer = Self::new(Peer::Inet(found), address.describe(), again);
        dialer.named = named;
        dialer.nodelay = true;
        dialer.keep_alive = address.keep_alive;
        Ok(dialer)
    }

    /// Whether it connects again after a loss.
    pub fn dials_again(&self) -> bool {
        self.again.is_some()
    }

    /// The host whose name is to be looked up before the next attempt.
    pub(in crate::backend) fn wants_addresses(&self) -> Option<&InetAddress> {
        self.named
            .as_ref()
            .filter(|_| self.turn == 0 && self.first.is_none())
    }

    /// What a name server said.
    pub(in crate::backend) fn set_addresses(&mut self, found: Vec<SocketAddr>) {
        self.peer = Peer::Inet(found);
        self.turn = 0;
    }

    /// As in "Failed to connect to ...".
    pub(in crate::backend) fn target(&self) -> String {
        match &self.peer {
            Peer::Unix(address) => address.path.clone(),
            Peer::Inet(_) | Peer::Passed => self
                .name
                .strip_prefix("tcp:")
                .unwrap_or(&self.name)
                .to_owned(),
        }
    }

    /// Takes over a connected socket; `name` is how the user calls it.
    ///
    /// # Errors
    /// When it is no socket.
    pub fn passed(fd: OwnedFd, name: &str, nodelay: bool) -> QmpResult<Self> {
        let no_socket = |_| QmpError::generic(format!("File descriptor '{name}' is not a socket"));
        sys::socket_domain(&fd).map_err(no_socket)?;
        sys::set_nonblocking(&fd).map_err(no_socket)?;
        let mut dialer = Self::new(Peer::Passed, format!("fd:{name}"), None);
        tune(&fd, nodelay, false);
        dialer.first = Some(Attempt::Connected(fd));
        Ok(dialer)
    }

    fn new(peer: Peer, name: String, again: Option<Duration>) -> Self {
        Dialer {
            peer,
            named: None,
            turn: 0,
            first: None,
            again: again.filter(|wait| !wait.is_zero()),
            name,
            nodelay: false,
            keep_alive: false,
            gate: None,
        }
    }

    /// Without a second chance the first attempt is made here, so that the caller learns of a
    /// refusal.
    fn dial_now(mut self, what: &str) -> QmpResult<Self> {
        if self.again.is_some() {
            return Ok(self);
        }
        loop {
            match self.dial().and_then(await_briefly) {
                Ok(attempt) => {
                    self.first = Some(attempt);
                    return Ok(self);
                }
                Err(error) if self.turn == 0 => return Err(refused(what, &error)),
                Err(_) => {}
            }
        }
    }

    /// Begins to connect to the next address. `turn` is 0 again after the last one.
    fn dial(&mut self) -> io::Result<Attempt> {
        let (domain, address) = match &self.peer {
            Peer::Passed => return Err(io::ErrorKind::NotConnected.into()),
            Peer::Unix(_) => (libc::AF_UNIX, None),
            Peer::Inet(addresses) => {
                let address = *addresses
                    .get(self.turn)
                    .ok_or(io::ErrorKind::AddrNotAvailable)?;
                self.turn = self.turn.saturating_add(1) % addresses.len().max(1);
                let domain = if address.is_ipv4() {
                    libc::AF_INET
                } else {
                    libc::AF_INET6
                };
                (domain, Some(address))
            }
        };
        let fd = sys::socket(domain, libc::SOCK_STREAM)?;
        let result = match (&self.peer, address) {
            (Peer::Unix(unix), _) => sys::connect_unix(&fd, &unix.raw()),
            (_, Some(address)) => sys::connect_inet(&fd, address),
            (_, None) => Err(io::ErrorKind::NotConnected.into()),
        };
        tune(&fd, self.nodelay, self.keep_alive);
        match result {
            Ok(()) => Ok(Attempt::Connected(fd)),
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
                Ok(Attempt::UnderWay(fd))
            }
            Err(error) => Err(error),
        }
    }

    /// The next attempt: the one that was begun when this was made, or a new one.
    pub(in crate::backend) fn attempt(&mut self) -> io::Result<Attempt> {
        match self.first.take() {
            Some(attempt) => Ok(attempt),
            None => self.dial(),
        }
    }

    /// A connection, if it can be made at once.
    ///
    /// # Errors
    /// When it cannot.
    pub fn connect(&mut self) -> io::Result<OwnedFd> {
        match self.attempt().and_then(await_briefly)? {
            Attempt::Connected(fd) => Ok(fd),
            Attempt::UnderWay(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// How long to wait before another attempt; `None` when there is to be none.
    pub fn retries(&self) -> Option<Duration> {
        self.again
    }

    /// Whom it may connect to by TCP.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        match (&self.peer, &self.first) {
            (Peer::Inet(addresses), _) => addresses.clone(),
            (Peer::Passed, Some(Attempt::Connected(fd) | Attempt::UnderWay(fd))) => {
                match super::Place::of_peer(fd) {
                    super::Place::Inet(address) => vec![address],
                    super::Place::Unix(_) | super::Place::Fd(_) => Vec::new(),
                }
            }
            (Peer::Unix(_) | Peer::Passed, _) => Vec::new(),
        }
    }

    /// Whether it leads to a unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.peer, Peer::Unix(_) | Peer::Passed)
    }

    /// Whether there are addresses that were not tried in this round.
    pub(in crate::backend) fn has_more(&self) -> bool {
        self.turn != 0
    }

    /// When to try again.
    pub(in crate::backend) fn again(&self) -> Option<Duration> {
        self.again
    }

    pub(in crate::backend) fn describe(&self) -> String {
        self.name.clone()
    }

    pub(in crate::backend) fn describe_peer(&self, fd: &OwnedFd) -> String {
        match &self.peer {
            Peer::Unix(address) => address.describe(),
            Peer::Inet(_) | Peer::Passed => {
                describe_connection(fd, false).unwrap_or_else(|| self.describe())
            }
        }
    }

    /// Whom it connects to, the connection if it was made already, and when to try again.
    pub fn into_parts(self) -> (Peer, Option<Attempt>, Option<Duration>) {
        (self.peer, self.first, self.again)
    }
}

/// Waits a moment for the outcome.
fn await_briefly(attempt: Attempt) -> io::Result<Attempt> {
    match attempt {
        Attempt::UnderWay(fd) if sys::poll(fd.as_raw_fd(), libc::POLLOUT, FIRST_WAIT_MS) != 0 => {
            sys::connect_result(&fd)?;
            Ok(Attempt::Connected(fd))
        }
        other => Ok(other),
    }
}
