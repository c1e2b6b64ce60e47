//! Interfaces of two programs, or of one, joined by sockets and hubs.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, seconds};

/// Bytes of the header before each frame in the driver's buffers.
const HEADER: usize = 12;
const BROADCAST: [u8; 6] = [0xff; 6];

/// An interface with its driver.
pub struct Card {
    receive: Queue,
    transmit: Queue,
    link: u64,
}

pub fn start() -> Qtest {
    let builder = VmBuilder::new().args(["-machine", "pc", "-accel", "qtest", "-m", "64"]);
    Qtest::start_with(builder, &[])
}

pub fn plug(t: &mut Qtest, slot: u8, netdev: &str) -> Card {
    let args = json!({
        "driver": "virtio-net-pci", "id": format!("net{slot}"), "netdev": netdev,
        "addr": format!("{slot}.0"),
    });
    t.vm.exec("device_add", args);
    let mut device = Device::find(t, slot);
    device.negotiate(t, u64::MAX);
    let (receive, transmit) = (device.queue(t, 0, None), device.queue(t, 1, None));
    device.drive(t);
    Card {
        receive,
        transmit,
        link: device.config() + 6,
    }
}

impl Card {
    /// Waits until the driver sees the link so.
    pub fn link_is(&self, t: &mut Qtest, up: bool) {
        t.until("the link", |t| (t.readw(self.link) & 1 != 0) == up);
    }

    pub fn send(&mut self, t: &mut Qtest, frame: &[u8]) {
        let at = t.alloc((HEADER + frame.len()) as u64);
        t.write(at, &[0; HEADER]);
        t.write(at + HEADER as u64, frame);
        let length = (HEADER + frame.len()) as u32;
        self.transmit.add(t, &[(at, length, false)]);
        self.transmit.kick(t);
        self.transmit.wait(t);
    }

    pub fn give(&mut self, t: &mut Qtest) -> u64 {
        let at = t.alloc(16384);
        self.receive.add(t, &[(at, 16384, true)]);
        self.receive.kick(t);
        at
    }

    pub fn got(&mut self, t: &mut Qtest, at: u64) -> Vec<u8> {
        let (_, written) = self.receive.wait(t);
        t.read(at, written as usize)[HEADER..].to_vec()
    }
}

fn frame(length: usize, mark: u8) -> Vec<u8> {
    let mut frame = [&BROADCAST[..], &[0x52, 0x54, 0, 0, 0, mark], &[0x88, 0xb5]].concat();
    frame.resize(length, mark);
    frame
}

fn stream(id: &str, path: &Path, more: &Value) -> Value {
    let mut options = json!({"type": "stream", "id": id, "addr": {"type": "unix", "path": path}});
    let more = more.as_object().expect("an object").clone();
    options.as_object_mut().expect("an object").extend(more);
    options
}

/// A frame from one to the other.
fn passes(from: (&mut Qtest, &mut Card), to: (&mut Qtest, &mut Card), frame: &[u8]) {
    let at = to.1.give(to.0);
    from.1.send(from.0, frame);
    assert!(to.1.got(to.0, at) == frame, "another frame");
}

#[test]
fn two_programs_over_a_stream_that_breaks() {
    let (mut near, mut far) = (start(), start());
    // The directory of the one that stays.
    let path = far.vm.path("wire");
    near.vm
        .exec("netdev_add", stream("n", &path, &json!({"server": true})));
    let again = json!({"reconnect-ms": 50});
    far.vm.exec("netdev_add", stream("n", &path, &again));
    near.vm.qmp().event("NETDEV_STREAM_CONNECTED");
    far.vm.qmp().event("NETDEV_STREAM_CONNECTED");
    let mut b = plug(&mut far, 4, "n");
    b.link_is(&mut far, true);
    for round in 0..3 {
        let mut a = plug(&mut near, 4, "n");
        a.link_is(&mut near, true);
        for length in [60, 1514, 9014] {
            let frame = frame(length, round);
            passes((&mut near, &mut a), (&mut far, &mut b), &frame);
            passes((&mut far, &mut b), (&mut near, &mut a), &frame);
        }
        drop(near);
        far.vm.qmp().event("NETDEV_STREAM_DISCONNECTED");
        b.link_is(&mut far, false);
        // Sent to nobody.
        b.send(&mut far, &frame(60, round));
        near = start();
        near.vm
            .exec("netdev_add", stream("n", &path, &json!({"server": true})));
        near.vm.qmp().event("NETDEV_STREAM_CONNECTED");
        far.vm.qmp().event("NETDEV_STREAM_CONNECTED");
        b.link_is(&mut far, true);
    }
}

