//! Sizes, media, failures and limits, while units are in use.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{disk, iso};

use super::{Bus, CD, CHECK, DISK, GOOD, OK, SECTORS, ten};

/// VIRTIO_SCSI_F_CHANGE.
const CHANGE: u64 = 1 << 2;
/// VIRTIO_SCSI_T_PARAM_CHANGE.
const PARAM_CHANGE: u32 = 3;
const CAPACITY_CHANGED: [u8; 3] = [6, 0x2a, 9];
/// Another disk.
const THIRD: (u8, u8) = (3, 0);

/// Memory for so many events.
fn give_event_buffers(bus: &mut Bus, count: u64) -> u64 {
    let at = bus.t.alloc(16 * count);
    for n in 0..count {
        bus.events.add(&mut bus.t, &[(at + 16 * n, 16, true)]);
    }
    bus.events.kick(&mut bus.t);
    at
}

#[test]
fn a_new_size_is_told() {
    for (controller, features) in [("", u64::MAX), (",iothread=io0", u64::MAX), ("", !CHANGE)] {
        let mut bus = Bus::start_with(controller, features, &[]);
        bus.settle(DISK);
        let events = give_event_buffers(&mut bus, 2);
        let resize = json!({"node-name": "f", "size": 2 * SECTORS * 512});
        bus.t.vm.exec("block_resize", resize);
        if features & CHANGE == 0 {
            assert_eq!(bus.events.poll(&mut bus.t), None);
        } else {
            assert_eq!(bus.events.wait(&mut bus.t).1, 16);
            assert_eq!(bus.t.readl(events), PARAM_CHANGE);
            assert_eq!(bus.t.read(events + 4, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(bus.t.readl(events + 12), 0x092a);
        }
        let told = bus.command(DISK, &[0; 6], &[], 0);
        assert_eq!((told.status, told.sense), (CHECK, CAPACITY_CHANGED));
        let capacity = bus.read(DISK, &ten(0x25, 0, 0), 8);
        assert_eq!(capacity, [0, 0, 0xf, 0xff, 0, 0, 2, 0]);
        let mut last = ten(0x2a, 0xff, 1);
        last[4] = 0xf;
        assert_eq!(bus.command(DISK, &last, &[7; 512], 0).status, GOOD);
        assert_eq!(disk::read(&bus.path, 4095 * 512, 512), [7; 512]);
        let refused = json!({"node-name": "f", "size": -1});
        bus.t.vm.refused("block_resize", refused);
        assert_eq!(bus.command(DISK, &[0; 6], &[], 0).status, GOOD);
        assert_eq!(bus.events.poll(&mut bus.t), None);
    }
}

/// The unit has something to tell, and there is no event: drivers look at a medium when they open it.
#[test]
fn a_medium_of_another_size() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "medium.img", 1 << 20);
    let node = format!("file,node-name=m,filename={}", path.display());
    let more = ["-blockdev", &node, "-device", "scsi-cd,drive=m,scsi-id=3"];
    let mut bus = Bus::start_with("", u64::MAX, &more);
    bus.settle(THIRD);
    give_event_buffers(&mut bus, 2);
    let resize = json!({"node-name": "m", "size": 2 << 20});
    bus.t.vm.exec("block_resize", resize);
    let told = bus.command(THIRD, &[0; 6], &[], 0);
    assert_eq!((told.status, told.sense), (CHECK, CAPACITY_CHANGED));
    let capacity = bus.read(THIRD, &ten(0x25, 0, 0), 8);
    assert_eq!(capacity, [0, 0, 3, 0xff, 0, 0, 8, 0]);
    assert_eq!(bus.events.poll(&mut bus.t), None);
}

#[test]
fn media_change_while_all_units_are_read() {
    for controller in ["", ",iothread=io0"] {
        let mut bus = Bus::start(controller);
        bus.settle(DISK);
        bus.settle(CD);
        let media = ["a", "b"].map(|name| {
            let file = format!("{name}.iso");
            let volume = name.to_uppercase();
            iso::file(bus._directory.path(), &file, &volume, "F.TXT", b"words")
        });
        for round in 0..6 {
            let pending: Vec<_> = (0..12u8)
                .map(|n| match n % 2 {
                    0 => (n, bus.put(CD, &ten(0x28, 16, 1), &[], 2048)),
                    _ => (n, bus.put(DISK, &ten(0x28, n, 1), &[], 512)),
                })
                .collect();
            let medium = &media[round % 2];
            let change = json!({"id": "cd0", "filename": medium, "format": "raw"});
            bus.t.vm.exec("blockdev-change-medium", change);
            let mut heads: Vec<u16> = (0..12).map(|_| bus.requests.wait(&mut bus.t).0).collect();
            heads.sort_unstable();
            let mut expected: Vec<u16> = pending.iter().map(|(_, request)| request.head).collect();
            expected.sort_unstable();
            assert_eq!(heads, expected, "each one ends once");
            for (n, request) in &pending {
                let ended = bus.ended(request);
                match n % 2 {
                    1 => assert_eq!(ended.data, disk::numbered_sector((*n).into())),
                    _ if ended.status == GOOD => assert_eq!(&ended.data[1..6], b"CD001"),
                    _ => assert!([2, 6].contains(&ended.sense[0]), "{ended:?}"),
                }
            }
            let told = std::iter::from_fn(|| {
                let ended = bus.command(CD, &[0; 6], &[], 0);
                (ended.status != GOOD).then_some(ended)
            });
            assert!(told.take(4).all(|ended| ended.sense[0] == 6));
            let volume = bus.read(CD, &ten(0x28, 16, 1), 2048)[40..42].to_vec();
            assert_eq!(volume, [[b'A', b'B'][round % 2], b' ']);
        }
    }
}

