//! Slots behind root ports, driven by their registers as an operating system does.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tests::VmBuilder;
use tests::pci::{Function, reg};
use tests::qtest::Qtest;

/// Slot control: indicators, power.
const OFF: u16 = 0x7c0;
const BLINK_OFF: u16 = 0x6c0;
const BLINK: u16 = 0x2c0;
const ON: u16 = 0x1c0;
/// Events that interrupt: the button, the link; and the interrupt itself.
const EVENTS: u16 = 0x1021;

/// Slot status.
const ATTENTION: u16 = 1;
const PRESENCE_CHANGED: u16 = 1 << 3;
const PRESENT: u16 = 1 << 6;
const LINK_CHANGED: u16 = 1 << 8;

/// A root port and the bus behind it.
struct Port {
    function: Function,
    express: u8,
    bus: u8,
}

impl Port {
    fn set_up(t: &mut Qtest, slot: u8, bus: u8) -> Self {
        let function = Function::at(slot, 0);
        let express = function.capability(t, 0x10).expect("a PCI Express port");
        for (at, number) in [(0x18, 0), (0x19, bus), (0x1a, bus)] {
            function.write8(t, at, number);
        }
        function.enable(t);
        Port {
            function,
            express,
            bus,
        }
    }

    fn control(&self, t: &mut Qtest, value: u16) {
        self.function.write16(t, self.express + 0x18, value);
    }

    fn status(&self, t: &mut Qtest) -> u16 {
        self.function.read16(t, self.express + 0x1a)
    }

    /// What there is, and clears the events.
    fn events(&self, t: &mut Qtest) -> u16 {
        let status = self.status(t);
        self.function.write16(t, self.express + 0x1a, status);
        status
    }

    fn link(&self, t: &mut Qtest) -> bool {
        self.function.read16(t, self.express + 0x12) & 1 << 13 != 0
    }

    /// Vendor and device behind it.
    fn found(&self, t: &mut Qtest, function: u8) -> u32 {
        let address = 1 << 31 | u32::from(self.bus) << 16 | u32::from(function) << 8;
        t.outl(0xcf8, address);
        t.inl(0xcfc)
    }

    fn switch_on(&self, t: &mut Qtest) {
        for value in [BLINK_OFF, BLINK, ON] {
            self.control(t, value);
        }
        self.events(t);
    }

    fn switch_off(&self, t: &mut Qtest) {
        for value in [BLINK, BLINK_OFF, OFF] {
            self.control(t, value);
        }
    }
}

const NOTHING: u32 = u32::MAX;
const RNG: u32 = 0x1044_1af4;
const BLK: u32 = 0x1042_1af4;

fn rng(id: &str) -> Value {
    json!({"driver": "virtio-rng-pci", "id": id, "bus": "rp0"})
}

fn with_ports(args: &[&str]) -> Qtest {
    let ports = [
        "-device",
        "pcie-root-port,id=rp0,chassis=1,addr=3",
        "-device",
        "pcie-root-port,id=rp1,chassis=2,addr=4",
    ];
    Qtest::start(&[&ports[..], args].concat())
}

fn deleted(t: &mut Qtest, id: &str) {
    let path = format!("/machine/peripheral/{id}");
    let inner = t.vm.qmp().event("DEVICE_DELETED");
    assert_eq!(
        inner["data"],
        json!({"path": format!("{path}/virtio-backend")})
    );
    let whole = t.vm.qmp().event("DEVICE_DELETED");
    assert_eq!(whole["data"], json!({"device": id, "path": path}));
}

/// The guest called the unplug of that device off.
fn kept(t: &mut Qtest, id: &str) {
    let event = t.vm.qmp().event("DEVICE_UNPLUG_GUEST_ERROR");
    let path = format!("/machine/peripheral/{id}");
    assert_eq!(event["data"], json!({"device": id, "path": path}));
}

