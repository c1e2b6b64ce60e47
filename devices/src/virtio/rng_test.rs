use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};

use super::layout;
use super::rng::{RngProps, with_props};
use crate::backend::rng::Entropy;
use crate::ram::RamHandle;
use crate::testing::{Buffer, Driver, FakeGuest, RAM_HIGH, conformance};

/// Gives the bytes 1, 2, 3 ... up to a limit.
struct Counter {
    next: AtomicUsize,
    limit: AtomicUsize,
}

impl Entropy for Counter {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.limit.load(Ordering::SeqCst) - self.next.load(Ordering::SeqCst);
        let count = buffer.len().min(left);
        for byte in &mut buffer[..count] {
            *byte = (self.next.fetch_add(1, Ordering::SeqCst) + 1) as u8;
        }
        Ok(count)
    }
}

fn driver(guest: &FakeGuest, props: RngProps, limit: usize) -> (Driver<'_>, Arc<Counter>) {
    let source = Arc::new(Counter {
        next: AtomicUsize::new(0),
        limit: AtomicUsize::new(limit),
    });
    let mut cx = guest.cx("rng0");
    cx.entropy = Some(source.clone());
    (Driver::new(guest, with_props(props, &cx).unwrap()), source)
}

#[test]
fn bytes_arrive_in_every_buffer() {
    let guest = FakeGuest::new();
    let (mut driver, _) = driver(&guest, RngProps::default(), usize::MAX);
    driver.negotiate(u64::MAX);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    let buffers = [Buffer::In(0x10_0000, 3), Buffer::In(RAM_HIGH + 0x100, 5)];
    assert_eq!(driver.request(&mut ring, &buffers), 8);
    assert_eq!(guest.read(0x10_0000, 4), [1, 2, 3, 0]);
    assert_eq!(guest.read(RAM_HIGH + 0x100, 6), [4, 5, 6, 7, 8, 0]);
}

#[test]
fn the_default_source_gives_random_bytes() {
    let guest = FakeGuest::new();
    let function = with_props(RngProps::default(), &guest.cx("rng0")).unwrap();
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    assert_eq!(driver.request(&mut ring, &[Buffer::In(0x10_0000, 64)]), 64);
    assert_ne!(guest.read(0x10_0000, 64), [0; 64]);
}

#[test]
fn a_quota_lasts_for_its_period() {
    let guest = FakeGuest::new();
    let props = RngProps {
        max_bytes: 10,
        period_ms: 1000,
        ..RngProps::default()
    };
    let (mut driver, _) = driver(&guest, props, usize::MAX);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    assert_eq!(driver.request(&mut ring, &[Buffer::In(0x10_0000, 8)]), 8);
    assert_eq!(driver.request(&mut ring, &[Buffer::In(0x10_0000, 8)]), 2);
    ring.add(&guest, &[Buffer::In(0x10_0000, 8)]);
    driver.kick(&ring);
    guest.timers.advance(999_999_999);
    guest.thread.run();
    assert_eq!(ring.take_used(&guest), None);
    guest.timers.advance(1);
    guest.thread.run();
    assert_eq!(ring.take_used(&guest).unwrap().1, 8);
}

#[test]
fn a_dry_source_is_asked_again_and_nothing_is_lost_by_a_stop() {
    let guest = FakeGuest::new();
    let (mut driver, source) = driver(&guest, RngProps::default(), 0);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    ring.add(&guest, &[Buffer::In(0x10_0000, 4)]);
    driver.kick(&ring);
    assert_eq!(ring.take_used(&guest), None);
    driver.carry_out(crate::effect::Effect::StopQueues);
    assert!(guest.thread.is_empty());
    source.limit.store(100, Ordering::SeqCst);
    driver.carry_out(crate::effect::Effect::StartQueues);
    assert_eq!(ring.take_used(&guest).unwrap().1, 4);
}

#[test]
fn a_reset_gives_no_new_quota() {
    let guest = FakeGuest::new();
    let props = RngProps {
        max_bytes: 10,
        period_ms: 1000,
        ..RngProps::default()
    };
    let (mut driver, _) = driver(&guest, props, usize::MAX);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    assert_eq!(driver.request(&mut ring, &[Buffer::In(0x10_0000, 16)]), 10);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    ring.add(&guest, &[Buffer::In(0x10_0000, 8)]);
    driver.kick(&ring);
    assert_eq!(ring.take_used(&guest), None);
    // The period ends while no worker looks.
    driver.carry_out(crate::effect::Effect::StopQueues);
    guest.timers.advance(1_000_000_000);
    driver.carry_out(crate::effect::Effect::StartQueues);
    guest.thread.run();
    assert_eq!(ring.take_used(&guest).unwrap().1, 8);
}

/// A source that offers another buffer with each one that it fills, as a driver on another
/// processor could.
struct Pacemaker {
    ram: RamHandle,
    index: GuestAddress,
    fills: AtomicUsize,
}

impl Entropy for Pacemaker {
    fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.fills.fetch_add(1, Ordering::SeqCst) < 1000 {
            let memory = self.ram.memory();
            let index: u16 = memory.read_obj(self.index).unwrap();
            memory.write_obj(index + 1, self.index).unwrap();
        }
        Ok(buffer.len())
    }
}

#[test]
fn a_driver_that_keeps_pace_does_not_hold_the_thread() {
    let guest = FakeGuest::new();
    let mut cx = guest.cx("rng0");
    let source = Arc::new(Pacemaker {
        ram: cx.ram.clone(),
        index: GuestAddress(0x1000 + 8 * 16 + 2),
        fills: AtomicUsize::new(0),
    });
    cx.entropy = Some(source.clone());
    let mut driver = Driver::new(&guest, with_props(RngProps::default(), &cx).unwrap());
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    ring.add(&guest, &[Buffer::In(0x10_0000, 4)]);
    driver.write(layout::NOTIFY, &[0, 0]);
    let mut rounds = 0;
    guest.thread.run_until(|| {
        rounds += 1;
        ring.used_index(&guest) == 1001
    });
    assert!(rounds > 1000 / 16, "{rounds}");
}

#[test]
fn limits_without_sense_are_refused() {
    let guest = FakeGuest::new();
    let refuse = |props| with_props(props, &guest.cx("rng0")).err().unwrap().desc;
    let props = RngProps::default();
    let period = refuse(RngProps {
        period_ms: 0,
        ..props
    });
    assert_eq!(period, "'period' parameter expects a positive integer");
    let bytes = refuse(RngProps {
        max_bytes: u64::MAX,
        ..props
    });
    assert!(bytes.starts_with("'max-bytes' parameter"));
}

#[test]
fn conforms() {
    let guest = FakeGuest::new();
    conformance::pci_function(conformance::AfterReset::Fresh, || {
        let device = with_props(RngProps::default(), &guest.cx("rng0")).unwrap();
        Arc::new(Mutex::new(device))
    });
}
