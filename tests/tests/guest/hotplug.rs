//! Devices that come and go, as Linux takes and lets go of them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Serial, Vm, VmBuilder, disk};

use crate::boot_with;

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

fn del(vm: &mut Vm, id: &str) {
    vm.exec("device_del", json!({ "id": id }));
}

fn add(vm: &mut Vm, device: Value) {
    vm.exec("device_add", device);
}

/// All kinds at once: the guest blinks for all of them in the same five seconds.
#[test]
fn hotplug_all_kinds_of_devices() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    let mut args = ports(4);
    args.extend(["-object".into(), "rng-random,id=random".into()]);
    args.extend(["-chardev".into(), "ringbuf,id=ring".into()]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.set_limit(LIMIT);
    // What the boot had to say is for others to look at.
    serial.run("dmesg -c > /boot.log");
    for round in 0..2 {
        let file = json!({"driver": "file", "node-name": "f", "filename": path});
        vm.exec("blockdev-add", file);
        vm.exec(
            "blockdev-add",
            json!({"driver": "null-co", "node-name": "n", "size": MIB}),
        );
        add(
            &mut vm,
            json!({"driver": "virtio-blk-pci", "id": "blk", "bus": "rp0", "drive": "f"}),
        );
        add(
            &mut vm,
            json!({"driver": "virtio-scsi-pci", "id": "scsi", "bus": "rp1"}),
        );
        add(
            &mut vm,
            json!({"driver": "scsi-hd", "id": "hd", "bus": "scsi.0", "drive": "n"}),
        );
        add(
            &mut vm,
            json!({"driver": "virtio-rng-pci", "id": "rng", "bus": "rp2", "rng": "random"}),
        );
        add(
            &mut vm,
            json!({"driver": "virtio-serial-pci", "id": "ser", "bus": "rp3"}),
        );
        let port = json!({"driver": "virtserialport", "id": "port", "bus": "ser.0", "chardev": "ring", "name": "words"});
        add(&mut vm, port);
        wait_for(&mut serial, "test -b /dev/vda");
        wait_for(&mut serial, "test -b /dev/sda");
        wait_for(
            &mut serial,
            "grep -q virtio /sys/class/misc/hw_random/rng_available",
        );
        wait_for(&mut serial, "grep -q words /sys/class/virtio-ports/*/name");
        let word = format!("round{round}");
        serial.run(&format!("echo {word} > /dev/vda; sync"));
        serial.run("dd if=/dev/sda of=/dev/null bs=64k 2>/dev/null");
        serial.run("dd if=/dev/hwrng of=/dev/null bs=64 count=1 2>/dev/null");
        serial.run(&format!("for p in /dev/vport*; do echo {word} > $p; done"));
        let read = json!({"device": "ring", "size": 64});
        assert_eq!(vm.exec("ringbuf-read", read), format!("{word}\n"));
        // A unit and a port go alone, and come again.
        del(&mut vm, "hd");
        wait_deleted(&mut vm, "hd");
        wait_for(&mut serial, "! test -e /dev/sda");
        del(&mut vm, "port");
        wait_deleted(&mut vm, "port");
        wait_for(
            &mut serial,
            "! grep -q words /sys/class/virtio-ports/*/name 2>/dev/null",
        );
        add(
            &mut vm,
            json!({"driver": "scsi-hd", "id": "hd", "bus": "scsi.0", "drive": "n"}),
        );
        wait_for(&mut serial, "test -b /dev/sd?");
        for id in ["blk", "scsi", "rng", "ser"] {
            del(&mut vm, id);
        }
        let mut left = vec!["blk", "scsi", "rng", "ser", "hd"];
        while !left.is_empty() {
            let event = vm.qmp().event_within("DEVICE_DELETED", UNPLUG);
            let event = event.unwrap_or_else(|| panic!("{left:?} are still there"));
            left.retain(|id| event["data"]["device"] != *id);
        }
        wait_for(&mut serial, "! test -e /dev/vda");
        vm.exec("blockdev-del", json!({"node-name": "f"}));
        vm.exec("blockdev-del", json!({"node-name": "n"}));
        assert!(disk::read(&path, 0, word.len()) == word.as_bytes());
    }
    vm.exec("chardev-remove", json!({"id": "ring"}));
    vm.exec("object-del", json!({"id": "random"}));
    let faults = "dmesg | grep -iE 'bug:|oops|call trace|i/o error' | head -3 || true";
    assert_eq!(serial.run(faults), "");
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn hotplug_under_load_with_stop_and_reset_in_the_middle() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 64 * MIB);
    let mut args = ports(2);
    args.extend(["-smp".into(), "4".into()]);
    let node = format!("driver=file,node-name=f,filename={}", path.display());
    args.extend(["-blockdev".into(), node]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.set_limit(LIMIT);
    let blk = || json!({"driver": "virtio-blk-pci", "id": "blk", "bus": "rp0", "drive": "f", "num-queues": 4});
    // It comes while the guest stands still.
    vm.query("stop");
    add(&mut vm, blk());
    vm.query("cont");
    wait_for(&mut serial, "test -b /dev/vda");
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
    wait_for(&mut serial, "test -b /dev/vda");
    del(&mut vm, "blk");
    vm.query("system_reset");
    wait_deleted(&mut vm, "blk");
    crate::wait(&mut serial);
    serial.run("! test -b /dev/vda");
    // And after it, before Linux looks.
    vm.query("system_reset");
    add(&mut vm, blk());
    crate::wait(&mut serial);
    wait_for(&mut serial, "test -b /dev/vda");
    serial.run("dd if=/dev/vda of=/dev/null bs=64k 2>/dev/null");
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}