#[test]
fn a_card_comes_and_goes() {
    let mut t = with_ports(&[]);
    let port = Port::set_up(&mut t, 3, 1);
    assert_eq!(port.function.read16(&mut t, port.express + 0x18), OFF);
    assert_eq!(port.status(&mut t), 0);
    for _ in 0..2 {
        t.vm.exec("device_add", rng("r"));
        assert_eq!(port.found(&mut t, 0), NOTHING, "without power");
        let inserted = PRESENT | PRESENCE_CHANGED | ATTENTION;
        assert_eq!(port.events(&mut t), inserted);
        port.control(&mut t, BLINK_OFF);
        assert_eq!(port.events(&mut t), PRESENT);
        port.control(&mut t, BLINK);
        assert_eq!(port.events(&mut t), PRESENT | LINK_CHANGED);
        assert!(port.link(&mut t));
        port.control(&mut t, ON);
        port.events(&mut t);
        assert_eq!(port.found(&mut t, 0), RNG);
        // The host wants it back; the guest thinks better of it, and does not the second time.
        t.vm.exec("device_del", json!({"id": "r"}));
        assert_eq!(port.events(&mut t), PRESENT | ATTENTION);
        let again = t.vm.refused("device_del", json!({"id": "r"}));
        assert_eq!(again.desc, "Device r is already in the process of unplug");
        port.control(&mut t, BLINK);
        t.ok("clock_step 5000000001");
        let busy = t.vm.refused("device_del", json!({"id": "r"}));
        let blinks = "Hot-unplug failed: guest is busy (power indicator blinking)";
        assert_eq!(busy.desc, blinks);
        port.control(&mut t, ON);
        kept(&mut t, "r");
        t.vm.exec("device_del", json!({"id": "r"}));
        port.events(&mut t);
        assert_eq!(port.found(&mut t, 0), RNG, "the guest has it still");
        t.vm.qmp().assert_silent(Duration::from_millis(50));
        port.switch_off(&mut t);
        let removed = PRESENCE_CHANGED | LINK_CHANGED;
        assert_eq!(port.events(&mut t), removed, "when the write is done");
        assert_eq!(port.found(&mut t, 0), NOTHING);
        assert!(!port.link(&mut t));
        deleted(&mut t, "r");
    }
}

#[test]
fn an_unplug_that_the_guest_calls_off_can_be_asked_for_again() {
    let mut t = with_ports(&[]);
    let port = Port::set_up(&mut t, 3, 1);
    let first = json!({"driver": "virtio-rng-pci", "id": "a", "bus": "rp0", "multifunction": true});
    let mut second = first.clone();
    second["addr"] = "0.1".into();
    second["id"] = "b".into();
    t.vm.exec("device_add", second);
    t.vm.exec("device_add", first);
    port.switch_on(&mut t);
    // That is how switching on ends, and nobody asked for anything.
    for value in [BLINK, ON, ON] {
        port.control(&mut t, value);
    }
    let silence = Duration::from_millis(50);
    t.vm.qmp().assert_silent(silence);
    for _ in 0..2 {
        // Of its functions only those that it was asked for.
        t.vm.exec("device_del", json!({"id": "b"}));
        port.control(&mut t, BLINK);
        t.vm.qmp().assert_silent(silence);
        port.control(&mut t, ON);
        kept(&mut t, "b");
        port.control(&mut t, BLINK);
        port.control(&mut t, ON);
        t.vm.qmp().assert_silent(silence);
    }
    // A reset has nothing to complete.
    t.vm.query("system_reset");
    t.vm.qmp().event("RESET");
    t.vm.qmp().assert_silent(silence);
    let port = Port::set_up(&mut t, 3, 1);
    assert_eq!((port.found(&mut t, 0), port.found(&mut t, 1)), (RNG, RNG));
    t.vm.exec("device_del", json!({"id": "a"}));
    port.switch_off(&mut t);
    for _ in 0..2 {
        t.vm.qmp().event("DEVICE_DELETED");
    }
}

#[test]
fn the_guest_lets_go_unasked() {
    let mut t = with_ports(&["-device", "virtio-rng-pci,id=r,bus=rp0"]);
    let port = Port::set_up(&mut t, 3, 1);
    assert_eq!(port.function.read16(&mut t, port.express + 0x18), ON);
    assert_eq!((port.events(&mut t), port.link(&mut t)), (PRESENT, true));
    assert_eq!(port.found(&mut t, 0), RNG);
    port.switch_off(&mut t);
    deleted(&mut t, "r");
}

