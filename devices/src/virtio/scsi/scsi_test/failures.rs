//! Commands that fail on the host: reported, ignored, or kept until the machine goes on; and limits
//! on their rate.

use std::time::{Duration, Instant};

use block::{
    BackendName, DriverSpec, ErrorAction, InjectError, IoStatus, IoType, Limits, Measure, NodeSpec,
    Rate, WriteCache,
};
use vmstate::StateAccess;

use super::*;
use crate::bus::lock;
use crate::virtio::blk_test::failures::{failing, failures, keeps_some, once};
use crate::virtio::blk_test::{attach, dir, image, small};

const STOPS: &str = ",werror=stop,rerror=stop";
const ABORT_TASK: u32 = 0;
const COMPLETE: u8 = 0;

/// Puts a command into the ring without waiting for its end.
fn begin(bench: &mut Bench<'_>, block: &[u8], data: &[Buffer]) {
    let chain = bench.request_at(0, block, data);
    bench.requests.add(bench.guest, &chain);
    bench.driver.kick(&bench.requests);
}

fn run_until_used(bench: &Bench<'_>, count: u16) {
    let (guest, requests) = (bench.guest, &bench.requests);
    guest
        .thread
        .run_until(|| requests.used_index(guest) == count);
}

#[test]
fn policies_report_ignore_and_tell_watchers() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let io_error = Ended::check(0x0b, 0, 6);
    let no_space = Ended::check(7, 0x27, 7);
    for (policy, errno, outcome, action) in [
        ("", libc::EIO, io_error, ErrorAction::Report),
        (
            ",werror=report",
            libc::ENOSPC,
            no_space,
            ErrorAction::Report,
        ),
        (",werror=enospc", libc::EIO, io_error, ErrorAction::Report),
        (",werror=ignore", libc::EIO, GOOD, ErrorAction::Ignore),
    ] {
        let (_graph, node) = failing(&path, &[once(IoType::Write, errno)]);
        let mut bench = Bench::new(&guest, |bus| {
            add_hd(&guest, bus, "a", &node, policy);
        });
        let ended = bench.write(&ten(0x2a, 8, 1), &[7; 512]);
        assert_eq!(ended.outcome(), outcome, "{policy}");
        let failed = node.stats().counts(block::Account::Write).failed;
        assert_eq!(failed, u64::from(outcome != GOOD));
        let told = failures(&guest);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].action, told[0].errno), (action, errno));
        let ended = bench.write(&ten(0x2a, 8, 1), &[7; 512]);
        assert_eq!(ended.outcome(), GOOD, "only once");
        bench.close();
    }
}

#[test]
fn a_kept_command_is_tried_again_when_the_machine_goes_on() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let at = |sector, io_type| InjectError {
        sector: Some(sector),
        ..once(io_type, libc::EIO)
    };
    let inject = [
        once(IoType::Write, libc::ENOSPC),
        once(IoType::Write, libc::EIO),
        once(IoType::Flush, libc::EIO),
        at(8, IoType::Read),
        at(24, IoType::Read),
        once(IoType::Discard, libc::EIO),
    ];
    let (graph, node) = failing(&path, &inject);
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, STOPS);
    });
    let used = bench.requests.used_index(&guest);
    guest.write(DATA, &[7; 512]);
    let list = [
        &[0u8, 22, 0, 16, 0, 0, 0, 0][..],
        &16u64.to_be_bytes(),
        &[0, 0, 0, 8, 0, 0, 0, 0],
    ];
    guest.write(DATA + 0x2000, &list.concat());
    let from_driver = [Buffer::Out(DATA, 512)];
    let to_driver = [Buffer::In(DATA + 0x1000, 512)];
    let unmap = [0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0];
    let mut verify = ten(0x2f, 24, 1);
    verify[1] = 2;
    // The flush of the second read is its first step, and not what fails.
    let mut forced = ten(0x28, 8, 1);
    forced[1] = 8;
    let cases: [(&[u8], &[Buffer], usize); 6] = [
        (&ten(0x2a, 8, 1), &from_driver, 2),
        (&ten(0x2a, 24, 1), &from_driver, 0),
        (&ten(0x35, 0, 0), &[], 1),
        (&forced, &to_driver, 1),
        (&verify, &from_driver, 1),
        (&unmap, &[Buffer::Out(DATA + 0x2000, 24)], 1),
    ];
    for (answered, (block, data, fails)) in (used..).zip(cases) {
        begin(&mut bench, block, data);
        for _ in 0..fails {
            guest
                .thread
                .run_until(|| graph.backends()[0].io_status != IoStatus::Ok);
            assert_eq!(guest.read(ANSWER + 11, 1), [0xff], "not answered");
            assert_eq!(failures(&guest)[0].action, ErrorAction::Stop);
            // stop, cont.
            bench.driver.carry_out(Effect::StopQueues);
            assert_eq!(bench.requests.used_index(&guest), answered);
            graph.reset_io_status();
            bench.driver.carry_out(Effect::StartQueues);
        }
        run_until_used(&bench, answered + 1);
        assert_eq!(bench.ended_at(0, 0).outcome(), GOOD, "{block:x?}");
    }
    assert_eq!(guest.read(DATA + 0x1000, 512), [7; 512]);
    assert_eq!(std::fs::read(&path).unwrap()[4096..4608], [7; 512]);
    for account in [block::Account::Write, block::Account::Read] {
        assert_eq!(node.stats().counts(account).failed, 0);
    }
    bench.close();
}

