//! Disks and optical drives on a SCSI bus, as Linux drives them.

use tests::{VmBuilder, disk, iso};

use crate::boot_with;

const MIB: u64 = 1 << 20;

#[test]
fn a_disk_carries_a_file_system() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 64 * MIB);
    let node = format!(
        "driver=file,node-name=f,filename={},discard=unmap",
        path.display()
    );
    let args = [
        "-smp",
        "2",
        "-object",
        "iothread,id=io0",
        "-blockdev",
        &node,
        "-device",
        "virtio-scsi-pci,id=scsi0,iothread=io0",
        "-device",
        "scsi-hd,bus=scsi0.0,drive=f,scsi-id=3,lun=1,serial=one,device_id=drive-one,rotation_rate=1",
    ];
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.run("until test -b /dev/sda; do sleep 0.1; done");
    assert_eq!(serial.run("cat /sys/block/sda/size"), "131072");
    assert_eq!(
        serial.run("echo $(cat /sys/block/sda/device/vendor /sys/block/sda/device/model)"),
        "QEMU QEMU HARDDISK"
    );
    assert_eq!(
        serial.run("ls /sys/class/scsi_device"),
        "0:0:3:1",
        "channel, target and logical unit"
    );
    assert_eq!(serial.run("cat /sys/block/sda/queue/rotational"), "0");
    assert_eq!(
        serial.run("cat /sys/block/sda/queue/write_cache"),
        "write back"
    );
    assert_eq!(
        serial.run("cat /sys/block/sda/queue/discard_granularity"),
        "4096"
    );
    assert_eq!(serial.run("ls /sys/block/sda/mq | wc -w"), "2");
    serial.run("mke2fs -q /dev/sda && mount -t ext4 /dev/sda /mnt || mount -t ext2 /dev/sda /mnt");
    serial.run("dd if=/dev/urandom of=/mnt/random bs=64k count=400 2>/dev/null; sync");
    let sum = serial.run("md5sum < /mnt/random");
    serial.run("echo some words > /mnt/file && umount /mnt && echo 3 > /proc/sys/vm/drop_caches");
    serial.run("mount -t ext4 /dev/sda /mnt || mount -t ext2 /dev/sda /mnt");
    assert_eq!(serial.run("cat /mnt/file"), "some words");
    assert_eq!(serial.run("md5sum < /mnt/random"), sum);
    serial.run("umount /mnt");
    // The cache is switched off and on again.
    let switch = "/sys/class/scsi_disk/0:0:3:1/cache_type";
    serial.run(&format!("echo 'write through' > {switch}"));
    assert_eq!(
        serial.run("cat /sys/block/sda/queue/write_cache"),
        "write through"
    );
    serial.run(&format!("echo 'write back' > {switch}"));
    assert_eq!(serial.run(&format!("cat {switch}")), "write back");
    assert_eq!(
        serial.run("dmesg | grep -ciE 'sense key|i/o error|abort' || true"),
        "0"
    );
    let stats = vm.query("query-blockstats")[0]["stats"].clone();
    for counter in ["rd_operations", "wr_operations", "flush_operations"] {
        assert!(
            stats[counter].as_u64().is_some_and(|n| n > 0),
            "{counter}: {stats}"
        );
    }
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
    let image = std::fs::read(&path).expect("the image");
    assert!(image.windows(10).any(|window| window == b"some words"));
}

#[test]
fn blocks_are_given_back() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    let node = format!(
        "driver=file,node-name=f,filename={},discard=unmap",
        path.display()
    );
    let args = [
        "-blockdev",
        &node,
        "-device",
        "virtio-scsi-pci",
        "-device",
        "scsi-hd,drive=f",
    ];
    let Some((_vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.run("until test -b /dev/sda; do sleep 0.1; done");
    serial.run("dd if=/dev/urandom of=/dev/sda bs=1M count=8 conv=fsync 2>/dev/null");
    let used = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&path).expect("the image").blocks() * 512
    };
    assert!(used() >= 8 * MIB);
    serial.run("blkdiscard -o 1048576 -l 4194304 /dev/sda && sync");
    assert!(used() <= 5 * MIB, "{} bytes are left", used());
    assert_eq!(
        serial.run("dd if=/dev/sda bs=1M skip=1 count=4 2>/dev/null | tr -d '\\0' | wc -c"),
        "0"
    );
}

#[test]
fn an_iso_is_mounted_and_read() {
    let builder = VmBuilder::new();
    let contents: Vec<u8> = (0..300_000u32).map(|i| (i / 100) as u8).collect();
    let path = iso::file(builder.dir(), "cd.iso", "TEST", "FILE.BIN", &contents);
    let node = format!(
        "driver=file,node-name=f,filename={},read-only=on",
        path.display()
    );
    let args = [
        "-blockdev",
        &node,
        "-device",
        "virtio-scsi-pci,id=scsi0",
        "-device",
        "scsi-cd,bus=scsi0.0,drive=f,id=cd0",
        "-device",
        "scsi-cd,id=cd1",
    ];
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.run("until test -b /dev/sr1; do sleep 0.1; done");
    serial.run("mount -t iso9660 -o ro /dev/sr0 /mnt");
    assert_eq!(serial.run("ls /mnt"), "file.bin");
    assert_eq!(serial.run("wc -c < /mnt/file.bin"), "300000");
    serial.run("md5sum /mnt/file.bin | cut -d' ' -f1 > /sum");
    std::fs::write(path.with_extension("bin"), &contents).expect("a file");
    let expected = std::process::Command::new("md5sum")
        .arg(path.with_extension("bin"))
        .output()
        .expect("md5sum");
    let expected = String::from_utf8_lossy(&expected.stdout).into_owned();
    assert_eq!(
        serial.run("cat /sum"),
        expected.split_whitespace().next().unwrap_or_default()
    );
    // The kernel ejects what it no longer needs, and takes it back in when it does.
    serial.run("echo 1 > /proc/sys/dev/cdrom/autoeject; umount /mnt");
    let moved = vm.qmp().event("DEVICE_TRAY_MOVED");
    assert_eq!(moved["data"]["id"], "cd0");
    assert_eq!(moved["data"]["device"], "");
    assert_eq!(moved["data"]["tray-open"], true);
    serial.run("echo 0 > /proc/sys/dev/cdrom/autoeject; mount -t iso9660 -o ro /dev/sr0 /mnt");
    let moved = vm.qmp().event("DEVICE_TRAY_MOVED");
    assert_eq!(moved["data"]["tray-open"], false);
    assert_eq!(serial.run("wc -c < /mnt/file.bin"), "300000");
    assert_eq!(
        serial.run("dd if=/dev/sr1 of=/dev/null count=1 2>&1 | grep -c 'No medium'"),
        "1"
    );
}
