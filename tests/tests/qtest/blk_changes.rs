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
