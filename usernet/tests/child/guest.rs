//! A guest: smoltcp over the frames' socket.
#![allow(unsafe_code)] // send, recv, poll

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant as Clock};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint};

use super::network::GUEST;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Guest {
    pub interface: Interface,
    pub wire: Wire,
    pub sockets: SocketSet<'static>,
}

pub struct Wire(pub OwnedFd);

impl Guest {
    /// Without an address.
    pub fn bare(frames: OwnedFd) -> Self {
        let mut wire = Wire(frames);
        let mut config = Config::new(EthernetAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]).into());
        config.random_seed = u64::from(std::process::id());
        let interface = Interface::new(config, &mut wire, Instant::now());
        Guest {
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
        }
    }

    /// With the first address that DHCP would give.
    pub fn new(frames: OwnedFd) -> Self {
        let mut guest = Self::bare(frames);
        guest.interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(GUEST.into(), 24)).unwrap();
            let six = Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0x15);
            list.push(IpCidr::new(six.into(), 64)).unwrap();
        });
        let router = Ipv4Addr::new(10, 0, 2, 2);
        guest
            .interface
            .routes_mut()
            .add_default_ipv4_route(router)
            .unwrap();
        guest
    }

    pub fn tcp(&mut self) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 256 << 10]);
        self.sockets.add(tcp::Socket::new(buffer(), buffer()))
    }

    pub fn udp(&mut self, port: u16) -> SocketHandle {
        let buffer =
            || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 64 << 10]);
        let mut socket = udp::Socket::new(buffer(), buffer());
        socket.bind(IpListenEndpoint::from(port)).unwrap();
        self.sockets.add(socket)
    }

    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.tcp();
        self.sockets
            .get_mut::<tcp::Socket>(handle)
            .listen(port)
            .unwrap();
        handle
    }

    pub fn connect(&mut self, to: impl Into<IpAddr>, port: u16) -> SocketHandle {
        let handle = self.tcp();
        let local = 40_000 + u16::try_from(self.sockets.iter().count()).unwrap();
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket
            .connect(
                self.interface.context(),
                (IpAddress::from(to.into()), port),
                local,
            )
            .unwrap();
        handle
    }

    /// Serves the guest's stack until `done` has something.
    pub fn until<T>(&mut self, what: &str, done: impl FnMut(&mut Self) -> Option<T>) -> T {
        let found = self.within(PATIENCE, done);
        found.unwrap_or_else(|| panic!("waited in vain for {what}"))
    }

    pub fn within<T>(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<T> {
        let end = Clock::now() + patience;
        while Clock::now() < end {
            self.interface
                .poll(Instant::now(), &mut self.wire, &mut self.sockets);
            if let Some(found) = done(self) {
                self.interface
                    .poll(Instant::now(), &mut self.wire, &mut self.sockets);
                return Some(found);
            }
            let next = self.interface.poll_delay(Instant::now(), &self.sockets);
            let most = next.map_or(10, |delay| delay.total_millis().min(10));
            let mut fd = libc::pollfd {
                fd: self.wire.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one entry, which lives across the call.
            unsafe { libc::poll(&raw mut fd, 1, most as i32) };
        }
        None
    }

    /// Sends a datagram and waits for the answer.
    pub fn exchange(
        &mut self,
        socket: SocketHandle,
        to: IpEndpoint,
        data: &[u8],
    ) -> (Vec<u8>, IpEndpoint) {
        self.sockets
            .get_mut::<udp::Socket>(socket)
            .send_slice(data, to)
            .unwrap();
        self.until("an answer", |guest| {
            let socket = guest.sockets.get_mut::<udp::Socket>(socket);
            let (data, from) = socket.recv().ok()?;
            Some((data.to_vec(), from.endpoint))
        })
    }

    /// Sends all of `data` while receiving until `wanted` bytes are here.
    pub fn converse(&mut self, socket: SocketHandle, data: &[u8], wanted: usize) -> Vec<u8> {
        let (mut rest, mut got) = (data, Vec::new());
        self.until("the conversation's end", |guest| {
            let socket = guest.sockets.get_mut::<tcp::Socket>(socket);
            if socket.can_send() {
                let sent = socket.send_slice(rest).unwrap();
                rest = &rest[sent..];
            }
            if socket.can_recv() {
                socket
                    .recv(|bytes| (bytes.len(), got.extend_from_slice(bytes)))
                    .unwrap();
            }
            (rest.is_empty() && socket.send_queue() == 0 && got.len() >= wanted).then_some(())
        });
        got
    }
}

impl Wire {
    /// A frame as it is.
    pub fn send(&self, frame: &[u8]) {
        // SAFETY: `frame` lives across the call.
        unsafe {
            libc::send(
                self.0.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                libc::MSG_NOSIGNAL,
            )
        };
    }

    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 2048];
        // SAFETY: `frame` lives across the call.
        let got = unsafe {
            libc::recv(
                self.0.as_raw_fd(),
                frame.as_mut_ptr().cast(),
                frame.len(),
                libc::MSG_DONTWAIT,
            )
        };
        frame.truncate(usize::try_from(got).ok().filter(|got| *got > 0)?);
        Some(frame)
    }
}

pub struct Received(Vec<u8>);
pub struct Sending<'a>(&'a Wire);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = Wire::receive(self)?;
        Some((Received(frame), Sending(self)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Sending<'_>> {
        Some(Sending(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.send(&frame);
        result
    }
}
