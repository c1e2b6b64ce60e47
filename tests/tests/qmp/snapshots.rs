//! Snapshots of the whole machine. A test plays the guest: it knows what was in memory, in
//! registers and on disks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tests::binary::skip_on_stand_in;
use tests::qtest::Qtest;
use tests::virtio::{Device, Queue};
use tests::{Vm, VmBuilder};

const IN: u32 = 0;
const OUT: u32 = 1;
/// Configuration address of the interrupt line of the function in slot 4.
const INTERRUPT_LINE: u32 = 0x8000_0000 | 4 << 11 | 0x3c;
/// Where the patterns are: low, in the first MiB's shadow, and high.
const PLACES: [u64; 3] = [0x8000, 0x20_0000, 0x3f0_0000];

/// An empty image. False where there is no program to make it.
fn image(path: &Path, size: &str) -> bool {
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(path)
        .arg(size)
        .status();
    let made = made.is_ok_and(|status| status.success());
    if !made {
        println!("skipped: no qemu-img");
    }
    made
}

/// What the program says that is to succeed.
fn img(args: &[&str], path: &Path) -> String {
    let output = Command::new("qemu-img").args(args).arg(path).output();
    let output = output.expect("qemu-img");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {said} {output:?}");
    said
}

/// Neither damage nor a leak.
fn check(path: &Path) {
    img(&["check", "-q"], path);
}

fn node(name: &str, path: &Path) -> String {
    let file = json!({"driver": "file", "filename": path});
    json!({"driver": "qcow2", "node-name": name, "file": file}).to_string()
}

/// A machine with virtio disks in slots 4 and following, each in an image of its own.
struct Rig {
    directory: tempfile::TempDir,
    nodes: Vec<String>,
    more: Vec<String>,
}

impl Rig {
    fn new(nodes: &[&str]) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let rig = Rig {
            directory,
            nodes: nodes.iter().map(|name| (*name).to_owned()).collect(),
            more: Vec::new(),
        };
        rig.nodes
            .iter()
            .all(|name| image(&rig.image(name), "16M"))
            .then_some(rig)
    }

    fn image(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.qcow2"))
    }

    fn builder(&self, builder: VmBuilder) -> VmBuilder {
        let mut builder = builder;
        for (at, name) in self.nodes.iter().enumerate() {
            builder = builder
                .args(["-blockdev", &node(name, &self.image(name)), "-device"])
                .arg(format!(
                    "virtio-blk-pci,drive={name},id=d{name},addr={}.0",
                    at + 4
                ));
        }
        builder.args(&self.more)
    }

    fn start(&self) -> Qtest {
        Qtest::start_with(self.builder(VmBuilder::new().idle()), &[])
    }

    /// Neither damage nor leaks.
    fn check(&self) {
        self.nodes.iter().for_each(|name| check(&self.image(name)));
    }
}

struct Disk {
    _device: Device,
    queue: Queue,
}

impl Disk {
    fn drive(t: &mut Qtest, slot: u8) -> Self {
        let mut device = Device::find(t, slot);
        device.negotiate(t, u64::MAX);
        let queue = device.queue(t, 0, None);
        device.drive(t);
        Disk {
            _device: device,
            queue,
        }
    }

    /// One request about a sector; `data` is written, or as much is read.
    fn request(&mut self, t: &mut Qtest, kind: u32, sector: u64, data: &mut [u8]) {
        // In memory of its own: a new program's test knows nothing of what was handed out.
        let at = 0x320_0000;
        let (status, place) = (at + 16, at + 32);
        t.writel(at, kind);
        t.writeq(at + 8, sector);
        t.writeb(status, 0xff);
        t.write(place, data);
        let data_part = (place, data.len() as u32, kind == IN);
        self.queue
            .add(t, &[(at, 16, false), data_part, (status, 1, true)]);
        self.queue.kick(t);
        self.queue.wait(t);
        assert_eq!(t.readb(status), 0);
        data.copy_from_slice(&t.read(place, data.len()));
    }

