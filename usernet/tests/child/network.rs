//! The child as the monitor has it.
#![allow(unsafe_code)] // socketpair of messages

use std::fmt::Debug;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use usernet::wire::{
    self, Answer, Ask, Config, GuestForward, HostForward, Ipv4, Ipv6, Protocol, Reader, Started,
    Target,
};

pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);

pub fn config() -> Config {
    Config {
        restrict: false,
        ipv4: Ipv4 {
            enabled: true,
            network: Ipv4Addr::new(10, 0, 2, 0),
            mask: Ipv4Addr::new(255, 255, 255, 0),
            host: HOST,
            dhcp_start: GUEST,
            dns: Ipv4Addr::new(10, 0, 2, 3),
        },
        ipv6: Ipv6 {
            enabled: true,
            prefix: Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0),
            prefix_len: 64,
            host: Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 2),
            dns: Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 3),
        },
        hostname: None,
        tftp_server_name: None,
        tftp: None,
        bootfile: None,
        dns_search: Vec::new(),
        domain_name: None,
        guest_forwards: Vec::new(),
        host_forwards: Vec::new(),
    }
}

/// A forward from a free port of the loopback interface, and that port.
pub fn forward(protocol: Protocol, guest_port: u16) -> (HostForward, SocketAddr) {
    let host = match protocol {
        Protocol::Tcp => TcpListener::bind("127.0.0.1:0").unwrap().local_addr(),
        Protocol::Udp => UdpSocket::bind("127.0.0.1:0").unwrap().local_addr(),
    }
    .unwrap();
    let forward = HostForward {
        protocol,
        host: Ipv4Addr::LOCALHOST,
        host_port: host.port(),
        guest: Ipv4Addr::UNSPECIFIED,
        guest_port,
    };
    (forward, host)
}

pub fn guest_forward(port: u16, to: Target) -> GuestForward {
    GuestForward {
        server: SERVER,
        port,
        to,
    }
}

pub struct Network {
    pub child: Child,
    pub control: UnixStream,
    pub reader: Reader,
}

/// A pair of sockets that carry messages.
pub fn messages() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for two numbers.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    assert_eq!(result, 0);
    // SAFETY: both are new and ours.
    ends.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).into()
}

impl Network {
    /// A child that was not told anything yet, and the guest's end of the frames' socket.
    pub fn spawn() -> (Self, OwnedFd) {
        let (control, its_control) = UnixStream::pair().unwrap();
        let (frames, its_frames) = messages();
        let child = Command::new(env!("CARGO_BIN_EXE_qvmd-usernet"))
            .stdin(Stdio::from(OwnedFd::from(its_control)))
            .stdout(Stdio::from(its_frames))
            .spawn()
            .unwrap();
        control
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        (
            Network {
                child,
                control,
                reader: Reader::new(),
            },
            frames,
        )
    }

    /// A child that was told what to do, and what it said.
    pub fn begin(config: &Config, streams: &[UnixStream]) -> (Self, OwnedFd, Started) {
        let (mut network, frames) = Self::spawn();
        let fds: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
        wire::send(&network.control, config, &fds).unwrap();
        let started = network.reader.next(&network.control).unwrap().unwrap();
        (network, frames, started)
    }

    /// A child that serves.
    pub fn start(config: &Config) -> (Self, OwnedFd) {
        let (network, frames, started) = Self::begin(config, &[]);
        assert_eq!(started, Started::Ready);
        (network, frames)
    }

    pub fn ask(&mut self, ask: &Ask) -> Answer {
        wire::send(&self.control, ask, &[]).unwrap();
        self.reader
            .next(&self.control)
            .unwrap()
            .expect("the child is gone")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that are not alike.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(len)
    .collect()
}

/// Without printing megabytes when they differ.
pub fn assert_same<T: PartialEq + Debug>(got: &[T], wanted: &[T]) {
    assert_eq!(got.len(), wanted.len());
    let differs = got
        .iter()
        .zip(wanted)
        .position(|(got, wanted)| got != wanted);
    assert_eq!(differs, None, "the first byte that differs");
}
