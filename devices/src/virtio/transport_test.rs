use std::io;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use vmstate::Snapshot;

use super::VirtioPciProps;
use super::common::status;
use super::layout;
use super::rng::{RngProps, with_props};
use super::state::VirtioPciV1;
use crate::bus::lock;
use crate::effect::Effect;
use crate::pci::PciFunction;
use crate::testing::{Buffer, Driver, FakeGuest};
use crate::worker::{IoThread, QueueState, QueueWorker, Watch, WatchToken, WorkerId};

fn props(vectors: Option<u16>) -> RngProps {
    RngProps {
        pci: VirtioPciProps {
            vectors,
            ..VirtioPciProps::default()
        },
        ..RngProps::default()
    }
}

fn driver(guest: &FakeGuest, vectors: Option<u16>) -> Driver<'_> {
    Driver::new(
        guest,
        with_props(props(vectors), &guest.cx("rng0")).unwrap(),
    )
}

#[test]
fn the_four_structures_are_in_one_bar_and_the_vectors_in_another() {
    let guest = FakeGuest::new();
    let mut function = with_props(RngProps::default(), &guest.cx("rng0")).unwrap();
    let config = function.config();
    assert_eq!(config.dword(0), 0x1044_1af4);
    let mut kinds = Vec::new();
    let mut bars = Vec::new();
    let mut at = u16::from(config.byte(0x34));
    while at != 0 {
        match config.byte(at) {
            0x09 => {
                kinds.push(config.byte(at + 3));
                if config.byte(at + 3) != 5 {
                    bars.push(config.byte(at + 4));
                }
            }
            0x11 => assert_eq!(config.dword(at + 4) & 7, 1),
            other => panic!("capability {other:#x}"),
        }
        at = u16::from(config.byte(at + 1));
    }
    kinds.sort_unstable();
    assert_eq!((kinds, bars), (vec![1, 2, 3, 4, 5], vec![4; 4]));
}

#[test]
fn unknown_features_do_not_stick() {
    let guest = FakeGuest::new();
    let driver = driver(&guest, None);
    driver.set_status(3);
    driver.write(0x0c, &0x8000_0000_u32.to_le_bytes());
    driver.set_status(0x0b);
    assert_eq!(driver.status(), 3, "a feature that was not offered");
    driver.write(0x0c, &0u32.to_le_bytes());
    driver.set_status(0x0b);
    assert_eq!(driver.status(), 3, "VERSION_1 is missing");
    driver.set_status(0x0f);
    assert!(guest.thread.is_empty(), "nothing starts without features");
}

#[test]
fn isr_is_cleared_by_reading_and_lets_go_of_the_line() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    driver.request(&mut ring, &[Buffer::In(0x2000, 4)]);
    assert!(guest.line.level());
    let mut status = [0; 2];
    lock(driver.function()).config_read(6, &mut status);
    assert_eq!(status[0] & 8, 8, "interrupt status");
    assert_eq!((driver.isr(), driver.isr()), (1, 0));
    assert!(!guest.line.level());
    // Not with the pin disabled.
    let _ = lock(driver.function()).config_write(4, &[0, 4]);
    driver.request(&mut ring, &[Buffer::In(0x2000, 4)]);
    assert!(!guest.line.level());
    let _ = lock(driver.function()).config_write(4, &[0, 0]);
    assert!(guest.line.level());
}

#[test]
fn vectors_are_used_when_they_are_on() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    {
        let mut function = lock(driver.function());
        let cap = u16::from(function.config().byte(0x34));
        assert_eq!(function.config().byte(cap), 0x11);
        let _ = function.config_write(cap + 2, &[0, 0x80]);
        let _ = function.bar_write(1, 16, &0xfee0_1000_u64.to_le_bytes());
        let _ = function.bar_write(1, 24, &0x33_u64.to_le_bytes());
    }
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.write(0x1a, &5u16.to_le_bytes());
    assert_eq!(driver.common16(0x1a), 0xffff, "there is no such vector");
    driver.write(0x1a, &1u16.to_le_bytes());
    assert_eq!(driver.common16(0x1a), 1);
    driver.go();
    driver.request(&mut ring, &[Buffer::In(0x2000, 4)]);
    let route = guest.irqs.routes()[1].clone();
    assert_eq!(
        (route.message(), route.signals()),
        (Some((0xfee0_1000, 0x33)), 1)
    );
    assert_eq!(driver.isr(), 0);
    assert!(!guest.line.level());
}

