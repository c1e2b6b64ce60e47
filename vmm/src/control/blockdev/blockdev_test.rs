use std::path::{Path, PathBuf};

use api_spec::{BlockDeviceIoStatus, Mode, decode_value};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::control::fds::FdStore;
use crate::event::Mailbox;
use block::Sharing;

const EXCLUSIVE: AttachOptions = AttachOptions {
    sharing: Sharing::Exclusive,
    read_only: false,
};

#[path = "limits_test.rs"]
mod limits_test;

struct Bench {
    blocks: Blockdevs,
    fds: FdStore,
    dir: TempDir,
    _mail: Mailbox,
}

impl Bench {
    fn new() -> Self {
        let mail = Mailbox::new().unwrap();
        Bench {
            blocks: Blockdevs::new(pool(mail.sender())),
            fds: FdStore::default(),
            dir: TempDir::new().unwrap(),
            _mail: mail,
        }
    }

    fn image(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        path
    }

    fn add(&mut self, options: Value) -> Result<(), String> {
        let options: BlockdevOptions =
            decode_value(options, Mode::Strict).map_err(|error| error.desc)?;
        let mut opener = self.fds.opener();
        self.blocks
            .add(options, &mut opener)
            .map_err(|refusal| refusal.to_string())
    }

    fn drive(&mut self, text: &str) -> Result<DriveMade, String> {
        let mut opener = self.fds.opener();
        self.blocks
            .drive(text, &mut opener)
            .map_err(|refusal| refusal.to_string())
    }

    fn attach(&mut self, drive: &str, id: &str) -> Result<Arc<Attachment>, String> {
        let path = format!("/machine/peripheral/{id}/virtio-backend");
        self.blocks
            .attach(drive, &path, EXCLUSIVE, "virtio-blk-device")
            .map_err(|refusal| refusal.to_string())
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn nodes_are_made_shown_and_removed() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let file = json!({"driver": "file", "filename": text(&path), "discard": "unmap"});
    let cache = json!({"direct": false, "no-flush": true});
    bench
        .add(json!({"driver": "raw", "node-name": "disk", "cache": cache, "file": file}))
        .unwrap();
    bench
        .add(json!({"driver": "null-co", "node-name": "null", "size": 1_048_577}))
        .unwrap();
    let nodes = bench.blocks.query_named_block_nodes(true);
    let names: Vec<_> = nodes
        .iter()
        .map(|node| node.node_name.clone().unwrap())
        .collect();
    assert_eq!(names[..2], ["null", "disk"]);
    assert!(names[2].starts_with("#block"));
    assert_eq!(nodes[0].image.virtual_size, 1_049_088);
    assert_eq!(
        nodes[0].file,
        "json:{\"driver\": \"null-co\", \"size\": 1048577}"
    );
    assert_eq!(nodes[1].drv, "raw");
    assert_eq!(nodes[1].file, text(&path));
    assert!(nodes[1].cache.no_flush && nodes[2].cache.no_flush);
    assert_eq!(nodes[2].image.actual_size, Some(0));
    assert!(bench.blocks.query_block().is_empty());
    let stats = bench.blocks.query_blockstats(true);
    let disk = stats
        .iter()
        .find(|stats| stats.node_name.as_deref() == Some("disk"))
        .unwrap();
    assert_eq!(
        disk.parent.as_ref().unwrap().node_name.as_deref(),
        Some(names[2].as_str())
    );
    bench.blocks.del("disk").unwrap();
    bench.blocks.del("null").unwrap();
    let error = bench.blocks.del("null").unwrap_err().error.desc;
    assert_eq!(error, "Failed to find node with node-name='null'");
    assert!(bench.blocks.query_named_block_nodes(false).is_empty());
}

#[test]
fn bad_options_are_refused() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    for (options, message) in [
        (
            json!({"driver": "null-co", "node-name": "n", "size": -5}),
            "Value '-5' is out of range for parameter 'size'",
        ),
        (
            json!({"driver": "vdi", "node-name": "n"}),
            "Parameter 'driver' does not accept value 'vdi'",
        ),
        (
            json!({"driver": "file", "node-name": "n", "filename": text(&path), "aio": "native"}),
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
        ),
        (
            json!({"driver": "null-co"}),
            "'node-name' must be specified for the root node",
        ),
        (
            json!({"driver": "file", "node-name": "n", "filename": "/dev/fdset/3"}),
            "Could not open '/dev/fdset/3': No such file or directory",
        ),
    ] {
        assert_eq!(bench.add(options).unwrap_err(), message);
    }
}

