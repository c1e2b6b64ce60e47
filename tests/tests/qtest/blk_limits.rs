//! Disks that fail, are full or are limited, and what clients see of that.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, disk};

const OUT: u32 = 1;
const OK: u8 = 0;
const IOERR: u8 = 1;
const SECTORS: u64 = 2048;
const PATH: &str = "/machine/peripheral/disk0/virtio-backend";

struct Disk {
    t: Qtest,
    queue: Queue,
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl Disk {
    /// A disk on a node that fails as `inject` says.
    fn start(inject: Value, device: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = disk::numbered(directory.path(), "disk.img", SECTORS);
        let node = json!({
            "driver": "blkdebug", "node-name": "d", "inject-error": inject,
            "image": {"driver": "file", "filename": path, "node-name": "f"},
        });
        let builder = VmBuilder::new()
            .idle()
            .arg("-blockdev")
            .arg(node.to_string())
            .arg("-device")
            .arg(format!("virtio-blk-pci,drive=d,id=disk0,addr=4.0{device}"));
        let mut t = Qtest::start_with(builder, &[]);
        let queue = drive(&mut t);
        Disk {
            t,
            queue,
            path,
            _directory: directory,
        }
    }

    /// Puts a write of a sector full of `byte` into the ring; gives the address of its status.
    fn write(&mut self, sector: u64, byte: u8) -> u64 {
        let t = &mut self.t;
        let at = t.alloc(1024);
        t.writel(at, OUT);
        t.writeq(at + 8, sector);
        t.writeb(at + 600, 0xff);
        t.write(at + 16, &[byte; 512]);
        let chain = [(at, 16, false), (at + 16, 512, false), (at + 600, 1, true)];
        self.queue.add(t, &chain);
        self.queue.kick(t);
        at + 600
    }

    fn io_status(&mut self) -> Value {
        self.t.vm.query("query-block")[0]["io-status"].clone()
    }
}

fn drive(t: &mut Qtest) -> Queue {
    let mut device = Device::find(t, 4);
    device.negotiate(t, u64::MAX);
    let queue = device.queue(t, 0, None);
    device.drive(t);
    queue
}

fn full() -> Value {
    json!([{"event": "none", "iotype": "write", "errno": 28, "once": true}])
}

#[test]
fn a_full_disk_stops_the_machine_and_cont_tries_again() {
    let mut disk = Disk::start(full(), "");
    assert_eq!(disk.io_status(), "ok");
    let status = disk.write(7, 0xa5);
    let event = disk.t.vm.qmp().event("BLOCK_IO_ERROR");
    assert_eq!(
        event["data"],
        json!({"qom-path": PATH, "device": "", "node-name": "d", "operation": "write",
               "action": "stop", "nospace": true, "reason": "No space left on device"})
    );
    disk.t.vm.qmp().event("STOP");
    assert_eq!(disk.t.vm.query("query-status")["status"], "io-error");
    assert_eq!(disk.io_status(), "nospace");
    assert_eq!(disk.queue.poll(&mut disk.t), None, "it is not answered");
    assert_eq!(disk.t.readb(status), 0xff);
    disk.t.vm.query("cont");
    disk.queue.wait(&mut disk.t);
    assert_eq!(disk.t.readb(status), OK);
    assert_eq!(disk::read(&disk.path, 7 * 512, 512), [0xa5; 512]);
    assert_eq!(disk.io_status(), "ok");
    assert_eq!(disk.t.vm.query("query-status")["status"], "running");
}

#[test]
fn a_reset_forgets_what_failed() {
    let mut disk = Disk::start(full(), ",werror=stop,rerror=stop");
    disk.write(7, 0xa5);
    disk.t.vm.qmp().event("STOP");
    disk.t.vm.query("system_reset");
    disk.t.vm.qmp().event("RESET");
    disk.t.vm.query("cont");
    disk.queue = drive(&mut disk.t);
    let status = disk.write(9, 0x11);
    disk.queue.wait(&mut disk.t);
    assert_eq!(disk.t.readb(status), OK);
    assert_eq!(
        disk::read(&disk.path, 7 * 512, 512),
        disk::numbered_sector(7)
    );
}

#[test]
fn what_is_reported_or_ignored_is_told_as_well() {
    for (device, action, expected) in [
        ("", "report", IOERR),
        (",werror=report", "report", IOERR),
        (",werror=ignore", "ignore", OK),
    ] {
        let inject = json!([{"event": "pwritev", "errno": 5, "once": true}]);
        let mut disk = Disk::start(inject, device);
        let status = disk.write(7, 1);
        disk.queue.wait(&mut disk.t);
        assert_eq!(disk.t.readb(status), expected);
        let event = disk.t.vm.qmp().event("BLOCK_IO_ERROR");
        assert_eq!(event["data"]["action"], action);
        assert_eq!(event["data"]["reason"], "Input/output error");
        // Where nothing stops the machine there is no status, and no word of space.
        let told = device.is_empty();
        assert_eq!(event["data"].get("nospace").is_some(), told);
        assert_eq!(disk.io_status().is_null(), !told);
        assert_eq!(disk.t.vm.query("query-status")["status"], "running");
    }
}

#[test]
fn limits_hold_and_a_stop_does_not_wait_for_them() {
    let mut disk = Disk::start(json!([]), "");
    let limit = |iops: u32| {
        json!({"id": "disk0", "bps": 0, "bps_rd": 0, "bps_wr": 0,
               "iops": iops, "iops_rd": 0, "iops_wr": 0})
    };
    disk.t.vm.exec("block_set_io_throttle", limit(40));
    let begin = Instant::now();
    // Not one behind the other: neighbours may become one request.
    for sector in 0..45 {
        disk.write(2 * sector, 1);
    }
    for _ in 0..45 {
        disk.queue.wait(&mut disk.t);
    }
    // A tenth of a second's worth goes at once, and one more fills the bucket over.
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(950), "{took:?}");
    assert!(took < Duration::from_millis(1500), "{took:?}");
    let inserted = disk.t.vm.query("query-block")[0]["inserted"].clone();
    assert_eq!(
        (&inserted["iops"], &inserted["group"]),
        (&json!(40), &json!("disk0"))
    );

