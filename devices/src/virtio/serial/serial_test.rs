use std::sync::Arc;
use std::time::Duration;

use api_spec::{DeviceDriver, DeviceOptions, Mode, Object, QmpError, Value, decode_value};
use proptest::prelude::*;

use super::*;
use crate::backend::chardev::{Chardev, ChardevServer, Dialer, Source};
use crate::bus::lock;
use crate::cx::EffectSink;
use crate::effect::{Effect, Notice};
use crate::pci::PciFunction;
use crate::testing::{Buffer, Driver, FakeChar, FakeGuest, Ring, conformance};

fn props(max_ports: u32) -> VirtioSerialPciProps {
    let mut options = Object::new();
    options.insert("driver".into(), "virtio-serial-pci".into());
    options.insert("max_ports".into(), max_ports.into());
    let decoded: DeviceOptions = decode_value(Value::Object(options), Mode::Strict).unwrap();
    match decoded.driver {
        DeviceDriver::VirtioSerialPci(props) => props,
        other => panic!("{other:?}"),
    }
}

/// A driver with the control queues and those of one port.
struct Bench<'a> {
    driver: Driver<'a>,
    bus: Arc<SerialBus>,
    guest: &'a FakeGuest,
    control_in: Ring,
    control_out: Ring,
    receive: Ring,
    transmit: Ring,
    offered: u64,
}

const NR: u32 = 1;

fn options(kind: PortKind, nr: Option<u32>, name: Option<&str>) -> PortOptions {
    PortOptions {
        kind,
        nr,
        name: name.map(str::to_owned),
    }
}

fn add(bus: &SerialBus, guest: &FakeGuest, host: &FakeChar, options: PortOptions) -> u32 {
    let effects = guest.cx("").effects;
    bus.add_port(options, Some(host.frontend()), Some("port0"), effects)
        .unwrap()
}

impl<'a> Bench<'a> {
    /// With `host` behind a port named "org.test".
    fn new(guest: &'a FakeGuest, host: &FakeChar) -> Self {
        let (function, bus) = build(&props(31), &guest.cx("vs0")).unwrap();
        let nr = add(
            &bus,
            guest,
            host,
            options(PortKind::Serial, None, Some("org.test")),
        );
        assert_eq!(nr, NR);
        Self::start(guest, Driver::new(guest, function), bus)
    }

    fn start(guest: &'a FakeGuest, mut driver: Driver<'a>, bus: Arc<SerialBus>) -> Self {
        driver.negotiate(u64::MAX);
        let mut bench = Bench {
            control_in: driver.queue(2, 0x1000, 32),
            control_out: driver.queue(3, 0x3000, 32),
            receive: driver.queue(4, 0x5000, 128),
            transmit: driver.queue(5, 0x9000, 128),
            driver,
            bus,
            guest,
            offered: 0,
        };
        bench.driver.go();
        for slot in 0..16 {
            bench
                .control_in
                .add(guest, &[Buffer::In(0x10_0000 + slot * 64, 64)]);
        }
        bench.driver.kick(&bench.control_in);
        bench
    }

    fn say_bytes(&mut self, bytes: &[u8]) {
        self.guest.write(0x11_0000, bytes);
        let buffer = Buffer::Out(0x11_0000, bytes.len() as u32);
        self.driver.request(&mut self.control_out, &[buffer]);
    }

