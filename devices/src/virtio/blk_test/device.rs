//! The device around the requests: its queues, configuration, properties and state.

use api_spec::{BlockdevOnError, OnOffAuto};

use super::*;
use crate::virtio::layout;

#[test]
fn a_batch_is_answered_with_one_interrupt() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut disk = Disk::with(&guest, &node, props(|_| {}), !(1 << 29));
    disk.header(FLUSH, 0);
    let chain = [Buffer::Out(HEADER, 16), Buffer::In(STATUS, 1)];
    for _ in 0..20 {
        disk.ring.add(&guest, &chain);
    }
    disk.driver.kick(&disk.ring);
    assert_eq!(disk.ring.used_index(&guest), 20);
    assert_eq!(disk.driver.isr(), 1);
}

/// Ten requests of 4 KiB in one batch, the sixth of which is behind the disk's end.
fn batch(disk: &mut Disk<'_>, kind: u32) -> Vec<u8> {
    let sector = |i: u64| if i == 5 { SIZE / 512 } else { 8 * i };
    for i in 0..10 {
        let header = [&kind.to_le_bytes()[..], &[0; 4], &sector(i).to_le_bytes()].concat();
        disk.guest.write(HEADER + 16 * i, &header);
        disk.guest.write(STATUS + i, &[0xff]);
        let at = DATA + 4096 * i;
        let data = match kind {
            IN => Buffer::In(at, 4096),
            _ => Buffer::Out(at, 4096),
        };
        let (first, last) = (Buffer::Out(HEADER + 16 * i, 16), Buffer::In(STATUS + i, 1));
        disk.ring.add(disk.guest, &[first, data, last]);
    }
    let before = disk.ring.used_index(disk.guest);
    disk.driver.kick(&disk.ring);
    let (guest, ring) = (disk.guest, &disk.ring);
    guest
        .thread
        .run_until(|| ring.used_index(guest).wrapping_sub(before) == 10);
    guest.read(STATUS, 10)
}

#[test]
fn neighbours_in_a_batch_are_answered_each() {
    for (aio, direct, merging) in
        engines().flat_map(|(aio, direct)| [(aio, direct, true), (aio, direct, false)])
    {
        let dir = dir();
        let path = image(&dir);
        let (_graph, node) = attach(file_spec(&path, aio, direct), WriteCache::Back);
        let guest = FakeGuest::new();
        let props = props(|props| props.request_merging = merging);
        let mut disk = Disk::with(&guest, &node, props, u64::MAX);
        let data: Vec<u8> = (0..10 * 4096u32).map(|n| (n / 7) as u8).collect();
        guest.write(DATA, &data);
        let expected: Vec<u8> = (0..10).map(|i| if i == 5 { IOERR } else { OK }).collect();
        assert_eq!(batch(&mut disk, OUT), expected);
        guest.write(DATA, &vec![0; data.len()]);
        assert_eq!(batch(&mut disk, IN), expected);
        for (i, block) in data.chunks(4096).enumerate().filter(|(i, _)| *i != 5) {
            let at = 4096 * i;
            assert_eq!(guest.read(DATA + at as u64, 4096), block, "{i}");
            assert_eq!(std::fs::read(&path).unwrap()[at..][..4096], *block, "{i}");
        }
        assert_eq!(node.stats().counts(block::Account::Write).operations, 9);
        assert_eq!(node.stats().counts(block::Account::Read).bytes, 9 * 4096);
    }
}

#[test]
fn a_stop_waits_for_what_is_in_flight_and_loses_nothing() {
    let guest = FakeGuest::new();
    let node = null(NullSpec {
        latency_ns: 20_000_000,
        ..small()
    });
    let mut disk = Disk::new(&guest, &node);
    disk.header(FLUSH, 0);
    let chain = [Buffer::Out(HEADER, 16), Buffer::In(STATUS, 1)];
    for _ in 0..10 {
        disk.ring.add(&guest, &chain);
    }
    disk.driver.kick(&disk.ring);
    assert_eq!(disk.ring.used_index(&guest), 0);
    disk.driver.carry_out(crate::effect::Effect::StopQueues);
    assert_eq!(disk.ring.used_index(&guest), 10);
    for _ in 0..3 {
        disk.ring.add(&guest, &chain);
    }
    disk.driver.carry_out(crate::effect::Effect::StartQueues);
    guest
        .thread
        .run_until(|| disk.ring.used_index(&guest) == 13);
}

#[test]
fn heads_offered_again_and_again_do_not_pile_up() {
    let guest = FakeGuest::new();
    let node = null(NullSpec {
        latency_ns: 1_000_000,
        ..small()
    });
    let mut disk = Disk::new(&guest, &node);
    disk.header(FLUSH, 0);
    let head = disk
        .ring
        .add(&guest, &[Buffer::Out(HEADER, 16), Buffer::In(STATUS, 1)]);
    for _ in 0..10 {
        for _ in 0..60 {
            disk.ring.offer(&guest, head);
        }
        disk.driver.kick(&disk.ring);
    }
    guest
        .thread
        .run_until(|| disk.ring.used_index(&guest) == 601 || disk.broken());
}

