//! Task management, asynchronous notification, events.

use block::NullSpec;

use super::*;
use crate::bus::lock;
use crate::pci::PciFunction;
use crate::virtio::blk_test::{null, small};

const ABORT_TASK: u32 = 0;
const ABORT_TASK_SET: u32 = 1;
const CLEAR_ACA: u32 = 2;
const NEXUS_RESET: u32 = 4;
const UNIT_RESET: u32 = 5;
const QUERY_TASK: u32 = 6;
const QUERY_TASK_SET: u32 = 7;

const COMPLETE: u8 = 0;
const SUCCEEDED: u8 = 10;
const REJECTED: u8 = 11;
const INCORRECT_LUN: u8 = 12;

fn slow() -> Arc<Attachment> {
    null(NullSpec {
        latency_ns: 30_000_000,
        ..small()
    })
}

/// Two disks at target 0 and one at target 1.
fn three(guest: &FakeGuest, bus: &ScsiBus) {
    for (id, place) in [
        ("a", ",scsi-id=0,lun=0"),
        ("b", ",scsi-id=0,lun=1"),
        ("c", ",scsi-id=1"),
    ] {
        add_hd(guest, bus, id, &slow(), place);
    }
}

/// Begins reads of three units, one each; their tags.
fn begin(bench: &mut Bench<'_>) -> [u64; 3] {
    let mut tags = [0; 3];
    for (slot, (target, lun)) in (0u64..).zip([(0, 0), (0, 1), (1, 0)]) {
        (bench.target, bench.lun) = (target, lun);
        tags[slot as usize] = bench.tag;
        let data = [Buffer::In(DATA + 0x1000 * slot, 512)];
        let chain = bench.request_at(slot, &ten(0x28, 0, 1), &data);
        bench.requests.add(bench.guest, &chain);
    }
    bench.driver.kick(&bench.requests);
    (bench.target, bench.lun) = (0, 0);
    tags
}

fn outcomes(bench: &mut Bench<'_>) -> [u8; 3] {
    let guest = bench.guest;
    let mut left = 3;
    guest.thread.run_until(|| {
        while bench.requests.take_used(guest).is_some() {
            left -= 1;
        }
        left == 0
    });
    [0, 1, 2].map(|slot| bench.ended_at(slot, 0).response)
}

#[test]
fn tasks_are_aborted() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| three(&guest, bus));
    let tags = begin(&mut bench);
    assert_eq!(bench.tmf(QUERY_TASK, tags[0]), SUCCEEDED);
    assert_eq!(bench.tmf(QUERY_TASK, 9999), COMPLETE);
    assert_eq!(bench.tmf(ABORT_TASK, tags[0]), COMPLETE);
    // When the function is complete, so is the task.
    assert_eq!(bench.ended_at(0, 0).response, ABORTED);
    assert_eq!(bench.tmf(QUERY_TASK, tags[0]), COMPLETE);
    assert_eq!(outcomes(&mut bench), [ABORTED, OK, OK]);
    assert_eq!(bench.tmf(ABORT_TASK, tags[0]), COMPLETE);
    assert_eq!(bench.ready(), GOOD);
}

#[test]
fn sets_of_tasks_are_aborted() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| three(&guest, bus));
    begin(&mut bench);
    assert_eq!(bench.tmf(QUERY_TASK_SET, 0), SUCCEEDED);
    assert_eq!(bench.tmf(ABORT_TASK_SET, 0), COMPLETE);
    assert_eq!(outcomes(&mut bench), [ABORTED, OK, OK]);
    assert_eq!(bench.tmf(QUERY_TASK_SET, 0), COMPLETE);
}

#[test]
fn units_and_targets_are_reset() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| three(&guest, bus));
    begin(&mut bench);
    assert_eq!(bench.tmf(UNIT_RESET, 0), COMPLETE);
    assert_eq!(outcomes(&mut bench), [RESET, OK, OK]);
    assert_eq!(bench.ready(), Ended::check(6, 0x29, 0));
    bench.lun = 1;
    assert_eq!(bench.ready(), GOOD);
    begin(&mut bench);
    assert_eq!(bench.tmf(NEXUS_RESET, 0), COMPLETE);
    assert_eq!(outcomes(&mut bench), [RESET, RESET, OK]);
    bench.lun = 1;
    assert_eq!(bench.ready(), Ended::check(6, 0x29, 0));
}

#[test]
fn functions_that_make_no_sense() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| three(&guest, bus));
    assert_eq!(bench.tmf(CLEAR_ACA, 0), REJECTED);
    assert_eq!(bench.tmf(77, 0), REJECTED);
    bench.lun = 9;
    assert_eq!(bench.tmf(UNIT_RESET, 0), INCORRECT_LUN);
    bench.target = 9;
    assert_eq!(bench.tmf(UNIT_RESET, 0), BAD_TARGET);
    // Asynchronous notification: nothing is told that way.
    for kind in [1u32, 2] {
        guest.write(TMF, &kind.to_le_bytes());
        guest.write(TMF + 0x40, &[0xff; 5]);
        let chain = [Buffer::Out(TMF, 16), Buffer::In(TMF + 0x40, 5)];
        assert_eq!(bench.driver.request(&mut bench.control, &chain), 5);
        assert_eq!(guest.read(TMF + 0x40, 5), [0; 5]);
    }
    // Not known: nothing is said.
    guest.write(TMF, &9u32.to_le_bytes());
    let chain = [Buffer::Out(TMF, 16), Buffer::In(TMF + 0x40, 5)];
    assert_eq!(bench.driver.request(&mut bench.control, &chain), 0);
    // No room for the answer.
    guest.write(TMF, &0u32.to_le_bytes());
    bench.control.add(&guest, &[Buffer::Out(TMF, 24)]);
    bench.driver.kick(&bench.control);
    assert!(bench.broken());
}

