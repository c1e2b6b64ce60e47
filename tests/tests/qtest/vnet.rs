//! virtio-net by its rings, on a network of datagrams whose other end is the test.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use serde_json::{Value, json};
use tests::VmBuilder;
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};

const SLOT: u8 = 4;
/// Bytes of the header before each frame.
const HEADER: usize = 12;
const MAC: [u8; 6] = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
const OTHER: [u8; 6] = [0x52, 0x54, 0, 1, 2, 3];
const OK: u8 = 0;
const ERR: u8 = 1;

/// A machine with an interface, its driver, and the other end of its network.
struct Bench {
    t: Qtest,
    device: Device,
    receive: Queue,
    transmit: Queue,
    control: Queue,
    wire: UnixDatagram,
}

fn backend(builder: &VmBuilder) -> (UnixDatagram, String) {
    let wire = UnixDatagram::bind(builder.path("theirs")).expect("a socket");
    wire.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a limit");
    let netdev = format!(
        "dgram,id=n,local.type=unix,local.path={},remote.type=unix,remote.path={}",
        builder.path("ours").display(),
        builder.path("theirs").display()
    );
    (wire, netdev)
}

impl Bench {
    fn start() -> Self {
        let builder = VmBuilder::new().idle();
        let (wire, netdev) = backend(&builder);
        let card = format!(
            "virtio-net-pci,id=net0,netdev=n,addr={SLOT}.0,mac=52:54:00:aa:bb:cc,host_mtu=1400"
        );
        let mut t = Qtest::start_with(builder, &["-netdev", &netdev, "-device", &card]);
        wire.connect(t.vm.path("ours")).expect("the program's end");
        let mut device = Device::find(&mut t, SLOT);
        let (receive, transmit, control) = drive(&mut t, &mut device);
        Bench {
            t,
            device,
            receive,
            transmit,
            control,
            wire,
        }
    }

    fn drive(&mut self) {
        self.t.free_all();
        let (receive, transmit, control) = drive(&mut self.t, &mut self.device);
        (self.receive, self.transmit, self.control) = (receive, transmit, control);
    }

    fn command(&mut self, bytes: &[u8]) -> u8 {
        let t = &mut self.t;
        let at = t.alloc(4096);
        t.write(at, bytes);
        t.write(at + 2048, &[0xee]);
        let length = bytes.len() as u32;
        self.control
            .add(t, &[(at, length, false), (at + 2048, 1, true)]);
        self.control.kick(t);
        assert_eq!(self.control.wait(t).1, 1);
        t.readb(at + 2048)
    }

    /// Sends a frame as the driver does, and has it at the other end.
    fn sends(&mut self, frame: &[u8]) {
        let t = &mut self.t;
        let at = t.alloc(4096);
        t.write(at, &[0; HEADER]);
        t.write(at + HEADER as u64, frame);
        self.transmit
            .add(t, &[(at, (HEADER + frame.len()) as u32, false)]);
        self.transmit.kick(t);
        self.transmit.wait(t);
        assert_eq!(self.arrives(), frame);
    }

    fn arrives(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 65536];
        let length = self.wire.recv(&mut frame).expect("a frame");
        frame.truncate(length);
        frame
    }

    /// Gives a buffer to receive into, and says where it is.
    fn gives(&mut self) -> u64 {
        let at = self.t.alloc(2048);
        self.receive.add(&mut self.t, &[(at, 2048, true)]);
        self.receive.kick(&mut self.t);
        at
    }

    /// What is in the next buffer that was used.
    fn receives(&mut self, at: u64) -> Vec<u8> {
        let (_, written) = self.receive.wait(&mut self.t);
        let got = self.t.read(at, written as usize);
        assert_eq!(got[..10], [0; 10]);
        assert_eq!(got[10..HEADER], [1, 0]);
        got[HEADER..].to_vec()
    }

    fn status(&mut self) -> u8 {
        let at = self.device.config() + 6;
        self.t.readb(at)
    }
}

