//! Snapshots of a whole machine with Linux in it, which writes to its disk meanwhile.

use std::process::Command;

use crate::boot_with;
use crate::traveller::complaints;
use tests::VmBuilder;

/// Writes numbered blocks with their sum, one after the other, for ever.
const WRITER: &str = "n=0; while :; do n=$((n+1)); \
    echo \"block $n\" | sha1sum > /tmp/w; echo \"block $n\" >> /tmp/w; \
    dd if=/tmp/w of=/dev/vda bs=4096 seek=$((n % 512)) conv=sync,notrunc,fsync 2>/dev/null; \
    echo $n > /tmp/n; done";

#[test]
fn linux_goes_back_and_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let disk = directory.path().join("disk.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&disk)
        .arg("8M")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no qemu-img");
        return;
    }
    let drive = format!("file={},format=qcow2,if=none,id=d", disk.display());
    let args = ["-drive", &drive, "-device", "virtio-blk-pci,drive=d"];
    let Some((mut vm, mut serial)) = boot_with(VmBuilder::new(), "192", &args, "") else {
        return;
    };
    serial.run("until test -b /dev/vda; do sleep 0.1; done");
    serial.run("dmesg -c >/dev/null; mkdir -p /tmp; echo before > /tmp/state");
    serial.run(&format!("({WRITER}) & echo $! > /tmp/pid"));
    serial.run("until test -s /tmp/n && test $(cat /tmp/n) -gt 2; do sleep 0.1; done");
    assert_eq!(vm.qmp().hmp("savevm s"), "", "{}", vm.stderr());
    // On it goes, and something changes in memory and on the disk.
    serial.run("echo after > /tmp/state");
    serial.run("kill $(cat /tmp/pid); sync");
    serial.run("dd if=/dev/zero of=/dev/vda bs=4096 count=512 conv=notrunc,fsync 2>/dev/null");
    let uptime = |text: String| text.split('.').next().and_then(|s| s.parse::<u64>().ok());
    let late = uptime(serial.run("cat /proc/uptime")).expect("a number");
    assert_eq!(vm.qmp().hmp("loadvm s"), "", "{}", vm.stderr());
    assert_eq!(serial.run("cat /tmp/state"), "before");
    let back = uptime(serial.run("cat /proc/uptime")).expect("a number");
    assert!(back <= late, "{back} and {late}");
    // The writer writes again, and what it says that it wrote is there.
    serial.run("n=$(cat /tmp/n); until test $(cat /tmp/n) -gt $((n+2)); do sleep 0.1; done");
    serial.run("kill $(cat /tmp/pid); wait $(cat /tmp/pid) 2>/dev/null; true");
    serial.run("sync; echo 3 > /proc/sys/vm/drop_caches");
    // The last ones, before and after.
    let verify = "last=$(cat /tmp/n); test $last -lt 512; for i in $(seq $last | tail -n 12); do \
        dd if=/dev/vda bs=4096 skip=$i count=1 2>/dev/null | tr -d '\\000' > /tmp/r; \
        sum=$(tail -n 1 /tmp/r | sha1sum); test \"$(head -n 1 /tmp/r)\" = \"$sum\" || echo bad $i; \
        done; echo checked";
    assert_eq!(serial.run(verify), "checked");
    assert_eq!(complaints(&mut serial), "");
    vm.quit();
    let checked = Command::new("qemu-img")
        .args(["check", "-q"])
        .arg(&disk)
        .status();
    assert!(checked.expect("qemu-img").success());
}