#[test]
fn others_wait_with_a_kept_command_and_none_is_lost() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let (graph, node) = failing(&path, &[once(IoType::Flush, libc::EIO)]);
    let sound = crate::virtio::blk_test::null(small());
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, STOPS);
        add_hd(&guest, bus, "b", &sound, "");
    });
    let used = bench.requests.used_index(&guest);
    begin(&mut bench, &ten(0x35, 0, 0), &[]);
    guest
        .thread
        .run_until(|| graph.backends()[0].io_status == IoStatus::Failed);
    for slot in 1..6 {
        bench.target = (slot % 2) as u8;
        let chain = bench.request_at(slot, &ten(0x35, 0, 0), &[]);
        bench.requests.add(&guest, &chain);
    }
    bench.driver.kick(&bench.requests);
    assert_eq!(bench.requests.used_index(&guest), used);
    bench.driver.carry_out(Effect::StopQueues);
    assert_eq!(bench.requests.used_index(&guest), used);
    bench.driver.carry_out(Effect::StartQueues);
    run_until_used(&bench, used + 6);
    for slot in 0..6 {
        assert_eq!(bench.ended_at(slot, 0).outcome(), GOOD, "{slot}");
    }
    bench.close();
}

#[test]
fn a_kept_command_is_aborted_after_the_stop() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let (graph, node) = failing(&path, &[once(IoType::Write, libc::EIO)]);
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, STOPS);
    });
    let used = bench.requests.used_index(&guest);
    let tag = bench.tag;
    begin(&mut bench, &ten(0x2a, 8, 1), &[Buffer::Out(DATA, 512)]);
    guest
        .thread
        .run_until(|| graph.backends()[0].io_status == IoStatus::Failed);
    let chain = bench.tmf_chain(ABORT_TASK, tag);
    bench.control.add(&guest, &chain);
    bench.driver.kick(&bench.control);
    guest.thread.run();
    // Whether the command runs is not known before it is taken again.
    assert_eq!(guest.read(TMF + 0x40, 1), [0xff]);
    bench.driver.carry_out(Effect::StopQueues);
    bench.driver.carry_out(Effect::StartQueues);
    run_until_used(&bench, used + 1);
    guest
        .thread
        .run_until(|| guest.read(TMF + 0x40, 1) != [0xff]);
    assert_eq!(guest.read(TMF + 0x40, 1), [COMPLETE]);
    let response = bench.ended_at(0, 0).response;
    assert!([OK, ABORTED].contains(&response), "{response}");
    bench.close();
}

#[test]
fn a_kept_command_survives_saved_state_and_not_a_reset() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let (_graph, node) = failing(&path, &[once(IoType::Write, libc::EIO)]);
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, STOPS);
    });
    let used = bench.requests.used_index(&guest);
    guest.write(DATA, &[5; 512]);
    begin(&mut bench, &ten(0x2a, 16, 1), &[Buffer::Out(DATA, 512)]);
    guest.thread.run_until(|| !failures(&guest).is_empty());
    bench.driver.carry_out(Effect::StopQueues);
    let section = lock(bench.driver.function()).save_section("").unwrap();

    let (mut other, bus) = build(&controller(""), &guest.cx("scsi0")).unwrap();
    add_hd(&guest, &bus, "a", &node, STOPS);
    StateAccess::restore_section(&mut other, &section).unwrap();
    let restored = Driver::new(&guest, other);
    restored.carry_out(Effect::StartQueues);
    run_until_used(&bench, used + 1);
    assert_eq!(bench.ended_at(0, 0).outcome(), GOOD);
    assert_eq!(std::fs::read(&path).unwrap()[8192..8704], [5; 512]);
    restored.carry_out(Effect::StopQueues);

    // The first device still has it; a reset forgets it.
    assert!(keeps_some(&section));
    bench.driver.set_status(0);
    let section = lock(bench.driver.function()).save_section("").unwrap();
    assert!(!keeps_some(&section));
}

#[test]
fn a_stop_does_not_wait_for_limits() {
    let guest = FakeGuest::new();
    let null = || attach(NodeSpec::new(DriverSpec::Null(small())), WriteCache::Back);
    let ((slow, one), (_graph, other)) = (null(), null());
    let mut limits = Limits::default();
    let rate = Rate {
        average: 1,
        ..Rate::default()
    };
    limits.set(Measure::IopsTotal, rate);
    slow.set_throttle(BackendName::Drive("d"), limits, None)
        .unwrap();
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &one, "");
        add_hd(&guest, bus, "b", &other, "");
    });
    let used = bench.requests.used_index(&guest);
    for slot in 0..20 {
        bench.target = (slot % 2) as u8;
        let data = [Buffer::In(DATA + 0x1000 * slot, 512)];
        let chain = bench.request_at(slot, &ten(0x28, slot as u32, 1), &data);
        bench.requests.add(&guest, &chain);
    }
    bench.driver.kick(&bench.requests);
    guest.thread.run();
    let early = bench.requests.used_index(&guest) - used;
    assert!(
        (10..13).contains(&early),
        "{early}: one disk is not limited"
    );
    let begin = Instant::now();
    bench.driver.carry_out(Effect::StopQueues);
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(bench.requests.used_index(&guest), used + 20);
    // Limits hold again when the machine goes on.
    bench.driver.carry_out(Effect::StartQueues);
    bench.target = 0;
    for slot in 0..4 {
        let chain = bench.request_at(slot, &ten(0x28, 0, 1), &[Buffer::In(DATA, 512)]);
        bench.requests.add(&guest, &chain);
    }
    bench.driver.kick(&bench.requests);
    guest.thread.run();
    assert!(bench.requests.used_index(&guest) < used + 24);
    bench.close();
}
