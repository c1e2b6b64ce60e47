//! The older PC: i440FX, PIIX3, the power management of PIIX4, hot-plug by its ports.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::VmBuilder;
use tests::pci::{Function, reg};
use tests::qtest::Qtest;
use tests::virtio::Device;

/// Where the test puts the ports of power management.
const PM: u16 = 0x600;
/// General purpose events: status, and enable two bytes behind it.
const GPE: u16 = 0xafe0;
/// The hot-plug ports.
const UP: u16 = 0xae00;
const DOWN: u16 = 0xae04;
const EJECT: u16 = 0xae08;
const REMOVABLE: u16 = 0xae0c;
const SELECT: u16 = 0xae10;

const HOST: Function = Function::at(0, 0);
const ISA: Function = Function::at(1, 0);
const POWER: Function = Function::at(1, 3);

fn start(args: &[&str]) -> Qtest {
    Qtest::start_with(VmBuilder::new().idle_pc(), args)
}

fn power_management(t: &mut Qtest) {
    POWER.write32(t, 0x40, u32::from(PM) | 1);
    POWER.write8(t, 0x80, 1);
}

fn plug(t: &mut Qtest, id: &str, addr: &str) {
    let options = json!({"driver": "virtio-rng-pci", "id": id, "addr": addr});
    t.vm.exec("device_add", options);
}

fn is_there(t: &mut Qtest, slot: u8) -> bool {
    Function::at(slot, 0).read16(t, reg::VENDOR) == 0x1af4
}

/// Waits until the device is gone.
fn deleted(t: &mut Qtest, id: &str) {
    loop {
        let event = t.vm.qmp().event("DEVICE_DELETED");
        if event["data"]["device"] == id {
            return;
        }
    }
}

#[test]
fn the_functions_of_the_chipset() {
    let mut t = start(&[]);
    for (function, id, class) in [
        (HOST, 0x1237_8086, 0x0600),
        (ISA, 0x7000_8086, 0x0601),
        (POWER, 0x7113_8086, 0x0680),
    ] {
        assert_eq!(function.read32(&mut t, reg::VENDOR), id);
        assert_eq!(function.read16(&mut t, 0x0a), class);
        assert_eq!(function.read32(&mut t, 0x2c), 0x1100_1af4);
    }
    assert_ne!(ISA.read8(&mut t, 0x0e) & 0x80, 0, "several functions");
    assert_eq!(POWER.read8(&mut t, reg::PIN), 1);
    assert_eq!(Function::at(31, 0).read32(&mut t, 0), 0xffff_ffff);
    // The low bits of the address are kept, and the port adds to them.
    assert_eq!(HOST.read16(&mut t, 2), 0x1237);
    t.outl(0xcf8, 0x8000_0000);
    assert_eq!(t.inw(0xcfe), 0x1237);
    // Configuration space is in no memory.
    assert_ne!(t.readl(0xb000_0000), 0x1237_8086);
}

#[test]
fn its_names_in_the_object_tree() {
    let mut t = start(&["-device", "virtio-rng-pci,id=r,bus=pci.0,addr=04.0"]);
    for (path, property, value) in [
        ("/machine", "type", json!("pc-i440fx-10.0-machine")),
        ("/machine/i440fx", "type", json!("i440FX-pcihost")),
        ("/machine/i440fx/pci.0", "type", json!("PCI")),
        ("r", "parent_bus", json!("/machine/i440fx/pci.0")),
    ] {
        let found =
            t.vm.exec("qom-get", json!({"path": path, "property": property}));
        assert_eq!(found, value, "{path}");
    }
    let tree = t.vm.exec(
        "human-monitor-command",
        json!({"command-line": "info qtree"}),
    );
    let tree = tree.as_str().unwrap_or_default();
    for line in [
        "dev: i440FX-pcihost, id \"\"",
        "bus: pci.0",
        "type PCI",
        "dev: PIIX3, id \"\"",
        "bus: isa.0",
        "dev: PIIX4_PM, id \"\"",
        "addr = 01.3",
        "dev: i440FX, id \"\"",
    ] {
        assert!(tree.lines().any(|found| found.trim() == line), "no {line}");
    }
    let pci = t.vm.query("query-pci");
    let slots: Vec<_> = pci[0]["devices"].as_array().map_or(Vec::new(), |list| {
        let id = |device: &Value| device["id"]["device"].as_i64();
        list.iter().filter_map(id).collect()
    });
    assert!(slots.contains(&0x1237) && slots.contains(&0x7000) && slots.contains(&0x7113));
}

