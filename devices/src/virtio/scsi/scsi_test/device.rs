//! The device around the requests: its queues, configuration, properties and state.

use api_spec::QmpResult;
use proptest::prelude::*;

use super::*;
use crate::bus::lock;
use crate::pci::PciFunction;
use crate::scsi::Force;
use crate::testing::conformance;
use crate::virtio::blk_test::{null, small};
use crate::virtio::layout;

#[test]
fn configuration_says_what_the_controller_is() {
    let guest = FakeGuest::new();
    let bench = Bench::cold(&guest, "", u64::MAX, |_| {});
    let driver = &bench.driver;
    let word = |at| u32::from_le_bytes(driver.config(at));
    assert_eq!([word(0), word(4), word(8), word(12)], [1, 254, 65535, 128]);
    assert_eq!([word(16), word(20), word(24)], [16, 96, 32]);
    assert_eq!(driver.config::<2>(28), [0, 0]);
    assert_eq!(driver.config::<2>(30), [255, 0]);
    assert_eq!(word(32), 16383);
    assert_eq!(driver.offered() & 0xff, 6);
    // Sizes are the driver's to choose, as far as they make sense.
    driver.write(layout::DEVICE + 20, &32u32.to_le_bytes());
    driver.write(layout::DEVICE + 24, &64u32.to_le_bytes());
    driver.write(layout::DEVICE + 24, &4096u32.to_le_bytes());
    driver.write(layout::DEVICE + 20, &[1, 0]);
    driver.write(layout::DEVICE, &[9, 0, 0, 0]);
    let word = |at| u32::from_le_bytes(driver.config(at));
    assert_eq!([word(0), word(20), word(24)], [1, 32, 64]);
    driver.set_status(0);
    assert_eq!(u32::from_le_bytes(driver.config(20)), 96);
}

#[test]
fn other_sizes_move_the_data() {
    let guest = FakeGuest::new();
    let node = null(small());
    let (function, bus) = build(&controller(""), &guest.cx("scsi0")).unwrap();
    add_hd(&guest, &bus, "hd0", &node, "");
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(u64::MAX);
    driver.write(layout::DEVICE + 20, &8u32.to_le_bytes());
    driver.write(layout::DEVICE + 24, &16u32.to_le_bytes());
    let mut ring = driver.queue(2, 0x3000, 16);
    driver.go();
    let mut request = vec![1, 0, 0x40, 0, 0, 0, 0, 0];
    request.resize(35, 0);
    guest.write(REQUEST, &request);
    let chain = [Buffer::Out(REQUEST, 35), Buffer::In(ANSWER, 20)];
    driver.request(&mut ring, &chain);
    // Sense data is cut to its room.
    assert_eq!(guest.read(ANSWER, 4), [8, 0, 0, 0]);
    assert_eq!(guest.read(ANSWER + 10, 5), [2, 0, 0x70, 0, 6]);
    request[19..25].copy_from_slice(&[0x12, 0, 0, 0, 36, 0]);
    guest.write(REQUEST, &request);
    let chain = [Buffer::Out(REQUEST, 35), Buffer::In(ANSWER, 20 + 36)];
    assert_eq!(driver.request(&mut ring, &chain), 56);
    assert_eq!(guest.read(ANSWER + 28, 4), *b"QEMU");
}

#[test]
fn each_queue_works_for_itself() {
    let guest = FakeGuest::new();
    let node = null(small());
    let mut cx = guest.cx("scsi0");
    cx.hints.insert("vcpus", 3);
    let (function, bus) = build(&controller(""), &cx).unwrap();
    add_hd(&guest, &bus, "hd0", &node, "");
    let mut driver = Driver::new(&guest, function);
    driver.negotiate(u64::MAX);
    assert_eq!(driver.config::<4>(0), 3u32.to_le_bytes());
    // The driver may leave queues out.
    let mut rings = [2, 4].map(|index| driver.queue(index, 0x1000 * u64::from(index), 16));
    driver.go();
    assert_eq!(guest.thread.len(), 2);
    for (response, ring) in [2u8, 0].into_iter().zip(&mut rings) {
        guest.write(REQUEST, &[1, 0, 0x40, 0, 0, 0, 0, 0]);
        guest.write(REQUEST + 8, &[0; 43]);
        let chain = [Buffer::Out(REQUEST, 51), Buffer::In(ANSWER, 108)];
        driver.request(ring, &chain);
        assert_eq!(guest.read(ANSWER + 10, 2), [response, 0]);
    }
}