    disk.t.vm.exec("block_set_io_throttle", limit(1));
    for sector in 0..20 {
        disk.write(2 * sector, 2);
    }
    let begin = Instant::now();
    disk.t.vm.query("stop");
    assert!(begin.elapsed() < Duration::from_secs(5));
    for _ in 0..20 {
        disk.queue.wait(&mut disk.t);
    }
    assert_eq!(disk::read(&disk.path, 38 * 512, 512), [2; 512]);
    disk.t.vm.exec("block_set_io_throttle", limit(0));
    disk.t.vm.query("cont");
    disk.write(0, 3);
    disk.queue.wait(&mut disk.t);
}

#[test]
fn a_write_beyond_the_threshold_is_told_of_once() {
    let mut disk = Disk::start(json!([]), "");
    let arguments = json!({"node-name": "f", "write-threshold": 4096});
    disk.t.vm.exec("block-set-write-threshold", arguments);
    for sector in [7, 9, 10] {
        disk.write(sector, 1);
        disk.queue.wait(&mut disk.t);
    }
    let event = disk.t.vm.qmp().event("BLOCK_WRITE_THRESHOLD");
    assert_eq!(
        event["data"],
        json!({"node-name": "f", "amount-exceeded": 1024, "write-threshold": 4096})
    );
    let nodes = disk.t.vm.query("query-named-block-nodes");
    let nodes = nodes.as_array().expect("a list");
    assert!(nodes.iter().all(|node| node["write_threshold"] == 0));
}

#[test]
fn throttle_groups_are_objects() {
    let mut disk = Disk::start(json!([]), "");
    let vm = &mut disk.t.vm;
    vm.exec(
        "object-add",
        json!({"qom-type": "throttle-group", "id": "g", "limits": {"iops-total": 100}}),
    );
    let property = json!({"path": "/objects/g", "property": "limits"});
    assert_eq!(vm.exec("qom-get", property)["iops-total"], 100);
    vm.exec(
        "qom-set",
        json!({"path": "g", "property": "limits", "value": {"iops-total": 200, "iops-total-max": 300}}),
    );
    vm.exec(
        "block_set_io_throttle",
        json!({"id": "disk0", "bps": 0, "bps_rd": 0, "bps_wr": 0, "iops": 50, "iops_rd": 0,
               "iops_wr": 0, "group": "g"}),
    );
    let property = json!({"path": "/objects/g", "property": "x-iops-total"});
    assert_eq!(vm.exec("qom-get", property), 50);
    let error = vm.refused("object-del", json!({"id": "g"}));
    assert_eq!(
        error.to_string(),
        "GenericError: object 'g' is in use, can not be deleted"
    );
}