#[test]
fn what_cannot_be_plugged() {
    let mut t = start(&[]);
    for (options, text) in [
        (
            json!({"driver": "virtio-rng-pci", "addr": "0"}),
            "PCI: slot 0 function 0 not available for virtio-rng-pci, in use by i440FX,id=(null)",
        ),
        (
            json!({"driver": "virtio-rng-pci", "addr": "1.4"}),
            "PCI: slot 1 function 0 already occupied by PIIX3, new func virtio-rng-pci cannot be \
             exposed to guest.",
        ),
        (
            json!({"driver": "virtio-rng-pci", "bus": "pcie.0"}),
            "Bus 'pcie.0' not found",
        ),
        (
            json!({"driver": "isa-serial", "bus": "pci.0"}),
            "Device 'isa-serial' can't go on PCI bus",
        ),
        (
            json!({"driver": "virtio-rng-pci", "bus": "isa.0"}),
            "Device 'virtio-rng-pci' can't go on ISA bus",
        ),
    ] {
        let error = t.vm.refused("device_add", options);
        assert_eq!(error.desc, text);
    }
    assert_eq!(t.inl(UP), 0);
}

#[test]
fn pins_lead_to_the_interrupts_that_links_name() {
    let mut t = start(&["-device", "virtio-rng-pci,addr=4.0"]);
    t.ok("irq_intercept_in ioapic");
    assert_eq!(ISA.read32(&mut t, 0x60), 0x8080_8080);
    // Slot 4, pin A: the fourth link.
    ISA.write8(&mut t, 0x63, 11);
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let at = t.alloc(64);
    queue.add(&mut t, &[(at, 64, true)]);
    queue.kick(&mut t);
    queue.wait(&mut t);
    t.wait_interrupt(11, true);
    ISA.write8(&mut t, 0x63, 0x80);
    t.wait_interrupt(11, false);
    ISA.write8(&mut t, 0x63, 10);
    t.wait_interrupt(10, true);
    assert_eq!(device.isr(&mut t), 1);
    t.wait_interrupt(10, false);
}

#[test]
fn the_reset_register() {
    let mut t = start(&[]);
    ISA.write8(&mut t, 0x60, 10);
    t.outb(0xcf9, 0x02);
    assert_eq!(t.inb(0xcf9), 0x02);
    t.outb(0xcf9, 0x06);
    let event = t.vm.qmp().event("RESET");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(ISA.read8(&mut t, 0x60), 0x80);
}

#[test]
fn power_button_timer_and_switching_off() {
    let mut t = start(&[]);
    t.ok("irq_intercept_in ioapic");
    power_management(&mut t);
    assert_eq!(t.inw(PM + 4) & 1, 0);
    t.outb(0xb2, 0xf1);
    assert_eq!(t.inw(PM + 4) & 1, 1);
    t.outw(PM + 2, 0x100);
    t.vm.query("system_powerdown");
    t.vm.qmp().event("POWERDOWN");
    assert_ne!(t.inw(PM) & 0x100, 0);
    t.wait_interrupt(9, true);
    t.outw(PM, 0x100);
    t.wait_interrupt(9, false);
    let first = t.inl(PM + 8);
    if tests::binary::is_stand_in() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    } else {
        t.ok("clock_step 10000000");
    }
    let ticks = t.inl(PM + 8).wrapping_sub(first) & 0xff_ffff;
    assert!(ticks >= 35_795, "{ticks}");
    t.outw(PM + 4, 1 << 13);
    assert_eq!(
        t.vm.qmp().event("SHUTDOWN")["data"],
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(t.vm.wait().status, Some(0));
}

#[test]
fn power_management_answers_where_it_was_put() {
    let mut t = start(&[]);
    power_management(&mut t);
    t.outw(PM + 2, 0x100);
    POWER.write32(&mut t, 0x40, 0x4000);
    assert_eq!(t.inw(0x4002), 0x100);
    assert_ne!(t.inw(PM + 2), 0x100);
    POWER.write8(&mut t, 0x80, 0);
    assert_ne!(t.inw(0x4002), 0x100);
}

