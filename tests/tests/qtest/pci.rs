//! Configuration space by 0xcf8 and 0xcfc, as a driver without firmware uses it.

use tests::pci::{ENABLE, Function, functions, reg};
use tests::qtest::Qtest;

#[test]
fn the_functions_of_the_chipset() {
    let mut t = Qtest::start(&[]);
    let host = Function::at(0, 0);
    assert_eq!(host.read32(&mut t, 0), 0x29c0_8086);
    assert_eq!(host.read32(&mut t, 8) >> 8, 0x06_0000);
    let lpc = Function::at(31, 0);
    assert_eq!(lpc.read32(&mut t, 0), 0x2918_8086);
    assert_eq!(lpc.read32(&mut t, 8) >> 8, 0x06_0100);
    let all = functions(&mut t);
    assert!(all.contains(&host) && all.contains(&lpc));
    // Nothing is in the empty slots, and writes to them go nowhere.
    let empty = Function::at(9, 0);
    assert_eq!(empty.read32(&mut t, 0), 0xffff_ffff);
    empty.write32(&mut t, 4, 0xffff_ffff);
    assert_eq!(empty.read32(&mut t, 4), 0xffff_ffff);
}

#[test]
fn the_low_bits_of_the_address_are_kept() {
    let mut t = Qtest::start(&[]);
    let host = Function::at(0, 0);
    assert_eq!(host.read8(&mut t, 0), 0x86);
    assert_eq!(host.read8(&mut t, 1), 0x80);
    assert_eq!(host.read16(&mut t, 2), 0x29c0);
    assert_eq!(host.read8(&mut t, 3), 0x29);
    // The port adds to them.
    t.outl(0xcf8, 0x8000_0000);
    assert_eq!(t.inw(0xcfe), 0x29c0);
    assert_eq!(t.inb(0xcfd), 0x80);
    t.outl(0xcf8, 0x8000_0001);
    assert_eq!(t.inl(0xcf8), 0x8000_0001);
    // Without bit 31 it is no access to configuration space.
    t.outl(0xcf8, 0);
    assert_eq!(t.inl(0xcfc), 0xffff_ffff);
}

#[test]
fn a_virtio_function() {
    let mut t = Qtest::start(&[
        "-device",
        "virtio-rng-pci,addr=04.0",
        "-device",
        "virtio-rng-pci,addr=5.0",
    ]);
    for slot in [4, 5] {
        let f = Function::at(slot, 0);
        assert_eq!(f.read16(&mut t, reg::VENDOR), 0x1af4);
        let id = f.read16(&mut t, reg::DEVICE);
        let kind = if id < 0x1040 {
            f.read16(&mut t, reg::SUBSYSTEM)
        } else {
            id - 0x1040
        };
        assert_eq!(kind, 4, "device {id:#x}");
        assert_ne!(f.read8(&mut t, reg::PIN), 0);
        assert_eq!(f.read16(&mut t, reg::COMMAND), 0);
        assert_ne!(
            f.read16(&mut t, reg::STATUS) & 0x10,
            0,
            "a list of capabilities"
        );
        f.enable(&mut t);
        f.write8(&mut t, reg::LINE, 0x2b);
        assert_eq!(f.read8(&mut t, reg::LINE), 0x2b);
    }
}

#[test]
fn sizes_of_base_addresses_are_powers_of_two() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0"]);
    let f = Function::at(4, 0);
    let mut sizes = 0;
    let mut bar = 0;
    while bar < 6 {
        let kind = f.read32(&mut t, reg::BAR0 + bar * 4);
        if let Some(size) = f.bar_size(&mut t, bar) {
            assert!(size.is_power_of_two(), "BAR {bar}: {size:#x}");
            sizes += 1;
        }
        if kind & 7 == 4 {
            bar += 1;
            assert_eq!(f.read32(&mut t, reg::BAR0 + bar * 4), 0, "the high half");
        }
        bar += 1;
    }
    assert!(sizes >= 2);
}

#[test]
fn capabilities_of_virtio_are_all_there() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0"]);
    let f = Function::at(4, 0);
    let list = f.capabilities(&mut t);
    let kinds: Vec<u8> = list
        .iter()
        .filter(|(id, _)| *id == 9)
        .map(|(_, at)| f.read8(&mut t, at + 3))
        .collect();
    for kind in 1..=5 {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    assert!(
        list.iter().any(|(id, _)| *id == 0x11),
        "no MSI-X in {list:?}"
    );
}

