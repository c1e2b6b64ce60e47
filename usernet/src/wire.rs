//! What monitor and child say to each other: one value in each line of JSON.
//!
//! The monitor begins with [`Config`], along with one socket for each stream of
//! [`Target::Stream`], in their order, and is answered with [`Started`]. Afterwards it sends
//! [`Ask`]s and is sent one [`Answer`] for each, in order. The end of the socket is the end of
//! the child.

use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

pub use descriptors::FDS_MAX;
use descriptors::Wait;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The descriptor under which the child finds its end of the control socket.
pub const CONTROL_FD: RawFd = 0;
/// The descriptor under which the child finds its end of the frames' socket.
pub const FRAMES_FD: RawFd = 1;
/// The longest frame either side sends. The library makes none longer than 1514 bytes, and
/// takes longer ones from guests with a large MTU.
pub const FRAME_MAX: usize = 65_550;
/// The longest line. `info` of some ten thousand connections still fits.
const LINE_MAX: usize = 16 << 20;

/// The network that the guest sees. Checked by the monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The guest reaches nothing but what is forwarded.
    pub restrict: bool,
    /// IPv4.
    pub ipv4: Ipv4,
    /// IPv6.
    pub ipv6: Ipv6,
    /// Told to the guest by DHCP; at most 255 bytes, like each name here.
    pub hostname: Option<String>,
    /// The TFTP server's name, told by DHCP.
    pub tftp_server_name: Option<String>,
    /// The directory that TFTP serves.
    pub tftp: Option<String>,
    /// The file to boot from, told by DHCP; at most 127 bytes.
    pub bootfile: Option<String>,
    /// Domains to look in for names, told by DHCP.
    pub dns_search: Vec<String>,
    /// The domain, told by DHCP.
    pub domain_name: Option<String>,
    /// Doors from the guest's network to something on the host, made in this order.
    pub guest_forwards: Vec<GuestForward>,
    /// Doors from the host's network to the guest, made in this order after those.
    pub host_forwards: Vec<HostForward>,
}

/// The network's side of IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4 {
    /// Whether it is there.
    pub enabled: bool,
    /// The network's address.
    pub network: Ipv4Addr,
    /// Its mask.
    pub mask: Ipv4Addr,
    /// The host in it.
    pub host: Ipv4Addr,
    /// The first address that DHCP gives.
    pub dhcp_start: Ipv4Addr,
    /// The name server.
    pub dns: Ipv4Addr,
}

/// The network's side of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6 {
    /// Whether it is there.
    pub enabled: bool,
    /// The network's prefix.
    pub prefix: Ipv6Addr,
    /// Its length in bits, at most 126.
    pub prefix_len: u8,
    /// The host in it.
    pub host: Ipv6Addr,
    /// The name server.
    pub dns: Ipv6Addr,
}

/// What a host forward carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// A port of the host that leads to one of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostForward {
    /// What it carries.
    pub protocol: Protocol,
    /// Where the host listens; unspecified for everywhere.
    pub host: Ipv4Addr,
    /// The host's port; 0 for any that is free.
    pub host_port: u16,
    /// The guest's address; unspecified for the first that DHCP gives.
    pub guest: Ipv4Addr,
    /// The guest's port.
    pub guest_port: u16,
}

/// An address in the guest's network that leads to something on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestForward {
    /// The address; unspecified for the network's own choice.
    pub server: Ipv4Addr,
    /// The port.
    pub port: u16,
    /// Where it leads.
    pub to: Target,
}

/// Where a guest forward leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Into a stream that comes along with the configuration.
    Stream,
    /// To a program that is run for each connection.
    Command(String),
}

/// How the child's start went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Started {
    /// It serves.
    Ready,
    /// It ends.
    Failed(Failure),
}

/// Why the child cannot serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// This member of [`Config::host_forwards`] cannot be had.
    HostForward(usize),
    /// This member of [`Config::guest_forwards`] cannot be had.
    GuestForward(usize),
    /// Anything else, in words.
    Other(String),
}

/// What is asked of a child that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Opens a port of the host; answered with nothing.
    AddHostForward(HostForward),
    /// Closes it; answered with nothing.
    RemoveHostForward {
        /// What it carries.
        protocol: Protocol,
        /// Where the host listens.
        host: Ipv4Addr,
        /// The host's port.
        host_port: u16,
    },
    /// The table of connections, as the library words it.
    Info,
}

/// The answer to an [`Ask`]: a text, or why it could not be done.
pub type Answer = Result<String, String>;

/// Sends a value, with descriptors.
///
/// # Errors
/// When the other side is gone, or too slow where the socket has a time limit.
pub fn send(to: &UnixStream, value: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let sent = if fds.is_empty() {
        0
    } else {
        descriptors::send(to, &line, fds, Wait::Yes)?
    };
    let mut to = to;
    to.write_all(line.get(sent..).unwrap_or_default())
}

/// Takes values from a socket.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// How much of `buffer` is known to have no end of a line.
    searched: usize,
    fds: Vec<OwnedFd>,
}

impl Reader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The descriptors that came along so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// The next value, waited for unless the socket is non-blocking. `None` at the end.
    ///
    /// # Errors
    /// When the socket fails (`WouldBlock` included), or what comes is no such value.
    pub fn next<T: DeserializeOwned>(&mut self, from: &UnixStream) -> io::Result<Option<T>> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(Some(value));
            }
            if self.receive(from)? == 0 {
                return Ok(None);
            }
        }
    }

    /// A value that is here already.
    ///
    /// # Errors
    /// When what came is no such value.
    pub fn buffered<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(at) = unsearched.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            if self.searched > LINE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            return Ok(None);
        };
        let end = self.searched.saturating_add(at).saturating_add(1);
        let line: Vec<u8> = self.buffer.drain(..end).collect();
        self.searched = 0;
        Ok(Some(serde_json::from_slice(&line)?))
    }

    fn receive(&mut self, from: &UnixStream) -> io::Result<usize> {
        let mut bytes = [0u8; 4096];
        let came = descriptors::receive(from, &mut bytes, FDS_MAX, Wait::Yes)?;
        self.fds.extend(came.fds);
        let bytes = bytes.get(..came.len).unwrap_or_default();
        self.buffer.extend_from_slice(bytes);
        Ok(came.len)
    }
}

#[cfg(test)]
#[path = "wire_test.rs"]
mod tests;