#[test]
fn files_come_from_descriptor_sets() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let file = File::options().read(true).write(true).open(&path).unwrap();
    bench.fds.add_fd(Some(3), None, vec![file.into()]).unwrap();
    let options = |name: &str, read_only: bool| {
        json!({"driver": "file", "node-name": name, "filename": "/dev/fdset/3",
               "read-only": read_only})
    };
    bench.add(options("n", false)).unwrap();
    bench.fds.remove_fd(3, None).unwrap();
    assert!(!bench.attach("n", "d").unwrap().is_read_only());
    assert!(bench.add(options("m", false)).is_err());
}

#[test]
fn devices_are_shown_while_they_have_a_node() {
    let mut bench = Bench::new();
    bench
        .add(json!({"driver": "null-co", "node-name": "n"}))
        .unwrap();
    let device = bench.attach("n", "d0").unwrap();
    let blocks = bench.blocks.query_block();
    assert_eq!(blocks.len(), 1);
    assert_eq!(blocks[0].device, "");
    let qdev = blocks[0].qdev.as_deref();
    assert_eq!(qdev, Some("/machine/peripheral/d0/virtio-backend"));
    assert_eq!(blocks[0].io_status, Some(BlockDeviceIoStatus::Ok));
    assert_eq!(
        blocks[0].inserted.as_ref().unwrap().node_name.as_deref(),
        Some("n")
    );
    let error = bench.blocks.del("n").unwrap_err().error.desc;
    assert_eq!(error, "Node n is in use");
    let error = bench.attach("n", "d1").err().unwrap();
    assert!(error.starts_with("Permission conflict on node 'n': permissions 'write'"));
    assert_eq!(bench.blocks.written().len(), 1);
    let stats = bench.blocks.query_blockstats(false);
    assert!(stats[0].stats.account_failed && stats[0].parent.is_none());
    drop(device);
    assert!(bench.blocks.query_block().is_empty());
    // By path, whoever has the attachment.
    let device = bench.attach("n", "d0").unwrap();
    assert!(bench.blocks.detach("/machine/peripheral/d0/virtio-backend"));
    assert!(!bench.blocks.detach("/machine/peripheral/d0/virtio-backend"));
    bench.blocks.del("n").unwrap();
    drop(device);
}

#[test]
fn drives_are_read_as_qemu_reads_them() {
    let mut bench = Bench::new();
    let path = bench.image("a,b.img");
    let file = text(&path).replace(',', ",,");
    let made = bench
        .drive(&format!("if=virtio,file={file},format=raw,cache=none"))
        .unwrap();
    assert_eq!(made.id, "virtio0");
    assert_eq!(
        made.devices
            .into_iter()
            .map(Value::Object)
            .collect::<Vec<_>>(),
        [json!({"driver": "virtio-blk-pci", "drive": "virtio0"})]
    );
    let made = bench
        .drive("if=none,id=x,driver=null-co,size=1M,cache=writethrough,readonly=on")
        .unwrap();
    assert_eq!((made.id.as_str(), made.devices.len()), ("x", 0));
    bench.drive("if=none,id=em").unwrap();
    let blocks = bench.blocks.query_block();
    let names: Vec<_> = blocks.iter().map(|block| block.device.as_str()).collect();
    assert_eq!(names, ["virtio0", "x", "em"]);
    assert!(
        blocks
            .iter()
            .all(|block| block.removable && block.io_status.is_none())
    );
    let first = blocks[0].inserted.as_ref().unwrap();
    assert_eq!(
        (first.drv.as_str(), first.file.as_str()),
        ("raw", text(&path))
    );
    assert!(first.cache.direct && first.cache.writeback && !first.cache.no_flush);
    let second = blocks[1].inserted.as_ref().unwrap();
    assert!(!second.cache.writeback && second.ro);
    assert_eq!(second.image.virtual_size, 1 << 20);
    assert!(blocks[2].inserted.is_none());
    // A drive goes with its device, and its place is free again.
    drop(bench.attach("virtio0", "d").unwrap());
    assert_eq!(bench.blocks.query_block().len(), 2);
    let text = format!("if=virtio,format=raw,file.driver=file,file.filename={file},discard=on");
    assert_eq!(bench.drive(&text).unwrap().id, "virtio0");
    bench.blocks.del_drive("em").unwrap();
}

