//! Character devices whose sockets are lent to vhost-user netdevs.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use api_spec::{QmpError, QmpResult};
use devices::backend::chardev::{Chardev, Dialer, ListenSocket, SocketPath, Source, system_words};
use devices::bus::lock;
use devices::vhost::user::{Door, Peer};

use crate::control::yank::Yanker;

/// A socket on loan.
pub struct Loan {
    /// For the link.
    pub peer: Peer,
    /// Whether the one who is there is the only one who may come.
    pub only: bool,
    /// What query-chardev calls it.
    pub name: String,
    /// Kept as long as the socket is in use.
    pub lease: Arc<Lease>,
}

/// Says that a socket is in use.
#[derive(Default)]
pub struct Lease {
    connected: AtomicBool,
    yanker: OnceLock<Yanker>,
}

impl Lease {
    /// A peer came or went.
    pub fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
    }

    /// Says how the connection is broken; once.
    pub fn set_yanker(&self, yanker: Yanker) {
        // There is one netdev for each loan.
        let _ = self.yanker.set(yanker);
    }

    /// Breaks the connection, if there is one.
    pub(super) fn yank(&self) {
        if let Some(yanker) = self.yanker.get() {
            yanker();
        }
    }
}

/// What is lent out, one time after the other.
pub(super) struct Lender {
    socket: Lent,
    lease: Weak<Lease>,
}

enum Lent {
    Listen {
        listener: Arc<UnixListener>,
        /// Removed at the end.
        _path: Option<SocketPath>,
    },
    Dial(Arc<Mutex<Dialer>>),
}

impl Lender {
    /// Takes the socket of an unused character device for good, with the connection it has.
    ///
    /// # Errors
    /// QEMU's words when it is no unix socket.
    pub fn new(id: &str, chardev: &mut Chardev) -> QmpResult<(Self, Option<OwnedFd>)> {
        if !chardev.is_socket() {
            let text = format!("chardev \"{id}\" is not reconnectable");
            return Err(QmpError::generic(text));
        }
        let no_passing =
            || QmpError::generic(format!("chardev \"{id}\" does not support FD passing"));
        if chardev.is_secured() {
            return Err(no_passing());
        }
        if !chardev.name().starts_with("unix:") && !chardev.name().starts_with("fd:") {
            return Err(no_passing());
        }
        let (source, connection) = chardev.take_socket().ok_or_else(no_passing)?;
        let socket = match source {
            Source::Server(listener) => match listener.into_parts() {
                (ListenSocket::Unix(listener), path) => Lent::Listen {
                    listener: Arc::new(listener),
                    _path: path,
                },
                (ListenSocket::Tcp(_), _) => return Err(no_passing()),
            },
            Source::Client(dialer) if dialer.is_unix() => Lent::Dial(Arc::new(Mutex::new(dialer))),
            Source::Client(_)
            | Source::Null
            | Source::Ringbuf { .. }
            | Source::File { .. }
            | Source::Stdio(_)
            | Source::Pty(_) => return Err(no_passing()),
        };
        let lease = Weak::new();
        Ok((Lender { socket, lease }, connection))
    }

    /// Whether a netdev has the socket.
    pub fn is_busy(&self) -> bool {
        self.lease.strong_count() > 0
    }

    /// Whether a peer is there.
    pub fn is_connected(&self) -> bool {
        let lease = self.lease.upgrade();
        lease.is_some_and(|lease| lease.connected.load(Ordering::Acquire))
    }

    /// Lends the socket. `connection` is one that is there already.
    ///
    /// # Errors
    /// When a client without a second attempt has no peer.
    pub fn lend(&mut self, id: &str, name: String, connection: Option<OwnedFd>) -> QmpResult<Loan> {
        let mut first = connection.map(UnixStream::from);
        let mut only = false;
        let door = match &self.socket {
            Lent::Listen { listener, .. } => Door::Listen(listener.clone()),
            Lent::Dial(dialer) => {
                let again = lock(dialer).retries();
                if first.is_none() && again.is_none() {
                    let connected = lock(dialer).connect().map_err(|error| {
                        let why = system_words(&error);
                        QmpError::generic(format!("chardev '{id}' has no peer: {why}"))
                    });
                    first = Some(UnixStream::from(connected?));
                }
                only = again.is_none();
                let dialer = dialer.clone();
                let dial = move || lock(&dialer).connect().map(UnixStream::from);
                Door::Dial {
                    dial: Box::new(dial),
                    again,
                }
            }
        };
        let lease = Arc::<Lease>::default();
        self.lease = Arc::downgrade(&lease);
        Ok(Loan {
            only,
            peer: Peer { first, door },
            name,
            lease,
        })
    }
}