#[test]
fn functions_come_together() {
    let mut t = with_ports(&[]);
    let port = Port::set_up(&mut t, 3, 1);
    let second = json!({"driver": "virtio-rng-pci", "id": "b", "bus": "rp0", "addr": "0.1"});
    t.vm.exec("device_add", second.clone());
    assert_eq!(port.events(&mut t), 0, "the first one is not there yet");
    t.vm.exec("device_del", json!({"id": "b"}));
    deleted(&mut t, "b");
    t.vm.exec("device_add", second);
    let first = json!({"driver": "virtio-rng-pci", "id": "a", "bus": "rp0", "multifunction": true});
    t.vm.exec("device_add", first);
    port.switch_on(&mut t);
    assert_eq!((port.found(&mut t, 0), port.found(&mut t, 1)), (RNG, RNG));
    t.vm.exec("device_del", json!({"id": "b"}));
    port.switch_off(&mut t);
    deleted(&mut t, "b");
    deleted(&mut t, "a");
}

#[test]
fn the_pin_tells_of_events() {
    let mut t = with_ports(&[]);
    t.ok("irq_intercept_in ioapic");
    let port = Port::set_up(&mut t, 4, 1);
    port.control(&mut t, OFF | EVENTS);
    port.events(&mut t);
    t.vm.exec(
        "device_add",
        json!({"driver": "virtio-rng-pci", "id": "r", "bus": "rp1"}),
    );
    t.wait_interrupt(20, true);
    assert_ne!(port.function.read16(&mut t, reg::STATUS) & 8, 0);
    port.events(&mut t);
    t.wait_interrupt(20, false);
    assert_eq!(port.function.read16(&mut t, reg::STATUS) & 8, 0);
}

/// Message 0 of the port goes to this address, with this data.
fn message(t: &mut Qtest, port: &Port, address: u64, data: u32) {
    const TABLE: u32 = 0xfe00_0000;
    port.function.place(t, 0, TABLE);
    port.function.enable(t);
    let table = u64::from(TABLE);
    t.writel(table, address as u32);
    t.writel(table + 4, (address >> 32) as u32);
    t.writel(table + 8, data);
    t.writel(table + 12, 0);
    let msix = port.function.capability(t, 0x11).expect("MSI-X");
    port.function.write16(t, msix + 2, 0x8000);
}

#[test]
fn messages_tell_of_events() {
    let mut t = with_ports(&[]);
    let port = Port::set_up(&mut t, 3, 1);
    let at = t.alloc(4);
    message(&mut t, &port, at, 0x55aa);
    port.control(&mut t, OFF | EVENTS);
    port.events(&mut t);
    t.writel(at, 0);
    t.vm.exec("device_add", rng("r"));
    t.until("a message", |t| t.readl(at) == 0x55aa);
    // One message until the guest has looked.
    t.writel(at, 0);
    port.control(&mut t, BLINK_OFF | EVENTS);
    assert_eq!(t.readl(at), 0);
    port.events(&mut t);
    port.control(&mut t, BLINK | EVENTS);
    t.until("a message", |t| t.readl(at) == 0x55aa);
}

#[test]
fn a_message_to_the_port_itself_does_no_harm() {
    let mut t = with_ports(&[]);
    let port = Port::set_up(&mut t, 3, 1);
    message(&mut t, &port, 0xfe00_0008, 0x1234);
    port.control(&mut t, OFF | EVENTS);
    t.vm.exec("device_add", rng("r"));
    t.until("the message", |t| t.readl(0xfe00_0008) == 0x1234);
    assert_ne!(port.events(&mut t) & ATTENTION, 0);
    t.vm.query("query-block");
}

