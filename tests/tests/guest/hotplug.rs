//! Devices that come and go, as Linux takes and lets go of them.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Serial, Vm, VmBuilder, disk};

use crate::{boot_with, pc, readable};

const MIB: u64 = 1 << 20;
/// A guest blinks for five seconds, and waits one more with the power off.
const UNPLUG: Duration = Duration::from_secs(90);
/// A busy host takes its time.
const LIMIT: Duration = Duration::from_secs(90);

fn ports(count: usize) -> Vec<String> {
    let port = |n| format!("pcie-root-port,id=rp{n},chassis={}", n + 1);
    let ports = (0..count).map(port);
    ports.flat_map(|port| ["-device".into(), port]).collect()
}

/// The whole of a device is gone when the event with its id comes.
fn wait_deleted(vm: &mut Vm, id: &str) {
    let until = Instant::now() + UNPLUG;
    while Instant::now() < until {
        let left = until.saturating_duration_since(Instant::now());
        let Some(event) = vm.qmp().event_within("DEVICE_DELETED", left) else {
            break;
        };
        if event["data"]["device"] == id {
            return;
        }
    }
    panic!("'{id}' is still there");
}

fn wait_for(serial: &mut Serial, test: &str) {
    let line = format!(
        "n=0; until {test}; do sleep 0.1; n=$((n+1)); test $n -lt 150 || break; done; {test}"
    );
    serial.run(&line);
}

