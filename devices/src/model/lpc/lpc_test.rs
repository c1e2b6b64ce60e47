use std::sync::{Arc, Mutex};

use super::{Lpc, Setup};
use crate::bus::lock;
use crate::effect::{Effect, PowerEffect};
use crate::map::{MapBuilder, Space};
use crate::pci::{DevFn, InterruptRouter, PciFunction, PciTopology, Plugged};
use crate::testing::{FakeGuest, conformance};

/// The PM block.
const PM: u8 = 6;

struct Bench {
    guest: FakeGuest,
    router: Arc<InterruptRouter>,
    lpc: Arc<Mutex<Lpc>>,
}

impl Bench {
    /// After firmware.
    fn new() -> Self {
        let bench = Bench::at_power_on();
        lock(&bench.lpc).set_up(&Setup::DEFAULT);
        bench
    }

    fn at_power_on() -> Self {
        let guest = FakeGuest::new();
        let router = InterruptRouter::new(&*guest.irqs);
        let lpc = Lpc::new(&guest.cx("lpc"), router.clone());
        Bench { guest, router, lpc }
    }

    fn read<const N: usize>(&self, window: u8, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        lock(&self.lpc).bar_read(window, offset, &mut data);
        data
    }

    fn write(&self, window: u8, offset: u64, data: &[u8]) -> Effect {
        lock(&self.lpc).bar_write(window, offset, data)
    }

    fn pm16(&self, offset: u64) -> u16 {
        u16::from_le_bytes(self.read(PM, offset))
    }

    fn set_pm16(&self, offset: u64, value: u16) {
        let effect = self.write(PM, offset, &value.to_le_bytes());
        assert_eq!(effect, Effect::None);
    }

    fn config(&self, offset: u16, data: &[u8]) -> Effect {
        lock(&self.lpc).config_write(offset, data)
    }

    fn sci(&self) -> bool {
        self.guest.irqs.level(9)
    }
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    guest.timers.advance(123_456_789);
    let router = InterruptRouter::new(&*guest.irqs);
    conformance::pci_function(conformance::AfterReset::Fresh, || {
        Lpc::new(&guest.cx("lpc"), router.clone())
    });
}

#[test]
fn registers_at_power_on() {
    let bench = Bench::at_power_on();
    let mut lpc = lock(&bench.lpc);
    for (offset, expected) in [
        (0x00, [0x86, 0x80, 0x18, 0x29]),
        (0x08, [2, 0, 1, 6]),
        (0x0c, [0, 0, 0, 0]),
        (0x2c, [0xf4, 0x1a, 0x00, 0x11]),
        (0x40, [1, 0, 0, 0]),
        (0x44, [0; 4]),
        (0x60, [0x80; 4]),
        (0x64, [0x10, 0, 0, 0]),
        (0x68, [0x80; 4]),
        (0xf0, [0; 4]),
    ] {
        let mut data = [0; 4];
        lpc.config_read(offset, &mut data);
        assert_eq!(data, expected, "{offset:#x}");
    }
    assert_eq!(lpc.decodes().len(), 2, "only what is at fixed ports");
}

#[test]
fn windows_follow_the_registers() {
    let bench = Bench::at_power_on();
    let mut topology = PciTopology::new();
    topology
        .plug(Plugged {
            id: "lpc".into(),
            parent: None,
            devfn: DevFn::new(31, 0),
            function: bench.lpc.clone(),
        })
        .unwrap();
    let claims = |space, address| {
        let mut builder = MapBuilder::new();
        builder.pci(topology.see());
        builder.build().claims(space, address)
    };
    assert!(claims(Space::Port, 0xb2) && claims(Space::Port, 0xcf9));
    assert!(!claims(Space::Port, 0x608));
    assert_eq!(bench.config(0x40, &[0x01, 0x06, 0, 0]), Effect::None);
    assert!(!claims(Space::Port, 0x608));
    assert_eq!(bench.config(0x44, &[0x80]), Effect::Remap);
    assert!(claims(Space::Port, 0x600) && claims(Space::Port, 0x67f));
    assert!(!claims(Space::Port, 0x680));
    assert_eq!(bench.config(0x40, &[0xff, 0xff, 0xff, 0xff]), Effect::Remap);
    assert!(claims(Space::Port, 0xff80) && !claims(Space::Port, 0x608));
    assert_eq!(bench.config(0xf0, &[1, 0xff, 0xd1, 0xfe]), Effect::Remap);
    assert!(claims(Space::Memory, 0xfed1_c000) && claims(Space::Memory, 0xfed1_ffff));
    assert_eq!(bench.read(9, 0x3140), [0x10, 0x32, 0x54, 0x76]);
    assert_eq!(bench.read(9, 0x3410), [0x20, 0, 0, 0]);
    lock(&bench.lpc).reset();
    assert!(!claims(Space::Memory, 0xfed1_c000) && !claims(Space::Port, 0xff80));
    lock(&bench.lpc).set_up(&Setup::DEFAULT);
    assert!(claims(Space::Port, 0x600) && claims(Space::Memory, 0xfed1_c000));
}