#[test]
fn a_reset_completes_what_was_asked_for() {
    let mut t = with_ports(&["-device", "virtio-rng-pci,id=r,bus=rp0"]);
    let port = Port::set_up(&mut t, 3, 1);
    t.vm.exec("device_del", json!({"id": "r"}));
    t.vm.qmp().assert_silent(Duration::from_millis(50));
    t.vm.query("system_reset");
    deleted(&mut t, "r");
    assert_eq!(port.status(&mut t), 0);
    assert_eq!(port.function.read16(&mut t, port.express + 0x18), OFF);
    // A slot goes as a whole.
    let second = json!({"driver": "virtio-rng-pci", "id": "b", "bus": "rp0", "addr": "0.1"});
    t.vm.exec("device_add", second);
    let first = json!({"driver": "virtio-rng-pci", "id": "a", "bus": "rp0", "multifunction": true});
    t.vm.exec("device_add", first);
    port.switch_on(&mut t);
    t.vm.exec("device_del", json!({"id": "a"}));
    t.vm.query("system_reset");
    deleted(&mut t, "b");
    deleted(&mut t, "a");
    // What came without the guest's notice has power after a reset.
    t.vm.exec("device_add", rng("r"));
    t.reset();
    let port = Port::set_up(&mut t, 3, 1);
    assert_eq!(port.status(&mut t), PRESENT);
    assert_eq!(port.found(&mut t, 0), RNG);
}

/// Nothing is left of devices that could not be plugged: what they were to use is free, and the
/// next one has their id and place.
#[test]
fn failed_plugs_leave_nothing() {
    let mut t = with_ports(&[
        "-device",
        "virtio-serial-pci,id=ser,addr=7",
        "-device",
        "virtio-scsi-pci,id=scsi,addr=8",
        "-drive",
        "if=none,id=drive,driver=null-co,size=1M",
        "-blockdev",
        "null-co,node-name=node,size=1048576",
        "-chardev",
        "null,id=chr",
        "-object",
        "iothread,id=io",
    ]);
    let threads = |t: &Qtest| tasks(t.vm.pid());
    let before = threads(&t);
    let blk = |more: Value| {
        let mut device = json!({"driver": "virtio-blk-pci", "id": "d", "bus": "rp0"});
        for (key, value) in more.as_object().expect("an object") {
            device[key] = value.clone();
        }
        device
    };
    for (device, error) in [
        (blk(json!({})), "drive property not set"),
        (
            blk(json!({"drive": "nothing"})),
            "Property 'virtio-blk-device.drive' can't find value 'nothing'",
        ),
        (
            blk(json!({"drive": "drive", "logical_block_size": 511})),
            "parameter logical_block_size must be a power of 2 between 512 and 2097152",
        ),
        (
            blk(json!({"drive": "node", "num-queues": 0})),
            "num-queues property must be larger than 0",
        ),
        (
            blk(json!({"drive": "drive", "iothread": "nothing"})),
            "Device 'nothing' not found",
        ),
        (blk(json!({"drive": "drive", "addr": "0.9"})), ""),
        (
            json!({"driver": "virtserialport", "id": "d", "bus": "ser.0", "chardev": "chr", "nr": 0}),
            "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward \
             compatibility.",
        ),
        (
            json!({"driver": "scsi-hd", "id": "d", "bus": "scsi.0", "drive": "drive", "scsi-id": 999}),
            "bad scsi device id: 999",
        ),
        (
            json!({"driver": "scsi-hd", "id": "d", "bus": "scsi.0", "drive": "node", "lun": 99999}),
            "bad scsi device lun: 99999",
        ),
    ] {
        let refusal = t.vm.refused("device_add", device.clone());
        if !error.is_empty() {
            assert_eq!(refusal.desc, error, "{device}");
        }
    }
    assert_eq!(threads(&t), before);
    let drives = t.vm.query("query-block");
    assert!(
        drives.to_string().contains("\"device\":\"drive\""),
        "{drives}"
    );
    // All of it is there for devices that are right.
    t.vm.exec(
        "device_add",
        blk(json!({"drive": "drive", "iothread": "io"})),
    );
    let port = json!({"driver": "virtserialport", "id": "p", "bus": "ser.0", "chardev": "chr"});
    t.vm.exec("device_add", port);
    let hd = json!({"driver": "scsi-hd", "id": "h", "bus": "scsi.0", "drive": "node"});
    t.vm.exec("device_add", hd);
    let slot = Port::set_up(&mut t, 3, 1);
    slot.switch_on(&mut t);
    assert_eq!(slot.found(&mut t, 0), BLK);
    // And free when they are gone; the drive goes with its device.
    for id in ["d", "p", "h"] {
        t.vm.exec("device_del", json!({"id": id}));
    }
    slot.switch_off(&mut t);
    for _ in 0..4 {
        t.vm.qmp().event("DEVICE_DELETED");
    }
    t.vm.exec("blockdev-del", json!({"node-name": "node"}));
    t.vm.exec("chardev-remove", json!({"id": "chr"}));
    t.vm.exec("object-del", json!({"id": "io"}));
    assert_eq!(t.vm.query("query-block").as_array().map(Vec::len), Some(0));
}