    fn say(&mut self, port: u32, event: u16, value: u16) {
        let mut bytes = port.to_le_bytes().to_vec();
        bytes.extend(event.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        self.say_bytes(&bytes);
    }

    /// What the device said since: port, event, value, name; gives the buffers back.
    fn heard(&mut self) -> Vec<(u32, u16, u16, Vec<u8>)> {
        self.guest.thread.run();
        let mut all = Vec::new();
        while let Some((head, len)) = self.control_in.take_used(self.guest) {
            let at = 0x10_0000 + u64::from(head % 16) * 64;
            let bytes = self.guest.read(at, len as usize);
            let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            all.push((u32::from(word(0)), word(4), word(6), bytes[8..].to_vec()));
        }
        all
    }

    /// Goes through the driver's first steps with the port.
    fn bring_up(&mut self) {
        self.say(u32::MAX, 0, 1);
        self.say(NR, 3, 1);
        self.say(NR, 6, 1);
        self.heard();
    }

    fn offer(&mut self, len: u32, count: u64) {
        for _ in 0..count {
            // The address follows from the descriptor's index.
            let at = 0x20_0000 + self.offered % 128 * 0x2000;
            self.offered += 1;
            self.receive.add(self.guest, &[Buffer::In(at, len)]);
        }
        self.driver.kick(&self.receive);
    }

    fn received(&mut self) -> Vec<u8> {
        self.guest.thread.run();
        let mut all = Vec::new();
        while let Some((head, len)) = self.receive.take_used(self.guest) {
            let at = 0x20_0000 + u64::from(head) * 0x2000;
            all.extend(self.guest.read(at, len as usize));
        }
        all
    }

    fn send(&mut self, data: &[u8]) {
        self.guest.write(0x80_0000, data);
        self.transmit
            .add(self.guest, &[Buffer::Out(0x80_0000, data.len() as u32)]);
        self.driver.kick(&self.transmit);
    }
}

fn notice(open: bool) -> (String, Effect) {
    let id = "port0".to_owned();
    (id.clone(), Effect::Notice(Notice::SerialPort { id, open }))
}

#[test]
fn it_stands_what_every_device_has_to() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    conformance::pci_function(conformance::AfterReset::Fresh, || {
        let (function, bus) = build(&props(4), &guest.cx("vs0")).unwrap();
        add(&bus, &guest, &host, options(PortKind::Console, None, None));
        let named = options(PortKind::Serial, None, Some("org.test"));
        add(&bus, &guest, &host, named);
        Arc::new(std::sync::Mutex::new(function))
    });
}

#[test]
fn the_function_says_what_it_is() {
    let guest = FakeGuest::new();
    let (function, _) = build(&props(31), &guest.cx("vs0")).unwrap();
    let mut driver = Driver::new(&guest, function);
    let mut id = [0; 4];
    lock(driver.function()).config_read(0, &mut id);
    assert_eq!(id, [0xf4, 0x1a, 0x43, 0x10]);
    driver.negotiate(u64::MAX);
    assert_eq!(driver.features & 7, 6);
    assert_eq!(driver.common16(0x12), 64, "queues");
    assert_eq!(driver.config::<4>(4), [31, 0, 0, 0]);
    assert_eq!(driver.config::<4>(8), [0; 4]);
    for (index, size) in [(0u16, 128), (1, 128), (2, 32), (3, 32), (4, 128), (63, 128)] {
        driver.write(0x16, &index.to_le_bytes());
        assert_eq!(driver.common16(0x18), size);
    }
    let (function, _) = build(&props(1), &guest.cx("vs1")).unwrap();
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(u64::MAX);
    assert_eq!(driver.features & 7, 4, "no multiport for one port");
}

#[test]
fn numbers_of_ports_that_cannot_be_are_refused() {
    let guest = FakeGuest::new();
    let refuse = |max| build(&props(max), &guest.cx("vs0")).err().unwrap().desc;
    assert_eq!(refuse(0), "Maximum number of serial ports not specified");
    assert_eq!(refuse(512), "maximum ports supported: 511");
    build(&props(511), &guest.cx("vs0")).unwrap();
}

#[test]
fn ports_are_numbered_and_refused_as_qemu_does() {
    use PortKind::{Console, Serial};
    let guest = FakeGuest::new();
    let (_, bus) = build(&props(4), &guest.cx("vs0")).unwrap();
    let effects = guest.cx("").effects;
    let add = |options| bus.add_port(options, None, None, effects.clone());
    assert_eq!(add(options(Serial, None, Some("a"))), Ok(1));
    assert_eq!(add(options(Console, None, None)), Ok(0));
    assert_eq!(add(options(Console, None, None)), Ok(2));
    let refused = |result: QmpResult<u32>, text: &str| {
        assert_eq!(result, Err(QmpError::generic(text)));
    };
    refused(
        add(options(Serial, Some(1), None)),
        "virtio-serial-bus: A port already exists at id 1",
    );
    refused(
        add(options(Serial, Some(4), None)),
        "virtio-serial-bus: Out-of-range port id specified, max. allowed: 3",
    );
    refused(
        add(options(Serial, None, Some("a"))),
        "virtio-serial-bus: A port already exists by name a",
    );
    refused(
        add(options(Serial, Some(0), None)),
        "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward \
         compatibility.",
    );
    assert_eq!(add(options(Serial, None, None)), Ok(3));
    refused(
        add(options(Console, None, None)),
        "virtio-serial-bus: Out-of-range port id specified, max. allowed: 3",
    );
    assert!(bus.remove_port(1));
    assert!(!bus.remove_port(1));
    assert_eq!(add(options(Console, None, Some("a"))), Ok(1));
    assert_eq!(bus.numbers(), [0, 1, 2, 3]);
    let (_, bus) = build(&props(32), &guest.cx("vs0")).unwrap();
    let add = || bus.add_port(options(Serial, None, None), None, None, effects.clone());
    for nr in 1..32 {
        assert_eq!(add(), Ok(nr));
    }
    refused(
        add(),
        "virtio-serial-bus: Maximum port limit for this device reached",
    );
}