#[test]
fn a_stop_in_the_middle_of_a_function() {
    let guest = FakeGuest::new();
    let mut bench = Bench::new(&guest, |bus| three(&guest, bus));
    let tags = begin(&mut bench);
    let chain = bench.tmf_chain(ABORT_TASK, tags[0]);
    bench.control.add(&guest, &chain);
    bench.driver.kick(&bench.control);
    assert_eq!(bench.control.used_index(&guest), 0);
    bench.driver.carry_out(Effect::StopQueues);
    // A stop waits for the task, and the function was waiting for nothing else.
    assert_eq!(bench.control.used_index(&guest), 1);
    assert_eq!(outcomes(&mut bench), [ABORTED, OK, OK]);
    assert_eq!(guest.read(TMF + 0x40, 1), [COMPLETE]);
    // One that nobody has seen is done later.
    let chain = bench.tmf_chain(UNIT_RESET, 0);
    bench.control.add(&guest, &chain);
    bench.driver.carry_out(Effect::StartQueues);
    guest.thread.run();
    assert_eq!(bench.control.used_index(&guest), 2);
    assert_eq!(bench.ready(), Ended::check(6, 0x29, 0));
}

/// Events that the driver got: kind, address, reason.
fn events(bench: &mut Bench<'_>) -> Vec<(u32, Vec<u8>, u32)> {
    bench.guest.thread.run();
    let mut got = Vec::new();
    while let Some((head, len)) = bench.events.take_used(bench.guest) {
        assert_eq!(len, 16);
        let bytes = bench.guest.read(0xb000 + 16 * u64::from(head), 16);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        got.push((word(0), bytes[4..12].to_vec(), word(12)));
    }
    got
}

fn give_buffers(bench: &mut Bench<'_>, count: u64) {
    for slot in 0..count {
        bench
            .events
            .add(bench.guest, &[Buffer::In(0xb000 + 16 * slot, 16)]);
    }
    bench.driver.kick(&bench.events);
}

#[test]
fn the_driver_learns_of_units_that_come_go_and_change() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, "");
    });
    let bus = bench.bus.clone();
    give_buffers(&mut bench, 4);
    let other = add_hd(&guest, &bus, "b", &null(small()), ",scsi-id=0,lun=300");
    assert_eq!(
        events(&mut bench),
        [(1, vec![1, 0, 0x41, 0x2c, 0, 0, 0, 0], 1)]
    );
    assert_eq!(bench.ready(), Ended::check(6, 0x3f, 0x0e));
    bench.lun = 300;
    assert_eq!(bench.ready(), Ended::check(6, 0x29, 0));
    assert_eq!(bench.read(&ten(0x28, 0, 1), 512).len(), 512);
    other.capacity_changed();
    assert_eq!(
        events(&mut bench),
        [(3, vec![1, 0, 0x41, 0x2c, 0, 0, 0, 0], 0x092a)]
    );
    assert_eq!(bench.ready(), Ended::check(6, 0x2a, 9));
    let place = other.place();
    assert!(bus.remove(place) && !bus.remove(place));
    assert_eq!(
        events(&mut bench),
        [(1, vec![1, 0, 0x41, 0x2c, 0, 0, 0, 0], 2)]
    );
    assert_eq!(bench.ready(), Ended::check(5, 0x25, 0));
    // Its lane is closed, and nobody holds it any more.
    assert_eq!(Arc::strong_count(&other), 1);
}

#[test]
fn what_happens_before_a_restored_driver_runs_is_told() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, "");
    });
    give_buffers(&mut bench, 2);
    bench.driver.carry_out(Effect::StopQueues);
    let function = bench.driver.function().clone();
    let section = lock(&function).state().unwrap().save_section("s").unwrap();
    lock(&function).reset();
    let restored = lock(&function).state().unwrap().restore_section(&section);
    restored.unwrap();
    bench.bus.units()[0].capacity_changed();
    bench.driver.carry_out(Effect::StartQueues);
    let got = events(&mut bench);
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!((got[0].0, got[0].2), (3, 0x092a));
}

#[test]
fn events_without_buffers_wait_or_are_missed() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, "");
    });
    let unit = bench.bus.units()[0].clone();
    for _ in 0..70 {
        unit.capacity_changed();
    }
    assert_eq!(events(&mut bench), []);
    give_buffers(&mut bench, 8);
    let got = events(&mut bench);
    assert_eq!(got.len(), 8);
    assert_eq!((got[0].0, got[1].0), (0x8000_0003, 3));
    // A buffer that is too short.
    bench.events.add(&guest, &[Buffer::In(0xb000, 8)]);
    bench.driver.kick(&bench.events);
    assert!(bench.broken());
}

#[test]
fn a_driver_that_did_not_ask_is_not_told() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut bench = Bench::cold(&guest, "", !6, |bus| {
        add_hd(&guest, bus, "a", &node, "");
    });
    let bus = bench.bus.clone();
    give_buffers(&mut bench, 4);
    add_hd(&guest, &bus, "b", &null(small()), "");
    bus.units()[0].capacity_changed();
    assert_eq!(events(&mut bench), []);
    let none = Bench::cold(&guest, ",hotplug=off,param_change=off", u64::MAX, |_| {});
    assert_eq!(none.driver.offered() & 0xff, 0);
}