#[test]
fn a_batch_makes_one_interrupt_and_the_driver_can_have_none() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    guest.write16(ring.avail, 1);
    for _ in 0..5 {
        ring.add(&guest, &[Buffer::In(0x2000, 4)]);
    }
    driver.kick(&ring);
    assert_eq!((ring.used_index(&guest), driver.isr()), (5, 0));
    guest.write16(ring.avail, 0);
    ring.add(&guest, &[Buffer::In(0x2000, 4)]);
    driver.kick(&ring);
    assert_eq!(driver.isr(), 1);
}

#[test]
fn event_indexes_hold_kicks_and_interrupts_back() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(1 << 29);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    driver.request(&mut ring, &[Buffer::In(0x2000, 4)]);
    assert_eq!(driver.isr(), 1);
    let avail_event = ring.used + 4 + 8 * 8;
    assert_eq!(guest.read16(avail_event), 1, "kick me at the next one");
    // The driver wants to hear only of the fourth.
    for _ in 0..2 {
        ring.add(&guest, &[Buffer::In(0x2000, 4)]);
    }
    guest.write16(ring.avail + 4 + 2 * 8, 3);
    driver.kick(&ring);
    assert_eq!(driver.isr(), 0);
    ring.add(&guest, &[Buffer::In(0x2000, 4)]);
    guest.write16(ring.avail + 4 + 2 * 8, 3);
    driver.kick(&ring);
    assert_eq!(driver.isr(), 1);
}

#[test]
fn a_reset_takes_the_queues_back_before_status_reads_zero() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(0);
    driver.queue(0, 0x1000, 8);
    driver.go();
    assert_eq!(guest.thread.len(), 1);
    assert_eq!(lock(driver.function()).io_events().len(), 1);
    let effect = lock(driver.function()).bar_write(layout::BAR, 0x14, &[0]);
    assert_eq!(
        (effect.clone(), driver.status()),
        (Effect::StopQueues, 0x0f)
    );
    driver.carry_out(effect);
    assert_eq!(driver.status(), 0);
    assert!(guest.thread.is_empty());
    assert_eq!(driver.common16(0x1c), 0);
    assert_eq!(lock(driver.function()).io_events().len(), 0);
}

#[test]
fn rings_outside_memory_need_a_reset() {
    for (desc, avail, used) in [
        (0xffff_ffff_ffff_fff0, 0x2000, 0x3000),
        (0x1000, u64::MAX - 1, 0x3000),
        (0x1000, 0x2000, 0x0100_0000),
        (0x1008, 0x2000, 0x3000),
        (0x1000, 0x2001, 0x3000),
        (0x1000, 0x2000, 0x3002),
    ] {
        let guest = FakeGuest::new();
        let mut driver = driver(&guest, None);
        driver.negotiate(0);
        driver.write(0x20, &u64::to_le_bytes(desc));
        driver.write(0x28, &u64::to_le_bytes(avail));
        driver.write(0x30, &u64::to_le_bytes(used));
        driver.write(0x1c, &[1, 0]);
        driver.go();
        assert_eq!(driver.status(), 0x0f | status::NEEDS_RESET);
        assert_eq!(driver.isr(), 2, "the driver is told");
        driver.set_status(0);
        assert_eq!(driver.status(), 0);
    }
}