fn drive(t: &mut Qtest, device: &mut Device) -> (Queue, Queue, Queue) {
    device.negotiate(t, u64::MAX);
    let queues = (
        device.queue(t, 0, None),
        device.queue(t, 1, None),
        device.queue(t, 2, None),
    );
    device.drive(t);
    queues
}

fn frame(to: [u8; 6], length: usize) -> Vec<u8> {
    let mut frame = [&to[..], &OTHER, &[0x88, 0xb5]].concat();
    frame.resize(length, 0x5a);
    frame
}

#[test]
fn frames_go_both_ways() {
    let mut bench = Bench::start();
    for length in [60, 61, 1414] {
        bench.sends(&frame(OTHER, length));
        let at = bench.gives();
        bench.wire.send(&frame(MAC, length)).unwrap();
        assert_eq!(bench.receives(at), frame(MAC, length));
    }
    // With what came before there were buffers.
    bench.wire.send(&frame(MAC, 100)).unwrap();
    let at = bench.gives();
    assert_eq!(bench.receives(at), frame(MAC, 100));
}

#[test]
fn configuration_is_as_asked_for() {
    let mut bench = Bench::start();
    let config = bench.device.config();
    assert_eq!(bench.t.read(config, 6), MAC);
    assert_eq!(bench.t.readw(config + 6), 1);
    assert_eq!(bench.t.readw(config + 8), 1);
    assert_eq!(bench.t.readw(config + 10), 1400);
}

#[test]
fn the_filter_is_seen_by_clients_and_by_frames() {
    let mut bench = Bench::start();
    let told =
        |bench: &mut Bench| bench.t.vm.exec("query-rx-filter", json!({"name": "net0"}))[0].clone();
    let filter = told(&mut bench);
    assert_eq!(filter["promiscuous"], true);
    assert_eq!(filter["main-mac"], "52:54:00:aa:bb:cc");
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    let event = bench.t.vm.qmp().event("NIC_RX_FILTER_CHANGED");
    assert_eq!(
        event["data"],
        json!({"name": "net0", "path": "/machine/peripheral/net0/virtio-backend"})
    );
    assert_eq!(bench.command(&[2, 0, 5, 0]), OK);
    assert_eq!(bench.command(&[2, 0, 0, 0x10]), ERR);
    let filter = told(&mut bench);
    assert_eq!(filter["promiscuous"], false);
    assert_eq!(filter["vlan-table"], json!([5]));
    assert_eq!(filter["multicast"], "normal");
    let at = bench.gives();
    bench.wire.send(&frame(OTHER, 60)).unwrap();
    bench.wire.send(&frame(MAC, 61)).unwrap();
    assert_eq!(bench.receives(at).len(), 61);
}

#[test]
fn the_link_is_pulled_and_plugged() {
    let mut bench = Bench::start();
    for name in ["net0", "n"] {
        bench.device.isr(&mut bench.t);
        bench
            .t
            .vm
            .exec("set_link", json!({"name": name, "up": false}));
        assert_eq!(bench.status(), 0);
        assert_eq!(bench.device.isr(&mut bench.t) & 2, 2);
        let at = bench.t.alloc(4096);
        bench.transmit.add(&mut bench.t, &[(at, 100, false)]);
        bench.transmit.kick(&mut bench.t);
        bench.transmit.wait(&mut bench.t);
        bench
            .t
            .vm
            .exec("set_link", json!({"name": name, "up": true}));
        assert_eq!(bench.status(), 1);
        bench.sends(&frame(OTHER, 70));
    }
    let error = bench
        .t
        .vm
        .refused("set_link", json!({"name": "nope", "up": true}));
    assert_eq!(error.desc, "Device 'nope' not found");
}