    fn write(&mut self, t: &mut Qtest, sector: u64, byte: u8) {
        self.request(t, OUT, sector, &mut [byte; 4096]);
    }

    fn read(&mut self, t: &mut Qtest, sector: u64) -> Vec<u8> {
        let mut data = [0; 4096];
        self.request(t, IN, sector, &mut data);
        data.to_vec()
    }
}

fn fill(t: &mut Qtest, byte: u8) {
    for place in PLACES {
        t.write(place, &[byte; 8192]);
    }
    // Of the clock's memory, and of a disk's registers: its interrupt line.
    t.outb(0x70, 0x50);
    t.outb(0x71, byte);
    t.outl(0xcf8, INTERRUPT_LINE);
    t.outb(0xcfc, byte);
}

fn assert_filled(t: &mut Qtest, byte: u8) {
    for place in PLACES {
        assert_eq!(t.read(place, 8192), [byte; 8192], "{place:#x}");
    }
    t.outb(0x70, 0x50);
    assert_eq!(t.inb(0x71), byte);
    t.outl(0xcf8, INTERRUPT_LINE);
    assert_eq!(t.inb(0xcfc), byte);
}

/// Runs a job to its end and forgets it; gives its error and the events on the way.
fn job(vm: &mut Vm, command: &str, mut arguments: Value) -> (Option<String>, Vec<String>) {
    arguments["job-id"] = json!("j");
    vm.exec(command, arguments);
    let mut seen: Vec<String> = Vec::new();
    while seen.last().is_none_or(|last| last != "concluded") {
        let mut events = vm.qmp().pending_events();
        if events.is_empty() {
            events.push(vm.qmp().recv());
        }
        for event in events {
            match event["event"].as_str().expect("an event") {
                "JOB_STATUS_CHANGE" => {
                    let status = event["data"]["status"].as_str().expect("a state");
                    seen.push(status.to_owned());
                }
                name @ ("STOP" | "RESUME") => seen.push(name.to_owned()),
                _ => {}
            }
        }
    }
    let jobs = vm.query("query-jobs");
    assert_eq!(jobs[0]["type"], command);
    assert_eq!(jobs[0]["status"], "concluded");
    let error = jobs[0]["error"].as_str().map(str::to_owned);
    if error.is_none() {
        assert_eq!(jobs[0]["current-progress"], jobs[0]["total-progress"]);
    }
    vm.exec("job-dismiss", json!({"id": "j"}));
    let event = vm.qmp().event("JOB_STATUS_CHANGE");
    assert_eq!(event["data"]["status"], "null");
    (error, seen)
}

fn status(vm: &mut Vm) -> Value {
    vm.query("query-status")["status"].clone()
}