#[test]
fn the_driver_is_introduced_to_the_ports() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    let console = FakeChar::default();
    add(
        &bench.bus,
        &guest,
        &console,
        options(PortKind::Console, None, None),
    );
    assert!(console.frontend_open());
    assert_eq!(bench.heard(), [], "nothing before the driver is ready");
    bench.say(u32::MAX, 0, 1);
    let none = Vec::new;
    assert_eq!(bench.heard(), [(0, 1, 1, none()), (1, 1, 1, none())]);
    bench.say(0, 3, 1);
    // A console is open although its chardev is not connected.
    assert_eq!(bench.heard(), [(0, 4, 1, none()), (0, 6, 1, none())]);
    bench.say(1, 3, 1);
    let name = b"org.test\0".to_vec();
    assert_eq!(bench.heard(), [(1, 7, 1, name), (1, 6, 1, none())]);
    host.set_open(false);
    assert_eq!(bench.heard(), [(1, 6, 0, none())]);
    host.set_open(true);
    assert_eq!(bench.heard(), [(1, 6, 1, none())]);
    // One peer after the other, and nobody looked in between.
    host.set_open(false);
    host.set_open(true);
    assert_eq!(bench.heard(), [(1, 6, 0, none()), (1, 6, 1, none())]);
    assert_eq!(bench.heard(), []);
}

#[test]
fn a_program_that_opens_the_port_is_noticed_once() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    assert_eq!(guest.take_effects(), [notice(true)]);
    assert!(host.frontend_open());
    bench.say(NR, 6, 1);
    assert_eq!(guest.take_effects(), []);
    bench.say(NR, 6, 0);
    assert_eq!(guest.take_effects(), [notice(false)]);
    assert!(!host.frontend_open());
    bench.say(NR, 6, 1);
    bench.driver.set_status(0);
    assert_eq!(guest.take_effects(), [notice(true), notice(false)]);
    // Consoles make no event.
    let console = FakeChar::open();
    let nr = add(
        &bench.bus,
        &guest,
        &console,
        options(PortKind::Console, Some(2), None),
    );
    let mut bench = Bench::start(&guest, bench.driver, bench.bus);
    bench.say(nr, 6, 1);
    assert_eq!(guest.take_effects(), []);
}

#[test]
fn a_flood_of_openings_makes_few_events() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    guest.take_effects();
    for round in 0..21u16 {
        let at = 0x11_0000 + u64::from(round) * 8;
        let [low, _] = (round % 2).to_le_bytes();
        guest.write(at, &[1, 0, 0, 0, 6, 0, low, 0]);
        bench.control_out.add(&guest, &[Buffer::Out(at, 8)]);
    }
    bench.driver.kick(&bench.control_out);
    assert_eq!(guest.take_effects(), [notice(false)]);
}

#[test]
fn input_waits_for_the_guest() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    host.send(b"early");
    bench.offer(4, 1);
    assert_eq!(bench.received(), b"");
    bench.bring_up();
    assert_eq!(bench.received(), b"earl");
    guest.thread.run();
    assert_eq!(host.unread(), 1);
    bench.offer(8192, 2);
    assert_eq!(bench.received(), b"y");
    let data: Vec<u8> = (0..8192u32).map(|i| (i / 3) as u8).collect();
    host.send(&data);
    assert_eq!(bench.received(), data);
    bench.say(NR, 6, 0);
    host.send(b"later");
    bench.offer(64, 1);
    assert_eq!(bench.received(), b"");
    bench.say(NR, 6, 1);
    assert_eq!(bench.received(), b"later");
}