fn devices(made: DriveMade) -> Vec<Value> {
    made.devices.into_iter().map(Value::Object).collect()
}

#[test]
fn what_is_not_said_is_a_virtio_disk_or_a_scsi_cdrom() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let file = format!("format=raw,file={}", text(&path));
    let disk = bench.drive(&file).unwrap();
    assert_eq!(disk.id, "virtio0");
    let cdrom = bench.drive(&format!("media=cdrom,index=2,{file}")).unwrap();
    assert_eq!(cdrom.id, "scsi0-cd2");
    let cd = |unit: u32, id: &str| json!({"driver": "scsi-cd", "bus": "auto-scsi0.0", "scsi-id": unit, "drive": id});
    assert_eq!(
        devices(cdrom),
        [
            json!({"driver": "virtio-scsi-pci", "id": "auto-scsi0"}),
            cd(2, "scsi0-cd2")
        ]
    );
    // One controller for all drives of a bus; a CD-ROM drive may be empty.
    let empty = bench.drive("media=cdrom,id=em").unwrap();
    assert_eq!(devices(empty), [cd(0, "em")]);
    let other = bench.drive(&format!("if=scsi,bus=1,readonly=on,{file}"));
    let other = devices(other.unwrap());
    assert_eq!(other[0]["id"], "auto-scsi1");
    assert_eq!(other[1]["driver"], "scsi-hd");
    let shown = bench.blocks.query_block();
    assert!(shown[1].inserted.as_ref().unwrap().ro, "nobody writes CDs");
    let refused = bench.drive(&format!("media=cdrom,index=2,{file}"));
    assert_eq!(
        refused.unwrap_err(),
        "drive with bus=0, unit=2 (index=2) exists"
    );
}

#[test]
fn what_is_read_may_be_kept() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let file = format!("if=none,format=raw,copy-on-read=on,file={}", text(&path));
    bench.drive(&format!("{file},id=x")).unwrap();
    bench.drive(&format!("{file},id=y,readonly=on")).unwrap();
    let shown = bench.blocks.query_block();
    let driver = |index: usize| shown[index].inserted.as_ref().unwrap().drv.clone();
    assert_eq!(
        (driver(0).as_str(), driver(1).as_str()),
        ("copy-on-read", "raw")
    );
}

#[test]
fn temporary_images_keep_drives_as_they_are() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let file = format!("if=none,snapshot=on,format=raw,file={}", text(&path));
    bench
        .drive(&format!("{file},id=x,copy-on-read=on"))
        .unwrap();
    bench.drive(&format!("{file},id=y,readonly=on")).unwrap();
    bench.drive(&format!("{file},id=z")).unwrap();
    let shown = bench.blocks.query_block();
    let driver = |index: usize| shown[index].inserted.as_ref().unwrap().drv.clone();
    assert_eq!(
        [driver(0), driver(1), driver(2)],
        ["copy-on-read", "raw", "qcow2"]
    );
    let root = shown[2].inserted.as_ref().unwrap();
    assert!(root.cache.no_flush && !root.ro);
    assert_eq!(root.image.virtual_size, 1 << 20);
    assert!(!Path::new(&root.file).exists(), "its name is gone");
    let disk = bench.attach("z", "d").unwrap();
    let node = bench.blocks.written();
    let overlay = node
        .iter()
        .find(|(name, _)| Some(name) == root.node_name.as_ref());
    block::NodeExt::write_at(&*overlay.unwrap().1, 0, &[7; 512]).unwrap();
    let mut back = [0; 512];
    block::NodeExt::read_at(&*overlay.unwrap().1, 0, &mut back).unwrap();
    assert_eq!(back, [7; 512]);
    drop(disk);
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
    let missing = "if=none,id=w,snapshot=on,format=raw,file=/nope";
    let error = bench.drive(missing).unwrap_err();
    assert_eq!(error, "Could not open '/nope': No such file or directory");
}

