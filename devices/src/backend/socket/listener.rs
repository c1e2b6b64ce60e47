//! Sockets that wait for a client.

use std::fs::Permissions;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api_spec::{QmpError, QmpResult};
use descriptors::SocketPath;

use super::address::{InetAddress, UnixAddress, describe_connection, refused};
use super::sys;

/// Clients that wait to be accepted where each has to prove who it is first.
const STRANGERS: i32 = 64;

/// Who may connect to a unix socket with a path; what is not said stays as the system has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// Permission bits of the file.
    pub mode: Option<u32>,
    /// Number of the group that it belongs to.
    pub group: Option<u32>,
}

impl Access {
    fn give(&self, path: &Path) -> io::Result<()> {
        if *self == Access::default() {
            return Ok(());
        }
        // By descriptor, so that nothing else can be put in its place meanwhile.
        let file = sys::open_as_it_is(path)?;
        if !file.metadata()?.file_type().is_socket() {
            return Err(io::Error::from_raw_os_error(libc::ENOTSOCK));
        }
        if let Some(group) = self.group {
            sys::change_group(&file, group)?;
        }
        if let Some(mode) = self.mode {
            let mode = Permissions::from_mode(mode);
            let handle = format!("/proc/self/fd/{}", file.as_raw_fd());
            match std::fs::set_permissions(&handle, mode.clone()) {
                // A process that cannot be debugged does not reach its own descriptors there,
                // unless it is root's; and others can only change files of their own.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    std::fs::set_permissions(path, mode)?;
                }
                done => done?,
            }
        }
        Ok(())
    }
}

/// The socket itself.
#[derive(Debug)]
pub enum ListenSocket {
    /// A unix socket.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

/// A socket that listens, for one client at a time.
#[derive(Debug)]
pub struct Listener {
    socket: ListenSocket,
    path: Option<SocketPath>,
    name: String,
    nodelay: bool,
    keep_alive: bool,
    gate: Option<Arc<tls::Gate>>,
}

impl Listener {
    /// Clients have to speak TLS.
    pub fn secured(mut self, gate: Option<Arc<tls::Gate>>) -> Self {
        if gate.is_some() {
            // Those who only knock take places from those who come in.
            let _ = sys::limit_backlog(&self, STRANGERS);
        }
        self.gate = gate;
        self
    }

    /// What clients need to come in, if that is TLS.
    pub fn gate(&self) -> Option<&Arc<tls::Gate>> {
        self.gate.as_ref()
    }

    /// Listens at a unix address. What was at the path before is replaced.
    ///
    /// # Errors
    /// When the path cannot be used.
    pub fn unix(address: &UnixAddress) -> QmpResult<Self> {
        Self::unix_for(address, &Access::default())
    }

    /// The same with a say in who may connect. Nobody else could at any moment.
    ///
    /// # Errors
    /// When the path cannot be used, or the group cannot be given.
    pub fn unix_for(address: &UnixAddress, access: &Access) -> QmpResult<Self> {
        address.check()?;
        let fail = |error: &io::Error| {
            refused(&format!("Failed to bind socket to {}", address.path), error)
        };
        if !address.is_abstract
            && let Err(error) = std::fs::remove_file(&address.path)
            && error.kind() != io::ErrorKind::NotFound
            && error.raw_os_error() != Some(libc::ENOTDIR)
        {
            let what = format!("Failed to unlink socket {}", address.path);
            return Err(refused(&what, &error));
        }
        let bound = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM).map_err(|e| fail(&e))?;
        if let Some(mode) = access.mode {
            // The file is made with these bits, less those of the umask.
            sys::change_mode(&bound, mode).map_err(|e| fail(&e))?;
        }
        sys::RawAddress::unix(&address.raw())
            .and_then(|at| sys::bind(&bound, &at))
            .map_err(|error| fail(&error))?;
        let path = (!address.is_abstract).then(|| SocketPath::new(PathBuf::from(&address.path)));
        if let Some(path) = &path {
            // Nobody can connect before it listens.
            access.give(path.path()).map_err(|error| {
                let what = format!("Failed to set permissions of socket {}", address.path);
                refused(&what, &error)
            })?;
        }
        Self::prepare(&bound).map_err(|error| fail(&error))?;
        Ok(Listener {
            socket: ListenSocket::Unix(UnixListener::from(bound)),
            path,
            name: address.describe(),
            nodelay: false,
            keep_alive: false,
            gate: None,
        })
    }

    /// Listens at the first free port of an address. Port 0 lets the system choose.
    ///
    /// # Errors
    /// When the host is not known or no port is free.
    pub fn inet(address: &InetAddress, nodelay: bool) -> QmpResult<Self> {
        Self::inet_at(address, address.resolve()?, nodelay)
    }