#[test]
fn the_whole_machine_comes_back() {
    let Some(rig) = Rig::new(&["a", "b"]) else {
        return;
    };
    if skip_on_stand_in("a test plays the guest") {
        return;
    }
    let mut t = rig.start();
    let mut disks = [Disk::drive(&mut t, 4), Disk::drive(&mut t, 5)];
    fill(&mut t, 1);
    for disk in &mut disks {
        disk.write(&mut t, 64, 1);
    }
    let queues = disks.each_ref().map(|disk| disk.queue.clone());
    let devices = json!({"tag": "one", "vmstate": "b", "devices": ["a", "b"]});
    let (error, seen) = job(&mut t.vm, "snapshot-save", devices.clone());
    assert_eq!(error, None);
    let wanted = [
        "created",
        "running",
        "STOP",
        "RESUME",
        "waiting",
        "pending",
        "concluded",
    ];
    assert_eq!(seen, wanted);
    fill(&mut t, 2);
    for disk in &mut disks {
        disk.write(&mut t, 64, 2);
        disk.write(&mut t, 128, 2);
    }
    // And once more, while it does not run.
    t.vm.exec("stop", json!({}));
    let two = json!({"tag": "two", "vmstate": "a", "devices": ["a", "b"]});
    let (error, seen) = job(&mut t.vm, "snapshot-save", two.clone());
    assert_eq!(error, None);
    let stops = seen.iter().filter(|name| *name == "STOP").count();
    assert_eq!(stops, 1, "of the command: {seen:?}");
    assert_eq!(status(&mut t.vm), "paused");
    t.vm.exec("cont", json!({}));
    fill(&mut t, 3);
    let (error, seen) = job(&mut t.vm, "snapshot-load", devices.clone());
    assert_eq!(error, None, "{}", t.vm.stderr());
    assert!(seen.contains(&"STOP".to_owned()) && seen.contains(&"RESUME".to_owned()));
    assert_eq!(status(&mut t.vm), "running");
    assert_filled(&mut t, 1);
    for (disk, queue) in disks.iter_mut().zip(queues) {
        disk.queue = queue;
        assert_eq!(disk.read(&mut t, 64), [1; 4096]);
        assert_eq!(disk.read(&mut t, 128), [0; 4096]);
        disk.write(&mut t, 64, 4);
    }
    // Forwards as well as backwards; a machine that is stopped stays so.
    t.vm.exec("stop", json!({}));
    let (error, _) = job(&mut t.vm, "snapshot-load", two);
    assert_eq!(error, None);
    assert_eq!(status(&mut t.vm), "paused");
    assert_filled(&mut t, 2);
    let text = t.vm.qmp().hmp("info snapshots");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    assert!(lines[2].starts_with("--      one ") && lines[3].starts_with("--      two "));
    let devices = json!({"tag": "one", "devices": ["a", "b"]});
    let (error, _) = job(&mut t.vm, "snapshot-delete", devices);
    assert_eq!(error, None);
    t.vm.quit();
    rig.check();
    let list = img(&["snapshot", "-l"], &rig.image("a"));
    assert!(list.contains("two") && !list.contains("one"), "{list}");
    assert!(
        list.contains(" MiB 20") || list.contains(" KiB 20"),
        "{list}"
    );
    let list = img(&["snapshot", "-l"], &rig.image("b"));
    assert!(list.contains(" 0 B 20"), "{list}");
    // The disk as it was then is there for others, too.
    img(&["snapshot", "-a", "two"], &rig.image("a"));
    rig.check();
}

#[test]
fn text_commands_keep_and_load() {
    let Some(rig) = Rig::new(&["a", "b"]) else {
        return;
    };
    if skip_on_stand_in("a test plays the guest") {
        return;
    }
    let mut t = rig.start();
    fill(&mut t, 1);
    assert_eq!(t.vm.qmp().hmp("savevm x"), "");
    fill(&mut t, 2);
    // It takes the place of the first.
    assert_eq!(t.vm.qmp().hmp("savevm x"), "");
    assert_eq!(t.vm.qmp().hmp("savevm"), "");
    let text = t.vm.qmp().hmp("info snapshots");
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(text.contains("\r\n--      x ") && text.contains("\r\n--      vm-20"));
    fill(&mut t, 3);
    assert_eq!(t.vm.qmp().hmp("loadvm x"), "");
    assert_filled(&mut t, 2);
    assert_eq!(status(&mut t.vm), "running");
    assert_eq!(t.vm.qmp().hmp("delvm x"), "");
    assert_eq!(t.vm.qmp().hmp("delvm x"), "");
    assert_eq!(
        t.vm.qmp().hmp("loadvm x"),
        "Error: Snapshot 'x' does not exist in one or more devices\r\n"
    );
    assert_eq!(status(&mut t.vm), "running");
    // One disk alone.
    assert_eq!(t.vm.qmp().hmp("snapshot_blkdev_internal b part"), "");
    let text = t.vm.qmp().hmp("info snapshots");
    assert!(text.contains("List of partial (non-loadable) snapshots on 'b':\r\n"));
    t.vm.quit();
    rig.check();
}

