//! A port of which each frame is one datagram.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use block::{Buffers, HostBuffer};
use vmm_sys_util::timerfd::TimerFd;

use super::framing::MOST_FRAME;
use super::stream::send_whole;
use super::wire::Line;
use super::{NetPort, Sent};
use crate::backend::socket::sys::{self, RawAddress};
use crate::backend::socket::{Epoll, SocketPath, UnixAddress};

/// Datagrams that are passed over in one call, because they are too long or an old error.
const MOST_TRIES: usize = 64;
/// How long a frame waits that the receiver had no room for; twice as long with each try that
/// follows.
const FIRST_WAIT: Duration = Duration::from_micros(50);
const LONGEST_WAIT: Duration = Duration::from_millis(3);
/// How often the wait is told of while nobody tries to send again.
const MOST_TELLS: u8 = 4;

/// A datagram socket, made but not used yet.
pub struct DgramSocket {
    line: Line,
    retry: Retry,
    /// Has the socket and the timer: the port's descriptor.
    set: Epoll,
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
        Self::new(fd, Some(to), path)
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
        Self::new(fd, Some(RawAddress::inet(remote)), None)
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
        Self::new(socket.into(), Some(to), None)
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
        Self::new(fd, None, None)
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

    fn new(fd: OwnedFd, to: Option<RawAddress>, path: Option<SocketPath>) -> io::Result<Self> {
        let set = Epoll::new()?;
        set.add(fd.as_raw_fd(), libc::EPOLLIN, 0)?;
        Ok(DgramSocket {
            line: Line {
                fd,
                to,
                _path: path,
            },
            retry: Retry::new(&set)?,
            set,
        })
    }

    /// A port of its own.
    pub fn into_port(self) -> Box<dyn NetPort> {
        Box::new(DgramPort(self))
    }
}

/// Makes the set readable when it is time to send again. An unconnected unix socket counts as
/// writable all the time, also while the receiver's queue is full. Connecting it until there is
/// room would help, but dissolving that throws away what waits to be received.
struct Retry {
    timer: TimerFd,
    wait: Duration,
    /// How many times more it is told of while nobody tries.
    tells: u8,
}

impl Retry {
    fn new(set: &Epoll) -> io::Result<Self> {
        let timer = TimerFd::new()?;
        set.add(timer.as_raw_fd(), libc::EPOLLIN, 0)?;
        Ok(Retry {
            timer,
            wait: FIRST_WAIT,
            tells: 0,
        })
    }

    /// There was no room.
    fn full(&mut self) -> Sent {
        self.wait = match self.tells {
            0 => FIRST_WAIT,
            _ => self.wait.saturating_mul(2).min(LONGEST_WAIT),
        };
        self.tells = MOST_TELLS;
        match self.timer.reset(self.wait, None) {
            Ok(()) => Sent::Full,
            // Nothing would tell.
            Err(_) => Sent::Done,
        }
    }

    /// There was room, or nobody is there.
    fn done(&mut self) -> Sent {
        if std::mem::take(&mut self.tells) != 0 {
            // Fails for no timer that is one.
            let _ = self.timer.clear();
        }
        Sent::Done
    }

    /// The socket had nothing. If the time has come, whoever waits for it knows now. It is told
    /// again all the same: perhaps this was asked for another reason.
    fn told(&mut self) {
        if self.tells != 0 && sys::poll(self.timer.as_raw_fd(), libc::POLLIN, 0) != 0 {
            self.tells = self.tells.saturating_sub(1);
            let _ = match self.tells {
                0 => self.timer.clear(),
                _ => self.timer.reset(self.wait, None),
            };
        }
    }
}

/// The port. Nothing of it blocks.
struct DgramPort(DgramSocket);

impl NetPort for DgramPort {
    fn fd(&self) -> RawFd {
        self.0.set.as_raw_fd()
    }

    fn receive(&mut self, room: &Buffers) -> io::Result<Option<usize>> {
        let line = &self.0.line;
        for _ in 0..MOST_TRIES {
            let received = match sys::receive(line.raw(), room) {
                Err(error) if error.raw_os_error() == Some(libc::E2BIG) => scatter(line, room),
                result => result,
            };
            match received {
                // An empty datagram is no frame, and one that was cut is of no use.
                Ok(len) if len == 0 || len as u64 > room.len() => {}
                Ok(len) => return Ok(Some(len)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.0.retry.told();
                    return Ok(None);
                }
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
        match send_whole(&self.0.line, &[], frame) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.0.retry.full(),
            // The receiver is not there, or the frame is longer than a datagram can be.
            Ok(_) | Err(_) => self.0.retry.done(),
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
