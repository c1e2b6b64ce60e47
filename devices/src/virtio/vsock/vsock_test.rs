use std::sync::{Arc, Mutex};

use vmstate::StateAccess;

use super::*;
use crate::bus::lock;
use crate::effect::Effect;
use crate::pci::PciFunction;
use crate::testing::{Buffer, Driver, FakeGuest, conformance, golden};
use crate::vhost::fake::FakeParty;
use crate::virtio::layout;

const OFFERED: u64 = feature::VERSION_1 | feature::EVENT_IDX | feature::INDIRECT_DESC | SEQPACKET;

fn props() -> VsockProps {
    VsockProps {
        cid: 77,
        seqpacket: OnOffAuto::Auto,
        pci: VirtioPciProps::default(),
    }
}

fn function(guest: &FakeGuest) -> (VirtioPci, Arc<FakeParty>) {
    let party = Arc::new(FakeParty::default());
    let function = with_party(party.clone(), OFFERED, props(), &guest.cx("vsock0"));
    (function.unwrap(), party)
}

#[test]
fn the_party_serves_two_queues_and_the_device_the_third() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    let mut driver = Driver::new(&guest, function);
    assert_eq!(driver.config::<8>(0), 77u64.to_le_bytes());
    driver.negotiate(u64::MAX);
    let mut rx = driver.queue(0, 0x1000, 8);
    let mut tx = driver.queue(1, 0x2000, 8);
    let _events = driver.queue(2, 0x3000, 8);
    driver.go();
    assert_eq!(guest.thread.len(), 2);
    assert_eq!(party.features(), Some(OFFERED));
    rx.add(&guest, &[Buffer::In(0x10_0000, 64)]);
    tx.add(&guest, &[Buffer::Out(0x10_1000, 64)]);
    // Straight to the party.
    let kick = party.ring(1).unwrap().kick;
    let _ = kick.read();
    driver.kick(&tx);
    assert_eq!(kick.read().unwrap(), 1);
    assert_eq!(party.serve(0, 44), 1);
    assert_eq!(party.serve(1, 0), 1);
    guest.thread.run();
    assert_eq!(rx.take_used(&guest), Some((0, 44)));
    assert_eq!(tx.take_used(&guest), Some((0, 0)));
    assert_eq!(driver.isr(), 1);
}

#[test]
fn positions_survive_a_stop() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    let mut rx = driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    driver.go();
    for _ in 0..3 {
        rx.add(&guest, &[Buffer::In(0x10_0000, 64)]);
    }
    assert_eq!(party.serve(0, 1), 3);
    driver.carry_out(Effect::StopQueues);
    assert_eq!(party.features(), None);
    // What was signalled before the stop is not lost.
    assert_eq!(driver.isr(), 1);
    driver.carry_out(Effect::StartQueues);
    assert_eq!(party.starts(), 2);
    assert_eq!(party.ring(0).unwrap().next_avail, 3);
    assert_eq!(party.serve(0, 1), 0);
    rx.add(&guest, &[Buffer::In(0x10_0000, 64)]);
    assert_eq!(party.serve(0, 1), 1);
}

#[test]
fn a_party_that_does_not_say_where_it_stopped_goes_on_at_the_used_ring() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    let mut rx = driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    driver.go();
    rx.add(&guest, &[Buffer::In(0x10_0000, 64)]);
    assert_eq!(party.serve(0, 1), 1);
    party.mute();
    driver.carry_out(Effect::StopQueues);
    driver.carry_out(Effect::StartQueues);
    assert_eq!(party.ring(0).unwrap().next_avail, 1);
}

#[test]
fn a_restored_driver_is_told_that_connections_are_gone() {
    let guest = FakeGuest::new();
    let (function, _) = function(&guest);
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    let mut events = driver.queue(2, 0x3000, 8);
    driver.go();
    guest.write(0x10_0000, &[0xff; 4]);
    events.add(&guest, &[Buffer::In(0x10_0000, 4)]);
    driver.kick(&events);
    assert_eq!(events.take_used(&guest), None);
    driver.carry_out(Effect::StopQueues);
    let section = {
        let mut function = lock(driver.function());
        function.state().unwrap().save_section("test").unwrap()
    };
    let (other, _) = self::function(&guest);
    let other = Driver::new(&guest, other);
    lock(other.function())
        .state()
        .unwrap()
        .restore_section(&section)
        .unwrap();
    other.carry_out(Effect::StartQueues);
    guest.thread.run();
    assert_eq!(events.take_used(&guest), Some((0, 4)));
    assert_eq!(guest.read(0x10_0000, 4), [0; 4]);
}

#[test]
fn a_refusal_makes_the_driver_reset() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    party.refuse();
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    driver.go();
    assert_eq!(driver.status() & 0x40, 0x40);
    assert!(guest.thread.is_empty());
}

#[test]
fn an_error_of_the_party_makes_the_driver_reset() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    driver.go();
    party.ring(0).unwrap().err.write(1).unwrap();
    guest.thread.run();
    assert_eq!(driver.status() & 0x40, 0x40);
    driver.negotiate(0);
    assert_eq!(party.features(), None);
}

