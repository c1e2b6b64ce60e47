//! The ways in: a machine's state is waited for, or read from what is there.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use api_spec::{QmpError, QmpResult, SocketAddress};
use devices::backend::socket::{ListenSocket, Listener, Place, SocketPath, UnixAddress};

use super::address::Address;
use super::program::{Order, Program, Side};
use super::transport::{FileRoute, Link, as_io, channel_of, duplex, take_fd};
use super::wait::{self, Waited};
use crate::armour::launcher::Launcher;
use crate::control::addresses::{inet, of_place, unix};
use crate::control::fds::FdStore;
use crate::migration::host::{Broken, Cancel, Channel, ChannelKind, MoreChannels};
use crate::process::errno;
use crate::sys;

/// Channels of one migration that may wait to be accepted.
const BACKLOG: i32 = 32;
/// Whoever connects and does not say in this time what a migration begins with, is sent away.
const FIRST_WORDS: Duration = Duration::from_secs(10);
/// So many are sent away before the wait is given up.
const STRANGERS: u32 = 64;

/// A way in.
pub(super) enum Door {
    /// Somebody connects.
    Listen(Arc<Bell>),
    /// It is open already.
    Fd(Channel),
    /// From a program.
    Exec(Order),
    /// Out of a file.
    File(FileRoute),
}

/// A socket that listens. The path of a unix socket goes with it.
pub(super) struct Bell {
    socket: ListenSocket,
    _path: Option<SocketPath>,
    at: Option<SocketAddress>,
}

impl Door {
    /// Takes what the address names; sockets listen, files are open.
    ///
    /// # Errors
    /// When an address cannot be had, a file or a descriptor is not there, or no program may be
    /// started.
    pub fn inward(
        address: Address,
        fds: &mut FdStore,
        monitor: u32,
        launcher: &Launcher,
    ) -> QmpResult<Self> {
        Ok(match address {
            Address::Tcp(address) => {
                let listener = Listener::inet(&inet(&address), true)?;
                Door::Listen(Bell::new(listener, None)?)
            }
            Address::Unix(address) => {
                let address = unix(&address);
                let listener = Listener::unix(&address)?;
                Door::Listen(Bell::new(listener, Some(address))?)
            }
            Address::Fd(name) => {
                let fd = take_fd(fds, monitor, &name)?;
                if listens(&fd) {
                    let listener = Listener::passed(fd, &name, false)?;
                    Door::Listen(Bell::new(listener, None)?)
                } else {
                    Door::Fd(channel_of(fd)?)
                }
            }
            Address::Exec(words) => Door::Exec(Order::new(words, launcher)?),
            Address::File { path, offset } => {
                Door::File(FileRoute::inward(path, offset, fds.opener())?)
            }
        })
    }

    /// Where it listens, for query-migrate.
    pub fn listens_at(&self) -> Option<SocketAddress> {
        match self {
            Door::Listen(bell) => bell.at.clone(),
            Door::Fd(_) | Door::Exec(_) | Door::File(_) => None,
        }
    }

    /// Whether it can be yanked.
    pub fn is_socket(&self) -> bool {
        match self {
            Door::Listen(_) => true,
            Door::Fd(channel) => channel.kind == ChannelKind::Duplex,
            Door::Exec(_) | Door::File(_) => false,
        }
    }

    /// Waits for the first channel. Blocks until it is there or cancelled; whoever connects to a
    /// socket and begins with anything but `greeting` is sent away.
    ///
    /// # Errors
    /// When the program cannot be started, or too many strangers came.
    pub fn open(self, greeting: &'static [u8], cancel: &Cancel) -> Result<Link, Broken> {
        let single = |main| -> Link {
            let why = "there is one descriptor and no way to a second one";
            let more: MoreChannels =
                Box::new(move |_| Err(io::Error::new(io::ErrorKind::Unsupported, why)));
            Link {
                main,
                more,
                program: None,
            }
        };
        match self {
            Door::Listen(bell) => {
                let main = bell.accept_known(greeting, cancel)?;
                Ok(Link {
                    main,
                    more: Box::new(move |cancel| bell.accept(cancel).map_err(as_io)),
                    program: None,
                })
            }
            Door::Fd(channel) => Ok(single(channel)),
            Door::Exec(order) => {
                let started = Program::start(&order, Side::Output);
                let (program, fd) = started.map_err(Broken::Failed)?;
                let mut link = single(Channel {
                    fd,
                    kind: ChannelKind::OneWay,
                });
                link.program = Some(program);
                Ok(link)
            }
            Door::File(file) => Ok(file.open(libc::O_RDONLY)),
        }
    }
}

