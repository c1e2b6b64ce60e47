//! What changes under a guest with disks on SCSI: sizes, media, limits, room on the host; and power
//! that is lost.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{Serial, Vm, VmBuilder, disk, iso, seconds, sys};

use crate::boot_with;

const MIB: u64 = 1 << 20;

fn node(name: &str, driver: &str, path: &Path) -> String {
    let file = json!({"driver": "file", "filename": path});
    json!({"driver": driver, "node-name": name, "file": file}).to_string()
}

/// A controller and disks on these nodes: the first one at target 0, and so on.
fn disks(nodes: &[(&str, String)]) -> Vec<String> {
    let mut args = vec!["-device".to_owned(), "virtio-scsi-pci,id=scsi0".to_owned()];
    for (target, (name, node)) in nodes.iter().enumerate() {
        let device = format!("scsi-hd,id=d-{name},drive={name},scsi-id={target}");
        args.extend(["-blockdev", node, "-device", &device].map(str::to_owned));
    }
    args
}

fn start(builder: VmBuilder, args: &[String]) -> Option<(Vm, Serial)> {
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["-smp", "2"]);
    let (vm, mut serial) = boot_with(builder, "512", &args, "")?;
    serial.set_limit(seconds(120));
    Some((vm, serial))
}

/// The name of the disk at a target, once the guest has found it.
fn name(serial: &mut Serial, target: usize) -> String {
    serial.run(&format!(
        "cd /sys/class/scsi_device; until ls 0:0:{target}:0/device/block 2>/dev/null; \
         do sleep 0.1; done; cd /"
    ))
}

fn done(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}");
    text
}

fn words(path: &Path) -> &str {
    path.to_str().expect("a name in UTF-8")
}

#[test]
fn sizes_limits_and_media_change_under_a_guest() {
    let builder = VmBuilder::new();
    let directory = builder.dir().to_owned();
    let grows = disk::raw(&directory, "grows.img", 16 * MIB);
    let images = ["one", "two"].map(|name| {
        let upper = name.to_uppercase();
        let file = format!("{upper}.TXT");
        iso::file(
            &directory,
            &format!("{name}.iso"),
            &upper,
            &file,
            name.as_bytes(),
        )
    });
    let null = json!({"driver": "null-co", "node-name": "slow", "size": 64 * MIB,
                      "read-zeroes": true});
    let mut args = disks(&[
        ("grows", node("grows", "raw", &grows)),
        ("slow", null.to_string()),
    ]);
    let medium = json!({"driver": "file", "node-name": "one", "filename": images[0],
                        "read-only": true});
    let medium = medium.to_string();
    args.extend(["-blockdev", &medium, "-device", "scsi-cd,id=cd0,drive=one"].map(str::to_owned));
    let Some((mut vm, mut serial)) = start(builder, &args) else {
        return;
    };
    a_new_size_is_seen(&mut vm, &mut serial);
    limits_are_felt(&mut vm, &mut serial);
    media_are_exchanged(&mut vm, &mut serial, &images);
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
    assert_eq!(disk::read(&grows, 32 * MIB - 512, 7), b"the-end");
}

/// Without being asked to look.
fn a_new_size_is_seen(vm: &mut Vm, serial: &mut Serial) {
    let grows = name(serial, 0);
    assert_eq!(serial.run(&format!("cat /sys/block/{grows}/size")), "32768");
    vm.exec(
        "block_resize",
        json!({"node-name": "grows", "size": 32 * MIB}),
    );
    let seen = serial.run(&format!(
        "for i in 1 2 3 4 5 6 7 8 9; do [ $(cat /sys/block/{grows}/size) = 65536 ] && break; \
         sleep 1; done; cat /sys/block/{grows}/size"
    ));
    assert_eq!(seen, "65536");
    serial.run(&format!(
        "echo the-end | dd of=/dev/{grows} bs=512 seek=65535 conv=fsync 2>/dev/null"
    ));
}

