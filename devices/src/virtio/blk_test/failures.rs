//! Requests that fail on the host: reported, ignored, or kept until the machine goes on.

use api_spec::BlockdevOnError;
use block::{
    BackendName, BlkdebugSpec, ErrorAction, ErrorPolicy, Event, Failed, InjectError, IoStatus,
    IoType, Limits, Measure, OnError, Rate,
};
use vmstate::StateAccess;

use super::*;
use crate::effect::{DiskFailure, Effect};

/// The image, below a node that fails some requests.
pub(in crate::virtio) fn failing(path: &Path, inject: &[InjectError]) -> (Graph, Arc<Attachment>) {
    let mut spec = NodeSpec::new(DriverSpec::Blkdebug {
        image: Box::new(ChildSpec::Inline(file_spec(path, Aio::Threads, false))),
        spec: BlkdebugSpec {
            inject: inject.to_vec(),
            ..BlkdebugSpec::default()
        },
    });
    spec.discard = Some(Discard::Unmap);
    attach(spec, WriteCache::Back)
}

/// The first such request fails.
pub(in crate::virtio) fn once(io_type: IoType, errno: i32) -> InjectError {
    InjectError {
        event: Event::None,
        state: 0,
        io_type: Some(io_type),
        errno,
        sector: None,
        once: true,
        immediately: false,
    }
}

pub(in crate::virtio) fn failures(guest: &FakeGuest) -> Vec<DiskFailure> {
    let failure = |(_, effect)| match effect {
        Effect::DiskFailed(failure) => Some(failure),
        _ => None,
    };
    guest
        .take_effects()
        .into_iter()
        .filter_map(failure)
        .collect()
}

/// Whether a queue keeps requests for the time after a stop: their member is left out otherwise.
pub(in crate::virtio) fn keeps_some(section: &vmstate::Section) -> bool {
    section.body.windows(5).any(|bytes| bytes == b"again")
}

fn stops() -> VirtioBlkPciProps {
    props(|props| {
        props.werror = BlockdevOnError::Stop;
        props.rerror = BlockdevOnError::Stop;
    })
}

/// Puts a request into the ring without waiting for its end.
fn begin(disk: &mut Disk<'_>, kind: u32, sector: u64, data: &[Buffer]) {
    disk.header(kind, sector);
    let first = [Buffer::Out(HEADER, 16)];
    let last = [Buffer::In(STATUS, 1)];
    let chain = [&first[..], data, &last].concat();
    disk.ring.add(disk.guest, &chain);
    disk.driver.kick(&disk.ring);
}

#[test]
fn policies_report_ignore_and_tell_watchers() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    use BlockdevOnError::*;
    for (werror, errno, status, action) in [
        (Auto, libc::EIO, IOERR, ErrorAction::Report),
        (Report, libc::ENOSPC, IOERR, ErrorAction::Report),
        (Enospc, libc::EIO, IOERR, ErrorAction::Report),
        (Ignore, libc::EIO, OK, ErrorAction::Ignore),
    ] {
        let (_graph, node) = failing(&path, &[once(IoType::Write, errno)]);
        let props = props(|props| props.werror = werror);
        let mut disk = Disk::with(&guest, &node, props, u64::MAX);
        assert_eq!(disk.write(8, &[7; 512]), status, "{werror:?}");
        let failed = node.stats().counts(block::Account::Write).failed;
        assert_eq!(failed, u64::from(status == IOERR));
        let told = failures(&guest);
        let expected = DiskFailure {
            qom_path: "/machine/peripheral/d".into(),
            failed: Failed::Write,
            action,
            errno,
        };
        assert_eq!(told, [expected]);
        assert_eq!(disk.write(8, &[7; 512]), OK, "only once");
        disk.close();
    }
}

#[test]
fn the_drives_policy_counts_where_the_device_has_none() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let (graph, node) = failing(&path, &[once(IoType::Read, libc::EIO)]);
    let policy = ErrorPolicy {
        read: OnError::Ignore,
        write: OnError::Stop,
    };
    graph
        .set_error_policy(BackendName::Drive("d"), policy)
        .unwrap();
    let given = props(|props| props.werror = BlockdevOnError::Report);
    let mut disk = Disk::with(&guest, &node, given, u64::MAX);
    let answer = disk.request(IN, 0, &[Buffer::In(DATA, 512)]);
    assert_eq!(answer, (OK, 513));
    let policy = graph.backends()[0].error_policy;
    assert_eq!(policy.write, OnError::Report);
    disk.close();
}

