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
    pub(super) fn check(&self) -> QmpResult<()> {
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

    fn abstract_name(&self) -> Vec<u8> {
        let mut name = self.path.clone().into_bytes();
        if !self.tight {
            name.resize(UNIX_NAME - 1, 0);
        }
        name
    }

    /// The name as it stands in a socket address.
    pub(super) fn raw(&self) -> Vec<u8> {
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

    pub(super) fn to_std(&self) -> io::Result<unix::SocketAddr> {
        if self.is_abstract {
            unix::SocketAddr::from_abstract_name(self.abstract_name())
        } else {
            unix::SocketAddr::from_pathname(&self.path)
        }
    }

    pub(super) fn describe(&self) -> String {
        let kind = match (self.is_abstract, self.tight) {
            (false, _) => "",
            (true, true) => ",abstract=on,tight=on",
            (true, false) => ",abstract=on",
        };
        format!("unix:{}{kind}", self.path)
    }
}

/// A host and a port, as the user wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    pub(super) fn resolve(&self) -> QmpResult<Vec<SocketAddr>> {
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
                let mut found: Vec<_> = (host, port)
                    .to_socket_addrs()
                    .map_err(|_| fail("Name or service not known"))?
                    .collect();
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
    pub(super) fn ports(&self, first: u16) -> impl Iterator<Item = u16> + use<> {
        first..=self.to.unwrap_or(first).max(first)
    }

    pub(super) fn describe(&self) -> String {
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

/// What a connected socket is called: its own address and, for TCP, the peer's.
pub(super) fn describe_connection(fd: &OwnedFd, server: bool) -> Option<String> {
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
pub(super) fn refused(what: &str, error: &io::Error) -> QmpError {
    QmpError::generic(format!("{what}: {}", system_words(error)))
}
