//! Where sockets are, and what users are told about it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net as unix;

use api_spec::{QmpError, QmpResult};

/// Most bytes of a unix socket's name.
const UNIX_NAME: usize = 108;

/// A unix socket's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnixAddress {
    /// The path, or the name in the abstract space.
    pub path: String,
    /// In the abstract space.
    pub is_abstract: bool,
    /// An abstract name is as long as it is, and not filled up with zeros.
    pub tight: bool,
}

impl UnixAddress {
    /// A path in the file system.
    pub fn path(path: impl Into<String>) -> Self {
        UnixAddress {
            path: path.into(),
            is_abstract: false,
            tight: true,
        }
    }

    /// # Errors
    /// For names that are too long.
    pub(in crate::backend) fn check(&self) -> QmpResult<()> {
        let refuse = |why: &str| {
            let path = &self.path;
            Err(QmpError::generic(format!(
                "UNIX socket path '{path}' {why}"
            )))
        };
        // A zero byte stands behind a path, and in front of an abstract name.
        if self.path.len() > UNIX_NAME - 1 {
            return refuse("is too long");
        }
        if !self.is_abstract && self.path.contains('\0') {
            return refuse("contains a zero byte");
        }
        Ok(())
    }

    fn from_std(address: &unix::SocketAddr) -> Self {
        let (name, is_abstract) = match (address.as_pathname(), address.as_abstract_name()) {
            (Some(path), _) => (path.as_os_str().as_bytes(), false),
            (None, Some(name)) => (name, true),
            (None, None) => (&[][..], false),
        };
        UnixAddress {
            path: String::from_utf8_lossy(name).into_owned(),
            is_abstract,
            tight: true,
        }
    }

    fn abstract_name(&self) -> Vec<u8> {
        let mut name = self.path.clone().into_bytes();
        if !self.tight {
            name.resize(UNIX_NAME - 1, 0);
        }
        name
    }

    /// The name as it stands in a socket address.
    pub(in crate::backend) fn raw(&self) -> Vec<u8> {
        if self.is_abstract {
            let mut name = vec![0];
            name.extend(self.abstract_name());
            name
        } else {
            let mut name = self.path.clone().into_bytes();
            name.push(0);
            name
        }
    }

    pub(in crate::backend) fn describe(&self) -> String {
        let kind = match (self.is_abstract, self.tight) {
            (false, _) => "",
            (true, true) => ",abstract=on,tight=on",
            (true, false) => ",abstract=on",
        };
        format!("unix:{}{kind}", self.path)
    }
}

/// A host and a port, as the user wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct InetAddress {
    /// Name or number; empty for any.
    pub host: String,
    /// Number of the port.
    pub port: String,
    /// A server tries the ports up to this one.
    pub to: Option<u16>,
    /// Use IPv4; only that, if IPv6 is not wanted.
    pub ipv4: Option<bool>,
    /// Use IPv6; only that, if IPv4 is not wanted.
    pub ipv6: Option<bool>,
    /// Find out about dead peers.
    pub keep_alive: bool,
}

impl InetAddress {
    /// The addresses, IPv4 first for names. A name that only a name server knows takes its time.
    ///
    /// # Errors
    /// When the name or port is not known.
    pub fn resolve(&self) -> QmpResult<Vec<SocketAddr>> {
        match self.resolve_now() {
            Some(found) => found,
            None => self.look_up(|host, port| Some((host, port).to_socket_addrs().ok()?.collect())),
        }
    }

    /// The same where it takes no time: `None` for a name that has to be looked up.
    pub fn resolve_now(&self) -> Option<QmpResult<Vec<SocketAddr>>> {
        let host = self.host.as_str();
        let at_hand = host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok();
        // What is wrong with the rest is told without a look, too.
        let plain = at_hand || self.port.parse::<u16>().is_err() || self.families().is_err();
        plain.then(|| self.look_up(|_, _| None))
    }