#[test]
fn drives_fall_back_to_read_only() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let mut opener = |path: &str, flags: i32| match flags & libc::O_ACCMODE {
        libc::O_RDWR => Err(io::Error::from_raw_os_error(libc::EROFS)),
        _ => File::open(path),
    };
    let option = format!("if=none,id=x,format=raw,file={}", text(&path));
    bench.blocks.drive(&option, &mut opener).unwrap();
    assert!(bench.attach("x", "d").unwrap().is_read_only());
    let option = format!("{option},readonly=off");
    let error = bench
        .blocks
        .drive(&option, &mut opener)
        .unwrap_err()
        .error
        .desc;
    assert!(error.ends_with("Read-only file system"), "{error}");
}

#[test]
fn images_of_other_formats_are_not_taken_for_raw() {
    let mut bench = Bench::new();
    let path = bench.dir.path().join("a.qcow2");
    std::fs::write(&path, b"QFI\xfb\0\0\0\x01").unwrap();
    let option = format!("if=none,id=x,file={}", text(&path));
    assert_eq!(bench.drive(&option).unwrap_err(), "Unknown driver 'qcow'");
    bench.drive(&format!("{option},format=raw")).unwrap();
    let raw = bench.image("b.img");
    bench
        .drive(&format!("if=none,id=y,file=file:{}", text(&raw)))
        .unwrap();
}

#[test]
fn bad_drives_are_refused_in_qemus_words() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    let file = format!("file={}", text(&path));
    bench
        .drive(&format!("if=none,id=taken,format=raw,index=3,{file}"))
        .unwrap();
    bench
        .add(json!({"driver": "null-co", "node-name": "node"}))
        .unwrap();
    for (option, message) in [
        ("id=x", "Device needs media, but drive is empty"),
        (
            "if=ide,FILE",
            "machine type does not support if=ide,bus=0,unit=0",
        ),
        ("if=scsi", "Device needs media, but drive is empty"),
        (
            "if=none,id=x,format=raw,copy-on-read=maybe,FILE",
            "Parameter 'copy-on-read' expects 'on' or 'off'",
        ),
        (
            "if=pflash",
            "machine type does not support if=pflash,bus=0,unit=0",
        ),
        ("if=foo", "unsupported bus type 'foo'"),
        ("if=none,id=x,format=foo,FILE", "Unknown driver 'foo'"),
        (
            "if=none,id=x,file.driver=foo,file.filename=y,format=raw",
            "Unknown driver 'foo'",
        ),
        (
            "if=none,id=x,format=raw,serial=1,FILE",
            "Block format 'raw' does not support the option 'serial'",
        ),
        (
            "if=none,id=x,format=raw,cache.foo=on,FILE",
            "Block format 'raw' does not support the option 'cache.foo'",
        ),
        ("if=none,id=x,format=raw,aio=foo,FILE", "invalid aio option"),
        (
            "if=none,id=x,format=raw,aio=native,FILE",
            "aio=native was specified, but it requires cache.direct=on, which was not specified.",
        ),
        (
            "if=none,id=x,format=raw,cache=foo,FILE",
            "invalid cache option",
        ),
        (
            "if=none,id=x,format=raw,cache.direct=foo,FILE",
            "Parameter 'cache.direct' expects 'on' or 'off'",
        ),
        (
            "if=none,id=x,format=raw,media=foo,FILE",
            "'foo' invalid media",
        ),
        (
            "if=none,id=x,format=raw,discard=foo,FILE",
            "Invalid discard option",
        ),
        (
            "if=none,id=x,format=raw,detect-zeroes=foo,FILE",
            "invalid parameter value: foo",
        ),
        (
            "if=none,id=x,format=raw,readonly=foo,FILE",
            "Parameter 'read-only' expects 'on' or 'off'",
        ),
        (
            "if=none,id=x,format=raw,snapshot=maybe,FILE",
            "Parameter 'snapshot' expects 'on' or 'off'",
        ),
        (
            "if=none,id=x,format=raw,werror=foo,FILE",
            "'foo' invalid write error action",
        ),
        (
            "if=none,id=x,format=raw,rerror=foo,FILE",
            "'foo' invalid read error action",
        ),
        (
            // A device's word, not a drive's.
            "if=none,id=x,format=raw,rerror=auto,FILE",
            "'auto' invalid read error action",
        ),
        (
            "if=none,id=taken,format=raw,FILE",
            "Duplicate ID 'taken' for drive",
        ),
        (
            "if=none,id=node,format=raw,FILE",
            "Device name 'node' conflicts with an existing node name",
        ),
        (
            "if=none,id=0x,format=raw,FILE",
            "Parameter 'id' expects an identifier\nIdentifiers consist of letters, digits, '-', \
             '.', '_', starting with a letter.",
        ),
        (
            "if=none,id=x,index=3,format=raw,FILE",
            "drive with bus=0, unit=3 (index=3) exists",
        ),
        (
            "if=none,id=x,index=1,unit=1,format=raw,FILE",
            "index cannot be used with bus and unit",
        ),
        (
            "if=none,id=x,index=foo,format=raw,FILE",
            "Parameter 'index' expects a number",
        ),
        (
            "if=none,id=x,format=raw,driver=raw,FILE",
            "Cannot specify both 'driver' and 'format'",
        ),
        (
            "if=none,id=x,format=raw",
            "A block device must be specified for \"file\"",
        ),
        (
            "if=none,id=x,format=raw,file=",
            "A block device must be specified for \"file\"",
        ),
        (
            "if=none,id=x,format=raw,file=foo:bar",
            "Unknown protocol 'foo'",
        ),
        (
            "if=none,id=x,format=raw,file.filename=y,FILE",
            "Can't specify 'file' and 'filename' options at the same time",
        ),
        (
            "if=none,id=x,format=raw,file=nope.img",
            "Could not open 'nope.img': No such file or directory",
        ),
        (
            "if=none,id=x,file=nope.img",
            "Could not open 'nope.img': No such file or directory",
        ),
        (
            "if=none,id=x,format=raw,node-name=1x,FILE",
            "Invalid node-name: '1x'",
        ),
        ("if=virtio,id=x", "Device needs media, but drive is empty"),
        (
            "if=none,id=x,driver=null-co,FILE",
            "The only allowed filename for this driver is 'null-co://'",
        ),
        (
            "if=none,id=x,driver=null-co,size=zz",
            "Parameter 'size' expects a non-negative number below 2^64\nOptional suffix k, M, G, \
             T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
        ),
    ] {
        let refused = bench.drive(&option.replace("FILE", &file));
        assert_eq!(refused.unwrap_err(), message, "{option}");
    }
    let drives = bench.blocks.query_block();
    assert_eq!(drives.len(), 1, "nothing is left of refused drives");
    assert_eq!(bench.blocks.query_named_block_nodes(true).len(), 3);
}