/// Asks for a device back. A guest that is about to switch the slot on still is asked again.
fn del(vm: &mut Vm, id: &str) {
    let until = Instant::now() + UNPLUG;
    while let Err(error) = vm.qmp().try_exec("device_del", json!({ "id": id })) {
        let busy = error.desc.contains("guest is busy");
        assert!(busy && Instant::now() < until, "{id}: {error}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn add(vm: &mut Vm, device: Value) {
    vm.exec("device_add", device);
}

/// All kinds at once: the guest blinks for all of them in the same five seconds.
#[test]
fn hotplug_all_kinds_of_devices() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    let ports = ports(KINDS.len());
    let args: Vec<&str> = ports.iter().map(String::as_str).chain(BACKS).collect();
    let Some((vm, serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    all_kinds(vm, serial, &path, |n| Some(format!("rp{n}")));
}

/// The same by ACPI, with several processors.
#[test]
fn hotplug_all_kinds_of_devices_on_pc() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    let args: Vec<&str> = ["-smp", "4"].into_iter().chain(BACKS).collect();
    let Some((vm, serial)) = pc::boot_on(builder, "512", &args, "") else {
        return;
    };
    all_kinds(vm, serial, &path, |_| None);
}

/// What devices have behind them.
const BACKS: [&str; 6] = [
    "-object",
    "rng-random,id=random",
    "-chardev",
    "ringbuf,id=ring",
    "-netdev",
    "hubport,id=net,hubid=0",
];

/// Devices with places of their own.
const KINDS: [(&str, &str); 6] = [
    ("blk", "virtio-blk-pci"),
    ("scsi", "virtio-scsi-pci"),
    ("rng", "virtio-rng-pci"),
    ("ser", "virtio-serial-pci"),
    ("nic", "virtio-net-pci"),
    ("bal", "virtio-balloon-pci"),
];

/// They come, are used, and go; `bus` says where the one with a number is to be.
fn all_kinds(mut vm: Vm, mut serial: Serial, path: &Path, bus: impl Fn(usize) -> Option<String>) {
    serial.set_limit(LIMIT);
    // What the boot had to say is for others to look at.
    serial.run("dmesg -c > /boot.log");
    let file = json!({"driver": "file", "node-name": "f", "filename": path});
    vm.exec("blockdev-add", file);
    let null = json!({"driver": "null-co", "node-name": "n", "size": MIB});
    vm.exec("blockdev-add", null);
    for (index, (id, driver)) in KINDS.iter().enumerate() {
        let mut device = json!({"driver": driver, "id": id});
        if let Some(bus) = bus(index) {
            device["bus"] = bus.into();
        }
        let back = match *id {
            "blk" => Some(("drive", "f")),
            "rng" => Some(("rng", "random")),
            "nic" => Some(("netdev", "net")),
            _ => None,
        };
        if let Some((name, back)) = back {
            device[name] = back.into();
        }
        add(&mut vm, device);
    }
    let hd = || json!({"driver": "scsi-hd", "id": "hd", "bus": "scsi.0", "drive": "n"});
    add(&mut vm, hd());
    let port = json!({"driver": "virtserialport", "id": "port", "bus": "ser.0", "chardev": "ring", "name": "words"});
    add(&mut vm, port);
    use_all(&mut vm, &mut serial);
    // A unit and a port go alone, and come again.
    del(&mut vm, "hd");
    wait_deleted(&mut vm, "hd");
    wait_for(&mut serial, "! test -e /dev/sda");
    del(&mut vm, "port");
    wait_deleted(&mut vm, "port");
    let none = "! grep -q words /sys/class/virtio-ports/*/name 2>/dev/null";
    wait_for(&mut serial, none);
    add(&mut vm, hd());
    wait_for(&mut serial, "test -b /dev/sd?");
    for (id, _) in KINDS {
        del(&mut vm, id);
    }
    let mut left: Vec<&str> = KINDS.iter().map(|(id, _)| *id).chain(["hd"]).collect();
    while !left.is_empty() {
        let event = vm.qmp().event_within("DEVICE_DELETED", UNPLUG);
        let event = event.unwrap_or_else(|| panic!("{left:?} are still there"));
        left.retain(|id| event["data"]["device"] != *id);
    }
    wait_for(&mut serial, "! test -e /dev/vda");
    wait_for(&mut serial, "! test -e /sys/class/net/eth0");
    for node in ["f", "n"] {
        vm.exec("blockdev-del", json!({"node-name": node}));
    }
    assert!(disk::read(path, 0, WORD.len()) == WORD.as_bytes());
    vm.exec("chardev-remove", json!({"id": "ring"}));
    vm.exec("object-del", json!({"id": "random"}));
    vm.exec("netdev_del", json!({"id": "net"}));
    let faults = "dmesg | grep -iE 'bug:|oops|call trace|i/o error' | head -3 || true";
    assert_eq!(serial.run(faults), "");
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}

const WORD: &str = "here";

fn use_all(vm: &mut Vm, serial: &mut Serial) {
    for test in [
        &readable("vda"),
        &readable("sda"),
        "grep -q virtio /sys/class/misc/hw_random/rng_available",
        "grep -q words /sys/class/virtio-ports/*/name",
        "test -e /sys/class/net/eth0",
        "grep -q 0x0005 /sys/bus/virtio/drivers/virtio_balloon/*/device",
    ] {
        wait_for(serial, test);
    }
    serial.run(&format!("echo {WORD} > /dev/vda; sync"));
    serial.run("dd if=/dev/sda of=/dev/null bs=64k 2>/dev/null");
    serial.run("dd if=/dev/hwrng of=/dev/null bs=64 count=1 2>/dev/null");
    serial.run(&format!("for p in /dev/vport*; do echo {WORD} > $p; done"));
    serial.run("ip link set eth0 up");
    let read = json!({"device": "ring", "size": 64});
    assert_eq!(vm.exec("ringbuf-read", read), format!("{WORD}\n"));
}

/// What a program has.
#[derive(Debug)]
struct Use {
    descriptors: usize,
    /// Names. Threads for requests that block stay for a while, and are as many as there were at a
    /// time: they are not counted.
    threads: Vec<String>,
    /// KiB, without the guest's, which is shared.
    memory: u64,
}

impl Use {
    fn of(vm: &Vm) -> Self {
        let process = format!("/proc/{}", vm.pid());
        let entries = |what: &str| fs::read_dir(format!("{process}/{what}")).expect("a process");
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
        let names = entries("task").flatten().filter_map(name);
        let mut threads: Vec<String> = names.filter(|name| !name.starts_with("blk-")).collect();
        threads.sort();
        let status = fs::read_to_string(format!("{process}/status")).expect("the status");
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("RssAnon:"));
        let size = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        Use {
            descriptors: entries("fd").count(),
            threads,
            memory: size.expect("RssAnon"),
        }
    }

    /// When threads that have done their work have ended, too.
    fn at_rest(vm: &Vm) -> Self {
        let until = Instant::now() + LIMIT;
        loop {
            std::thread::sleep(Duration::from_millis(200));
            let now = Self::of(vm);
            let busy = now.threads.iter().any(|name| name.starts_with("worker"));
            if !busy || Instant::now() > until {
                return now;
            }
        }
    }
}

/// As many as fit into the time, and some in any case. By ACPI, where nobody blinks.
#[test]
fn hotplug_cycles_leave_nothing_behind() {
    const CYCLES: Duration = Duration::from_secs(20);
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    let args = [
        "-object",
        "memory-backend-memfd,id=ram,size=256M",
        "-machine",
        "memory-backend=ram",
        "-smp",
        "2",
    ];
    let Some((mut vm, mut serial)) = pc::boot_on(builder, "256", &args, "") else {
        return;
    };
    serial.set_limit(LIMIT);
    // The guest keeps no shell busy with looking: it says when a disk came and was read.
    let look = format!("until {}; do sleep 0.02; done", readable("vda"));
    serial.run(&format!("echo '{look}' > /read"));
    let mut before = None;
    let began = Instant::now();
    let mut rounds = 0;
    while rounds < 15 || began.elapsed() < CYCLES {
        let file = json!({"driver": "file", "node-name": "f", "filename": path});
        vm.exec("blockdev-add", file);
        add(
            &mut vm,
            json!({"driver": "virtio-blk-pci", "id": "blk", "drive": "f", "num-queues": 2}),
        );
        serial.run("sh /read");
        del(&mut vm, "blk");
        wait_deleted(&mut vm, "blk");
        vm.exec("blockdev-del", json!({"node-name": "f"}));
        rounds += 1;
        if rounds == 5 {
            before = Some(Use::at_rest(&vm));
        }
    }
    let (before, now) = (before.expect("figures"), Use::at_rest(&vm));
    println!("{rounds} rounds: {before:?}, then {now:?}");
    assert_eq!(now.descriptors, before.descriptors);
    assert_eq!(now.threads, before.threads);
    assert!(now.memory < before.memory + 2048);
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn hotplug_under_load_with_stop_and_reset_in_the_middle() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 64 * MIB);
    let mut args = ports(2);
    args.extend(["-smp".into(), "2".into()]);
    let node = format!("driver=file,node-name=f,filename={}", path.display());
    args.extend(["-blockdev".into(), node]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.set_limit(LIMIT);
    let blk = || json!({"driver": "virtio-blk-pci", "id": "blk", "bus": "rp0", "drive": "f", "num-queues": 2});
    // It comes while the guest stands still.
    vm.query("stop");
    add(&mut vm, blk());
    vm.query("cont");
    wait_for(&mut serial, &readable("vda"));
    let write = "dd if=/dev/zero of=/dev/vda bs=64k count=500 conv=notrunc 2>/dev/null";
    let load = format!("for i in 1 2 3; do (while test -b /dev/vda; do {write}; done) & done");
    serial.run(&load);
    del(&mut vm, "blk");
    let again = vm.refused("device_del", json!({"id": "blk"}));
    assert_eq!(again.desc, "Device blk is already in the process of unplug");
    vm.query("stop");
    vm.query("cont");
    wait_deleted(&mut vm, "blk");
    wait_for(&mut serial, "! test -b /dev/vda");
    serial.run("killall dd 2>/dev/null; wait; rm -f /dev/vda");
    // With the reset in the middle of it.
    add(&mut vm, blk());
    wait_for(&mut serial, &readable("vda"));
    del(&mut vm, "blk");
    vm.query("system_reset");
    wait_deleted(&mut vm, "blk");
    // And after it, before Linux looks.
    add(&mut vm, blk());
    crate::wait(&mut serial);
    wait_for(&mut serial, &readable("vda"));
    serial.run("dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null");
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}