fn limits_are_felt(vm: &mut Vm, serial: &mut Serial) {
    let slow = name(serial, 1);
    let limit = |vm: &mut Vm, bps: u64, iops: u64| {
        let limits = json!({"id": "d-slow", "bps": bps, "bps_rd": 0, "bps_wr": 0,
                            "iops": iops, "iops_rd": 0, "iops_wr": 0});
        vm.exec("block_set_io_throttle", limits);
    };
    // Each page is a request of its own.
    serial.run(&format!("echo 0 > /sys/block/{slow}/queue/read_ahead_kb"));
    let mut from = 0;
    let mut read = |serial: &mut Serial, pages: u64| {
        let begin = Instant::now();
        serial.run(&format!(
            "dd if=/dev/{slow} of=/dev/null bs=4k skip={from} count={pages} 2>/dev/null"
        ));
        from += pages;
        begin.elapsed()
    };
    let unlimited = read(serial, 60);
    // A tenth of a second's worth goes at once; time beyond is that of the guest.
    for (bps, iops) in [(0, 20), (80 << 10, 0)] {
        limit(vm, bps, iops);
        let took = read(serial, 60);
        let most = Duration::from_secs(8) + 4 * unlimited;
        let fine = took >= Duration::from_millis(2700) && took <= most;
        assert!(
            fine,
            "{bps}, {iops}: {took:?}, {unlimited:?} without limits"
        );
    }
    limit(vm, 0, 0);
    let again = read(serial, 60);
    assert!(again < Duration::from_secs(2) + 4 * unlimited, "{again:?}");
}

fn media_are_exchanged(vm: &mut Vm, serial: &mut Serial, [one, two]: &[PathBuf; 2]) {
    let id = json!({"id": "cd0"});
    let change = |path: &Path, force: bool| json!({"id": "cd0", "filename": path, "format": "raw", "force": force});
    let files = |serial: &mut Serial| {
        let mount = "mount -t iso9660 -o ro /dev/sr0 /mnt";
        serial.run(&format!("{mount}; ls /mnt; cat /mnt/*"))
    };
    serial.run("until test -b /dev/sr0; do sleep 0.1; done");
    assert_eq!(files(serial), "one.txt\none");
    // As long as it is mounted the drive is locked.
    let locked = "Device 'cd0' is locked and force was not specified, wait for tray to open and \
                  try again";
    assert_eq!(vm.refused("eject", id.clone()).desc, locked);
    let refused = vm.refused("blockdev-change-medium", change(two, false));
    assert_eq!(refused.desc, locked);
    serial.run("umount /mnt");
    vm.exec("eject", id);
    let moved = vm.qmp().event("DEVICE_TRAY_MOVED");
    assert_eq!(moved["data"]["tray-open"], true);
    let none = "dd if=/dev/sr0 of=/dev/null count=1 2>&1 | grep -c 'No medium'";
    assert_eq!(serial.run(none), "1");
    vm.exec("blockdev-change-medium", change(two, false));
    assert_eq!(files(serial), "two.txt\ntwo");
    // By force, under the mounted file system.
    vm.exec("blockdev-change-medium", change(one, true));
    serial.run("umount /mnt");
    assert_eq!(files(serial), "one.txt\none");
    serial.run("umount /mnt");
}

/// A file system of the host, gone with this.
struct Room(tempfile::TempDir);