#[test]
fn chains_that_break_the_rules_need_a_reset() {
    type Descriptors = &'static [(u64, u32, u16, u16)];
    let cases: [(&str, Descriptors, u16); 9] = [
        ("loop", &[(0x8000, 16, 3, 0)], 0),
        ("long loop", &[(0x8000, 16, 3, 1), (0x8000, 16, 3, 0)], 0),
        ("next outside", &[(0x8000, 16, 3, 8)], 0),
        ("head outside", &[(0x8000, 16, 2, 0)], 8),
        ("buffer outside", &[(0x0200_0000, 16, 2, 0)], 0),
        ("buffer wraps", &[(u64::MAX - 4, 16, 2, 0)], 0),
        (
            "readable behind writable",
            &[(0x8000, 16, 3, 1), (0x8000, 16, 0, 0)],
            0,
        ),
        ("table of odd length", &[(0x8000, 17, 4, 0)], 0),
        ("table outside", &[(u64::MAX - 15, 16, 4, 0)], 0),
    ];
    for (name, descriptors, head) in cases {
        let guest = FakeGuest::new();
        let mut driver = driver(&guest, None);
        driver.negotiate(u64::MAX);
        let mut ring = driver.queue(0, 0x1000, 8);
        driver.go();
        for (index, descriptor) in (0u16..).zip(descriptors) {
            ring.set_descriptor(&guest, index, *descriptor);
        }
        ring.offer(&guest, head);
        driver.kick(&ring);
        assert_eq!(
            driver.status() & status::NEEDS_RESET,
            status::NEEDS_RESET,
            "{name}"
        );
        assert_eq!(ring.take_used(&guest), None, "{name}");
        // After a reset it works again.
        driver.negotiate(u64::MAX);
        let mut ring = driver.queue(0, 0x1000, 8);
        driver.go();
        assert_eq!(driver.request(&mut ring, &[Buffer::In(0x8000, 4)]), 4);
    }
}

#[test]
fn nested_tables_and_runaway_indexes_need_a_reset() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(u64::MAX);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    assert_eq!(driver.request(&mut ring, &[Buffer::In(0x8000, 4)]), 4);
    let mut nested = ring.clone();
    nested.add_indirect(&guest, 0x9000, &[Buffer::In(0x8000, 4)]);
    let mut table = vec![0; 16];
    table[0..8].copy_from_slice(&0xa000_u64.to_le_bytes());
    table[8] = 16;
    table[12] = 4;
    guest.write(0x9000, &table);
    driver.kick(&ring);
    assert_ne!(driver.status() & status::NEEDS_RESET, 0);

    driver.negotiate(0);
    let ring = driver.queue(0, 0x1000, 8);
    driver.go();
    guest.write16(ring.avail + 2, 9);
    driver.kick(&ring);
    assert_ne!(driver.status() & status::NEEDS_RESET, 0);
}

#[test]
fn a_broken_device_stays_stopped_until_its_reset() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    ring.offer(&guest, 8);
    driver.kick(&ring);
    assert_ne!(driver.status() & status::NEEDS_RESET, 0);
    // The machine stops and goes on, or is saved and restored.
    driver.carry_out(Effect::StopQueues);
    driver.carry_out(Effect::StartQueues);
    assert!(guest.thread.is_empty());
    let state = lock(driver.function()).save();
    let target = self::driver(&guest, None);
    lock(target.function()).restore(state).unwrap();
    target.carry_out(Effect::StartQueues);
    assert!(guest.thread.is_empty());
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    driver.go();
    assert_eq!(driver.request(&mut ring, &[Buffer::In(0x8000, 4)]), 4);
}

/// A thread, and an event loop, that are out of room.
struct Full(Mutex<Vec<Box<dyn QueueWorker>>>);

impl Watch for Full {
    fn readable(&mut self, _: RawFd, _: WatchToken) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    }
    fn writable(&mut self, fd: RawFd, token: WatchToken) -> io::Result<()> {
        self.readable(fd, token)
    }
    fn remove(&mut self, _: RawFd) {}
    fn timeout(&mut self, _: Option<u64>) {}
}

impl IoThread for Full {
    fn id(&self) -> &str {
        "full"
    }
    fn attach(&self, mut worker: Box<dyn QueueWorker>) -> io::Result<WorkerId> {
        assert!(worker.register(&mut Full(Mutex::default())).is_err());
        lock(&self.0).push(worker);
        Ok(WorkerId(1))
    }
    fn detach(&self, _: WorkerId) -> Option<Vec<QueueState>> {
        let worker = lock(&self.0).pop()?;
        assert!(worker.drained(), "nothing was taken");
        Some(worker.into_state())
    }
}

#[test]
fn a_queue_that_cannot_be_watched_needs_a_reset() {
    let guest = FakeGuest::new();
    let mut cx = guest.cx("rng0");
    cx.iothreads = vec![Arc::new(Full(Mutex::default()))];
    let mut driver = Driver::new(&guest, with_props(props(None), &cx).unwrap());
    driver.negotiate(0);
    let mut ring = driver.queue(0, 0x1000, 8);
    ring.add(&guest, &[Buffer::In(0x8000, 4)]);
    driver.go();
    assert_ne!(driver.status() & status::NEEDS_RESET, 0);
    assert_eq!(ring.take_used(&guest), None);
    driver.set_status(0);
    assert_eq!(driver.status(), 0);
}