#[test]
fn links_go_where_the_registers_say() {
    let bench = Bench::at_power_on();
    let pin = bench.router.pin(5);
    pin.set(true);
    let raised = || -> Vec<u8> { (0..24).filter(|gsi| bench.guest.irqs.level(*gsi)).collect() };
    assert_eq!(raised(), [21]);
    lock(&bench.lpc).set_up(&Setup::DEFAULT);
    assert_eq!(raised(), [10, 21]);
    assert_eq!(bench.config(0x69, &[5]), Effect::None);
    assert_eq!(raised(), [5, 21]);
    assert_eq!(bench.config(0x68, &[0x80, 0x80, 0x80, 0x80]), Effect::None);
    assert_eq!(raised(), [21]);
    let state = {
        let _ = bench.config(0x69, &[11]);
        let mut lpc = lock(&bench.lpc);
        lpc.state().unwrap().save_section("").unwrap()
    };
    lock(&bench.lpc).reset();
    assert_eq!(raised(), [21]);
    let mut lpc = lock(&bench.lpc);
    lpc.state().unwrap().restore_section(&state).unwrap();
    drop(lpc);
    assert_eq!(raised(), [11, 21]);
}

#[test]
fn acpi_mode_comes_and_goes_with_the_apm_port() {
    let bench = Bench::new();
    for (command, mode) in [(0, 0), (2, 1), (9, 1), (3, 0), (2, 1)] {
        assert_eq!(bench.write(7, 0, &[command]), Effect::None);
        assert_eq!(bench.pm16(4), mode, "{command}");
        assert_eq!(bench.read(7, 0), [command]);
    }
    assert_eq!(bench.write(7, 1, &[0x55]), Effect::None);
    assert_eq!(bench.read(7, 0), [2, 0x55]);
}

#[test]
fn the_power_button_interrupts_who_listens() {
    const BUTTON: u16 = 1 << 8;
    let bench = Bench::new();
    let press = || lock(&bench.lpc).power_button();
    press();
    assert_eq!(bench.pm16(0), 0, "nobody listens");
    bench.set_pm16(2, BUTTON);
    press();
    assert_eq!(
        (bench.pm16(0), bench.sci()),
        (BUTTON, false),
        "no ACPI mode"
    );
    let _ = bench.write(7, 0, &[2]);
    assert!(bench.sci());
    bench.set_pm16(0, !BUTTON);
    assert!(bench.sci());
    bench.set_pm16(0, BUTTON);
    assert_eq!((bench.pm16(0), bench.sci()), (0, false));
    press();
    assert!(bench.sci());
    // The guest leads the interrupt elsewhere.
    assert_eq!(bench.config(0x44, &[0x81]), Effect::None);
    assert!(!bench.sci() && bench.guest.irqs.level(10));
    assert_eq!(bench.config(0x44, &[0x84]), Effect::None);
    assert!(!bench.guest.irqs.level(10) && bench.guest.irqs.level(20));
    lock(&bench.lpc).reset();
    assert!(!(0..24).any(|gsi| bench.guest.irqs.level(gsi)));
}