#[test]
fn a_locked_image_comes_with_a_hint() {
    let mut bench = Bench::new();
    let path = bench.image("a.img");
    for id in ["x", "y"] {
        bench
            .drive(&format!("if=none,id={id},format=raw,file={}", text(&path)))
            .unwrap();
    }
    let _first = bench.attach("x", "d").unwrap();
    let error = bench.attach("y", "e").err().unwrap();
    let expected = format!(
        "Failed to get \"write\" lock\nIs another process using the image [{}]?",
        text(&path)
    );
    assert_eq!(error, expected);
}

#[test]
fn images_that_are_only_read_are_checked_while_they_are_in_use() {
    let mut bench = Bench::new();
    let path = bench.dir.path().join("base");
    let options = block::Qcow2Create {
        size: 1 << 20,
        ..block::Qcow2Create::default()
    };
    let file = |path: &Path| json!({"driver": "file", "node-name": "f", "filename": path});
    File::create(&path).unwrap();
    bench.add(file(&path)).unwrap();
    block::create_qcow2(&*bench.blocks.graph().find("f").unwrap(), &options).unwrap();
    bench.blocks.del("f").unwrap();
    // Whoever reads it waits for what is below.
    bench
        .add(json!({
            "driver": "qcow2", "node-name": "base", "read-only": true, "file": file(&path),
            "backing": {"driver": "null-co", "latency-ns": 1_000_000_000u64, "size": 1 << 20},
        }))
        .unwrap();
    let attached = bench.attach("base", "d").unwrap();
    let waker = block::Waker::new().unwrap();
    let mut lane = attached.open_lane(1, &waker).unwrap();
    let buffers = block::Buffers::owned(Arc::new(block::HostBuffer::new(512, 512)));
    let request = block::IoReq::new(block::Op::Read { offset: 0 }, buffers);
    assert!(lane.submit(request, block::Token(1)).is_none());
    lane.start();
    let check = bench
        .blocks
        .check(
            "base",
            api_spec::BlockdevCheckFix::None,
            &mut bench.fds.opener(),
        )
        .unwrap();
    assert_eq!(check.run().unwrap().check_errors, 0);
    assert_eq!(lane.in_flight(), 1);
}