#[test]
fn memory_reaches_up_to_the_hole() {
    // 3.5 GiB less one page are in one piece; of more, 3 GiB are below the hole.
    let mut t = start(&["-m", "3583"]);
    t.writel(0xdfef_fff0, 0x1234_5678);
    assert_eq!(t.readl(0xdfef_fff0), 0x1234_5678);
    let mut t = start(&["-m", "3584"]);
    t.writel(0xc000_0000, 0x1234_5678);
    assert_ne!(t.readl(0xc000_0000), 0x1234_5678);
    for at in [0xbfff_fffc_u64, 0x1_0000_0000, 0x1_1fff_fffc] {
        t.writel(at, 0x1234_5678);
        assert_eq!(t.readl(at), 0x1234_5678, "{at:#x}");
    }
    t.outw(0x510, 3);
    let bytes: Vec<u8> = (0..8).map(|_| t.inb(0x511)).collect();
    assert_eq!(bytes, (3584u64 << 20).to_le_bytes());
}

#[test]
fn shadow_memory_follows_the_attributes() {
    let mut t = start(&[]);
    HOST.write8(&mut t, 0x5a, 0x30);
    t.writel(0xc_4000, 0x1122_3344);
    assert_eq!(t.readl(0xc_4000), 0x1122_3344);
    // The reference protects it from its processors alone.
    if !tests::binary::is_stand_in() {
        HOST.write8(&mut t, 0x5a, 0x10);
        t.writel(0xc_4000, 0);
        assert_eq!(t.readl(0xc_4000), 0x1122_3344, "read-only");
    }
    HOST.write8(&mut t, 0x5a, 0);
    assert_ne!(t.readl(0xc_4000), 0x1122_3344);
}

#[test]
fn a_device_comes_and_goes() {
    let mut t = start(&["-device", "virtio-rng-pci,id=cold,addr=4.0"]);
    t.ok("irq_intercept_in ioapic");
    power_management(&mut t);
    t.outb(0xb2, 0xf1);
    t.outw(GPE + 2, 2);
    assert_eq!(t.inl(REMOVABLE), 0xffff_fffc);
    for _ in 0..3 {
        assert!(!is_there(&mut t, 6));
        plug(&mut t, "hot", "06.0");
        assert!(is_there(&mut t, 6));
        t.wait_interrupt(9, true);
        assert_eq!(t.inw(GPE) & 2, 2);
        t.outw(GPE, 2);
        t.wait_interrupt(9, false);
        assert_eq!(t.inl(UP), 1 << 6);
        assert_eq!(t.inl(UP), 0, "told once");
        let device = Device::find(&mut t, 6);
        assert_eq!(device.queues(&mut t), 1);
        t.vm.exec("device_del", json!({"id": "hot"}));
        t.wait_interrupt(9, true);
        assert_eq!(t.inl(DOWN), 1 << 6);
        // Another bus has nothing to eject.
        t.outl(SELECT, 1);
        t.outl(EJECT, 1 << 6);
        assert!(is_there(&mut t, 6));
        t.outl(SELECT, 0);
        t.outl(EJECT, 1 << 6);
        deleted(&mut t, "hot");
        assert!(!is_there(&mut t, 6));
        assert_eq!(t.inl(DOWN), 0);
        t.outw(GPE, 2);
    }
    // One that was there from the start goes as well.
    t.vm.exec("device_del", json!({"id": "cold"}));
    t.outl(EJECT, 1 << 4);
    deleted(&mut t, "cold");
    assert!(!is_there(&mut t, 4));
}