#[test]
fn general_events_interrupt_when_enabled() {
    let bench = Bench::new();
    let _ = bench.write(7, 0, &[2]);
    for (event, place, bit) in [(1u8, 0u64, 2u8), (63, 7, 0x80)] {
        lock(&bench.lpc).general_event(event);
        assert_eq!(bench.read(PM, 0x20 + place), [bit]);
        assert!(!bench.sci());
        assert_eq!(bench.write(PM, 0x28 + place, &[bit]), Effect::None);
        assert!(bench.sci());
        assert_eq!(bench.write(PM, 0x20 + place, &[bit]), Effect::None);
        assert!(!bench.sci());
        assert_eq!(bench.read(PM, 0x20 + place), [0]);
    }
    lock(&bench.lpc).general_event(200);
    assert_eq!(bench.read(PM, 0x20), [0; 8]);
}

#[test]
fn the_timer_counts_and_interrupts() {
    const TICKS: u64 = 3_579_545;
    let bench = Bench::new();
    let _ = bench.write(7, 0, &[2]);
    let counter = || u32::from_le_bytes(bench.read(PM, 8));
    assert_eq!(counter(), 0);
    bench.guest.timers.advance(1_000_000_000);
    assert_eq!(u64::from(counter()), TICKS);
    bench.guest.timers.advance(1_343_484_158);
    assert_eq!(u64::from(counter()), 0x7f_ffff);
    assert_eq!(bench.pm16(0), 0);
    bench.guest.timers.advance(1000);
    assert_eq!((bench.pm16(0), bench.sci()), (1, false), "bit 23 changed");
    bench.set_pm16(2, 1);
    assert!(bench.sci());
    bench.set_pm16(0, 1);
    assert_eq!((bench.pm16(0), bench.sci()), (0, false));
    for _ in 0..3 {
        bench.guest.timers.advance(2_340_000_000);
        assert!(!bench.sci());
        bench.guest.timers.advance(4_000_000);
        assert!(bench.sci());
        bench.set_pm16(0, 1);
    }
    assert!(counter() <= 0xff_ffff);
}

#[test]
fn soft_off_and_other_sleeps() {
    let off = Effect::Power(PowerEffect::Shutdown);
    for (value, effect, reads) in [
        (0x2001u16, off.clone(), 0x0001),
        (0x2000, off.clone(), 0x0000),
        (0x2401, Effect::None, 0x0401),
        (0x3c01, Effect::None, 0x1c01),
        (0x0001, Effect::None, 0x0001),
    ] {
        let bench = Bench::new();
        assert_eq!(bench.write(PM, 4, &value.to_le_bytes()), effect);
        assert_eq!(bench.pm16(4), reads, "{value:#x}");
    }
    // By bytes, as some write it.
    let bench = Bench::new();
    assert_eq!(bench.write(PM, 5, &[0x20]), off);
}

#[test]
fn the_reset_register_resets() {
    let reset = Effect::Power(PowerEffect::Reset);
    for (value, effect, reads) in [
        (0x02, Effect::None, 0x02),
        (0x08, Effect::None, 0x08),
        (0xfb, Effect::None, 0x0a),
        (0x06, reset.clone(), 0),
        (0x04, reset.clone(), 0),
        (0x0f, reset, 0),
    ] {
        let bench = Bench::at_power_on();
        assert_eq!(bench.write(8, 0, &[value]), effect);
        assert_eq!(bench.read(8, 0), [reads], "{value:#x}");
    }
}

#[test]
fn the_smi_switch_can_be_locked() {
    let bench = Bench::new();
    assert_eq!(bench.read(PM, 0x30), [0x20, 0, 0, 0]);
    let _ = bench.write(PM, 0x30, &[0x01]);
    assert_eq!(bench.config(0xa0, &[0x10, 0]), Effect::None);
    let _ = bench.write(PM, 0x30, &[0x20]);
    assert_eq!(bench.read(PM, 0x30), [0x21, 0, 0, 0]);
    assert_eq!(bench.config(0xa0, &[0, 0]), Effect::None);
    let mut data = [0; 1];
    lock(&bench.lpc).config_read(0xa0, &mut data);
    assert_eq!(data, [0x10], "stays locked");
    // Firmware lets go of the global lock: the operating system is told.
    let _ = bench.write(PM, 0x30, &[0xa1]);
    assert_eq!(bench.pm16(0), 1 << 5);
    assert_eq!(bench.read(PM, 0x30), [0x21, 0, 0, 0]);
}