impl Bell {
    fn new(listener: Listener, unix: Option<UnixAddress>) -> QmpResult<Arc<Self>> {
        let (socket, path) = listener.into_parts();
        let fail = |error: io::Error| {
            QmpError::generic(format!("Failed to listen on socket: {}", errno(&error)))
        };
        sys::set_backlog(&socket_fd(&socket), BACKLOG).map_err(fail)?;
        let at = match (&socket, unix) {
            (_, Some(address)) => Some(Place::Unix(address)),
            (ListenSocket::Tcp(socket), None) => socket.local_addr().ok().map(Place::Inet),
            (ListenSocket::Unix(_), None) => None,
        };
        Ok(Arc::new(Bell {
            socket,
            _path: path,
            at: at.map(|place| of_place(&place)),
        }))
    }

    fn accept_known(&self, greeting: &[u8], cancel: &Cancel) -> Result<Channel, Broken> {
        for _ in 0..STRANGERS {
            let channel = self.accept(cancel)?;
            if begins_with(&channel.fd, greeting, cancel)? {
                return Ok(channel);
            }
            log::warn!("Not a migration stream: whoever connected was sent away");
        }
        Err(Broken::Failed("Not a migration stream".to_owned()))
    }

    fn accept(&self, cancel: &Cancel) -> Result<Channel, Broken> {
        loop {
            wait::ready(&socket_fd(&self.socket), libc::POLLIN, None, cancel)?;
            let accepted: io::Result<OwnedFd> = match &self.socket {
                ListenSocket::Unix(socket) => socket.accept().map(|(stream, _)| stream.into()),
                ListenSocket::Tcp(socket) => socket.accept().map(|(stream, _)| {
                    // Without it small answers wait; nothing is lost.
                    let _ = stream.set_nodelay(true);
                    stream.into()
                }),
            };
            match accepted {
                Ok(fd) => return Ok(duplex(fd)),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(wait::failed("Cannot accept a connection")(error)),
            }
        }
    }
}

/// Whoever called hung up again, or somebody else took the call.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted
    )
}

struct SocketFd(i32);

impl AsRawFd for SocketFd {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}

fn socket_fd(socket: &ListenSocket) -> SocketFd {
    SocketFd(match socket {
        ListenSocket::Unix(socket) => socket.as_raw_fd(),
        ListenSocket::Tcp(socket) => socket.as_raw_fd(),
    })
}

fn listens(fd: &OwnedFd) -> bool {
    sys::socket_listens(fd).unwrap_or(false)
}

/// Looks at the first bytes and leaves them there.
fn begins_with(fd: &OwnedFd, greeting: &[u8], cancel: &Cancel) -> Result<bool, Broken> {
    let begun = std::time::Instant::now();
    let mut seen = vec![0; greeting.len()];
    loop {
        let left = FIRST_WORDS.saturating_sub(begun.elapsed());
        if left.is_zero() || wait::ready(fd, libc::POLLIN, Some(left), cancel)? == Waited::Late {
            return Ok(false);
        }
        let len = match sys::peek(fd, &mut seen) {
            Ok(0) => return Ok(false),
            Ok(len) => len,
            Err(error) if is_passing(&error) => continue,
            Err(_) => return Ok(false),
        };
        if seen.get(..len) != greeting.get(..len) {
            return Ok(false);
        }
        if len == greeting.len() {
            return Ok(true);
        }
        // What is there makes the descriptor ready at once; nothing more may come.
        let short = Some(Duration::from_millis(5));
        if wait::ready(fd, libc::POLLRDHUP, short, cancel)? == Waited::Ready
            && sys::peek(fd, &mut seen).is_ok_and(|now| now == len)
        {
            return Ok(false);
        }
    }
}