#[test]
fn vectors_move_and_mask_while_the_queues_run() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    let driver = Driver::new(&guest, function);
    let function = driver.function().clone();
    let control = |value: u16| {
        // MSI-X is the first capability.
        let _ = lock(&function).config_write(0x42, &value.to_le_bytes());
    };
    let entry = |index: u64, masked: bool| {
        let mut function = lock(&function);
        let at = index * 16;
        let _ = function.bar_write(layout::MSIX_BAR, at, &0xfee0_0000u64.to_le_bytes());
        let _ = function.bar_write(layout::MSIX_BAR, at + 8, &7u32.to_le_bytes());
        let masked = u32::from(masked).to_le_bytes();
        let _ = function.bar_write(layout::MSIX_BAR, at + 12, &masked);
    };
    let move_queue = |vector: u16| {
        driver.write(0x16, &0u16.to_le_bytes());
        driver.write(0x1a, &vector.to_le_bytes());
    };
    control(0x8000);
    entry(0, false);
    entry(1, false);
    let mut driver = Driver::from_shared(&guest, function.clone());
    driver.negotiate(0);
    let mut rx = driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    move_queue(0);
    driver.go();
    let routes = guest.irqs.routes();
    let mut serve = || {
        rx.add(&guest, &[Buffer::In(0x10_0000, 64)]);
        assert_eq!(party.serve(0, 1), 1);
        guest.thread.run();
    };
    assert_eq!([routes[0].attached(), routes[1].attached()], [1, 0]);
    serve();
    assert_eq!(routes[0].signals(), 1);
    entry(0, true);
    assert_eq!(routes[0].attached(), 0);
    serve();
    assert_eq!(routes[0].signals(), 1);
    entry(0, false);
    assert_eq!((routes[0].signals(), routes[0].attached()), (2, 1));
    move_queue(1);
    assert_eq!([routes[0].attached(), routes[1].attached()], [0, 1]);
    serve();
    assert_eq!(routes[1].signals(), 1);
    move_queue(0xffff);
    assert_eq!(routes[1].attached(), 0);
    serve();
    move_queue(0);
    // No MSI-X: the pin.
    control(0);
    serve();
    assert_eq!(driver.isr(), 1);
    control(0x8000);
    assert_eq!(routes[0].attached(), 1);
    driver.carry_out(Effect::StopQueues);
    assert_eq!(routes[0].attached(), 0);
}

#[test]
fn addresses_and_features_are_checked() {
    let low = check_cid(2).unwrap_err().desc;
    assert_eq!(low, "guest-cid property must be greater than 2");
    let high = check_cid(1 << 32).unwrap_err().desc;
    assert_eq!(high, "guest-cid property must be a 32-bit number");
    assert_eq!(check_cid(3), Ok(3));
    assert_eq!(check_cid(0xffff_ffff), Ok(u32::MAX));
    let guest = FakeGuest::new();
    let refuse = |features, props| {
        let party = Arc::new(FakeParty::default());
        let made = with_party(party, features, props, &guest.cx("v"));
        made.err().unwrap().desc
    };
    let old = refuse(SEQPACKET, props());
    assert_eq!(old, "vhost lacks feature mask 0x100000000 for backend");
    let on = VsockProps {
        seqpacket: OnOffAuto::On,
        ..props()
    };
    let without = refuse(feature::VERSION_1, on);
    assert_eq!(without, "vhost-vsock backend doesn't support seqpacket");
}

#[test]
fn what_is_no_vhost_device_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let error = Kernel::new(file.into(), Kind::Vsock).unwrap_err();
    let expected = "vhost_set_owner failed: Inappropriate ioctl for device";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn dropping_the_function_gives_everything_back() {
    let guest = FakeGuest::new();
    let (function, party) = function(&guest);
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    driver.go();
    driver.carry_out(Effect::StopQueues);
    drop(driver);
    assert_eq!(Arc::strong_count(&party), 1);
    assert!(guest.thread.is_empty());
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    conformance::pci_function(conformance::AfterReset::Fresh, || {
        Arc::new(Mutex::new(function(&guest).0))
    });
}

#[test]
fn what_was_saved_can_be_restored() {
    let guest = FakeGuest::new();
    let mut driver = Driver::new(&guest, function(&guest).0);
    driver.negotiate(u64::MAX);
    driver.queue(0, 0x1000, 8);
    driver.queue(1, 0x2000, 8);
    driver.queue(2, 0x3000, 8);
    driver.go();
    driver.carry_out(Effect::StopQueues);
    let used = lock(driver.function()).save_section("vsock0").unwrap();
    golden::check("vsock", &used, &mut |section| {
        let (mut other, _) = function(&guest);
        let restored = other.restore_section(section);
        restored.map_err(|error| error.to_string())?;
        Ok(other.save_section("vsock0").unwrap())
    });
}
