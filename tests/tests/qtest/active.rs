//! Two programs with the same images, of which one has them in use.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tests::migrate::{arrive, go, listen};
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{Vm, VmBuilder, disk};

const IN: u32 = 0;
const OUT: u32 = 1;
const SIZE: u64 = 4 << 20;
const OK: u8 = 0;
const IOERR: u8 = 1;
/// ISR status: configuration changed (virtio 1.2, section 4.1.4.5).
const CONFIG_CHANGED: u8 = 2;

/// One of the programs, which plays a guest with a disk on each of two images.
struct Side {
    t: Qtest,
    disks: Vec<(Device, Queue)>,
}

impl Side {
    fn builder(images: &Images, active: &str) -> VmBuilder {
        let Images { raw, qcow2, .. } = images;
        let file = |path: &Path| format!("file.driver=file,file.filename={}", path.display());
        VmBuilder::new()
            .idle()
            .arg("-blockdev")
            .arg(format!("raw,node-name=r,active={active},{}", file(raw)))
            .arg("-blockdev")
            .arg(format!("qcow2,node-name=q,active={active},{}", file(qcow2)))
            .args(["-device", "virtio-blk-pci,drive=r,addr=4.0"])
            .args(["-device", "virtio-blk-pci,drive=q,addr=5.0"])
    }

    fn start(images: &Images, active: &str) -> Self {
        let mut t = Qtest::start_with(Self::builder(images, active), &[]);
        let disks = [4, 5].map(|slot| {
            let mut device = Device::find(&mut t, slot);
            device.negotiate(&mut t, u64::MAX);
            let queue = device.queue(&mut t, 0, None);
            device.drive(&mut t);
            (device, queue)
        });
        Side {
            t,
            disks: disks.into(),
        }
    }

    /// Goes to another process.
    fn move_on(mut self, images: &Images) -> (Self, Vm) {
        let builder = Self::builder(images, "on");
        let uri = format!("unix:{}", builder.path("migration.sock").display());
        let mut t = Qtest::start_with(builder, &["-incoming", "defer"]);
        let nodes = t.vm.query("query-named-block-nodes");
        let mut nodes = nodes.as_array().expect("a list").iter();
        assert!(nodes.all(|node| node["active"] == false));
        // What the driver has in memory stays.
        t.alloc(4 << 20);
        listen(&mut t.vm, &uri);
        go(&mut self.t.vm, &uri);
        arrive(&mut t.vm);
        self.shows(false);
        let disks = self.disks;
        let mut there = Side { t, disks };
        there.shows(true);
        (there, self.t.vm)
    }

    /// One sector written, or read, on each disk.
    fn request(&mut self, kind: u32, sector: u64, byte: u8) -> Vec<(u8, u8)> {
        let t = &mut self.t;
        let mut answers = Vec::new();
        for (_, queue) in &mut self.disks {
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
            queue.add(t, &chain);
            queue.kick(t);
            queue.wait(t);
            answers.push((t.readb(at + 16 + 512), t.readb(at + 16)));
        }
        answers
    }

    fn write(&mut self, sector: u64, byte: u8) {
        assert_eq!(self.request(OUT, sector, byte), [(OK, byte); 2]);
    }

    fn reads(&mut self, sector: u64, byte: u8) {
        assert_eq!(self.request(IN, sector, 0), [(OK, byte); 2]);
    }

    fn give_up(&mut self) {
        self.t.vm.exec("stop", json!({}));
        self.t
            .vm
            .exec("blockdev-set-active", json!({"active": false}));
        self.shows(false);
    }

    fn take(&mut self) {
        self.t
            .vm
            .exec("blockdev-set-active", json!({"active": true}));
        self.shows(true);
        self.t.vm.exec("cont", json!({}));
    }

    fn refused(&mut self) -> String {
        let arguments = json!({"active": true});
        self.t.vm.refused("blockdev-set-active", arguments).desc
    }

    fn shows(&mut self, active: bool) {
        let all = |list: &Value, at: &str| {
            let nodes = list.as_array().expect("a list").iter();
            let mut said = nodes.map(|node| node.pointer(at).cloned());
            assert!(said.all(|said| said == Some(json!(active))), "{list}");
        };
        all(&self.t.vm.query("query-named-block-nodes"), "/active");
        all(&self.t.vm.query("query-block"), "/inserted/active");
    }
}

struct Images {
    raw: PathBuf,
    qcow2: PathBuf,
    _directory: tempfile::TempDir,
}

impl Images {
    /// `None` where there is no qemu-img.
    fn make() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let raw = disk::raw(directory.path(), "disk.img", SIZE);
        let qcow2 = directory.path().join("disk.qcow2");
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on"])
            .arg(&qcow2)
            .arg(SIZE.to_string())
            .status();
        made.is_ok_and(|status| status.success()).then_some(Images {
            raw,
            qcow2,
            _directory: directory,
        })
    }

    fn both(&self) -> [(&Path, &'static str); 2] {
        [(&self.raw, "raw"), (&self.qcow2, "qcow2")]
    }

    /// Undamaged, and nothing leaks.
    fn check(&self) {
        let checked = Command::new("qemu-img")
            .args(["check", "-q", "-f", "qcow2"])
            .arg(&self.qcow2)
            .status();
        assert!(checked.expect("qemu-img").success());
    }

    /// Whether a third program may write.
    fn others_may_write(&self) -> bool {
        let may = self.both().map(|(path, format)| {
            let done = Command::new("qemu-io")
                .args(["-f", format, "-c", "write -P 0x77 1M 64k"])
                .arg(path)
                .output()
                .expect("qemu-io");
            done.status.success()
        });
        assert_eq!(may[0], may[1]);
        may[0]
    }
}

/// A third program that has an image in use until it is dropped.
struct Other(Child);