/// With one more disk, on a node that fails as `inject` says.
fn failing(inject: &Value, device: &str) -> Bus {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::numbered(directory.path(), "failing.img", SECTORS);
    let node = json!({
        "driver": "blkdebug", "node-name": "d", "inject-error": inject,
        "image": {"driver": "file", "filename": path, "node-name": "e"},
    });
    let device = format!("scsi-hd,id=hd0,drive=d,scsi-id=3{device}");
    let more = ["-blockdev", &node.to_string(), "-device", &device];
    let mut bus = Bus::start_with(",iothread=io0", u64::MAX, &more);
    bus.settle(THIRD);
    bus.path = path;
    bus._directory = directory;
    bus
}

fn full() -> Value {
    json!([{"event": "none", "iotype": "write", "errno": 28, "once": true}])
}

#[test]
fn a_full_disk_stops_the_machine_and_cont_tries_again() {
    let mut bus = failing(&full(), "");
    let write = bus.put(THIRD, &ten(0x2a, 7, 1), &[0xa5; 512], 0);
    let event = bus.t.vm.qmp().event("BLOCK_IO_ERROR");
    assert_eq!(
        event["data"],
        json!({"qom-path": "/machine/peripheral/hd0", "device": "", "node-name": "d",
               "operation": "write", "action": "stop", "nospace": true,
               "reason": "No space left on device"})
    );
    bus.t.vm.qmp().event("STOP");
    assert_eq!(bus.t.vm.query("query-status")["status"], "io-error");
    assert_eq!(bus.requests.poll(&mut bus.t), None, "it is not answered");
    bus.t.vm.query("cont");
    assert_eq!(bus.requests.wait(&mut bus.t).0, write.head);
    let ended = bus.ended(&write);
    assert_eq!((ended.response, ended.status), (OK, GOOD));
    assert_eq!(disk::read(&bus.path, 7 * 512, 512), [0xa5; 512]);
    assert_eq!(bus.t.vm.query("query-status")["status"], "running");
}

#[test]
fn a_reset_forgets_what_failed() {
    let mut bus = failing(&full(), ",werror=stop,rerror=stop");
    bus.put(THIRD, &ten(0x2a, 7, 1), &[0xa5; 512], 0);
    bus.t.vm.qmp().event("STOP");
    bus.t.vm.query("system_reset");
    bus.t.vm.qmp().event("RESET");
    bus.t.vm.query("cont");
    bus.drive_again();
    bus.settle(THIRD);
    let write = bus.command(THIRD, &ten(0x2a, 9, 1), &[0x11; 512], 0);
    assert_eq!(write.status, GOOD);
    let seventh = disk::read(&bus.path, 7 * 512, 512);
    assert_eq!(seventh, disk::numbered_sector(7));
}

#[test]
fn a_stop_does_not_wait_for_limits() {
    let mut bus = failing(&json!([]), "");
    let limit = |iops: u32| {
        json!({"id": "hd0", "bps": 0, "bps_rd": 0, "bps_wr": 0,
               "iops": iops, "iops_rd": 0, "iops_wr": 0})
    };
    bus.t.vm.exec("block_set_io_throttle", limit(1));
    for n in 0..20 {
        bus.put(THIRD, &ten(0x2a, 2 * n, 1), &[2; 512], 0);
    }
    let begin = Instant::now();
    bus.t.vm.query("stop");
    assert!(begin.elapsed() < Duration::from_secs(5));
    for _ in 0..20 {
        bus.requests.wait(&mut bus.t);
    }
    assert_eq!(disk::read(&bus.path, 38 * 512, 512), [2; 512]);
    bus.t.vm.exec("block_set_io_throttle", limit(0));
    bus.t.vm.query("cont");
    assert_eq!(bus.command(THIRD, &[0; 6], &[], 0).status, GOOD);
}