#[test]
fn indirect_chains_work() {
    let guest = FakeGuest::new();
    let mut driver = driver(&guest, None);
    driver.negotiate(u64::MAX);
    let mut ring = driver.queue(0, 0x1000, 2);
    driver.go();
    let buffers: Vec<_> = (0..20).map(|i| Buffer::In(0x2_0000 + i * 16, 4)).collect();
    ring.add_indirect(&guest, 0x9000, &buffers);
    driver.kick(&ring);
    assert_eq!(ring.take_used(&guest), Some((0, 80)));
    assert_eq!(guest.read(0x2_0004, 4), [0; 4]);
}

#[test]
fn the_window_in_configuration_space_reaches_the_bar() {
    let guest = FakeGuest::new();
    let driver = driver(&guest, None);
    let mut function = lock(driver.function());
    let mut at = u16::from(function.config().byte(0x34));
    while function.config().byte(at + 3) != 5 || function.config().byte(at) != 9 {
        at = u16::from(function.config().byte(at + 1));
    }
    let _ = function.config_write(at + 4, &[layout::BAR]);
    let _ = function.config_write(at + 8, &0x14_u32.to_le_bytes());
    let _ = function.config_write(at + 12, &1u32.to_le_bytes());
    let _ = function.config_write(at + 16, &[3]);
    let mut data = [0; 4];
    function.config_read(at + 16, &mut data);
    assert_eq!(data, [3, 0, 0, 0]);
    for (offset, len) in [(0x14u32, 3u32), (0x15, 2), (u32::MAX, 4), (0x14, u32::MAX)] {
        let _ = function.config_write(at + 8, &offset.to_le_bytes());
        let _ = function.config_write(at + 12, &len.to_le_bytes());
        let _ = function.config_write(at + 16, &[0; 4]);
        function.config_read(at + 14, &mut data);
    }
}

#[test]
fn state_moves_to_another_function_in_mid_work() {
    let guest = FakeGuest::new();
    let mut source = driver(&guest, None);
    source.negotiate(u64::MAX);
    let mut ring = source.queue(0, 0x1000, 8);
    source.go();
    source.request(&mut ring, &[Buffer::In(0x8000, 4)]);
    source.carry_out(Effect::StopQueues);
    ring.add(&guest, &[Buffer::In(0x8000, 4)]);
    let state = lock(source.function()).save();
    let target = driver(&guest, None);
    lock(target.function()).restore(state.clone()).unwrap();
    assert_eq!(lock(target.function()).save(), state);
    // Whoever serves the queue is called: kicks from before have not moved.
    let kick = lock(target.function()).common.queues[0].kick.clone();
    assert_eq!(kick.unwrap().read().ok(), Some(1));
    target.carry_out(Effect::StartQueues);
    assert_eq!(
        ring.take_used(&guest),
        Some((1, 4)),
        "what was waiting is served"
    );
    // What the driver uses has to be here.
    let more = VirtioPciV1 {
        accepted: state.accepted | 1 << 50,
        ..state.clone()
    };
    let refused = lock(target.function()).restore(more).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "Section 'virtio-pci': Features 0x4000130000000 unsupported. Allowed features: 0x130000000"
    );
    // Another set of vectors is another device.
    let other = driver(&guest, Some(0));
    assert!(lock(other.function()).restore(state).is_err());
}

#[test]
fn reset_equals_fresh() {
    let guest = FakeGuest::new();
    let mut used = driver(&guest, None);
    used.negotiate(u64::MAX);
    let mut ring = used.queue(0, 0x1000, 8);
    used.go();
    used.request(&mut ring, &[Buffer::In(0x8000, 4)]);
    let _ = lock(used.function()).config_write(0x20, &0xe000_0000_u32.to_le_bytes());
    let _ = lock(used.function()).config_write(4, &[7, 4]);
    let mut function = lock(used.function());
    crate::pci::QueueHost::stop_queues(&mut *function);
    function.reset();
    assert_eq!(
        function.save(),
        lock(driver(&guest, None).function()).save()
    );
    assert!(!guest.line.level());
}