#[test]
fn the_window_of_the_configuration_capability() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0"]);
    let device = tests::virtio::Device::find(&mut t, 4);
    let f = device.function;
    let list = f.capabilities(&mut t);
    let at = |t: &mut Qtest, kind: u8| {
        list.iter()
            .find(|(id, at)| *id == 9 && f.read8(t, at + 3) == kind)
            .map(|(_, at)| *at)
            .expect("a capability")
    };
    let (common, window) = (at(&mut t, 1), at(&mut t, 5));
    let bar = f.read8(&mut t, common + 4);
    let offset = f.read32(&mut t, common + 8);
    // The number of queues, by the window and directly.
    f.write8(&mut t, window + 4, bar);
    f.write32(&mut t, window + 8, offset + 18);
    f.write32(&mut t, window + 12, 2);
    assert_eq!(f.read16(&mut t, window + 16), device.queues(&mut t));
}

#[test]
fn memory_is_decoded_where_it_was_placed_and_only_when_enabled() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0"]);
    let device = tests::virtio::Device::find(&mut t, 4);
    assert_eq!(device.queues(&mut t), 1);
    device.function.write16(&mut t, reg::COMMAND, 0);
    assert_ne!(
        device.queues(&mut t),
        1,
        "it is decoded though it is switched off"
    );
    device.function.write16(&mut t, reg::COMMAND, ENABLE);
    assert_eq!(device.queues(&mut t), 1);
}

#[test]
fn read_only_registers_stay() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0"]);
    for f in [Function::at(0, 0), Function::at(31, 0), Function::at(4, 0)] {
        for offset in [0x00, 0x08, 0x2c, 0x34] {
            let before = f.read32(&mut t, offset);
            f.write32(&mut t, offset, !before);
            assert_eq!(f.read32(&mut t, offset), before, "{f:?} {offset:#x}");
        }
    }
}

#[test]
fn the_memory_mapped_window_shows_the_same() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0"]);
    let host = Function::at(0, 0);
    // PCIEXBAR of the MCH: enabled, 256 MiB, at its usual place.
    host.write32(&mut t, 0x64, 0);
    host.write32(&mut t, 0x60, 0xb000_0001);
    assert_eq!(t.readl(0xb000_0000), 0x29c0_8086);
    assert_eq!(t.readl(0xb000_0000 + (31 << 15)), 0x2918_8086);
    assert_eq!(t.readw(0xb000_0000 + (4 << 15)), 0x1af4);
    // Another bus has nothing.
    assert_eq!(t.readl(0xb010_0000), 0xffff_ffff);
    host.write32(&mut t, 0x60, 0);
    assert_ne!(t.readl(0xb000_0000), 0x29c0_8086);
}

#[test]
fn a_root_port_leads_to_what_is_behind_it() {
    let mut t = Qtest::start(&[
        "-device",
        "pcie-root-port,id=rp0,chassis=1,slot=1,addr=06.0",
        "-device",
        "virtio-rng-pci,bus=rp0,id=rng0",
    ]);
    let port = Function::at(6, 0);
    assert_eq!(port.read8(&mut t, 0x0e) & 0x7f, 1, "a bridge");
    port.write32(&mut t, 0x18, 0x0001_0100);
    t.outl(0xcf8, 0x8001_0000);
    assert_eq!(t.inw(0xcfc), 0x1af4);
    let pci = t.vm.query("query-pci");
    let devices = pci[0]["devices"].as_array().expect("a list").clone();
    let bridge = devices
        .iter()
        .find(|d| d["qdev_id"] == "rp0")
        .expect("the port");
    assert_eq!(bridge["pci_bridge"]["bus"]["secondary"], 1);
    assert_eq!(bridge["pci_bridge"]["devices"][0]["qdev_id"], "rng0");
}

#[test]
fn what_was_placed_is_listed() {
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,addr=04.0,id=rng0"]);
    let device = tests::virtio::Device::find(&mut t, 4);
    let pci = t.vm.query("query-pci");
    let devices = pci[0]["devices"].as_array().expect("a list").clone();
    let rng = devices
        .iter()
        .find(|d| d["qdev_id"] == "rng0")
        .expect("listed");
    let regions = rng["regions"].as_array().expect("a list");
    let inside = |at: u64| {
        regions.iter().any(|r| {
            let (base, size) = (
                r["address"].as_i64().unwrap_or(-1),
                r["size"].as_i64().unwrap_or(0),
            );
            base >= 0 && (base..base + size).contains(&(at as i64))
        })
    };
    assert!(inside(device.common()), "{rng}");
}