    fn look_up(
        &self,
        ask: impl FnOnce(&str, u16) -> Option<Vec<SocketAddr>>,
    ) -> QmpResult<Vec<SocketAddr>> {
        let fail = |why: &str| {
            let (host, port) = (&self.host, &self.port);
            QmpError::generic(format!(
                "address resolution failed for {host}:{port}: {why}"
            ))
        };
        let port: u16 = self
            .port
            .parse()
            .map_err(|_| fail("Servname not supported for ai_socktype"))?;
        let (v4, v6) = self.families()?;
        let host = self.host.as_str();
        let mut found: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) if host.is_empty() => vec![
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
            ],
            Err(_) if host == "localhost" => vec![
                SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
                SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
            ],
            Err(_) => {
                let mut found = ask(host, port).ok_or_else(|| fail("Name or service not known"))?;
                found.sort_by_key(SocketAddr::is_ipv6);
                found
            }
        };
        found.retain(|address| if address.is_ipv4() { v4 } else { v6 });
        if found.is_empty() {
            return Err(fail("Address family for hostname not supported"));
        }
        Ok(found)
    }

    /// Whether IPv4 and IPv6 may be used.
    fn families(&self) -> QmpResult<(bool, bool)> {
        match (self.ipv4, self.ipv6) {
            (Some(false), Some(false)) => Err(QmpError::generic(
                "Cannot disable IPv4 and IPv6 at same time",
            )),
            (None | Some(true), None) if self.ipv4.is_some() => Ok((true, false)),
            (None, Some(true)) => Ok((false, true)),
            (v4, v6) => Ok((v4.unwrap_or(true), v6.unwrap_or(true))),
        }
    }

    /// The ports that a server may take.
    pub(in crate::backend) fn ports(&self, first: u16) -> impl Iterator<Item = u16> + use<> {
        first..=self.to.unwrap_or(first).max(first)
    }

    pub(in crate::backend) fn describe(&self) -> String {
        format!("tcp:{}:{}", bracketed(&self.host), self.port)
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// Where somebody is, as events have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A unix socket.
    Unix(UnixAddress),
    /// An IP socket.
    Inet(SocketAddr),
    /// Something else; the number of our descriptor.
    Fd(i32),
}

impl Place {
    /// Who is at the other end of a connection; of a unix socket the address that has a name.
    pub(in crate::backend) fn of_peer(fd: &OwnedFd) -> Self {
        let number = Place::Fd(std::os::fd::AsRawFd::as_raw_fd(fd));
        let place = || match super::sys::socket_domain(fd).ok()? {
            libc::AF_UNIX => {
                let socket = unix::UnixStream::from(fd.try_clone().ok()?);
                let peer = socket.peer_addr().ok().filter(|peer| !peer.is_unnamed());
                let named = peer.or_else(|| socket.local_addr().ok())?;
                Some(Place::Unix(UnixAddress::from_std(&named)))
            }
            libc::AF_INET | libc::AF_INET6 => {
                let socket = std::net::TcpStream::from(fd.try_clone().ok()?);
                Some(Place::Inet(socket.peer_addr().ok()?))
            }
            _ => None,
        };
        place().unwrap_or(number)
    }

    /// As `info network` shows it.
    pub fn describe(&self) -> String {
        match self {
            Place::Unix(address) => format!("unix:{}", address.path),
            Place::Inet(address) => format!("tcp:{address}"),
            Place::Fd(number) => format!("fd:{number}"),
        }
    }
}

/// What a connected socket is called: its own address and, for TCP, the peer's.
pub(in crate::backend) fn describe_connection(fd: &OwnedFd, server: bool) -> Option<String> {
    let role = if server { ",server=on" } else { "" };
    match super::sys::socket_domain(fd).ok()? {
        libc::AF_UNIX => {
            let socket = unix::UnixStream::from(fd.try_clone().ok()?);
            // A client's own socket has no name; what it connected to does.
            let address = if server {
                socket.local_addr()
            } else {
                socket.peer_addr()
            };
            let address = address.ok()?;
            let name = match address.as_pathname() {
                Some(path) => String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned(),
                None => {
                    let name = address.as_abstract_name().unwrap_or_default();
                    String::from_utf8_lossy(name).into_owned()
                }
            };
            Some(format!("unix:{name}{role}"))
        }
        libc::AF_INET | libc::AF_INET6 => {
            let socket = std::net::TcpStream::from(fd.try_clone().ok()?);
            let (own, peer) = (socket.local_addr().ok()?, socket.peer_addr().ok()?);
            Some(format!("tcp:{own}{role} <-> {peer}"))
        }
        _ => None,
    }
}

pub use errno_text::errno_text as system_words;

/// "`what`: reason", as QEMU words what the system refused.
pub(in crate::backend) fn refused(what: &str, error: &io::Error) -> QmpError {
    QmpError::generic(format!("{what}: {}", system_words(error)))
}