#[test]
fn an_interface_is_announced() {
    let mut bench = Bench::start();
    bench.t.vm.exec(
        "announce-self",
        json!({"initial": 50, "max": 550, "rounds": 1, "step": 50}),
    );
    let frame = bench.arrives();
    assert_eq!(frame.len(), 60);
    assert_eq!(frame[6..14], [&MAC[..], &[0x80, 0x35]].concat());
    bench.t.until("the driver is asked", {
        let at = bench.device.config() + 6;
        move |t| t.readb(at) == 3
    });
    assert_eq!(bench.command(&[3, 0]), OK);
    assert_eq!(bench.status(), 1);
}

#[test]
fn stop_and_reset_lose_nothing_that_matters() {
    let mut bench = Bench::start();
    let at = bench.gives();
    bench.t.vm.query("stop");
    bench.wire.send(&frame(MAC, 80)).unwrap();
    bench.t.vm.query("cont");
    assert_eq!(bench.receives(at), frame(MAC, 80));
    assert_eq!(bench.command(&[1, 1, 2, 2, 2, 2, 2, 2]), OK);
    assert_eq!(bench.command(&[0, 0, 0]), OK);
    bench.drive();
    let config = bench.device.config();
    assert_eq!(bench.t.read(config, 6), MAC);
    bench.sends(&frame(OTHER, 90));
    let at = bench.gives();
    bench.wire.send(&frame(OTHER, 91)).unwrap();
    assert_eq!(bench.receives(at), frame(OTHER, 91));
}

#[test]
fn lies_of_a_driver_break_the_device_until_a_reset() {
    for (queue, length, device_writes) in [(1, 11, false), (0, 11, true), (2, 1, false)] {
        let mut bench = Bench::start();
        let at = bench.t.alloc(4096);
        let ring = match queue {
            0 => &mut bench.receive,
            1 => &mut bench.transmit,
            _ => &mut bench.control,
        };
        ring.add(&mut bench.t, &[(at, length, device_writes)]);
        ring.kick(&mut bench.t);
        bench.wire.send(&frame(MAC, 60)).unwrap();
        let device = &bench.device;
        bench.t.until("needs a reset", |t| {
            device.status(t) & tests::virtio::status::NEEDS_RESET != 0
        });
        bench.t.vm.assert_alive();
        bench.drive();
        bench.sends(&frame(OTHER, 90));
    }
}

#[test]
fn addresses_are_given_out_in_order() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-device", "virtio-net,id=a"])
        .args(["-device", "virtio-net-pci,id=b,mac=52:54:00:12:34:57"])
        .args(["-device", "virtio-net-pci,id=c"])
        .start();
    let mut mac = |id: &str| -> Value {
        let path = format!("/machine/peripheral/{id}");
        vm.exec("qom-get", json!({"path": path, "property": "mac"}))
    };
    assert_eq!(mac("a"), "52:54:00:12:34:56");
    assert_eq!(mac("b"), "52:54:00:12:34:57");
    assert_eq!(mac("c"), "52:54:00:12:34:58");
    let kind = vm.exec(
        "qom-get",
        json!({"path": "/machine/peripheral/a", "property": "type"}),
    );
    assert_eq!(kind, "virtio-net-pci");
}

#[test]
fn a_netdev_is_for_one_interface() {
    for (devices, expected) in [
        (
            &["virtio-net-pci,netdev=x"][..],
            "Property 'virtio-net-device.netdev' can't find value 'x'",
        ),
        (
            &["virtio-net-pci,netdev=n", "virtio-net-pci,netdev=n"],
            "Property 'virtio-net-device.netdev' can't take value 'n', it's in use",
        ),
        (
            &["virtio-net-pci,netdev=n,mac=52:54"],
            "Property 'virtio-net-device.mac' doesn't take value '52:54'",
        ),
    ] {
        let mut builder = VmBuilder::new().stopped();
        let (_wire, netdev) = backend(&builder);
        builder = builder.args(["-netdev", &netdev]);
        for device in devices {
            builder = builder.args(["-device", device]);
        }
        builder.run().assert_refused().assert_says(expected);
    }
}
