//! Linux moves to another process while it counts, checks its memory and writes to its disk.

use std::path::Path;

use serde_json::json;
use tests::migrate::{arrive, enable, go, listen};
use tests::{Serial, Vm, VmBuilder, artifacts, disk};

use crate::{wait, with_kernel};

/// One side: the same machine in another process.
fn side(cpus: u32, disk: &Path) -> Option<VmBuilder> {
    let guest = artifacts::guest()?;
    let builder = with_kernel(VmBuilder::new(), &guest, "")
        .args(["-m", "128", "-smp", &cpus.to_string()])
        .arg("-blockdev")
        .arg(format!("file,node-name=d,filename={}", disk.display()))
        .args(["-device", "virtio-blk-pci,drive=d"])
        .args(["-device", "virtio-rng-pci"])
        .args(["-device", "virtio-balloon-pci"]);
    Some(builder)
}

/// Copies memory and compares it, all the time.
const MEMORY: &str = "dd if=/dev/urandom of=/tmp/m bs=1M count=6 2>/dev/null; \
     (s=$(md5sum </tmp/m); while [ -e /tmp/go ]; do cp /tmp/m /tmp/n; \
     [ \"$(md5sum </tmp/n)\" = \"$s\" ] || echo BAD memory; rm /tmp/n; done; echo memory over) & true";

/// Writes each number into its block, and looks whether the one before is there.
const DISK: &str = "(i=1; while [ -e /tmp/go ]; do \
     printf '%08d' $i | dd of=/dev/vda bs=512 seek=$((i % 512)) conv=fsync 2>/dev/null; \
     [ \"$(dd if=/dev/vda bs=512 skip=$((i % 512)) count=1 2>/dev/null | head -c 8)\" = \
     \"$(printf '%08d' $i)\" ] || echo BAD block $i; i=$((i+1)); done; echo wrote $i blocks) & true";

/// Says a number and how long it runs.
const COUNT: &str = "(i=0; while [ -e /tmp/go ]; do read up idle </proc/uptime; echo \"tick $i $up\"; \
     i=$((i+1)); sleep 0.05; done; echo counted) & true";

fn move_to(source: &mut Vm, builder: VmBuilder) -> (Vm, Serial) {
    let uri = format!("unix:{}", builder.path("migration.sock").display());
    let mut target = builder.args(["-incoming", "defer"]).start();
    let serial = target.serial();
    enable(&mut target, &["events"]);
    listen(&mut target, &uri);
    let info = go(source, &uri);
    println!("{info}");
    arrive(&mut target);
    (target, serial)
}

/// Numbers follow each other, and time does not go back.
fn check_ticks(said: &str) {
    let ticks: Vec<(u64, f64)> = said
        .lines()
        .filter_map(|line| {
            let mut words = line.trim().split_once("tick ")?.1.split(' ');
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        })
        .collect();
    assert!(ticks.len() > 5, "{said}");
    for pair in ticks.windows(2) {
        assert_eq!(pair[1].0, pair[0].0 + 1, "{said}");
        assert!(pair[1].1 >= pair[0].1, "{pair:?}");
    }
    assert!(!said.contains("BAD"), "{said}");
}

fn moves(cpus: u32, times: u32) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let disk = disk::raw(directory.path(), "disk.img", 1 << 20);
    let Some(builder) = side(cpus, &disk) else {
        return;
    };
    let mut vm = builder.start();
    let mut serial = vm.serial();
    wait(&mut serial);
    serial.run("mkdir -p /tmp; touch /tmp/go");
    for line in [MEMORY, DISK, COUNT] {
        serial.run(line);
    }
    serial.expect("tick 3 ");
    let mut said = String::new();
    for _ in 0..times {
        let Some(builder) = side(cpus, &disk) else {
            return;
        };
        let (target, there) = move_to(&mut vm, builder);
        assert_eq!(vm.query("query-status")["status"], "postmigrate");
        vm.quit();
        serial.rest();
        said.push_str(serial.seen());
        (vm, serial) = (target, there);
        for _ in 0..5 {
            serial.expect("tick ");
        }
    }
    serial.send(b"rm /tmp/go\n");
    serial.expect("counted");
    serial.run("wait; sync; true");
    said.push_str(serial.seen());
    check_ticks(&said);
    for word in ["memory over", "wrote "] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert_eq!(vm.exec("query-status", json!({}))["running"], true);
}

#[test]
fn one_processor() {
    moves(1, 1);
}

#[test]
fn two_processors() {
    moves(2, 1);
}