#[test]
fn output_waits_for_the_host_and_survives_a_stop() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    bench.send(b"hello");
    assert_eq!(host.take(), b"hello");
    assert_eq!(bench.transmit.take_used(&guest).unwrap().1, 0);
    let data: Vec<u8> = (0..20_000u32).map(|i| (i / 7) as u8).collect();
    host.set_room(5000);
    bench.send(&data);
    assert!(bench.transmit.take_used(&guest).is_none());
    host.set_room(1);
    guest.thread.run();
    // The machine is stopped, saved, and goes on.
    bench.driver.carry_out(Effect::StopQueues);
    let section = lock(bench.driver.function())
        .state()
        .unwrap()
        .save_section("x")
        .unwrap();
    host.set_room(100);
    lock(bench.driver.function())
        .state()
        .unwrap()
        .restore_section(&section)
        .unwrap();
    bench.driver.carry_out(Effect::StartQueues);
    host.set_room(usize::MAX);
    guest.thread.run();
    assert!(bench.transmit.take_used(&guest).is_some());
    assert!(host.take() == data, "no byte is lost or sent twice");
    assert_eq!(bench.heard(), [], "and nothing is told again");
}

#[test]
fn saved_state_of_another_bus_is_refused() {
    let guest = FakeGuest::new();
    let (mut one, bus) = build(&props(31), &guest.cx("a")).unwrap();
    let (mut two, _) = build(&props(31), &guest.cx("b")).unwrap();
    let empty = one.state().unwrap().save_section("x").unwrap();
    add(
        &bus,
        &guest,
        &FakeChar::open(),
        options(PortKind::Serial, Some(5), None),
    );
    let full = one.state().unwrap().save_section("x").unwrap();
    let error = one.state().unwrap().restore_section(&empty).unwrap_err();
    assert!(error.to_string().contains("ports: [], [5] here"), "{error}");
    two.state().unwrap().restore_section(&full).unwrap_err();
    one.state().unwrap().restore_section(&full).unwrap();
}

#[test]
fn without_a_host_output_is_dropped() {
    let guest = FakeGuest::new();
    let host = FakeChar::default();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    bench.send(b"nobody hears");
    assert!(bench.transmit.take_used(&guest).is_some());
    host.set_room(2);
    host.set_open(true);
    bench.send(b"partly");
    assert!(bench.transmit.take_used(&guest).is_none());
    host.set_open(false);
    guest.thread.run();
    assert!(bench.transmit.take_used(&guest).is_some());
    assert_eq!(host.take(), b"pa");
}

#[test]
fn ports_come_and_go_while_the_driver_runs() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    let late = FakeChar::open();
    let nr = add(
        &bench.bus,
        &guest,
        &late,
        options(PortKind::Serial, None, Some("late")),
    );
    assert_eq!(bench.heard(), [(nr, 1, 1, vec![])]);
    assert!(bench.bus.remove_port(NR));
    assert!(host.is_released());
    assert_eq!(bench.heard(), [(NR, 2, 1, vec![])]);
    bench.send(b"into the void");
    // A port that the driver never heard of goes without a word.
    bench.say(NR, 6, 1);
    let again = FakeChar::open();
    add(
        &bench.bus,
        &guest,
        &again,
        options(PortKind::Serial, Some(NR), None),
    );
    assert_eq!(bench.heard(), [(NR, 1, 1, vec![])]);
    guest.thread.run();
    assert_eq!(again.take(), b"into the void");
}

#[test]
fn a_port_that_went_is_told_elsewhere() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    bench.driver.carry_out(Effect::StopQueues);
    assert!(bench.bus.remove_port(NR));
    let mut function = lock(bench.driver.function());
    let section = function.state().unwrap().save_section("x").unwrap();
    function.reset();
    function.state().unwrap().restore_section(&section).unwrap();
    drop(function);
    bench.driver.carry_out(Effect::StartQueues);
    assert_eq!(bench.heard(), [(NR, 2, 1, vec![])]);
    // A number that no port has is no port's.
    let (mut other, _) = build(&props(2), &guest.cx("b")).unwrap();
    let mut state = vmstate::Snapshot::save(&other);
    let device = state.device.take().unwrap();
    let mut inner: VirtioSerialV1 = device.unpack("virtio-serial", 1).unwrap();
    inner.removed = vec![2];
    state.device = Some(vmstate::Section::pack("virtio-serial", "", 1, &inner).unwrap());
    let error = vmstate::Snapshot::restore(&mut other, state).unwrap_err();
    assert!(error.to_string().contains("removed: 2 of 2"), "{error}");
}

