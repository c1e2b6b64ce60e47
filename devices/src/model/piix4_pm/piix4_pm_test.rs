use std::sync::{Arc, Mutex};

use vmstate::Snapshot;

use super::{Piix4Pm, window};
use crate::bus::lock;
use crate::effect::{Effect, PowerEffect};
use crate::map::{MapBuilder, Space};
use crate::pci::{DevFn, PciFunction, PciTopology, Plugged};
use crate::testing::{FakeGuest, conformance};

struct Bench {
    guest: FakeGuest,
    pm: Arc<Mutex<Piix4Pm>>,
}

impl Bench {
    /// After firmware.
    fn new() -> Self {
        let bench = Bench::at_power_on();
        lock(&bench.pm).set_up(0x600);
        bench
    }

    fn at_power_on() -> Self {
        let guest = FakeGuest::new();
        let pm = Piix4Pm::new(&guest.cx("pm"), 3);
        Bench { guest, pm }
    }

    fn read<const N: usize>(&self, window: u16, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        lock(&self.pm).bar_read(window as u8, offset, &mut data);
        data
    }

    fn write(&self, window: u16, offset: u64, data: &[u8]) -> Effect {
        lock(&self.pm).bar_write(window as u8, offset, data)
    }

    fn set(&self, window: u16, offset: u64, data: &[u8]) {
        assert_eq!(self.write(window, offset, data), Effect::None);
    }

    fn sci(&self) -> bool {
        self.guest.irqs.level(9)
    }
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    guest.timers.advance(123_456_789);
    conformance::pci_function(conformance::AfterReset::Fresh, || {
        Piix4Pm::new(&guest.cx("pm"), 3)
    });
}

#[test]
fn registers_at_power_on() {
    let bench = Bench::at_power_on();
    let mut pm = lock(&bench.pm);
    for (offset, expected) in [
        (0x00, [0x86, 0x80, 0x13, 0x71]),
        (0x08, [3, 0, 0x80, 6]),
        (0x0c, [0, 0, 0, 0]),
        (0x2c, [0xf4, 0x1a, 0x00, 0x11]),
        (0x3c, [0, 1, 0, 0]),
        (0x40, [1, 0, 0, 0]),
        (0x58, [0, 0, 0, 2]),
        (0x80, [0; 4]),
    ] {
        let mut data = [0; 4];
        pm.config_read(offset, &mut data);
        assert_eq!(data, expected, "{offset:#x}");
    }
}

#[test]
fn windows_follow_the_registers() {
    let bench = Bench::at_power_on();
    let mut topology = PciTopology::new();
    topology
        .plug(Plugged {
            id: "pm".into(),
            parent: None,
            devfn: DevFn::new(1, 3),
            function: bench.pm.clone(),
        })
        .unwrap();
    let claims = |address| {
        let mut builder = MapBuilder::new();
        builder.pci(topology.see());
        builder.build().claims(Space::Port, address)
    };
    let config = |offset, data: &[u8]| lock(&bench.pm).config_write(offset, data);
    assert!(claims(0xb2) && claims(0xafe3) && claims(0xae00) && claims(0xae13));
    assert!(!claims(0xae14) && !claims(0xafe4) && !claims(0x608));
    assert_eq!(config(0x40, &[0x00, 0x06, 0, 0]), Effect::None);
    assert!(!claims(0x608));
    assert_eq!(config(0x80, &[1]), Effect::Remap);
    assert!(claims(0x600) && claims(0x63f) && !claims(0x640));
    assert_eq!(config(0x40, &[0xff; 4]), Effect::Remap);
    assert!(claims(0xffc0) && !claims(0x608));
    assert_eq!(config(0x80, &[0]), Effect::Remap);
    assert!(!claims(0xffc0));
}

#[test]
fn acpi_mode_and_the_power_button() {
    let bench = Bench::new();
    lock(&bench.pm).power_button();
    assert_eq!(bench.read(window::PM, 0), [0, 0], "nobody listens");
    bench.set(window::PM, 2, &[0, 1]);
    lock(&bench.pm).power_button();
    assert_eq!(bench.read(window::PM, 0), [0, 1]);
    assert!(!bench.sci(), "not in ACPI mode");
    bench.set(window::APM, 0, &[0xf1, 0x77]);
    assert_eq!(bench.read(window::PM, 4), [1, 0]);
    assert!(bench.sci());
    assert_eq!(bench.read(window::APM, 0), [0xf1, 0x77]);
    bench.set(window::PM, 0, &[0, 1]);
    assert!(!bench.sci());
    bench.set(window::APM, 0, &[0xf0]);
    assert_eq!(bench.read(window::PM, 4), [0, 0]);
    let off = bench.write(window::PM, 4, &[1, 0x20]);
    assert_eq!(off, Effect::Power(PowerEffect::Shutdown));
    // Another kind of sleep is not there.
    bench.set(window::PM, 4, &[1, 0x24]);
}

#[test]
fn the_timer_runs_and_overflows() {
    let bench = Bench::new();
    bench.set(window::APM, 0, &[0xf1]);
    bench.set(window::PM, 2, &[1, 0]);
    bench.guest.timers.advance(1_000_000_000);
    let ticks = u32::from_le_bytes(bench.read(window::PM, 8));
    assert!((3_579_544..=3_579_546).contains(&ticks), "{ticks}");
    assert!(!bench.sci());
    bench.guest.timers.advance(2_000_000_000);
    assert!(bench.sci());
    bench.set(window::PM, 0, &[1, 0]);
    assert!(!bench.sci());
}

#[test]
fn hot_plug_raises_an_event() {
    let bench = Bench::new();
    bench.set(window::APM, 0, &[0xf1]);
    bench.set(window::GENERAL, 2, &[2, 0]);
    lock(&bench.pm).announce_plug(6);
    assert!(bench.sci());
    assert_eq!(bench.read(window::GENERAL, 0), [2, 0, 2, 0]);
    bench.set(window::GENERAL, 0, &[2, 0]);
    assert!(!bench.sci());
    assert_eq!(bench.read(window::HOTPLUG, 0), [0x40, 0, 0, 0]);
    lock(&bench.pm).request_eject(6);
    assert!(bench.sci());
    assert_eq!(bench.read(window::HOTPLUG, 4), [0x40, 0, 0, 0]);
    let saved = lock(&bench.pm).save();
    let ejected = bench.write(window::HOTPLUG, 8, &0x40u32.to_le_bytes());
    assert_eq!(ejected, Effect::EjectSlots(0x40));
    assert_eq!(bench.read(window::HOTPLUG, 4), [0; 4]);
    let other = Bench::new();
    lock(&other.pm).restore(saved).unwrap();
    assert!(other.sci());
    assert_eq!(other.read(window::HOTPLUG, 4), [0x40, 0, 0, 0]);
    lock(&other.pm).reset();
    assert!(!other.sci());
    assert_eq!(other.read(window::HOTPLUG, 4), [0; 4]);
    // Events that there are not.
    lock(&bench.pm).general_event(16);
    assert_eq!(bench.read(window::GENERAL, 0), [2, 0, 2, 0]);
}