#[test]
fn a_machine_begins_with_a_snapshot() {
    let Some(rig) = Rig::new(&["a"]) else {
        return;
    };
    if skip_on_stand_in("a test plays the guest") {
        return;
    }
    let mut t = rig.start();
    let mut disk = Disk::drive(&mut t, 4);
    fill(&mut t, 7);
    disk.write(&mut t, 0, 7);
    let queue = disk.queue.clone();
    assert_eq!(t.vm.qmp().hmp("savevm x"), "");
    disk.write(&mut t, 0, 8);
    t.vm.quit();
    let builder = rig.builder(VmBuilder::new().idle());
    let mut t = Qtest::start_with(builder, &["-loadvm", "x"]);
    assert_eq!(status(&mut t.vm), "running");
    assert_filled(&mut t, 7);
    disk.queue = queue;
    assert_eq!(disk.read(&mut t, 0), [7; 4096]);
    t.vm.quit();
    let builder = rig.builder(VmBuilder::new().stopped());
    let mut t = Qtest::start_with(builder, &["-loadvm", "x"]);
    assert_eq!(status(&mut t.vm), "prelaunch");
    assert_filled(&mut t, 7);
    t.vm.quit();
    let refused = rig.builder(VmBuilder::new().idle()).args(["-loadvm", "y"]);
    let exit = refused.run();
    exit.assert_refused()
        .assert_says("Snapshot 'y' does not exist in one or more devices");
    let other = VmBuilder::new().args(["-machine", "q35", "-accel", "qtest", "-m", "128"]);
    let exit = rig.builder(other).args(["-loadvm", "x"]).run();
    exit.assert_refused();
    rig.check();
}

#[test]
fn refusals_change_nothing() {
    let Some(rig) = Rig::new(&["a", "b"]) else {
        return;
    };
    let raw = tests::disk::raw(rig.directory.path(), "raw", 1 << 20);
    assert!(image(&rig.image("ro"), "1M"));
    let read_only = json!({"driver": "qcow2", "node-name": "ro", "read-only": true,
        "file": {"driver": "file", "filename": rig.image("ro")}});
    let raw = json!({"driver": "raw", "node-name": "r", "read-only": true,
        "file": {"driver": "file", "filename": raw}});
    let builder = rig
        .builder(VmBuilder::new().idle())
        .args(["-blockdev", &read_only.to_string(), "-blockdev"])
        .arg(raw.to_string());
    let mut vm = builder.start();
    let both = json!({"tag": "both", "vmstate": "a", "devices": ["a", "b"]});
    assert_eq!(job(&mut vm, "snapshot-save", both).0, None);
    let single = json!({"tag": "single", "vmstate": "a", "devices": ["a"]});
    assert_eq!(job(&mut vm, "snapshot-save", single).0, None);
    let plain = json!({"device": "b", "name": "plain"});
    vm.exec("blockdev-snapshot-internal-sync", plain);
    let save = |tag: &str, vmstate: &str, devices: &[&str]| json!({"tag": tag, "vmstate": vmstate, "devices": devices});
    let exists = "Snapshot 'both' already exists in one or more devices";
    let none = |tag: &str| format!("Snapshot '{tag}' does not exist in one or more devices");
    let cannot = |node: &str| format!("Device '{node}' is writable but does not support snapshots");
    let one = "At least one device is required for snapshot".to_owned();
    let missing = "No block device node 'z'".to_owned();
    let no_state = |node: &str| format!("vmstate block device '{node}' does not exist");
    for (command, arguments, wanted) in [
        ("save", save("both", "a", &["a", "b"]), exists.to_owned()),
        ("save", save("t", "a", &[]), one.clone()),
        ("save", save("t", "a", &["a", "z"]), missing.clone()),
        ("save", save("t", "a", &["b"]), no_state("a")),
        ("save", save("t", "a", &["a", "ro"]), cannot("ro")),
        ("save", save("t", "r", &["r"]), cannot("r")),
        ("load", save("t", "a", &["a", "b"]), none("t")),
        ("load", save("single", "a", &["a", "b"]), none("single")),
        ("load", save("both", "a", &["a", "z"]), missing.clone()),
        ("load", save("both", "a", &["b"]), no_state("a")),
        ("load", save("both", "a", &[]), one.clone()),
        ("load", save("both", "a", &["a", "r"]), cannot("r")),
    ] {
        let (error, _) = job(&mut vm, &format!("snapshot-{command}"), arguments.clone());
        assert_eq!(error, Some(wanted), "{command} {arguments}");
    }
    for (tag, devices, wanted) in [
        ("both", json!(["a", "z"]), Some(missing)),
        ("both", json!([]), Some(one)),
        ("both", json!(["a", "ro"]), Some(cannot("ro"))),
        ("t", json!(["a", "b"]), None),
    ] {
        let arguments = json!({"tag": tag, "devices": devices});
        let (error, _) = job(&mut vm, "snapshot-delete", arguments.clone());
        assert_eq!(error, wanted, "{arguments}");
    }
    if skip_on_stand_in("QEMU stops for what it refuses") {
        return;
    }
    assert_eq!(status(&mut vm), "running");
    let disk_only = "This is a disk-only snapshot. Revert to it offline using qemu-img";
    let arguments = save("plain", "b", &["b"]);
    let (error, seen) = job(&mut vm, "snapshot-load", arguments);
    assert_eq!(error.as_deref(), Some(disk_only));
    assert_eq!(seen, ["created", "running", "aborting", "concluded"]);
    let error = vm.refused(
        "snapshot-delete",
        json!({"job-id": "j j", "tag": "t", "devices": ["a"]}),
    );
    assert_eq!(error.desc, "Invalid job ID 'j j'");
    vm.quit();
    rig.check();
}

