use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;
use vmstate::{Snapshot, StateAccess};

use super::{ConfigSpace, Identity, Msix};
use crate::irq::Interrupt;
use crate::testing::{FakeIrqs, golden};

fn made(count: u16) -> (ConfigSpace, Msix, FakeIrqs) {
    let mut config = ConfigSpace::endpoint(Identity {
        vendor: 1,
        device: 2,
        revision: 0,
        class: 0,
        subsystem_vendor: 0,
        subsystem: 0,
    });
    let irqs = FakeIrqs::default();
    let msix = Msix::new(&mut config, 1, count, &irqs).unwrap();
    (config, msix, irqs)
}

fn control(config: &mut ConfigSpace, msix: &mut Msix, value: u16) {
    let _ = config.write(0x42, &value.to_le_bytes());
    msix.config_written(config);
}

fn entry(msix: &mut Msix, index: u64, address: u64, data: u32, masked: bool) {
    msix.write(index * 16, &address.to_le_bytes());
    msix.write(index * 16 + 8, &data.to_le_bytes());
    msix.write(index * 16 + 12, &u32::from(masked).to_le_bytes());
}

fn pending(msix: &Msix) -> u64 {
    let mut bits = [0; 8];
    msix.read(2048, &mut bits);
    u64::from_le_bytes(bits)
}

#[test]
fn a_signal_waits_for_every_mask() {
    let (mut config, mut msix, irqs) = made(3);
    let routes = irqs.routes();
    let vector = msix.vectors()[1].clone();
    entry(&mut msix, 1, 0xfee0_0000, 0x41, true);
    vector.signal();
    assert_eq!(
        (pending(&msix), routes[1].signals()),
        (2, 0),
        "MSI-X is off"
    );
    control(&mut config, &mut msix, 0xc000);
    msix.write(16 + 12, &[0]);
    assert_eq!(
        (pending(&msix), routes[1].signals()),
        (2, 0),
        "function masked"
    );
    control(&mut config, &mut msix, 0x8000);
    assert_eq!((pending(&msix), routes[1].signals()), (0, 1));
    assert_eq!(routes[1].message(), Some((0xfee0_0000, 0x41)));
    vector.signal();
    assert_eq!(routes[1].signals(), 2);
}

#[test]
fn routes_are_only_programmed_when_they_changed() {
    let (mut config, mut msix, irqs) = made(2);
    let route = irqs.routes()[0].clone();
    control(&mut config, &mut msix, 0x8000);
    assert_eq!(route.enables(), 0, "the table says masked");
    entry(&mut msix, 0, 0xfee0_0000, 1, false);
    for _ in 0..10 {
        msix.write(12, &[1]);
        msix.write(12, &[0]);
    }
    assert_eq!(route.enables(), 1);
    msix.write(12, &[1]);
    entry(&mut msix, 0, 0xfee0_1000, 1, false);
    assert_eq!(route.enables(), 2);
    control(&mut config, &mut msix, 0);
    assert_eq!(route.message(), None);
}

#[test]
fn state_survives_with_pending_bits() {
    let (mut config, mut msix, _) = made(40);
    control(&mut config, &mut msix, 0x8000);
    entry(&mut msix, 39, 0xfee0_0000, 7, true);
    msix.vectors()[39].signal();
    let (state, other) = (msix.save(), made(40));
    let (_, mut fresh, irqs) = other;
    fresh.restore(state.clone()).unwrap();
    assert_eq!(fresh.save(), state);
    fresh.write(39 * 16 + 12, &[0]);
    assert_eq!(irqs.routes()[39].signals(), 1);
    assert!(made(2).1.restore(state).is_err());
}

#[test]
fn accesses_beyond_the_table_are_harmless() {
    let (_, mut msix, _) = made(1);
    for offset in [14, 15, 16, 2047, 2048, 4095, u64::MAX] {
        msix.write(offset, &[0xff; 8]);
        let mut data = [0; 8];
        msix.read(offset, &mut data);
    }
}

#[test]
fn signals_from_other_threads_are_never_lost() {
    let (mut config, mut msix, irqs) = made(1);
    control(&mut config, &mut msix, 0x8000);
    entry(&mut msix, 0, 0xfee0_0000, 1, false);
    let vector = msix.vectors()[0].clone();
    let thread = std::thread::spawn(move || (0..10_000).for_each(|_| vector.signal()));
    for _ in 0..1000 {
        msix.write(12, &[1]);
        msix.write(12, &[0]);
    }
    thread.join().unwrap();
    assert!(irqs.routes()[0].signals() >= 1);
    assert_eq!(pending(&msix), 0, "an open vector has nothing pending");
}

#[test]
fn what_signals_directly_is_attached_while_the_vector_is_open() {
    let (mut config, mut msix, irqs) = made(1);
    let route = irqs.routes()[0].clone();
    let event = Arc::new(EventFd::new(0).unwrap());
    let vector = msix.vectors()[0].clone();
    vector.connect(&event);
    assert_eq!(route.attached(), 0);
    control(&mut config, &mut msix, 0x8000);
    entry(&mut msix, 0, 0xfee0_0000, 1, false);
    assert_eq!(route.attached(), 1);
    msix.write(12, &[1]);
    msix.write(12, &[1]);
    assert_eq!(route.attached(), 0);
    msix.write(12, &[0]);
    msix.write(12, &[0]);
    assert_eq!(route.attached(), 1);
    control(&mut config, &mut msix, 0xc000);
    assert_eq!(route.attached(), 0);
    control(&mut config, &mut msix, 0x8000);
    assert_eq!(route.attached(), 1);
    vector.disconnect();
    assert_eq!(route.attached(), 0);
    vector.connect(&event);
    msix.reset();
    assert_eq!(route.attached(), 0);
}

#[test]
fn what_was_saved_can_be_restored() {
    let (mut config, mut msix, _) = made(3);
    entry(&mut msix, 0, 0xfee0_1000, 0x41, false);
    entry(&mut msix, 1, 0xfee0_2000, 0x42, true);
    control(&mut config, &mut msix, 0xc000);
    msix.vectors()[1].signal();
    let used = msix.save_section("").unwrap();
    golden::check("three", &used, &mut |section| {
        let (_, mut other, _) = made(3);
        let restored = other.restore_section(section);
        restored.map_err(|error| error.to_string())?;
        Ok(other.save_section("").unwrap())
    });
}