    /// The same with the addresses that its name stands for.
    ///
    /// # Errors
    /// When no port is free.
    pub fn inet_at(
        address: &InetAddress,
        found: Vec<std::net::SocketAddr>,
        nodelay: bool,
    ) -> QmpResult<Self> {
        let mut last = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        for mut candidate in found {
            for port in address.ports(candidate.port()) {
                candidate.set_port(port);
                match TcpListener::bind(candidate) {
                    Ok(bound) => return Self::bound(bound, address, nodelay),
                    Err(error) => last = error,
                }
            }
            // Another family serves only where this one is missing.
            if last.raw_os_error() == Some(libc::EADDRINUSE) {
                break;
            }
        }
        let what = match last.raw_os_error() {
            Some(libc::EADDRINUSE) => "Failed to find an available port",
            _ => "Failed to bind socket",
        };
        Err(refused(what, &last))
    }

    fn bound(bound: TcpListener, address: &InetAddress, nodelay: bool) -> QmpResult<Self> {
        Self::prepare(&bound).map_err(|error| refused("Failed to listen on socket", &error))?;
        // The port may have been ours to choose, and the host a name.
        let name = match bound.local_addr() {
            Ok(local) => format!("tcp:{local}"),
            Err(_) => address.describe(),
        };
        Ok(Listener {
            socket: ListenSocket::Tcp(bound),
            path: None,
            name,
            nodelay,
            keep_alive: address.keep_alive,
            gate: None,
        })
    }

    /// Listens at one address, in the system's words when it fails.
    ///
    /// # Errors
    /// Those of bind(2).
    pub fn tcp(at: std::net::SocketAddr) -> io::Result<Self> {
        let bound = TcpListener::bind(at)?;
        Self::prepare(&bound)?;
        Ok(Listener {
            socket: ListenSocket::Tcp(bound),
            path: None,
            name: format!("tcp:{at}"),
            nodelay: true,
            keep_alive: false,
            gate: None,
        })
    }

    /// Takes over a socket that listens already; `name` is how the user calls it.
    ///
    /// # Errors
    /// When it is not a listening stream socket.
    pub fn passed(fd: OwnedFd, name: &str, nodelay: bool) -> QmpResult<Self> {
        let no_socket = |_| QmpError::generic(format!("File descriptor '{name}' is not a socket"));
        let domain = sys::socket_domain(&fd).map_err(no_socket)?;
        if !sys::socket_listens(&fd).map_err(no_socket)? {
            return Err(QmpError::generic(format!(
                "File descriptor '{name}' is not a listening socket"
            )));
        }
        sys::set_nonblocking(&fd).map_err(no_socket)?;
        let socket = match domain {
            libc::AF_UNIX => ListenSocket::Unix(fd.into()),
            libc::AF_INET | libc::AF_INET6 => ListenSocket::Tcp(fd.into()),
            _ => return Err(no_socket(io::Error::other(""))),
        };
        Ok(Listener {
            socket,
            path: None,
            name: format!("fd:{name}"),
            nodelay,
            keep_alive: false,
            gate: None,
        })
    }

    /// One client waits at most, beside the one that is served.
    fn prepare(fd: &impl AsRawFd) -> io::Result<()> {
        sys::set_nonblocking(fd)?;
        sys::limit_backlog(fd, 1)
    }

    /// The socket, and the path to remove at the end.
    pub fn into_parts(self) -> (ListenSocket, Option<SocketPath>) {
        (self.socket, self.path)
    }

    /// Where it listens, if that is TCP.
    pub fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        match &self.socket {
            ListenSocket::Unix(_) => None,
            ListenSocket::Tcp(socket) => socket.local_addr().ok(),
        }
    }

    pub(in crate::backend) fn describe(&self) -> String {
        format!("{},server=on", self.name)
    }

    /// The next client, if one waits.
    pub(in crate::backend) fn accept(&self) -> io::Result<OwnedFd> {
        let fd: OwnedFd = match &self.socket {
            ListenSocket::Unix(socket) => socket.accept()?.0.into(),
            ListenSocket::Tcp(socket) => socket.accept()?.0.into(),
        };
        sys::set_nonblocking(&fd)?;
        tune(&fd, self.nodelay, self.keep_alive);
        Ok(fd)
    }

    pub(in crate::backend) fn describe_client(&self, fd: &OwnedFd) -> String {
        describe_connection(fd, true).unwrap_or_else(|| self.describe())
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        match &self.socket {
            ListenSocket::Unix(socket) => socket.as_raw_fd(),
            ListenSocket::Tcp(socket) => socket.as_raw_fd(),
        }
    }
}

/// Sets what was asked for; unix sockets have neither.
pub(in crate::backend) fn tune(fd: &OwnedFd, nodelay: bool, keep_alive: bool) {
    if nodelay {
        let _ = sys::no_delay(fd);
    }
    if keep_alive {
        let _ = sys::keep_alive(fd);
    }
}