#[test]
fn disks_that_cannot_are_in_the_way() {
    let Some(rig) = Rig::new(&["a"]) else {
        return;
    };
    let raw = tests::disk::raw(rig.directory.path(), "raw", 1 << 20);
    let file = format!("file={},format=raw,if=none,id=r", raw.display());
    let builder = rig.builder(VmBuilder::new().idle()).args([
        "-drive",
        &file,
        "-device",
        "virtio-blk-pci,drive=r",
    ]);
    let mut vm = builder.start();
    let wanted = "Error: Device 'r' is writable but does not support snapshots\r\n";
    for line in ["savevm x", "loadvm x", "delvm x"] {
        assert_eq!(vm.qmp().hmp(line), wanted, "{line}");
    }
    let mut vm = VmBuilder::new().idle().start();
    let wanted = "no block device can store vmstate for snapshot\r\n";
    assert_eq!(vm.qmp().hmp("info snapshots"), wanted);
    for line in ["savevm x", "loadvm x"] {
        assert_eq!(vm.qmp().hmp(line), format!("Error: {wanted}"), "{line}");
    }
    assert_eq!(vm.qmp().hmp("delvm x"), "");
}

#[test]
fn another_machine_takes_nothing() {
    let Some(mut rig) = Rig::new(&["a"]) else {
        return;
    };
    if skip_on_stand_in("QEMU finds out when it is too late") {
        return;
    }
    let port = "pcie-root-port,id=rp,chassis=1,addr=8.0";
    rig.more = vec!["-device".to_owned(), port.to_owned()];
    let mut t = rig.start();
    let mut disk = Disk::drive(&mut t, 4);
    fill(&mut t, 1);
    disk.write(&mut t, 0, 1);
    assert_eq!(t.vm.qmp().hmp("savevm x"), "");
    disk.write(&mut t, 0, 2);
    fill(&mut t, 2);
    t.vm.exec(
        "device_add",
        json!({"driver": "virtio-rng-pci", "id": "late", "bus": "rp"}),
    );
    let said = t.vm.qmp().hmp("loadvm x");
    assert!(
        said.starts_with("Error: ") && said.contains("late"),
        "{said}"
    );
    assert_eq!(status(&mut t.vm), "running");
    assert_filled(&mut t, 2);
    assert_eq!(disk.read(&mut t, 0), [2; 4096]);
    t.vm.qmp().event_within("STOP", Duration::from_millis(50));
    t.vm.quit();
    rig.check();
}

