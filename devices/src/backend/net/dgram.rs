//! A port of which each frame is one datagram.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;

use block::{Buffers, HostBuffer};

use super::framing::MOST_FRAME;
use super::stream::send_whole;
use super::wire::Line;
use super::{NetPort, Sent};
use crate::backend::socket::sys::{self, RawAddress};
use crate::backend::socket::{SocketPath, UnixAddress};

/// Datagrams that are passed over in one call, because they are too long or an old error.
const MOST_TRIES: usize = 64;

/// A datagram socket, made but not used yet.
pub struct DgramSocket {
    line: Line,
}

impl DgramSocket {
    /// From one unix socket to another. What was at the path before is replaced.
    ///
    /// # Errors
    /// When the path cannot be bound to, or is too long.
    pub fn unix(local: &UnixAddress, remote: &UnixAddress) -> io::Result<Self> {
        let fd = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM)?;
        let own = RawAddress::unix(&local.raw())?;
        let to = RawAddress::unix(&remote.raw())?;
        if !local.is_abstract {
            match std::fs::remove_file(&local.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sys::bind(&fd, &own)?;
        let path = (!local.is_abstract).then(|| SocketPath::new(PathBuf::from(&local.path)));
        Ok(Self::new(fd, Some(to), path))
    }

    /// UDP between two hosts.
    ///
    /// # Errors
    /// When the local address is not ours or is taken.
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> io::Result<Self> {
        let domain = if local.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let fd = sys::socket(domain, libc::SOCK_DGRAM)?;
        sys::reuse_address(&fd)?;
        sys::bind(&fd, &RawAddress::inet(local))?;
        Ok(Self::new(fd, Some(RawAddress::inet(remote)), None))
    }

    /// UDP among all who are in a group; from the interface that has the address `own`.
    ///
    /// # Errors
    /// When the port is taken by somebody who does not share it, or the system cannot do this.
    pub fn multicast(group: SocketAddrV4, own: Option<Ipv4Addr>) -> io::Result<Self> {
        let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM)?;
        sys::reuse_address(&fd)?;
        let to = RawAddress::inet(group.into());
        sys::bind(&fd, &to)?;
        if let Some(own) = own {
            sys::multicast_from(&fd, own)?;
        }
        let socket = UdpSocket::from(fd);
        socket.join_multicast_v4(group.ip(), &own.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
        // Others on this host are in the group, too.
        socket.set_multicast_loop_v4(true)?;
        Ok(Self::new(socket.into(), Some(to), None))
    }

    /// Somebody else made it and connected it.
    ///
    /// # Errors
    /// When it is not a datagram socket.
    pub fn passed(fd: OwnedFd) -> io::Result<Self> {
        let kind = sys::socket_kind(&fd)?;
        if kind != libc::SOCK_DGRAM && kind != libc::SOCK_SEQPACKET {
            return Err(io::Error::from_raw_os_error(libc::EPROTOTYPE));
        }
        sys::set_nonblocking(&fd)?;
        Ok(Self::new(fd, None, None))
    }

    /// Somebody else made it and bound it; it sends to a group.
    ///
    /// # Errors
    /// When it is not a datagram socket.
    pub fn passed_for(fd: OwnedFd, group: SocketAddrV4) -> io::Result<Self> {
        let mut made = Self::passed(fd)?;
        made.line.to = Some(RawAddress::inet(group.into()));
        Ok(made)
    }

    fn new(fd: OwnedFd, to: Option<RawAddress>, path: Option<SocketPath>) -> Self {
        DgramSocket {
            line: Line {
                fd,
                to,
                _path: path,
            },
        }
    }

    /// A port of its own.
    pub fn into_port(self) -> Box<dyn NetPort> {
        Box::new(DgramPort {
            line: self.line,
            crowded: false,
        })
    }
}

/// The port. Nothing of it blocks.
struct DgramPort {
    line: Line,
    /// Connected to the receiver until that has room again (unix sockets only).
    crowded: bool,
}

impl DgramPort {
    /// The receiver's queue is full, and an unconnected unix socket does not tell when it has
    /// room again: it counts as writable all the time. So it is connected until then.
    fn wait_for_room(&mut self) -> Sent {
        let line = &self.line;
        if let Some(to) = line.to.as_ref().filter(|to| to.is_unix() && !self.crowded) {
            if sys::connect_to(&line.fd, to).is_err() {
                return Sent::Done;
            }
            self.crowded = true;
        }
        Sent::Full
    }

    fn uncrowd(&mut self) {
        if std::mem::take(&mut self.crowded) {
            // Everybody may send to it again.
            let _ = sys::disconnect(&self.line.fd);
        }
    }
}

impl NetPort for DgramPort {
    fn fd(&self) -> RawFd {
        self.line.raw()
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        let line = &self.line;
        for _ in 0..MOST_TRIES {
            let received = match sys::receive(line.raw(), room) {
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => scatter(line, room),
                result => result,
            };
            match received {
                // An empty datagram is no frame, and one that was cut is of no use.
                Ok(len) if len == 0 || len as u64 > room.len() => {}
                Ok(len) => return Ok(Some(len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // What became of an earlier datagram (nobody was there) is told here.
                Err(_) => {}
            }
        }
        Ok(None)
    }

    fn send(&mut self, frame: &Buffers) -> Sent {
        if frame.is_empty() {
            return Sent::Done;
        }
        match send_whole(&self.line, &[], frame) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room(),
            // The receiver is not there, or the frame is longer than a datagram can be.
            Ok(_) | Err(_) => {
                self.uncrowd();
                Sent::Done
            }
        }
    }
}

/// Receives for a room in more pieces than the kernel is told of.
fn scatter(line: &Line, room: &Buffers) -> io::Result<usize> {
    let buffer = Arc::new(HostBuffer::new(MOST_FRAME, 1));
    let len = sys::receive(line.raw(), &Buffers::owned(buffer.clone()))?;
    let bytes = buffer.to_vec();
    room.write_at(0, bytes.get(..len).unwrap_or_default());
    Ok(len)
}