/// What is on a bus of a device goes with it, and is told of before.
#[test]
fn a_controller_takes_its_disks_along() {
    let mut t = with_ports(&[]);
    let node = json!({"driver": "null-co", "node-name": "n", "size": 1 << 20});
    t.vm.exec("blockdev-add", node);
    let scsi = json!({"driver": "virtio-scsi-pci", "id": "s", "bus": "rp0"});
    t.vm.exec("device_add", scsi);
    t.vm.exec(
        "device_add",
        json!({"driver": "scsi-hd", "id": "h", "bus": "s.0", "drive": "n"}),
    );
    t.vm.exec("device_del", json!({"id": "s"}));
    let event = t.vm.qmp().event("DEVICE_DELETED");
    let path = "/machine/peripheral/h";
    assert_eq!(event["data"], json!({"device": "h", "path": path}));
    deleted(&mut t, "s");
    t.vm.exec("blockdev-del", json!({"node-name": "n"}));
    let gone =
        t.vm.refused("device_add", json!({"driver": "scsi-cd", "bus": "s.0"}));
    assert_eq!(gone.desc, "Bus 's.0' not found");
}

fn count(path: String) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

fn tasks(pid: u32) -> usize {
    // Threads that have done their work need a moment to end.
    std::thread::sleep(Duration::from_millis(50));
    count(format!("/proc/{pid}/task"))
}

/// Descriptors, threads, and KiB of memory.
fn use_of(t: &Qtest) -> (usize, usize, u64) {
    let pid = t.vm.pid();
    let tasks = tasks(pid);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let size = line.expect("VmRSS").trim().trim_end_matches(" kB");
    let fds = count(format!("/proc/{pid}/fd"));
    (fds, tasks, size.parse().expect("a number"))
}

#[test]
fn two_hundred_cycles_leave_nothing_behind() {
    let builder = VmBuilder::new().idle();
    let path = tests::disk::raw(builder.dir(), "disk.img", 1 << 20);
    let mut t = Qtest::start_with(
        builder,
        &["-device", "pcie-root-port,id=rp0,chassis=1,addr=3"],
    );
    let port = Port::set_up(&mut t, 3, 1);
    let mut before = None;
    for round in 0..220 {
        let node = json!({"driver": "file", "node-name": "n", "filename": path});
        t.vm.exec("blockdev-add", node);
        let blk = json!({"driver": "virtio-blk-pci", "id": "d", "bus": "rp0", "drive": "n", "num-queues": 4});
        t.vm.exec("device_add", blk);
        port.switch_on(&mut t);
        t.vm.exec("device_del", json!({"id": "d"}));
        port.switch_off(&mut t);
        port.events(&mut t);
        deleted(&mut t, "d");
        t.vm.exec("blockdev-del", json!({"node-name": "n"}));
        if round == 20 {
            before = Some(use_of(&t));
        }
    }
    let (fds, threads, memory) = before.expect("figures");
    let now = use_of(&t);
    assert_eq!((now.0, now.1), (fds, threads));
    assert!(now.2 < memory + 2048, "{memory} KiB before, {} now", now.2);
}