#[test]
fn properties_that_make_no_sense_are_refused() {
    let guest = FakeGuest::new();
    let refused = |text: &str| build(&controller(text), &guest.cx("s")).err().unwrap().desc;
    for count in [0, 1022, 2000] {
        assert_eq!(
            refused(&format!(",num_queues={count}")),
            format!(
                "Invalid number of queues (= {count}), must be a positive integer less than 1022."
            )
        );
    }
    assert_eq!(
        refused(",virtqueue_size=2"),
        "invalid virtqueue_size property (= 2), must be > 2"
    );
    assert_eq!(
        refused(",virtqueue_size=100"),
        "invalid virtqueue_size property (= 100), must be a power of 2 (max 1024)"
    );
    let node = null(small());
    let (_, bus) = build(&controller(""), &guest.cx("s")).unwrap();
    let plug = |id: &str, text: &str, with: bool| -> QmpResult<Arc<Unit>> {
        let mut cx = guest.cx(id);
        cx.node = with.then(|| node.clone());
        plug_disk(&hd(text), &bus, cx)
    };
    let desc = |text: &str, with: bool| plug("x", text, with).err().unwrap().desc;
    assert_eq!(desc("", false), "drive property not set");
    for (text, why) in [
        (",channel=1", "bad scsi channel id: 1"),
        (",scsi-id=256", "bad scsi device id: 256"),
        (",lun=16384", "bad scsi device lun: 16384"),
        (
            ",logical_block_size=4096",
            "logical_block_size > physical_block_size not supported",
        ),
        (
            ",discard_granularity=100",
            "discard_granularity must be a multiple of logical_block_size",
        ),
        (
            ",scsi_version=300",
            "Property 'scsi_version' cannot be 300: it is one byte",
        ),
        (
            ",serial=0123456789012345678901234567890123456",
            "The serial number can't be longer than 36 characters",
        ),
    ] {
        assert_eq!(desc(text, true), why);
    }
    let place = |unit: QmpResult<Arc<Unit>>| {
        let place = unit.unwrap().place();
        (place.target, place.lun)
    };
    // The first target that is free, the first unit of a target.
    assert_eq!(place(plug("a", "", true)), (0, 0));
    assert_eq!(place(plug("b", "", true)), (1, 0));
    assert_eq!(place(plug("c", ",scsi-id=1", true)), (1, 1));
    assert_eq!(place(plug("/anonymous/0", ",lun=1", true)), (0, 1));
    assert_eq!(
        place(plug("d", ",scsi-id=255,lun=16383", true)),
        (255, 16383)
    );
    assert_eq!(desc(",scsi-id=1,lun=0", true), "lun already used by 'b'");
    assert_eq!(desc(",scsi-id=0,lun=1", true), "lun already used");
    let names: Vec<_> = bus
        .units()
        .iter()
        .map(|unit| unit.id().to_owned())
        .collect();
    assert_eq!(names, ["a", "/anonymous/0", "b", "c", "d"]);
}

#[test]
fn what_is_left_to_the_disk_is_as_qemu_leaves_it() {
    let guest = FakeGuest::new();
    let node = null(small());
    let (_, bus) = build(&controller(""), &guest.cx("s")).unwrap();
    let unit = add_hd(&guest, &bus, "a", &node, "");
    let identity = unit.identity();
    assert_eq!(identity.vendor, "QEMU");
    assert_eq!(identity.product, "QEMU HARDDISK");
    assert_eq!(identity.version, "2.5+");
    assert_eq!((identity.block, identity.physical), (512, 512));
    assert_eq!(identity.discard_granularity, 4096);
    assert_eq!((identity.max_unmap, identity.max_io), (1 << 21, 4_194_303));
    assert_eq!(identity.device_id, None);
    let mut cx = guest.cx("b");
    cx.node = Some(node.clone());
    cx.drive_name = Some("drive0".into());
    let named = plug_disk(&hd(""), &bus, cx).unwrap();
    assert_eq!(named.identity().device_id.as_deref(), Some("drive0"));
    let serial = add_hd(&guest, &bus, "c", &node, ",serial=012345678901234567890123");
    assert_eq!(
        serial.identity().device_id.as_deref(),
        Some("01234567890123456789")
    );
    let cd = add_cd(&guest, &bus, "d", None);
    assert_eq!(cd.identity().product, "QEMU CD-ROM");
    assert_eq!(cd.identity().block, 2048);
    assert!(unit.media().is_none() && cd.media().is_some());
}

