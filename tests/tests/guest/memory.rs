//! Memory: how much, where, and from what.

use serde_json::json;
use tests::{VmBuilder, disk};

use crate::{boot, boot_with};

/// Memory that the guest sees, in MiB.
fn total(serial: &mut tests::Serial) -> u64 {
    let kib = serial.run("awk '/MemTotal/ {print $2}' /proc/meminfo");
    kib.parse::<u64>().expect("a number") / 1024
}

#[test]
fn beyond_the_hole_for_devices() {
    let Some((vm, mut serial)) = boot("6G", &[]) else {
        return;
    };
    assert!(total(&mut serial) > 5500);
    let map = serial.run("grep 'System RAM' /proc/iomem");
    assert!(
        map.contains("100000000-1ffffffff") || map.contains("100000000-"),
        "{map}"
    );
    // Most of it was never touched.
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).expect("a status");
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("VmRSS");
    let kib: u64 = resident
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(kib < 2 << 20, "{kib} KiB are resident");
    // And it works: a file in memory that reaches above 4 GiB is more than this test has time for,
    // but a page there is not.
    serial.run("dd if=/dev/zero of=/dev/null bs=64M count=4 2>/dev/null");
}

#[test]
fn memory_that_is_a_file() {
    let builder = VmBuilder::new();
    let path = builder.path("ram");
    let object = format!(
        "memory-backend-file,id=m0,size=512M,mem-path={},share=on",
        path.display()
    );
    let args = ["-object", &object, "-machine", "memory-backend=m0"];
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    assert!(total(&mut serial) > 400);
    assert_eq!(vm.query("query-memdev")[0]["share"], true);
    assert_eq!(std::fs::metadata(&path).expect("the file").len(), 512 << 20);
    // What the guest has in memory is in the file.
    serial.run("m=QVMD; for i in 1 2 3 4 5 6; do m=$m-$m; done; echo $m > /in-memory");
    let file = std::fs::read(&path).expect("the file");
    let wanted = b"QVMD-QVMD-QVMD-QVMD-QVMD-QVMD-QVMD-QVMD-";
    assert!(
        file.windows(wanted.len()).any(|window| window == wanted),
        "not in the file"
    );
    assert!(disk::allocated(&path) < 512 << 20);
}

#[test]
fn memory_that_was_taken_at_once() {
    let builder = VmBuilder::new();
    let args = [
        "-object",
        "memory-backend-memfd,id=m0,size=256M,prealloc=on,share=on",
        "-machine",
        "memory-backend=m0",
    ];
    let Some((mut vm, mut serial)) = boot_with(builder, "256", &args, "") else {
        return;
    };
    assert!(total(&mut serial) > 150);
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).expect("a status");
    let shared = status
        .lines()
        .find_map(|line| line.strip_prefix("RssShmem:"))
        .expect("RssShmem");
    let kib: u64 = shared
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(kib >= 256 << 10, "{kib} KiB");
    assert_eq!(
        vm.query("query-memory-size-summary"),
        json!({"base-memory": 256 << 20, "plugged-memory": 0})
    );
}