#[test]
fn a_full_disk_leaves_the_guest_running() {
    let Some(rig) = Rig::new(&["a"]) else {
        return;
    };
    if skip_on_stand_in("a test plays the guest") {
        return;
    }
    assert!(image(&rig.image("full"), "16M"));
    // No room from 4 MiB on, whatever is written there.
    let below = json!({
        "driver": "blkdebug", "node-name": "bad",
        "image": {"driver": "file", "filename": rig.image("full")},
        "inject-error": [
            {"event": "none", "iotype": "write", "errno": 28, "once": false, "sector": 8192}
        ],
    });
    let full = json!({"driver": "qcow2", "node-name": "full", "file": below});
    let builder = rig
        .builder(VmBuilder::new().idle())
        .args(["-blockdev", &full.to_string(), "-device"])
        .arg("virtio-blk-pci,drive=full,addr=5.0");
    let mut t = Qtest::start_with(builder, &[]);
    let mut disks = [Disk::drive(&mut t, 4), Disk::drive(&mut t, 5)];
    fill(&mut t, 1);
    // Not zeroes: they would need no room.
    let noise: Vec<u8> = (0..6u32 << 20)
        .map(|at| (at * 31 + at / 4093) as u8)
        .collect();
    for (at, piece) in noise.chunks(1 << 20).enumerate() {
        t.write(0x100_0000 + ((at as u64) << 20), piece);
    }
    let arguments = json!({"tag": "t", "vmstate": "full", "devices": ["a", "full"]});
    let (error, seen) = job(&mut t.vm, "snapshot-save", arguments);
    let error = error.expect("there is no room");
    assert!(error.contains("No space left on device"), "{error}");
    let wanted = [
        "created",
        "running",
        "STOP",
        "RESUME",
        "aborting",
        "concluded",
    ];
    assert_eq!(seen, wanted);
    assert_eq!(status(&mut t.vm), "running");
    assert_filled(&mut t, 1);
    for disk in &mut disks {
        disk.write(&mut t, 8, 5);
        assert_eq!(disk.read(&mut t, 8), [5; 4096]);
    }
    assert_eq!(
        t.vm.qmp().hmp("info snapshots"),
        "There is no snapshot available.\r\n"
    );
    // Where there is room it goes on as ever.
    let arguments = json!({"tag": "t", "vmstate": "a", "devices": ["a"]});
    assert_eq!(job(&mut t.vm, "snapshot-save", arguments).0, None);
    t.vm.quit();
    rig.check();
    check(&rig.image("full"));
}

#[test]
fn the_end_does_not_wait_for_a_snapshot() {
    let Some(rig) = Rig::new(&["a"]) else {
        return;
    };
    if skip_on_stand_in("QEMU does nothing else meanwhile") {
        return;
    }
    for wait in [0, 10] {
        let mut t = rig.start();
        let noise: Vec<u8> = (0..4u32 << 20)
            .map(|at| (at * 31 + at / 4093) as u8)
            .collect();
        for (at, piece) in noise.chunks(1 << 20).enumerate() {
            t.write(0x100_0000 + ((at as u64) << 20), piece);
        }
        let arguments = json!({"job-id": "j", "tag": format!("t{wait}"), "vmstate": "a",
                               "devices": ["a"]});
        t.vm.exec("snapshot-save", arguments);
        std::thread::sleep(Duration::from_millis(wait));
        t.vm.quit();
        rig.check();
    }
}