#[test]
fn each_queue_works_for_itself() {
    let dir = dir();
    let path = image(&dir);
    let (_graph, node) = attach(file_spec(&path, Aio::Native, true), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut cx = guest.cx("disk0");
    cx.node = Some(node.clone());
    cx.hints.insert("vcpus", 4);
    let mut driver = Driver::new(&guest, build(&props(|_| {}), &cx).unwrap());
    driver.negotiate(u64::MAX);
    assert_eq!(driver.config::<2>(34), 4u16.to_le_bytes());
    let mut rings: Vec<Ring> = (0..4u16)
        .map(|index| driver.queue(index, 0x1000 + 0x1000 * u64::from(index), 16))
        .collect();
    driver.go();
    assert_eq!(guest.thread.len(), 4);
    for (n, ring) in (0u64..).zip(&mut rings) {
        let at = DATA + 0x1000 * n;
        let header = [&OUT.to_le_bytes()[..], &[0; 4], &n.to_le_bytes()].concat();
        guest.write(at, &header);
        guest.write(at + 512, &[n as u8 + 1; 512]);
        let chain = [
            Buffer::Out(at, 16),
            Buffer::Out(at + 512, 512),
            Buffer::In(at + 1024, 1),
        ];
        assert_eq!(driver.request(ring, &chain), 1);
        assert_eq!(guest.read(at + 1024, 1), [OK]);
    }
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        [0, 512, 1024, 1536].map(|at: usize| bytes[at]),
        [1, 2, 3, 4]
    );
}

#[test]
fn configuration_says_what_the_disk_is() {
    let guest = FakeGuest::new();
    let node = null(NullSpec::default());
    let disk = Disk::new(&guest, &node);
    let driver = &disk.driver;
    assert_eq!(driver.config::<8>(0), (2u64 << 20).to_le_bytes());
    assert_eq!(driver.config::<4>(12), 254u32.to_le_bytes());
    assert_eq!(driver.config::<4>(20), 512u32.to_le_bytes());
    assert_eq!(driver.config::<2>(34), 1u16.to_le_bytes());
    assert_eq!(driver.config::<4>(36), 4_194_303u32.to_le_bytes());
    assert_eq!(driver.config::<4>(44), 1u32.to_le_bytes());
    assert_eq!(driver.config::<4>(48), 4_194_303u32.to_le_bytes());
    assert_eq!(driver.config::<1>(56), [1]);
    // MQ is for more than one queue.
    assert_eq!(driver.offered() & 0xffff, 0x6e54);
}

fn write_cache(graph: &Graph) -> WriteCache {
    graph.backends()[0].write_cache
}

#[test]
fn the_write_cache_is_the_drivers_to_switch() {
    let dir = dir();
    let path = image(&dir);
    let (graph, node) = attach(file_spec(&path, Aio::Threads, false), WriteCache::Back);
    let guest = FakeGuest::new();
    let mut disk = Disk::new(&guest, &node);
    assert_eq!(disk.driver.config::<1>(32), [1]);
    disk.driver.write(layout::DEVICE + 32, &[0]);
    assert_eq!(disk.driver.config::<1>(32), [0]);
    assert_eq!(write_cache(&graph), WriteCache::Through);
    assert_eq!(disk.write(0, &[1; 512]), OK);
    disk.driver.set_status(0);
    assert_eq!(disk.driver.config::<1>(32), [1]);
    drop(disk);

    // Neither the switch nor flushes: writes are durable.
    let plain = Disk::with(&guest, &node, props(|_| {}), !(1 << 9 | 1 << 11));
    assert_eq!(plain.driver.config::<1>(32), [0]);
    drop(plain);
    let fixed = props(|props| {
        props.config_wce = false;
        props.write_cache = OnOffAuto::Off;
    });
    let disk = Disk::with(&guest, &node, fixed, u64::MAX);
    assert_eq!(disk.driver.offered() & (1 << 9 | 1 << 11), 0);
    disk.driver.write(layout::DEVICE + 32, &[1]);
    assert_eq!(disk.driver.config::<1>(32), [0]);
}

#[test]
fn what_is_left_to_the_device_is_as_qemu_leaves_it() {
    let guest = FakeGuest::new();
    let node = null(small());
    let given = props(|_| {});
    let left = (given.logical_block_size.0, given.physical_block_size.0);
    assert_eq!(left, (0, 0));
    assert_eq!((given.rerror, given.rombar), (BlockdevOnError::Auto, -1));
    let reports = props(|props| {
        props.rerror = BlockdevOnError::Report;
        props.werror = BlockdevOnError::Report;
        props.physical_block_size = api_spec::decode::Size(4096);
    });
    for (props, exponent) in [(given, 0), (reports, 3)] {
        let disk = Disk::with(&guest, &node, props, u64::MAX);
        assert_eq!(disk.driver.config::<4>(20), 512u32.to_le_bytes());
        assert_eq!(disk.driver.config::<1>(24), [exponent]);
        disk.close();
    }
}