impl Other {
    fn start(path: &Path, format: &str) -> Self {
        let mut child = Command::new("qemu-io")
            .args(["-f", format])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("qemu-io");
        let input = child.stdin.as_mut().expect("a pipe");
        input.write_all(b"length\n").expect("a command");
        let output = child.stdout.as_mut().expect("a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        assert!(line.contains("MiB"), "{line}");
        Other(child)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn images_go_to_and_fro() {
    let Some(images) = Images::make() else {
        return;
    };
    let mut one = Side::start(&images, "on");
    one.write(1, 0x11);
    let mut two = Side::start(&images, "off");
    two.shows(false);
    assert!(!images.others_may_write());
    assert_eq!(two.request(OUT, 1, 0x22), [(IOERR, 0x22); 2]);
    let refused = two.refused();
    assert!(refused.contains("Failed to get"), "{refused}");
    two.shows(false);
    one.give_up();
    images.check();
    assert!(images.others_may_write());
    two.take();
    two.reads(1, 0x11);
    two.reads(2048, 0x77);
    two.write(1, 0x22);
    two.write(5000, 0x23);
    assert!(!images.others_may_write());
    two.give_up();
    images.check();
    one.take();
    one.reads(1, 0x22);
    one.reads(5000, 0x23);
    one.write(7000, 0x33);
    one.give_up();
    images.check();
}

#[test]
fn images_go_with_their_machine() {
    let Some(images) = Images::make() else {
        return;
    };
    let mut side = Side::start(&images, "on");
    let mut gone = Vec::new();
    for hop in 1..=3u8 {
        side.write(u64::from(hop), hop);
        side.write(5000, hop);
        let (there, here) = side.move_on(&images);
        side = there;
        gone.push(here);
        for before in 1..=hop {
            side.reads(u64::from(before), before);
        }
        side.reads(5000, hop);
        assert!(!images.others_may_write());
    }
    side.write(7000, 0x70);
    side.t.vm.exec("quit", json!({}));
    side.t.vm.wait();
    images.check();
    // Whoever had it long ago can have it again, and finds what the others wrote.
    let mut first = gone.remove(0);
    first.exec("cont", json!({}));
    assert!(!images.others_may_write());
    first.exec("stop", json!({}));
    first.exec("blockdev-set-active", json!({"active": false}));
    images.check();
}

#[test]
fn whoever_gave_images_up_takes_them_back() {
    let Some(images) = Images::make() else {
        return;
    };
    let mut one = Side::start(&images, "on");
    let mut two = Side::start(&images, "off");
    one.write(3, 0x31);
    one.give_up();
    for (path, format) in images.both() {
        let other = Other::start(path, format);
        let refused = two.refused();
        assert!(refused.contains(&path.display().to_string()), "{refused}");
        assert!(refused.contains("Failed to get "), "{refused}");
        two.shows(false);
        drop(other);
    }
    one.take();
    one.reads(3, 0x31);
    one.write(3, 0x32);
    one.give_up();
    two.take();
    two.reads(3, 0x32);
}

#[test]
fn an_image_that_grew_is_seen_so() {
    let Some(images) = Images::make() else {
        return;
    };
    let mut one = Side::start(&images, "on");
    let mut two = Side::start(&images, "off");
    for node in ["r", "q"] {
        let arguments = json!({"node-name": node, "size": 2 * SIZE});
        one.t.vm.exec("block_resize", arguments);
        let arguments = json!({"node-name": node, "size": 3 * SIZE});
        let refused = two.t.vm.refused("block_resize", arguments);
        assert_eq!(
            refused.desc,
            "Permission 'resize' unavailable on inactive node"
        );
    }
    one.write(2 * SIZE / 512 - 1, 0x41);
    one.give_up();
    two.take();
    for (device, _) in &two.disks {
        assert_eq!(two.t.readq(device.config()), 2 * SIZE / 512);
        assert_eq!(device.isr(&mut two.t) & CONFIG_CHANGED, CONFIG_CHANGED);
    }
    two.reads(2 * SIZE / 512 - 1, 0x41);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let Some(images) = Images::make() else {
        return;
    };
    let mut side = Side::start(&images, "on");
    let vm = &mut side.t.vm;
    let set = |node: &str, active: bool| json!({"node-name": node, "active": active});
    let refused = vm.refused("blockdev-set-active", set("nope", false));
    assert_eq!(refused.desc, "Failed to find node with node-name='nope'");
    vm.exec("blockdev-set-active", set("r", false));
    vm.exec("blockdev-set-active", set("r", false));
    let above = json!({"driver": "raw", "node-name": "s", "file": "r"});
    let refused = vm.refused("blockdev-add", above);
    assert_eq!(
        refused.desc,
        "Inactive 'r' can't be a file child of active 's'"
    );
    let snapshot = json!({"device": "r", "name": "a"});
    vm.refused("blockdev-snapshot-internal-sync", snapshot);
    vm.exec("blockdev-set-active", set("q", false));
    let snapshot = json!({"device": "q", "name": "a"});
    vm.refused("blockdev-snapshot-internal-sync", snapshot);
    // An overlay of what is inactive is inactive.
    let overlay = images.qcow2.with_extension("overlay");
    let arguments = json!({"node-name": "q", "snapshot-file": overlay, "snapshot-node-name": "o"});
    vm.exec("blockdev-snapshot-sync", arguments);
    let nodes = vm.query("query-named-block-nodes");
    let mut nodes = nodes.as_array().expect("a list").iter();
    let over = nodes.find(|node| node["node-name"] == "o");
    assert_eq!(over.expect("the overlay")["active"], false);
    side.take();
    side.write(9, 0x51);
    side.reads(9, 0x51);
    side.give_up();
    images.check();
}