#[test]
fn a_kept_request_is_tried_again_when_the_machine_goes_on() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let inject = [
        once(IoType::Write, libc::ENOSPC),
        once(IoType::Write, libc::EIO),
        once(IoType::Flush, libc::EIO),
        once(IoType::Read, libc::EIO),
    ];
    let (graph, node) = failing(&path, &inject);
    let mut disk = Disk::with(&guest, &node, stops(), u64::MAX);
    guest.write(DATA, &[7; 512]);
    let cases: [(u32, &[Buffer], usize); 3] = [
        (OUT, &[Buffer::Out(DATA, 512)], 2),
        (FLUSH, &[], 1),
        (IN, &[Buffer::In(DATA + 0x1000, 512)], 1),
    ];
    for (answered, (kind, data, fails)) in cases.into_iter().enumerate() {
        begin(&mut disk, kind, 8, data);
        for _ in 0..fails {
            guest.thread.run_until(|| {
                let status = graph.backends()[0].io_status;
                status != IoStatus::Ok
            });
            assert_eq!(guest.read(STATUS, 1), [0xff], "not answered");
            assert_eq!(failures(&guest)[0].action, ErrorAction::Stop);
            // stop, cont.
            disk.driver.carry_out(Effect::StopQueues);
            assert_eq!(usize::from(disk.ring.used_index(&guest)), answered);
            graph.reset_io_status();
            disk.driver.carry_out(Effect::StartQueues);
        }
        guest
            .thread
            .run_until(|| usize::from(disk.ring.used_index(&guest)) == answered + 1);
        assert_eq!(guest.read(STATUS, 1), [OK]);
    }
    assert_eq!(guest.read(DATA + 0x1000, 512), [7; 512]);
    assert_eq!(std::fs::read(&path).unwrap()[4096..4608], [7; 512]);
    let counts = node.stats().counts(block::Account::Write);
    assert_eq!((counts.failed, counts.operations), (0, 1));
    disk.close();
}

#[test]
fn while_one_is_kept_no_other_is_taken() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let (graph, node) = failing(&path, &[once(IoType::Flush, libc::EIO)]);
    let mut disk = Disk::with(&guest, &node, stops(), u64::MAX);
    begin(&mut disk, FLUSH, 0, &[]);
    guest
        .thread
        .run_until(|| graph.backends()[0].io_status == IoStatus::Failed);
    begin(&mut disk, FLUSH, 0, &[]);
    begin(&mut disk, FLUSH, 0, &[]);
    assert_eq!(disk.ring.used_index(&guest), 0);
    disk.driver.carry_out(Effect::StopQueues);
    disk.driver.carry_out(Effect::StartQueues);
    guest.thread.run_until(|| disk.ring.used_index(&guest) == 3);
    disk.close();
}

#[test]
fn a_kept_request_survives_saved_state_and_not_a_reset() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let (_graph, node) = failing(&path, &[once(IoType::Write, libc::EIO)]);
    let mut disk = Disk::with(&guest, &node, stops(), u64::MAX);
    guest.write(DATA, &[5; 512]);
    begin(&mut disk, OUT, 16, &[Buffer::Out(DATA, 512)]);
    guest.thread.run_until(|| !failures(&guest).is_empty());
    disk.driver.carry_out(Effect::StopQueues);
    let section = crate::bus::lock(disk.driver.function())
        .save_section("")
        .unwrap();

    assert!(keeps_some(&section));

    let mut cx = guest.cx("disk0");
    cx.node = Some(node.clone());
    let mut other = build(&stops(), &cx).unwrap();
    StateAccess::restore_section(&mut other, &section).unwrap();
    let restored = Driver::new(&guest, other);
    restored.carry_out(Effect::StartQueues);
    guest.thread.run_until(|| disk.ring.used_index(&guest) == 1);
    assert_eq!(guest.read(STATUS, 1), [OK]);
    assert_eq!(std::fs::read(&path).unwrap()[8192..8704], [5; 512]);
    restored.carry_out(Effect::StopQueues);

    // The first device still has it; a reset forgets it.
    disk.driver.set_status(0);
    let section = crate::bus::lock(disk.driver.function())
        .save_section("")
        .unwrap();
    assert!(!keeps_some(&section));
}

#[test]
fn a_stop_does_not_wait_for_limits() {
    let guest = FakeGuest::new();
    let null = NodeSpec::new(DriverSpec::Null(small()));
    let (graph, node) = attach(null, WriteCache::Back);
    let mut limits = Limits::default();
    let rate = Rate {
        average: 1,
        ..Rate::default()
    };
    limits.set(Measure::IopsTotal, rate);
    graph
        .set_throttle(BackendName::Drive("d"), limits, None)
        .unwrap();
    let mut disk = Disk::with(&guest, &node, props(|_| {}), u64::MAX);
    for _ in 0..10 {
        begin(&mut disk, IN, 0, &[Buffer::In(DATA, 512)]);
    }
    assert!(disk.ring.used_index(&guest) < 3);
    let begin = std::time::Instant::now();
    disk.driver.carry_out(Effect::StopQueues);
    assert!(begin.elapsed() < std::time::Duration::from_secs(2));
    assert_eq!(disk.ring.used_index(&guest), 10);
}

#[test]
fn a_disk_that_fails_all_the_time_is_told_of_now_and_then() {
    let dir = dir();
    let path = image(&dir);
    let guest = FakeGuest::new();
    let always = InjectError {
        once: false,
        ..once(IoType::Flush, libc::EIO)
    };
    let (_graph, node) = failing(&path, &[always, once(IoType::Read, libc::EIO)]);
    let mut disk = Disk::new(&guest, &node);
    let begin = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(disk.request(FLUSH, 0, &[]).0, IOERR);
    }
    let most = begin.elapsed().as_millis() / 100 + 1;
    let told = failures(&guest).len();
    assert!(told >= 1 && told as u128 <= most, "{told}");
    disk.request(IN, 0, &[Buffer::In(DATA, 512)]);
    assert_eq!(failures(&guest).len(), 1, "another kind");
    disk.close();
}
