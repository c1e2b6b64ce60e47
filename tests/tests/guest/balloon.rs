//! The balloon, with Linux's driver.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Serial, Vm, seconds};

use crate::boot;

const MIB: u64 = 1 << 20;

/// What the program has in memory, in MiB.
fn resident(vm: &Vm) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pid())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("VmRSS") / 1024
}

/// A number of /proc/meminfo, in MiB.
fn meminfo(serial: &mut Serial, name: &str) -> u64 {
    let kib = serial.run(&format!("awk '/^{name}:/ {{print $2}}' /proc/meminfo"));
    kib.parse::<u64>().expect("a number") / 1024
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + seconds(60);
    while !done() {
        assert!(Instant::now() < end, "{what}: not in time");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Has the guest use memory.
fn fill(serial: &mut Serial, mebibytes: u32) {
    serial.run("mkdir -p /ram && mount -t tmpfs -o size=100% none /ram");
    serial.run(&format!(
        "dd if=/dev/zero of=/ram/f bs=1M count={mebibytes} 2>/dev/null"
    ));
}

/// Has it free that again.
fn free(serial: &mut Serial) {
    serial.run("rm /ram/f; umount /ram; sync; echo 3 > /proc/sys/vm/drop_caches");
}

fn use_and_free(serial: &mut Serial, mebibytes: u32) {
    fill(serial, mebibytes);
    free(serial);
}

#[test]
fn the_guest_gives_half_of_its_memory_and_takes_it_back() {
    let args = ["-smp", "2", "-device", "virtio-balloon-pci,id=b"];
    let Some((mut vm, mut serial)) = boot("512", &args) else {
        return;
    };
    use_and_free(&mut serial, 350);
    let (whole, total) = (resident(&vm), meminfo(&mut serial, "MemTotal"));
    assert!(whole > 350, "{whole} MiB are resident");
    vm.qmp().exec("balloon", json!({"value": 256 * MIB}));
    let told = vm.qmp().event("BALLOON_CHANGE");
    let actual = told["data"]["actual"].as_u64();
    assert!(
        actual < Some(512 * MIB) && actual >= Some(256 * MIB),
        "{told}"
    );
    until("half of it is given", || {
        vm.query("query-balloon")["actual"] == json!(256 * MIB)
    });
    let left = meminfo(&mut serial, "MemTotal");
    assert!(left.abs_diff(total - 256) < 8, "{left} of {total} MiB");
    // Some of what was given had never been touched.
    let half = resident(&vm);
    assert!(half + 130 < whole, "{half} of {whole} MiB are resident");

    let path = "/machine/peripheral/b";
    let property = "guest-stats-polling-interval";
    vm.qmp().exec(
        "qom-set",
        json!({"path": path, "property": property, "value": 1}),
    );
    let stats = |vm: &mut Vm| {
        let arguments = json!({"path": path, "property": "guest-stats"});
        vm.qmp().exec("qom-get", arguments)
    };
    let mut first = 0;
    until("statistics come", || {
        let update = stats(&mut vm)["last-update"].as_u64().unwrap_or(0);
        first = if first == 0 { update } else { first };
        update > first
    });
    let told = stats(&mut vm)["stats"].clone();
    let value = |name: &str| told[name].as_u64().unwrap_or(0) / MIB;
    assert!(value("stat-total-memory").abs_diff(left) < 8, "{told}");
    let free = value("stat-free-memory");
    assert!(free > 50 && free <= left, "{told}");

    vm.qmp().exec("balloon", json!({"value": 512 * MIB}));
    until("all of it is back", || {
        vm.query("query-balloon")["actual"] == json!(512 * MIB)
    });
    assert_eq!(meminfo(&mut serial, "MemTotal"), total);
    use_and_free(&mut serial, 280);
    serial.run("md5sum /bin/busybox > /dev/null");
}

#[test]
fn memory_that_the_guest_frees_goes_back_to_the_host() {
    let args = [
        "-object",
        "iothread,id=io0",
        "-device",
        "virtio-balloon-pci,id=b,free-page-reporting=on,free-page-hint=on,iothread=io0",
    ];
    let Some((vm, mut serial)) = boot("384", &args) else {
        return;
    };
    fill(&mut serial, 200);
    // Reports begin as soon as it is freed.
    let whole = resident(&vm);
    free(&mut serial);
    until("free memory is reported", || resident(&vm) + 120 < whole);
    use_and_free(&mut serial, 50);
}
