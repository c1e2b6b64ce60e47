//! Calls of the host's kernel that devices make seldom: under a filter of system calls that lacks
//! one of them, the process would end.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{VmBuilder, disk};

const IN: u32 = 0;
const OUT: u32 = 1;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const SECTORS: u64 = 4096;

fn drive(t: &mut Qtest) -> Queue {
    let mut device = Device::find(t, 4);
    device.negotiate(t, u64::MAX);
    let queue = device.queue(t, 0, None);
    device.drive(t);
    queue
}

/// One request of a disk. Bytes of the guest go there, or `length` bytes come back.
fn request(
    t: &mut Qtest,
    queue: &mut Queue,
    (kind, sector): (u32, u64),
    data: &[u8],
    length: u32,
) -> Vec<u8> {
    let at = t.alloc(4096);
    t.writel(at, kind);
    t.writeq(at + 8, sector);
    t.writeb(at + 4000, 0xff);
    let mut chain = vec![(at, 16, false)];
    if !data.is_empty() {
        t.write(at + 16, data);
        chain.push((at + 16, data.len() as u32, false));
    }
    if length > 0 {
        chain.push((at + 1024, length, true));
    }
    chain.push((at + 4000, 1, true));
    queue.add(t, &chain);
    queue.kick(t);
    queue.wait(t);
    assert_eq!(t.readb(at + 4000), OK, "request {kind}");
    t.read(at + 1024, length as usize)
}

/// As much of the disk as DISCARD and WRITE_ZEROES are told of (virtio 1.2, section 5.2.6).
fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(sectors.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn a_balloon_gives_memory_of_every_kind_back() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    file.as_file().set_len(128 << 20).expect("a length");
    let path = file.path().display();
    for memory in [
        "memory-backend-ram,share=on".to_owned(),
        "memory-backend-memfd".to_owned(),
        format!("memory-backend-file,mem-path={path},share=on"),
        format!("memory-backend-file,mem-path={path},share=off"),
    ] {
        let builder = VmBuilder::new()
            .idle()
            .arg("-object")
            .arg(format!("{memory},id=m,size=128M"))
            .args(["-machine", "memory-backend=m", "-m", "128"])
            .args(["-device", "virtio-balloon-pci,id=b,addr=4.0"]);
        let mut t = Qtest::start_with(builder, &[]);
        let mut device = Device::find(&mut t, 4);
        device.negotiate(&mut t, u64::MAX);
        let mut inflate = device.queue(&mut t, 0, None);
        device.drive(&mut t);
        let page = t.alloc(8192).next_multiple_of(4096);
        t.write(page, &[9; 16]);
        let list = t.alloc(4);
        let number = u32::try_from(page >> 12).expect("low memory");
        t.write(list, &number.to_le_bytes());
        inflate.add(&mut t, &[(list, 4, false)]);
        inflate.kick(&mut t);
        inflate.wait(&mut t);
        assert_eq!(t.read(page, 16), [0; 16], "{memory}");
    }
}

#[test]
fn a_slow_disk_below_one_that_copies() {
    let slow = json!({
        "driver": "null-co", "node-name": "n", "size": SECTORS * 512,
        "latency-ns": 1_000_000, "read-zeroes": true,
    });
    let builder = VmBuilder::new()
        .idle()
        .arg("-blockdev")
        .arg(slow.to_string())
        .args(["-blockdev", "copy-on-read,node-name=c,file=n"])
        .args(["-device", "virtio-blk-pci,drive=c,addr=4.0"]);
    let mut t = Qtest::start_with(builder, &[]);
    let mut queue = drive(&mut t);
    let read = request(&mut t, &mut queue, (IN, 8), &[], 512);
    assert_eq!(read, [0; 512]);
}

/// A block device of the host on an image; it goes with its last user.
struct Loop(PathBuf);

impl Loop {
    /// Nothing where the host gives none.
    fn on(image: &Path) -> Option<Self> {
        let made = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image)
            .output();
        let Some(made) = made.ok().filter(|made| made.status.success()) else {
            println!("skipped: no loop devices");
            return None;
        };
        Some(Loop(String::from_utf8_lossy(&made.stdout).trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_block_device_of_the_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::numbered(directory.path(), "disk.img", SECTORS);
    let Some(device) = Loop::on(&path) else {
        return;
    };
    for aio in ["threads", "native", "io_uring"] {
        let direct = aio == "native";
        let node = json!({
            "driver": "host_device", "node-name": "d", "filename": device.0, "discard": "unmap",
            "aio": aio, "cache": {"direct": direct},
        });
        let builder = VmBuilder::new()
            .idle()
            .arg("-blockdev")
            .arg(node.to_string())
            .args(["-device", "virtio-blk-pci,drive=d,addr=4.0"]);
        let mut t = Qtest::start_with(builder, &[]);
        let mut queue = drive(&mut t);
        request(&mut t, &mut queue, (OUT, 64), &[0xa5; 512], 0);
        let read = request(&mut t, &mut queue, (IN, 64), &[], 512);
        assert_eq!(read, [0xa5; 512], "{aio}");
        for (kind, flags) in [(DISCARD, 0), (WRITE_ZEROES, 0), (WRITE_ZEROES, 1)] {
            request(&mut t, &mut queue, (OUT, 64), &[0xa5; 512], 0);
            request(&mut t, &mut queue, (kind, 0), &range(0, 128, flags), 0);
            let read = request(&mut t, &mut queue, (IN, 64), &[], 512);
            assert_eq!(read, [0; 512], "{aio}: request {kind}");
        }
        // Opened when the machine is there, it is asked for its blocks again.
        let again = json!({
            "driver": "host_device", "node-name": "e", "filename": device.0, "read-only": true,
            "cache": {"direct": true},
        });
        t.vm.exec("blockdev-add", again);
        t.vm.exec("blockdev-del", json!({"node-name": "e"}));
    }
}