#[test]
fn properties_that_make_no_sense_are_refused() {
    let guest = FakeGuest::new();
    let refused = |node: Option<Arc<Attachment>>, change: &dyn Fn(&mut VirtioBlkPciProps)| {
        let mut cx = guest.cx("disk0");
        cx.node = node;
        build(&props(|props| change(props)), &cx)
            .err()
            .unwrap()
            .desc
    };
    assert_eq!(refused(None, &|_| {}), "drive property not set");
    let size = api_spec::decode::Size;
    type Change<'a> = &'a dyn Fn(&mut VirtioBlkPciProps);
    let cases: [(Change<'_>, &str); 15] = [
        (
            &|p| p.num_queues = Some(0),
            "num-queues property must be larger than 0",
        ),
        (
            &|p| p.num_queues = Some(2000),
            "num-queues property (2000) must be at most 1024",
        ),
        (
            &|p| p.queue_size = 2,
            "invalid queue-size property (2), must be > 2",
        ),
        (
            &|p| p.queue_size = 100,
            "invalid queue-size property (100), must be a power of 2 (max 1024)",
        ),
        (
            &|p| p.queue_size = 2048,
            "invalid queue-size property (2048), must be a power of 2 (max 1024)",
        ),
        (
            &|p| p.logical_block_size = size(1000),
            "parameter logical_block_size must be a power of 2 between 512 and 2097152",
        ),
        (
            &|p| p.physical_block_size = size(4 << 20),
            "parameter physical_block_size must be a power of 2 between 512 and 2097152",
        ),
        (
            &|p| p.logical_block_size = size(4096),
            "logical_block_size > physical_block_size not supported",
        ),
        (
            &|p| p.min_io_size = size(1000),
            "min_io_size must be a multiple of logical_block_size",
        ),
        (
            &|p| p.min_io_size = size(512 << 16),
            "min_io_size must not exceed 65535 logical blocks",
        ),
        (
            &|p| p.opt_io_size = size(1000),
            "opt_io_size must be a multiple of logical_block_size",
        ),
        (
            &|p| p.discard_granularity = Some(size(1000)),
            "discard_granularity must be a multiple of logical_block_size",
        ),
        (
            &|p| p.max_discard_sectors = 0,
            "invalid max-discard-sectors property (0), must be between 1 and 4194303",
        ),
        (
            &|p| p.max_write_zeroes_sectors = 1 << 31,
            "invalid max-write-zeroes-sectors property (2147483648), must be between 1 and 4194303",
        ),
        (
            &|p| p.packed = true,
            "Property 'packed' cannot be on: it is not supported",
        ),
    ];
    for (change, message) in cases {
        assert_eq!(refused(Some(null(small())), change), message);
    }
}

#[test]
fn a_size_that_changes_before_a_restored_driver_runs_is_told() {
    use vmstate::StateAccess;
    let guest = FakeGuest::new();
    let spec = NodeSpec::new(DriverSpec::Null(small()));
    let (graph, node) = attach(spec, WriteCache::Back);
    let disk = Disk::new(&guest, &node);
    disk.driver.carry_out(crate::effect::Effect::StopQueues);
    let function = disk.driver.function();
    let section = crate::bus::lock(function).save_section("d").unwrap();
    let again = |size: Option<u64>| {
        crate::pci::PciFunction::reset(&mut *crate::bus::lock(function));
        crate::bus::lock(function)
            .restore_section(&section)
            .unwrap();
        if let Some(size) = size {
            let size = i64::try_from(size).unwrap();
            graph.resize(Some("d"), None, size, &mut opener).unwrap();
        }
        disk.driver.isr();
        disk.driver.carry_out(crate::effect::Effect::StartQueues);
        let told = disk.driver.isr();
        disk.driver.carry_out(crate::effect::Effect::StopQueues);
        told
    };
    assert_eq!(again(None), 0);
    assert_eq!(again(Some(2 * SIZE)), 2);
    assert_eq!(again(None), 0);
}

#[test]
fn state_is_saved_and_restored() {
    use vmstate::Snapshot;
    let guest = FakeGuest::new();
    let node = null(small());
    let disk = Disk::new(&guest, &node);
    disk.driver.write(layout::DEVICE + 32, &[0]);
    disk.driver.carry_out(crate::effect::Effect::StopQueues);
    let state = crate::bus::lock(disk.driver.function()).save();
    let mut cx = guest.cx("disk0");
    cx.node = Some(node.clone());
    let mut other = build(&props(|_| {}), &cx).unwrap();
    other.restore(state.clone()).unwrap();
    assert_eq!(other.save(), state);
    let mut config = [0; 1];
    crate::pci::PciFunction::bar_read(&mut other, layout::BAR, layout::DEVICE + 32, &mut config);
    assert_eq!(config, [0]);
}