#[test]
fn a_flood_a_stall_and_a_lie() {
    let mut t = start();
    let path = t.vm.path("wire");
    t.vm.exec("netdev_add", stream("n", &path, &json!({"server": true})));
    let mut card = plug(&mut t, 4, "n");
    let mut peer = UnixStream::connect(&path).expect("it listens");
    peer.set_read_timeout(Some(seconds(20))).expect("a socket");
    card.link_is(&mut t, true);
    // The driver has no buffers: what the socket does not take waits at the peer.
    peer.set_nonblocking(true).expect("a socket");
    let whole = [&[0, 0, 5, 234][..], &frame(1514, 7)].concat();
    let mut flood = whole.iter().copied().cycle();
    let mut sent = 0;
    let mut chunk: Vec<u8> = flood.by_ref().take(whole.len()).collect();
    for _ in 0..10_000 {
        match peer.write(&chunk) {
            Ok(count) => {
                sent += count;
                chunk.drain(..count);
                chunk.extend(flood.by_ref().take(count));
            }
            Err(_) => break,
        }
    }
    let frames = sent / whole.len();
    assert!((10..9000).contains(&frames), "{frames}");
    t.vm.query("query-status");
    for _ in 0..frames.min(200) {
        let at = card.give(&mut t);
        assert!(card.got(&mut t, at) == frame(1514, 7), "another frame");
    }
    peer.set_nonblocking(false).expect("a socket");
    drop(peer);
    // The rest, and then the end.
    for _ in 0..frames {
        card.give(&mut t);
        if card.receive.poll(&mut t).is_none() {
            break;
        }
    }
    card.link_is(&mut t, false);
    let mut peer = UnixStream::connect(&path).expect("it listens");
    peer.set_read_timeout(Some(seconds(20))).expect("a socket");
    card.link_is(&mut t, true);
    peer.write_all(&[0xff; 4]).expect("it is taken");
    card.link_is(&mut t, false);
    assert_eq!(peer.read(&mut [0; 1]).expect("the end"), 0);
}

#[test]
fn a_hub_joins_interfaces_and_netdevs() {
    let (mut t, mut far) = (start(), start());
    let path = t.vm.path("wire");
    t.vm.exec("netdev_add", stream("n", &path, &json!({"server": true})));
    far.vm.exec("netdev_add", stream("n", &path, &json!({})));
    for (id, netdev) in [("h1", None), ("h2", None), ("h3", Some("n"))] {
        let mut options = json!({"type": "hubport", "id": id, "hubid": 7});
        if let Some(netdev) = netdev {
            options["netdev"] = netdev.into();
        }
        t.vm.exec("netdev_add", options);
    }
    t.vm.qmp().event("NETDEV_STREAM_CONNECTED");
    let (mut a, mut b) = (plug(&mut t, 4, "h1"), plug(&mut t, 5, "h2"));
    let mut c = plug(&mut far, 4, "n");
    c.link_is(&mut far, true);
    for mark in 0..20 {
        let frame = frame(1514, mark);
        let (at_b, at_c) = (b.give(&mut t), c.give(&mut far));
        a.send(&mut t, &frame);
        assert!(b.got(&mut t, at_b) == frame && c.got(&mut far, at_c) == frame);
        let (at_a, at_b) = (a.give(&mut t), b.give(&mut t));
        c.send(&mut far, &frame);
        assert!(a.got(&mut t, at_a) == frame && b.got(&mut t, at_b) == frame);
    }
    // The netdev leaves the hub, and the others stay.
    t.vm.exec("netdev_del", json!({"id": "h3"}));
    let at = b.give(&mut t);
    a.send(&mut t, &frame(60, 99));
    assert!(b.got(&mut t, at) == frame(60, 99));
}
