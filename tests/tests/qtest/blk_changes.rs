//! virtio-blk while the nodes below it change.

use std::process::Command;

use serde_json::json;
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, disk};

const IN: u32 = 0;
const OUT: u32 = 1;
const SLOT: u8 = 4;
const SECTORS: u64 = 2048;
/// ISR status: configuration changed (virtio 1.2, section 4.1.4.5).
const CONFIG_CHANGED: u8 = 2;

struct Disk {
    t: Qtest,
    device: Device,
    queue: Queue,
    directory: tempfile::TempDir,
}

impl Disk {
    fn start(device: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = disk::numbered(directory.path(), "disk.img", SECTORS);
        let builder = VmBuilder::new()
            .idle()
            .args(["-object", "iothread,id=io0"])
            .arg("-blockdev")
            .arg(format!("file,node-name=f,filename={}", path.display()))
            .args(["-blockdev", "raw,node-name=r,file=f"])
            .arg("-device")
            .arg(format!("virtio-blk-pci,drive=r,id=d,addr=4.0{device}"));
        let mut t = Qtest::start_with(builder, &[]);
        let mut device = Device::find(&mut t, SLOT);
        device.negotiate(&mut t, u64::MAX);
        let queue = device.queue(&mut t, 0, None);
        device.drive(&mut t);
        Disk {
            t,
            device,
            queue,
            directory,
        }
    }

    fn exec(&mut self, command: &str, arguments: serde_json::Value) {
        self.t.vm.exec(command, arguments);
    }

    /// One sector written, or read.
    fn request(&mut self, kind: u32, sector: u64, byte: u8) -> (u8, Vec<u8>) {
        let t = &mut self.t;
        let at = t.alloc(16 + 512 + 1);
        t.writel(at, kind);
        t.writeq(at + 8, sector);
        t.write(at + 16, &[byte; 512]);
        t.writeb(at + 16 + 512, 0xff);
        let chain = [
            (at, 16, false),
            (at + 16, 512, kind == IN),
            (at + 16 + 512, 1, true),
        ];
        self.queue.add(t, &chain);
        self.queue.kick(t);
        self.queue.wait(t);
        (t.readb(at + 16 + 512), t.read(at + 16, 512))
    }
}

#[test]
fn a_new_size_is_told() {
    for device in ["", ",iothread=io0"] {
        let mut disk = Disk::start(device);
        assert_eq!(disk.request(OUT, SECTORS, 1).0, 1, "beyond the end");
        disk.device.isr(&mut disk.t);
        disk.exec(
            "block_resize",
            json!({"node-name": "r", "size": 2 * SECTORS * 512}),
        );
        assert_eq!(disk.t.readq(disk.device.config()), 2 * SECTORS);
        assert_eq!(
            disk.device.isr(&mut disk.t) & CONFIG_CHANGED,
            CONFIG_CHANGED
        );
        assert_eq!(disk.request(OUT, 2 * SECTORS - 1, 1).0, 0);
        let refused = disk
            .t
            .vm
            .refused("block_resize", json!({"node-name": "r", "size": -1}));
        assert_eq!(refused.desc, "Parameter 'size' expects a >0 size");
        assert_eq!(disk.device.isr(&mut disk.t) & CONFIG_CHANGED, 0);
    }
}

#[test]
fn overlays_and_options_under_a_running_disk() {
    for device in ["", ",iothread=io0"] {
        let mut disk = Disk::start(device);
        assert_eq!(disk.request(OUT, 1, 0xa1).0, 0);
        let path = disk.directory.path().join("disk.img");
        let options = json!({"driver": "file", "node-name": "f", "filename": path,
                             "cache": {"no-flush": true}});
        disk.exec("blockdev-reopen", json!({"options": [options]}));
        assert_eq!(disk.request(OUT, 2, 0xa2).0, 0);
        let mut read_only = options.clone();
        read_only["read-only"] = true.into();
        let error = disk
            .t
            .vm
            .refused("blockdev-reopen", json!({"options": [read_only]}));
        assert_eq!(
            error.desc,
            "Read-only block node 'f' cannot support read-write users"
        );
        assert_eq!(disk.request(OUT, 3, 0xa3).0, 0);
        let over = disk.directory.path().join("over.qcow2");
        disk.exec(
            "blockdev-snapshot-sync",
            json!({"node-name": "r", "snapshot-file": over, "snapshot-node-name": "s"}),
        );
        assert_eq!(disk.request(OUT, 4, 0xa4).0, 0);
        for sector in 1..=4 {
            let (status, bytes) = disk.request(IN, sector, 0);
            assert_eq!((status, bytes), (0, vec![0xa0 + sector as u8; 512]));
        }
        let below = disk::read(&path, 3 * 512, 1024);
        assert_eq!(below[..512], [0xa3; 512]);
        assert_eq!(below[512..], disk::numbered_sector(4), "it is only read");
        disk.exec("quit", json!({}));
        disk.t.vm.wait();
        let checked = Command::new("qemu-img")
            .args(["check", "-q"])
            .arg(&over)
            .status();
        assert!(checked.is_ok_and(|status| status.success()));
    }
}

#[test]
fn a_damaged_image_is_told_of() {
    let directory = tempfile::tempdir().expect("a directory");
    let raw = disk::numbered(directory.path(), "disk.img", SECTORS);
    let path = directory.path().join("disk.qcow2");
    let made = Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2"])
        .args([&raw, &path])
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let number = |offset: u64| {
        let bytes = disk::read(&path, offset, 8);
        u64::from_be_bytes(bytes.try_into().expect("eight bytes"))
    };
    // An entry that points between clusters (qcow2 specification, "Cluster mapping").
    let table = number(number(40)) & 0x00ff_ffff_ffff_fe00;
    let entry = number(table) | 0x200;
    disk::write(&path, table, &entry.to_be_bytes());
    let builder = VmBuilder::new()
        .idle()
        .arg("-blockdev")
        .arg(format!(
            "qcow2,node-name=q,file.driver=file,file.filename={}",
            path.display()
        ))
        .args(["-device", "virtio-blk-pci,drive=q,id=d,addr=4.0"]);
    let mut t = Qtest::start_with(builder, &[]);
    let mut device = Device::find(&mut t, SLOT);
    device.negotiate(&mut t, u64::MAX);
    let queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let mut disk = Disk {
        t,
        device,
        queue,
        directory,
    };
    assert_eq!(disk.request(IN, 0, 0).0, 1);
    let event = disk.t.vm.qmp().event("BLOCK_IMAGE_CORRUPTED");
    assert_eq!(event["data"]["node-name"], "q");
    assert_eq!(event["data"]["device"], "");
    assert_eq!(event["data"]["fatal"], true);
    assert!(
        event["data"]["msg"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    let nodes = disk.t.vm.query("query-named-block-nodes");
    let image = nodes
        .as_array()
        .expect("a list")
        .iter()
        .find(|n| n["node-name"] == "q");
    let facts = &image.expect("the node")["image"]["format-specific"]["data"];
    assert_eq!(facts["corrupt"], true);
}