impl Room {
    /// None where one may not mount.
    fn new(mib: u64) -> Option<Self> {
        let at = tempfile::tempdir().expect("a directory");
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("skipped: this takes a user who may mount");
            return None;
        }
        Some(Room(at))
    }

    fn enlarge(&self, mib: u64) {
        let size = format!("remount,size={mib}m");
        done("mount", &["-o", &size, words(self.0.path())]);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_host_and_a_loss_of_power() {
    if tests::artifacts::guest().is_none() {
        return;
    }
    let builder = VmBuilder::new();
    let directory = builder.dir().to_owned();
    let Some(room) = Room::new(2) else {
        return;
    };
    let plain = disk::raw(room.0.path(), "plain.img", 16 * MIB);
    let thin = room.0.path().join("thin.qcow2");
    done(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", words(&thin), "32M"],
    );
    let empty = disk::raw(&directory, "empty.img", 32 * MIB);
    done("mke2fs", &["-q", "-t", "ext4", words(&empty)]);
    let journal = directory.join("journal.qcow2");
    done(
        "qemu-img",
        &["convert", "-O", "qcow2", words(&empty), words(&journal)],
    );
    let args = disks(&[
        ("plain", node("plain", "raw", &plain)),
        ("thin", node("thin", "qcow2", &thin)),
        ("journal", node("journal", "qcow2", &journal)),
    ]);
    let Some((mut vm, mut serial)) = start(builder, &args) else {
        return;
    };
    serial.run("dd if=/dev/urandom of=/random bs=1M count=4 2>/dev/null");
    let sum = serial.run("md5sum < /random");
    // Both are filled beyond what there is room for.
    for (target, (id, room_for_all)) in [("d-plain", 5), ("d-thin", 24)].into_iter().enumerate() {
        let disk = name(&mut serial, target);
        fill(&mut vm, &mut serial, &disk, id, || {
            room.enlarge(room_for_all)
        });
        let read =
            format!("echo 3 > /proc/sys/vm/drop_caches; head -c 4194304 /dev/{disk} | md5sum");
        assert_eq!(serial.run(&read), sum);
    }
    let kernel = serial.run("dmesg | grep -ciE 'sense key|i/o error|abort' || true");
    assert_eq!(kernel, "0", "the guest did not notice");

    let disk = name(&mut serial, 2);
    serial.run(&format!("mount -t ext4 /dev/{disk} /mnt"));
    serial.run("for i in 0 1 2 3; do dd if=/random of=/mnt/f$i bs=100k count=10 skip=$((i*10)) 2>/dev/null; done");
    let sums = serial.run("sync; cd /mnt; md5sum f*; cd /");
    serial.send(
        b"(while :; do dd if=/random of=/mnt/g bs=64k; sync; rm /mnt/g; done) >/dev/null 2>&1 &\n",
    );
    std::thread::sleep(seconds(2));
    sys::kill(vm.pid(), libc::SIGKILL);
    vm.wait();
    let whole = disk::read(&plain, 0, 4 << 20);
    let flat = flatten(&thin);
    assert!(
        disk::read(&flat, 0, 4 << 20) == whole,
        "they were written alike"
    );
    check_journal(&flatten(&journal), &sums);
}

/// Writes more than there is room for, makes room when the machine has stopped, and lets it go on.
fn fill(vm: &mut Vm, serial: &mut Serial, disk: &str, id: &str, make_room: impl Fn()) {
    serial.send(
        format!("dd if=/random of=/dev/{disk} bs=64k conv=fsync 2>/dev/null; echo wrote-$?-\n")
            .as_bytes(),
    );
    // One that is told late may be about the disk before.
    let data = loop {
        let event = vm.qmp().event_within("BLOCK_IO_ERROR", seconds(60));
        let data = event.expect("the host is full")["data"].clone();
        let path = data["qom-path"].as_str().unwrap_or_default();
        if path.contains(id) {
            break data;
        }
    };
    assert_eq!(
        (&data["action"], &data["nospace"], &data["operation"]),
        (&json!("stop"), &json!(true), &json!("write"))
    );
    vm.wait_status("io-error");
    vm.qmp().event("STOP");
    let status = |vm: &mut Vm| {
        let drives = vm.query("query-block");
        let drives = drives.as_array().cloned().unwrap_or_default();
        let drive = drives.into_iter().find(|drive| {
            let qdev = drive["qdev"].as_str();
            qdev.is_some_and(|qdev| qdev.contains(id))
        });
        drive.map_or(Value::Null, |drive| drive["io-status"].clone())
    };
    assert_eq!(status(vm), "nospace");
    // Without room it stops again.
    vm.query("cont");
    vm.qmp()
        .event_within("STOP", seconds(60))
        .expect("the host is full still");
    vm.wait_status("io-error");
    make_room();
    vm.query("cont");
    serial.expect("wrote-0-");
    assert_eq!(status(vm), "ok");
    assert_eq!(vm.query("query-status")["status"], "running");
    // Of what is past.
    vm.qmp().pending_events();
}

/// The image as a raw one, after a check; clusters may be lost with power, and nothing else.
fn flatten(path: &Path) -> PathBuf {
    let check = Command::new("qemu-img")
        .args(["check", "-f", "qcow2", words(path)])
        .output()
        .expect("qemu-img");
    let text = String::from_utf8_lossy(&check.stdout);
    assert!(matches!(check.status.code(), Some(0 | 3)), "{text}");
    let flat = path.with_extension("flat");
    let convert = ["convert", "-f", "qcow2", "-O", "raw"];
    done(
        "qemu-img",
        &[&convert[..], &[words(path), words(&flat)]].concat(),
    );
    flat
}

/// The file system is whole after its journal was played back, and so are the files that were synced.
fn check_journal(flat: &Path, sums: &str) {
    let fsck = Command::new("e2fsck")
        .args(["-fp", words(flat)])
        .output()
        .expect("e2fsck");
    let text = String::from_utf8_lossy(&fsck.stdout).into_owned();
    assert!(matches!(fsck.status.code(), Some(0 | 1)), "{text}");
    let out = flat.with_extension("files");
    std::fs::create_dir(&out).expect("a directory");
    let dump = format!("rdump / {}", words(&out));
    done("debugfs", &["-R", &dump, words(flat)]);
    let files: Vec<_> = (0..4).map(|i| out.join(format!("f{i}"))).collect();
    let files: Vec<&str> = files.iter().map(|file| words(file)).collect();
    let found = done("md5sum", &files);
    let only_sums = |text: &str| -> Vec<String> {
        let sums = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        sums.map(str::to_owned).collect()
    };
    assert_eq!(only_sums(&found), only_sums(sums));
}
