//! The interface under the fake guest, on a network whose other end is the test.

mod commands;
mod device;
mod flow;
mod frames;
mod garbage;

use std::io;
use std::sync::{Arc, Mutex};

use api_spec::{DeviceDriver, VirtioNetPciProps};

use super::build;
use crate::backend::net::{
    HEADER, NetPort, NetTraits, Netdev, NetdevOptions, Nic, Offloads, VhostBackend,
};
use crate::bus::lock;
use crate::testing::{Buffer, Driver, FakeGuest, Ring, Wire, wire};

const ALL: Offloads = Offloads::ALL;
/// Frames with a header before them, and all offloads.
const WITH_HEADER: NetTraits = NetTraits {
    header: true,
    offloads: ALL,
};
/// Bare frames.
const BARE: NetTraits = NetTraits {
    header: false,
    offloads: ALL,
};

fn netdev(
    traits: NetTraits,
    pairs: usize,
    vhost: Option<Arc<dyn VhostBackend>>,
) -> (Arc<Netdev>, Vec<Wire>) {
    let (ports, wires) = (0..pairs).map(|_| wire()).unzip();
    let netdev = Netdev::new(NetdevOptions {
        id: "n0".into(),
        kind: "test",
        description: String::new(),
        traits,
        ports,
        vhost,
        link_up: true,
    });
    (netdev, wires)
}

fn props(text: &str) -> VirtioNetPciProps {
    let flags = api_spec::keyval::Flags::Refused;
    let text = format!("virtio-net{text}");
    let options: api_spec::DeviceOptions =
        api_spec::keyval::decode_keyval(&text, Some("driver"), flags).unwrap();
    match options.driver {
        DeviceDriver::VirtioNetPci(props) => props,
        other => panic!("{other:?}"),
    }
}

/// An interface with a driver.
struct Bench<'a> {
    guest: &'a FakeGuest,
    driver: Driver<'a>,
    nic: Arc<dyn Nic>,
    netdev: Arc<Netdev>,
    wires: Vec<Wire>,
    /// By index; the control queue is the last one.
    rings: Vec<Ring>,
}

/// Where rings are, each in pages of its own.
const RINGS: u64 = 0x1_0000;
const RING_STEP: u64 = 0x4000;
const COMMAND: u64 = 0x8_0000;
const DATA: u64 = 0x10_0000;
const SIZE: u16 = 64;

impl<'a> Bench<'a> {
    fn cold(guest: &'a FakeGuest, traits: NetTraits, pairs: usize, text: &str) -> Self {
        let (netdev, wires) = netdev(traits, pairs, None);
        let mut cx = guest.cx("net0");
        cx.netdev = netdev.attach();
        let (function, nic) = build(&props(text), &mut cx).unwrap();
        Bench {
            guest,
            driver: Driver::new(guest, function),
            nic,
            netdev,
            wires,
            rings: Vec::new(),
        }
    }

    /// On ports of the test's own.
    fn on(
        guest: &'a FakeGuest,
        traits: NetTraits,
        ports: Vec<Box<dyn NetPort>>,
        text: &str,
    ) -> Self {
        let netdev = Netdev::new(NetdevOptions {
            id: "n0".into(),
            kind: "test",
            description: String::new(),
            traits,
            ports,
            vhost: None,
            link_up: true,
        });
        let mut cx = guest.cx("net0");
        cx.netdev = netdev.attach();
        let (function, nic) = build(&props(text), &mut cx).unwrap();
        Bench {
            guest,
            driver: Driver::new(guest, function),
            nic,
            netdev,
            wires: Vec::new(),
            rings: Vec::new(),
        }
    }

    /// With a driver that took `features` and set up the queues of so many pairs.
    fn with(
        guest: &'a FakeGuest,
        traits: NetTraits,
        (pairs, text): (usize, &str),
        features: u64,
    ) -> Self {
        let mut bench = Self::cold(guest, traits, pairs, text);
        bench.start(features);
        bench
    }

    fn new(guest: &'a FakeGuest, traits: NetTraits) -> Self {
        Self::with(guest, traits, (1, ""), u64::MAX)
    }

    fn start(&mut self, features: u64) {
        self.driver.negotiate(features);
        let queues = self.driver.common16(0x12);
        self.rings = (0..queues)
            .map(|index| {
                let at = RINGS + RING_STEP * u64::from(index);
                self.driver.queue(index, at, SIZE)
            })
            .collect();
        self.driver.go();
        self.guest.thread.run();
    }

    fn run(&self) {
        self.guest.thread.run();
    }

    fn kick(&self, queue: usize) {
        self.driver.kick(&self.rings[queue]);
    }

    /// Gives receive buffers of these lengths to a queue, from [`DATA`] on; where each is.
    fn give(&mut self, queue: usize, lengths: &[u32]) -> Vec<(u16, u64, u32)> {
        let mut at = DATA;
        let mut given = Vec::new();
        for len in lengths {
            let head = self.rings[queue].add(self.guest, &[Buffer::In(at, *len)]);
            given.push((head, at, *len));
            at += u64::from(*len) + 16;
        }
        self.kick(queue);
        given
    }

    /// What the driver got in a queue: buffers, joined.
    fn got(&mut self, queue: usize, given: &[(u16, u64, u32)]) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        let mut left = 1u16;
        while left > 0 {
            let (head, written) = self.rings[queue].take_used(self.guest)?;
            let (_, at, len) = *given
                .iter()
                .find(|(own, ..)| u32::from(*own) == head)
                .expect("a buffer that was given");
            assert!(written <= len);
            frame.extend(self.guest.read(at, written as usize));
            if frame.len() == written as usize {
                left = u16::from_le_bytes([frame[10], frame[11]]);
            }
            left -= 1;
        }
        Some(frame)
    }

    /// Sends a frame with a header before it.
    fn transmit(&mut self, queue: usize, at: u64, frame: &[u8]) -> u16 {
        self.guest.write(at, frame);
        let buffers = [Buffer::Out(at, frame.len() as u32)];
        self.rings[queue].add(self.guest, &buffers)
    }

    /// Sends a command, and says how it was answered.
    fn command(&mut self, bytes: &[u8]) -> u8 {
        self.guest.write(COMMAND, bytes);
        self.guest.write(COMMAND + 0x1000, &[0xee]);
        let last = self.rings.len() - 1;
        let mut ring = self.rings[last].clone();
        let buffers = [
            Buffer::Out(COMMAND, bytes.len() as u32),
            Buffer::In(COMMAND + 0x1000, 1),
        ];
        assert_eq!(self.driver.request(&mut ring, &buffers), 1);
        self.rings[last] = ring;
        self.guest.read(COMMAND + 0x1000, 1)[0]
    }

    fn status(&self) -> u16 {
        u16::from_le_bytes(self.driver.config(6))
    }
}

/// A frame to `to` with recognizable contents, without a header.
fn frame(to: [u8; 6], len: usize) -> Vec<u8> {
    let mut frame = to.to_vec();
    frame.extend([0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.extend((14..len).map(|at| (at * 7) as u8));
    frame
}

/// The same behind a header that a back end gave.
fn with_header(frame: &[u8]) -> Vec<u8> {
    [&[1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0xaa, 0xaa][..], frame].concat()
}

fn headerless(bytes: &[u8]) -> &[u8] {
    &bytes[HEADER..]
}