#[test]
fn messages_wait_for_buffers() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    for nr in 2..31 {
        add(
            &bench.bus,
            &guest,
            &FakeChar::open(),
            options(PortKind::Serial, Some(nr), None),
        );
    }
    for _ in 0..100 {
        bench.say(u32::MAX, 0, 1);
    }
    let mut heard = bench.heard();
    assert_eq!(heard.len(), 16);
    for slot in 0..16 {
        bench
            .control_in
            .add(&guest, &[Buffer::In(0x10_0000 + slot * 64, 64)]);
    }
    bench.driver.kick(&bench.control_in);
    heard.extend(bench.heard());
    assert_eq!(heard.len(), 32, "each buffer is used, none is lost");
    let ports: std::collections::BTreeSet<u32> = heard.iter().map(|m| m.0).collect();
    assert!(heard.iter().all(|m| (m.1, m.2) == (1, 1)) && ports.len() >= 16);
}

#[test]
fn emergency_writes_reach_the_first_console() {
    let guest = FakeGuest::new();
    let (function, bus) = build(&props(31), &guest.cx("vs0")).unwrap();
    let driver = Driver::new(&guest, function);
    driver.write(crate::virtio::layout::DEVICE + 8, b"?\0\0\0");
    let (port, console) = (FakeChar::open(), FakeChar::open());
    add(&bus, &guest, &port, options(PortKind::Serial, None, None));
    add(
        &bus,
        &guest,
        &console,
        options(PortKind::Console, None, None),
    );
    driver.write(crate::virtio::layout::DEVICE + 8, b"!\0\0\0");
    driver.write(crate::virtio::layout::DEVICE + 4, b"xxxx");
    driver.write(crate::virtio::layout::DEVICE + 8, b"#");
    assert_eq!(console.take(), b"!#");
    assert_eq!(port.take(), b"");
}

#[test]
fn a_driver_without_multiport_gets_the_console_alone() {
    let guest = FakeGuest::new();
    let (function, bus) = build(&props(31), &guest.cx("vs0")).unwrap();
    let (port, console) = (FakeChar::open(), FakeChar::open());
    add(&bus, &guest, &port, options(PortKind::Serial, None, None));
    add(
        &bus,
        &guest,
        &console,
        options(PortKind::Console, None, None),
    );
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    let mut receive = driver.queue(0, 0x1000, 16);
    let mut transmit = driver.queue(1, 0x3000, 16);
    driver.go();
    guest.write(0x80_0000, b"login:");
    driver.request(&mut transmit, &[Buffer::Out(0x80_0000, 6)]);
    assert_eq!(console.take(), b"login:");
    console.send(b"root\n");
    assert_eq!(
        driver.request(&mut receive, &[Buffer::In(0x20_0000, 64)]),
        5
    );
    assert_eq!(guest.read(0x20_0000, 5), b"root\n");
}

#[test]
fn bogus_chains_break_the_queue_and_nothing_else() {
    for case in 0..4 {
        let guest = FakeGuest::new();
        let host = FakeChar::open();
        let mut bench = Bench::new(&guest, &host);
        bench.bring_up();
        let ring = &mut bench.transmit;
        match case {
            // A loop.
            0 => ring.set_descriptor(&guest, 7, (0x80_0000, 4, 1, 7)),
            // Outside memory.
            1 => ring.set_descriptor(&guest, 7, (0x7000_0000, 4, 0, 0)),
            // A next one outside the table.
            2 => ring.set_descriptor(&guest, 7, (0x80_0000, 4, 1, 500)),
            // An indirect table of a wrong length.
            _ => ring.set_descriptor(&guest, 7, (0x80_0000, 5, 4, 0)),
        }
        ring.offer(&guest, 7);
        bench.driver.kick(&bench.transmit);
        assert_eq!(bench.driver.status() & 0x40, 0x40, "case {case}");
        host.send(b"x");
        guest.thread.run();
        bench.driver.set_status(0);
        assert_eq!(bench.driver.status(), 0);
    }
}