fn whole(guest: &FakeGuest) -> (crate::virtio::VirtioPci, Arc<ScsiBus>) {
    let (function, bus) = build(&controller(""), &guest.cx("s")).unwrap();
    add_hd(guest, &bus, "a", &null(small()), "");
    add_cd(guest, &bus, "b", Some(&null(small())));
    (function, bus)
}

#[test]
fn conformance() {
    let guest = FakeGuest::new();
    conformance::pci_function(conformance::AfterReset::Fresh, || {
        Arc::new(std::sync::Mutex::new(whole(&guest).0))
    });
}

#[test]
fn state_travels_with_units() {
    let guest = FakeGuest::new();
    let (mut function, bus) = whole(&guest);
    let [hd, cd] = <[Arc<Unit>; 2]>::try_from(bus.units()).ok().unwrap();
    let media = cd.media().unwrap();
    assert!(media.open_tray(Force::No).is_ok());
    hd.capacity_changed();
    hd.attachment()
        .unwrap()
        .set_write_cache(block::WriteCache::Through);
    let section = function.state().unwrap().save_section("s").unwrap();
    let (mut other, other_bus) = whole(&guest);
    other.state().unwrap().restore_section(&section).unwrap();
    assert_eq!(other.state().unwrap().save_section("s").unwrap(), section);
    let units = other_bus.units();
    assert!(units[1].media().unwrap().is_open());
    let cache = units[0].attachment().unwrap().write_cache();
    assert_eq!(cache, block::WriteCache::Through);
    assert!(guest.take_effects().is_empty());
    // Other units.
    let (mut third, third_bus) = build(&controller(""), &guest.cx("s")).unwrap();
    add_hd(&guest, &third_bus, "a", &null(small()), "");
    let refused = third.state().unwrap().restore_section(&section);
    assert!(refused.unwrap_err().to_string().contains("units"));
}

#[test]
fn requests_survive_a_stop() {
    let guest = FakeGuest::new();
    let node = null(block::NullSpec {
        latency_ns: 20_000_000,
        ..small()
    });
    let mut bench = Bench::new(&guest, |bus| {
        add_hd(&guest, bus, "a", &node, "");
    });
    let before = bench.requests.used_index(&guest);
    for slot in 0..10 {
        let data = [Buffer::In(DATA + 0x1000 * slot, 512)];
        let chain = bench.request_at(slot, &ten(0x28, 0, 1), &data);
        bench.requests.add(&guest, &chain);
    }
    bench.driver.kick(&bench.requests);
    assert_eq!(bench.requests.used_index(&guest), before);
    bench.driver.carry_out(Effect::StopQueues);
    assert_eq!(bench.requests.used_index(&guest), before + 10);
    bench.driver.carry_out(Effect::StartQueues);
    assert!(lock(bench.driver.function()).running());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn garbage_is_answered(
        requests in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 51), any::<bool>(), 0u32..2048, 0u32..2048, 0u16..3),
            1..20,
        ),
    ) {
        let guest = FakeGuest::new();
        let mut bench = Bench::cold(&guest, "", u64::MAX, |bus| {
            add_hd(&guest, bus, "a", &null(small()), "");
            add_cd(&guest, bus, "b", Some(&null(small())));
        });
        let at = DATA;
        for (bytes, real, out, incoming, queue) in &requests {
            let mut bytes = bytes.clone();
            if *real {
                let target = bytes[1] & 1;
                bytes[..8].copy_from_slice(&[1, target, 0x40, 0, 0, 0, 0, 0]);
            }
            guest.write(REQUEST, &bytes);
            let chain = [
                Buffer::Out(REQUEST, 51),
                Buffer::Out(at, *out),
                Buffer::In(ANSWER, 108),
                Buffer::In(at, *incoming),
            ];
            let chain: Vec<_> = chain
                .into_iter()
                .filter(|b| !matches!(b, Buffer::Out(_, 0) | Buffer::In(_, 0)))
                .collect();
            let ring = match queue {
                0 => &mut bench.control,
                1 => &mut bench.events,
                _ => &mut bench.requests,
            };
            if *queue == 2 {
                bench.driver.request(ring, &chain);
            } else {
                ring.add(&guest, &chain);
                let ring = ring.clone();
                bench.driver.kick(&ring);
            }
            if bench.broken() {
                break;
            }
        }
        bench.close();
    }
}
