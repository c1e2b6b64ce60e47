//! What may befall the program: it is killed while its guest writes, its disk is full, clients come and go by
//! thousands, there is no memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::baremetal::guest;
use tests::binary::{is_stand_in, skip_on_stand_in};
use tests::{Qmp, Serial, Vm, VmBuilder, disk, seconds};

use crate::churner::{Churner, SUCCESS, directory};

/// The guest's words, with this disk.
fn with_disk(words: &str, path: &Path, format: &str) -> Option<VmBuilder> {
    let builder = guest(VmBuilder::new(), words)?;
    Some(
        builder
            .arg("-blockdev")
            .arg(format!("file,node-name=f,filename={}", path.display()))
            .arg("-blockdev")
            .arg(format!("{format},node-name=d,file=f"))
            .args(["-device", "virtio-blk-pci,drive=d,id=disk"]),
    )
}

fn qemu_img(args: &[&str], path: &Path) -> bool {
    let mut command = Command::new("qemu-img");
    let output = command.args(args).arg(path).output().expect("qemu-img");
    if !output.status.success() {
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

/// An image of 32 MiB; None, with a word, where it cannot be made.
fn image(directory: &TempDir, format: &str) -> Option<PathBuf> {
    if format == "raw" {
        return Some(disk::raw(directory.path(), "disk.raw", 32 << 20));
    }
    if Command::new("qemu-img").arg("--version").output().is_err() {
        println!("skipped: no qemu-img");
        return None;
    }
    let path = directory.path().join("disk.img");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", format])
        .arg(&path)
        .arg("32M")
        .status();
    assert!(made.expect("qemu-img").success());
    Some(path)
}

/// Kills it after so long under load; returns the last round that it said was safe.
fn killed_under_load(path: &Path, format: &str, after: Duration) -> Option<u64> {
    let mut vm = with_disk("flush", path, format)?.start();
    let mut serial: Serial = vm.serial();
    vm.query("cont");
    serial.expect("flushed 1\n");
    std::thread::sleep(after);
    vm.signal(libc::SIGKILL);
    let exit = vm.wait();
    assert_eq!(exit.signal, Some(libc::SIGKILL), "{exit:?}");
    let said = serial.rest();
    let rounds = said.split('\n').rev().skip(1);
    let last = rounds
        .filter_map(|line| line.trim().strip_prefix("flushed "))
        .next();
    let last = last.map_or(1, |round| round.parse().expect("a number"));
    // The process is gone, and so are its locks: the next one takes the very same image.
    Some(last)
}

fn verify(path: &Path, format: &str, round: u64) {
    let words = format!("verify={round}");
    let mut vm = with_disk(&words, path, format).expect("as before").start();
    let mut serial = vm.serial();
    vm.query("cont");
    let exit = vm.wait_within(seconds(60));
    let said = serial.rest().to_owned();
    let status = exit.and_then(|exit| exit.status);
    assert_eq!(status, Some(SUCCESS), "it said {said}");
}

fn survives_kills(format: &str) {
    // Moments that look like chance.
    let mut moment = 0x2545_f491u32;
    for _ in 0..4 {
        let directory = directory();
        let Some(path) = image(&directory, format) else {
            return;
        };
        moment = moment.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let after = Duration::from_micros(u64::from(moment >> 13));
        let Some(round) = killed_under_load(&path, format, after) else {
            return;
        };
        println!("{format}: killed after {after:?}, round {round}");
        if format == "qcow2" {
            // Leaks are not errors: clusters that were given out and to which nothing led yet. They cost space only.
            let clean = qemu_img(&["check", "-q", "-r", "leaks"], &path);
            assert!(clean, "after {after:?}, round {round}");
        }
        verify(&path, format, round);
    }
}

#[test]
fn a_raw_disk_keeps_what_was_flushed_when_the_program_is_killed() {
    survives_kills("raw");
}

#[test]
fn a_qcow2_disk_keeps_what_was_flushed_when_the_program_is_killed() {
    survives_kills("qcow2");
}

#[test]
fn a_qed_disk_keeps_what_was_flushed_when_the_program_is_killed() {
    survives_kills("qed");
}

/// A file system of a few pages; it is gone on drop.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None, with a word, where nothing may be mounted.
    fn new(size: &str) -> Option<Self> {
        let directory = directory();
        let small = SmallDisk(directory);
        if small.mount(&format!("size={size}")) {
            return Some(small);
        }
        println!("skipped: no file system can be mounted");
        None
    }

    fn mount(&self, options: &str) -> bool {
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.0.path())
            .output();
        mounted.is_ok_and(|output| output.status.success())
    }

    fn grow(&self, size: &str) {
        assert!(self.mount(&format!("remount,size={size}")));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

fn assert_full(vm: &mut Vm) {
    let event = vm.qmp().event("BLOCK_IO_ERROR");
    let data = &event["data"];
    let told = json!([
        data["operation"],
        data["action"],
        data["nospace"],
        data["reason"]
    ]);
    assert_eq!(
        told,
        json!(["write", "stop", true, "No space left on device"])
    );
    vm.qmp().event("STOP");
    assert_eq!(vm.query("query-status")["status"], "io-error");
    assert_eq!(vm.query("query-block")[0]["io-status"], "nospace");
}

fn churn_on(small: &SmallDisk, format: &str) -> Option<(Churner, PathBuf)> {
    let path = image(&small.0, format)?;
    let builder = with_disk("churn", &path, format)?;
    Some((Churner::start(builder), path))
}

fn a_full_disk_pauses_the_guest(format: &str, size: &str) {
    let Some(small) = SmallDisk::new(size) else {
        return;
    };
    let Some((mut churner, _)) = churn_on(&small, format) else {
        return;
    };
    assert_full(&mut churner.vm);
    // Of a disk that fails again watchers hear once in a second; before that, STOP would come first.
    std::thread::sleep(Duration::from_millis(1100));
    // Nothing has changed: it stops again, and nothing is lost.
    churner.vm.query("cont");
    assert_full(&mut churner.vm);
    small.grow("64m");
    churner.vm.query("cont");
    churner.lives();
    assert_eq!(churner.vm.query("query-block")[0]["io-status"], "ok");
    // It checks each sector that it wrote.
    churner.end();
}

#[test]
fn a_full_disk_pauses_the_guest_until_there_is_space_again() {
    a_full_disk_pauses_the_guest("raw", "96k");
}

#[test]
fn a_full_disk_under_qcow2_pauses_the_guest_until_there_is_space_again() {
    a_full_disk_pauses_the_guest("qcow2", "384k");
}

#[test]
fn what_a_full_disk_holds_up_travels_with_the_guest() {
    let Some(small) = SmallDisk::new("96k") else {
        return;
    };
    let Some((mut churner, path)) = churn_on(&small, "raw") else {
        return;
    };
    assert_full(&mut churner.vm);
    let Some(builder) = with_disk("churn", &path, "raw") else {
        return;
    };
    let mut target = builder.args(["-incoming", "defer"]).start();
    let serial = target.serial();
    let socket = target.path("migration.sock");
    let uri = json!({"uri": format!("unix:{}", socket.display())});
    target.exec("migrate-incoming", uri.clone());
    churner.vm.exec("migrate", uri);
    churner.vm.wait_status("postmigrate");
    let mut status = String::new();
    for _ in 0..500 {
        status = target.query("query-status")["status"].to_string();
        if !status.contains("inmigrate") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("the target is {status}");
    small.grow("64m");
    let Churner {
        vm,
        serial: mut before,
        ..
    } = churner;
    before.comes("no such word", Duration::from_millis(100));
    vm.quit();
    let mut said = before.rest().to_owned();
    let mut serial = serial;
    target.query("cont");
    for _ in 0..3 {
        serial.expect("beat ");
    }
    serial.send(b"q");
    let exit = target.wait_within(seconds(60));
    said.push_str(serial.rest());
    let status = exit.and_then(|exit| exit.status);
    assert_eq!(status, Some(SUCCESS), "it said {said}");
}

fn count(vm: &Vm, what: &str) -> usize {
    let entries = fs::read_dir(format!("/proc/{}/{what}", vm.pid()));
    entries.map_or(0, Iterator::count)
}

/// KiB of memory of its own.
fn anonymous(vm: &Vm) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", vm.pid())).expect("a process");
    let line = text.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number
        .and_then(|number| number.parse().ok())
        .expect("a figure")
}

/// A client in one of several humours.
fn come_and_go(vm: &Vm, turn: usize) {
    let mut client = Qmp::connect_raw(&vm.monitor(0));
    match turn % 5 {
        0 => {}
        1 => client.send(b"{\"execute\":\"qmp_cap"),
        2 => client.send(b"\xff\x00garbage}{"),
        3 => drop(client.negotiate()),
        _ => {
            client.negotiate();
            client.send(b"{\"execute\":\"query-status\"}");
        }
    }
}

#[test]
fn ten_thousand_clients_that_come_and_go_leave_nothing() {
    if skip_on_stand_in("it takes minutes for it") {
        return;
    }
    let mut vm = VmBuilder::new().stopped().monitors(2).start();
    drop(vm.take_qmp());
    let mut other = Qmp::connect(&vm.monitor(1));
    let mut before = None;
    for turn in 0..10_000 {
        come_and_go(&vm, turn);
        if turn == 1000 {
            other.query("query-status");
            before = Some((count(&vm, "task"), anonymous(&vm)));
        }
    }
    let mut last = Qmp::connect(&vm.monitor(0));
    last.query("query-status");
    let (threads, memory) = before.expect("a count");
    assert_eq!(count(&vm, "task"), threads);
    let after = anonymous(&vm);
    assert!(after < memory + 1024, "{memory} KiB became {after}");
    // Both clients, both listeners and what the program itself needs: no trace of ten thousand.
    assert!(count(&vm, "fd") < 64, "{} descriptors", count(&vm, "fd"));
    vm.put_qmp(last);
    vm.quit();
}

/// Commands that need much memory at once, and some that need little.
fn greedy() -> Vec<(&'static str, Value)> {
    let ram = |id: &str, size: u64| {
        let arguments = json!({"qom-type": "memory-backend-ram", "id": id, "size": size});
        ("object-add", arguments)
    };
    let ring = json!({"type": "ringbuf", "data": {"size": 1u64 << 30}});
    vec![
        ram("m0", 1 << 40),
        ram("m1", 64 << 20),
        ("chardev-add", json!({"id": "r", "backend": ring})),
        ("query-qmp-schema", json!({})),
        ("object-add", json!({"qom-type": "iothread", "id": "i"})),
    ]
}

/// Small things have no way to fail: a program without a page left ends, as the reference does. What is large
/// is asked for so that it can be refused.
#[test]
fn what_there_is_no_memory_for_is_refused_and_nothing_else_happens() {
    if is_stand_in() {
        return;
    }
    let mut vm = VmBuilder::new().stopped().start();
    vm.query("query-qmp-schema");
    tests::sys::limit_address_space(vm.pid(), size(&vm) + (24 << 20));
    let mut refused = Vec::new();
    for (command, arguments) in greedy() {
        let request = json!({"execute": command, "arguments": arguments});
        vm.qmp().send(request.to_string().as_bytes());
        let answer = vm.qmp().answer();
        if let Some(error) = answer.get("error") {
            refused.push(format!("{command}: {}", error["desc"]));
        }
        vm.query("query-status");
    }
    assert_eq!(refused.len(), 3, "{refused:?}");
    let why = |line: &String| line.contains("Cannot allocate memory");
    assert!(refused.iter().all(why), "{refused:?}");
    let exit = vm.quit();
    assert!(!exit.stderr.contains("panicked"), "{exit:?}");
}

/// Bytes of its address space.
fn size(vm: &Vm) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/statm", vm.pid())).expect("a process");
    let pages: Option<u64> = text.split_whitespace().next().and_then(|n| n.parse().ok());
    pages.expect("a figure") * 4096
}

#[test]
fn guest_memory_that_is_not_there_is_refused_at_the_start() {
    let exit = VmBuilder::new()
        .args(["-machine", "q35", "-accel", "qtest", "-m", "8G"])
        .address_space(1 << 30)
        .run();
    exit.assert_refused().assert_says("annot allocate memory");
}