/// The guest lets go of a disk without waiting for what it asked of it: it waits then, and nobody
/// else does.
#[test]
fn a_request_that_takes_its_time_holds_up_its_guest_alone() {
    const LATENCY: Duration = Duration::from_secs(3);
    let node = format!(
        r#"{{"driver":"null-co","node-name":"n","size":1048576,"latency-ns":{}}}"#,
        LATENCY.as_nanos()
    );
    let mut t = start(&[
        "-blockdev",
        &node,
        "-device",
        "virtio-blk-pci,id=d,drive=n,addr=4.0",
        "-device",
        "virtio-serial-pci,id=ser,addr=5.0",
        "-device",
        "virtserialport,id=p,bus=ser.0",
    ]);
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let at = t.alloc(1024);
    t.write(at, &[0; 16]);
    let chain = [(at, 16, false), (at + 16, 512, true), (at + 600, 1, true)];
    queue.add(&mut t, &chain);
    queue.kick(&mut t);
    let since = Instant::now();
    t.post(&format!("outl {EJECT:#x} {:#x}", 1 << 4));
    // Until control has seen it.
    while t.vm.query("query-pci").to_string().contains("\"d\"") {
        assert!(since.elapsed() < LATENCY, "it is gone at once");
    }
    t.vm.exec("device_del", json!({"id": "p"}));
    deleted(&mut t, "p");
    assert!(since.elapsed() < LATENCY, "after {:?}", since.elapsed());
    let underway = t.vm.refused("device_del", json!({"id": "d"}));
    assert_eq!(
        underway.desc,
        "Device d is already in the process of unplug"
    );
    deleted(&mut t, "d");
    assert!(since.elapsed() >= LATENCY, "after {:?}", since.elapsed());
    t.vm.exec("blockdev-del", json!({"node-name": "n"}));
}

#[test]
fn a_guest_that_does_not_listen_is_asked_again() {
    let mut t = start(&["-device", "virtio-rng-pci,id=r,addr=4.0"]);
    t.vm.exec("device_del", json!({"id": "r"}));
    if tests::binary::is_stand_in() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    } else {
        let error = t.vm.refused("device_del", json!({"id": "r"}));
        assert_eq!(error.desc, "Device r is already in the process of unplug");
        t.ok("clock_step 1000000");
    }
    t.vm.exec("device_del", json!({"id": "r"}));
    assert!(is_there(&mut t, 4));
    t.outl(EJECT, 1 << 4);
    deleted(&mut t, "r");
}

#[test]
fn a_reset_takes_out_what_is_to_go() {
    let mut t = start(&["-device", "virtio-rng-pci,id=stays,addr=5.0"]);
    plug(&mut t, "goes", "06.0");
    t.vm.exec("device_del", json!({"id": "goes"}));
    t.vm.query("system_reset");
    deleted(&mut t, "goes");
    assert!(!is_there(&mut t, 6));
    assert!(is_there(&mut t, 5));
    assert_eq!((t.inl(UP), t.inl(DOWN)), (0, 0));
    assert_eq!(t.inl(REMOVABLE), 0xffff_fffc);
}

#[test]
fn the_chipset_cannot_be_ejected() {
    let mut t = start(&["-device", "virtio-rng-pci,id=r,addr=4.0"]);
    t.outl(EJECT, 3);
    t.outl(EJECT, 0);
    t.outl(EJECT, 0xffff_ff00);
    assert_eq!(HOST.read32(&mut t, 0), 0x1237_8086);
    assert_eq!(ISA.read32(&mut t, 0), 0x7000_8086);
    assert!(is_there(&mut t, 4));
}

/// Otherwise one of two would take the devices of the other along.
#[test]
fn each_bus_has_a_name_of_its_own() {
    let mut t = start(&["-device", "virtio-rng-pci,id=r,addr=4.0"]);
    let root = json!({"driver": "pcie-root-port", "id": "pci.0"});
    let taken = t.vm.refused("device_add", root);
    assert_eq!(taken.desc, "There is a bus 'pci.0' already");
    assert!(is_there(&mut t, 4));
    let port = |chassis: u8, addr: &str| json!({"driver": "pcie-root-port", "chassis": chassis, "addr": addr});
    t.vm.exec("device_add", port(1, "5.0"));
    t.vm.exec("device_add", port(2, "6.0"));
    let behind = json!({"driver": "virtio-rng-pci", "id": "kept", "bus": "pci.2"});
    t.vm.exec("device_add", behind);
    let path = "/machine/peripheral-anon/device[0]";
    t.vm.exec("device_del", json!({"id": path}));
    t.outl(EJECT, 1 << 5);
    let event = t.vm.qmp().event("DEVICE_DELETED");
    assert_eq!(event["data"], json!({"path": path}));
    // The number that counting gives is taken.
    t.vm.exec("device_add", port(3, "5.0"));
    t.vm.exec(
        "device_del",
        json!({"id": "/machine/peripheral-anon/device[2]"}),
    );
    t.outl(EJECT, 1 << 5);
    t.vm.qmp().event("DEVICE_DELETED");
    let there =
        t.vm.exec("qom-get", json!({"path": "kept", "property": "realized"}));
    assert_eq!(there, json!(true));
}