#[test]
fn buffers_for_the_wrong_direction_are_given_back() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    let buffer = [Buffer::In(0x80_0000, 8)];
    assert_eq!(bench.driver.request(&mut bench.transmit, &buffer), 0);
    let buffer = [Buffer::In(0x80_0000, 8)];
    assert_eq!(bench.driver.request(&mut bench.control_out, &buffer), 0);
    bench.receive.add(&guest, &[Buffer::Out(0x80_0000, 8)]);
    bench.receive.add(&guest, &[Buffer::In(0x80_0000, 8)]);
    host.send(b"data");
    guest.thread.run();
    assert_eq!(bench.receive.take_used(&guest).unwrap().1, 0);
    assert_eq!(bench.receive.take_used(&guest).unwrap().1, 4);
}

#[test]
fn a_huge_buffer_is_passed_on_in_turns() {
    let guest = FakeGuest::new();
    let host = FakeChar::open();
    let mut bench = Bench::new(&guest, &host);
    bench.bring_up();
    let buffers = vec![Buffer::Out(0x40_0000, 0x40_0000); 4];
    bench.driver.request(&mut bench.transmit, &buffers);
    assert_eq!(host.take().len(), 4 * 0x40_0000);
}

/// Ten megabytes each way through a real socket.
#[test]
fn ten_megabytes_through_a_socket() {
    use std::io::{Read, Write};
    let guest = FakeGuest::new();
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    let (server, handle) = ChardevServer::new().unwrap();
    std::thread::spawn(move || server.run());
    let dialer = Dialer::passed(far.into(), "fd", false).unwrap();
    let mut chardev = Chardev::new(Source::Client(dialer), None);
    chardev.start(&handle);
    assert!(chardev.wait_open(std::time::Duration::from_secs(10)));
    let (function, bus) = build(&props(31), &guest.cx("vs0")).unwrap();
    let options = options(PortKind::Serial, None, None);
    let effects: Arc<dyn EffectSink> = guest.cx("").effects;
    bus.add_port(options, chardev.take_frontend(), None, effects)
        .unwrap();
    let mut bench = Bench::start(&guest, Driver::new(&guest, function), bus);
    bench.bring_up();
    let data: Vec<u8> = (0..10usize << 20)
        .map(|i| (i * 7 + i / 251) as u8)
        .collect();
    let (mut reader, mut writer) = (near.try_clone().unwrap(), near);
    let sent = data.clone();
    let write = std::thread::spawn(move || writer.write_all(&sent).map(|()| writer));
    let read = std::thread::spawn(move || {
        let mut all = vec![0; 10 << 20];
        for part in all.chunks_mut(50_000) {
            reader.read_exact(part).unwrap();
            if part[0] == 3 {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        all
    });
    let mut got = Vec::new();
    let mut out = 0;
    let mut idle = true;
    bench.offer(0x1000, 64);
    while out < data.len() || got.len() < data.len() || !idle {
        if idle && out < data.len() {
            let end = (out + 30_000).min(data.len());
            bench.send(&data[out..end]);
            (out, idle) = (end, false);
        }
        idle = idle || bench.transmit.take_used(&guest).is_some();
        guest.thread.run();
        while let Some((head, len)) = bench.receive.take_used(&guest) {
            let at = 0x20_0000 + u64::from(head % 64) * 0x2000;
            got.extend(guest.read(at, len as usize));
            bench.receive.add(&guest, &[Buffer::In(at, 0x1000)]);
        }
        bench.driver.kick(&bench.receive);
    }
    assert!(got == data);
    assert!(read.join().unwrap() == data);
    write.join().unwrap().unwrap();
    handle.shutdown();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a driver says on the control queue.
    #[test]
    fn hostile_messages_are_survived(messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..16), 0u32..6, 0u16..9, any::<u16>(), any::<bool>()), 1..40)) {
        let guest = FakeGuest::new();
        let host = FakeChar::open();
        let mut bench = Bench::new(&guest, &host);
        for (garbage, port, event, value, plain) in messages {
            if plain {
                bench.say(port, event, value);
            } else if !garbage.is_empty() {
                bench.say_bytes(&garbage);
            }
            host.send(b"x");
            guest.thread.run();
        }
        prop_assert_eq!(bench.driver.status(), 0x0f);
        bench.driver.set_status(0);
        prop_assert_eq!(bench.driver.status(), 0);
    }
}
