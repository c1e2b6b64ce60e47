//! Disks, ports and entropy, as Linux drives them.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use tests::{VmBuilder, disk, seconds};

use crate::{boot, boot_with};

const MIB: u64 = 1 << 20;

#[test]
fn a_disk_is_written_and_read_back() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 64 * MIB);
    let node = format!("driver=file,node-name=f,filename={}", path.display());
    let args = [
        "-blockdev",
        &node,
        "-device",
        "virtio-blk-pci,drive=f,serial=one",
    ];
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    assert_eq!(serial.run("cat /sys/block/vda/size"), "131072");
    assert_eq!(serial.run("cat /sys/block/vda/serial"), "one");
    serial.run("mke2fs -q /dev/vda && mount -t ext4 /dev/vda /mnt || mount -t ext2 /dev/vda /mnt");
    serial.run("echo some words > /mnt/file && sync && umount /mnt");
    serial.run("mount -t ext4 /dev/vda /mnt || mount -t ext2 /dev/vda /mnt");
    assert_eq!(serial.run("cat /mnt/file"), "some words");
    serial.run(
        "umount /mnt; echo at-the-end | dd of=/dev/vda bs=512 seek=131071 conv=fsync 2>/dev/null",
    );
    assert_eq!(&disk::read(&path, 64 * MIB - 512, 10), b"at-the-end");
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
fn every_engine_and_cache_mode_moves_the_same_bytes() {
    let builder = VmBuilder::new();
    let direct = disk::takes_direct_io(builder.dir());
    let modes = [
        "aio=threads",
        "aio=io_uring",
        if direct {
            "aio=native,cache.direct=on"
        } else {
            "aio=threads"
        },
        if direct {
            "aio=io_uring,cache.direct=on"
        } else {
            "aio=io_uring"
        },
        "cache.no-flush=on",
    ];
    let mut args: Vec<String> = ["-object", "iothread,id=io0"].map(String::from).to_vec();
    let paths: Vec<_> = (0..modes.len())
        .map(|i| disk::raw(builder.dir(), &format!("{i}.img"), 16 * MIB))
        .collect();
    for (i, (mode, path)) in modes.iter().zip(&paths).enumerate() {
        args.push("-blockdev".into());
        args.push(format!(
            "driver=file,node-name=n{i},filename={},{mode}",
            path.display()
        ));
        args.push("-device".into());
        let thread = if i % 2 == 0 { ",iothread=io0" } else { "" };
        args.push(format!("virtio-blk-pci,drive=n{i},num-queues=2{thread}"));
    }
    let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
    args.extend(["-smp", "2"]);
    let Some((_vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    assert_eq!(serial.run("ls /sys/block/vda/mq | wc -w"), "2");
    serial.run("dd if=/dev/urandom of=/random bs=1M count=8 2>/dev/null");
    for disk in ["vda", "vdb", "vdc", "vdd", "vde"] {
        serial.run(&format!(
            "dd if=/random of=/dev/{disk} bs=64k conv=fsync 2>/dev/null"
        ));
    }
    serial.run("echo 3 > /proc/sys/vm/drop_caches");
    let sums = serial
        .run("for d in a b c d e; do head -c 8388608 /dev/vd$d | md5sum; done | sort -u | wc -l");
    assert_eq!(sums, "1");
    serial.run("head -c 8388608 /dev/vda | cmp - /random");
    let images: Vec<_> = paths
        .iter()
        .map(|path| disk::read(path, 0, 8 << 20))
        .collect();
    assert!(
        images.iter().all(|image| image == &images[0]),
        "the images differ"
    );
    assert!(images[0].iter().any(|byte| *byte != 0));
}

#[test]
fn a_read_only_disk() {
    let builder = VmBuilder::new();
    let path = disk::numbered(builder.dir(), "disk.img", 2048);
    let node = format!(
        "driver=file,node-name=f,filename={},read-only=on",
        path.display()
    );
    let args = ["-blockdev", &node, "-device", "virtio-blk-pci,drive=f"];
    let Some((_vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    assert_eq!(serial.run("cat /sys/block/vda/ro"), "1");
    assert_ne!(
        serial
            .try_run("dd if=/dev/zero of=/dev/vda bs=512 count=1 2>/dev/null")
            .1,
        "0"
    );
    assert_eq!(
        serial
            .run("dd if=/dev/vda bs=512 skip=7 count=1 2>/dev/null | od -An -tu1 -N1 | tr -d ' '"),
        "7"
    );
}

#[test]
fn discarded_blocks_are_given_back() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    disk::write(&path, 0, &vec![0xaa; 16 << 20]);
    let node = format!(
        "driver=file,node-name=f,filename={},discard=unmap",
        path.display()
    );
    let args = ["-blockdev", &node, "-device", "virtio-blk-pci,drive=f"];
    let Some((_vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    let before = disk::allocated(&path);
    if serial.try_run("blkdiscard /dev/vda").1 != "0" {
        println!("skipped: this busybox has no blkdiscard");
        return;
    }
    assert!(disk::allocated(&path) < before / 2);
}

#[test]
fn consoles_and_ports() {
    let builder = VmBuilder::new();
    let (console, port) = (builder.path("hvc.sock"), builder.path("port.sock"));
    let args = [
        "-device".to_owned(),
        "virtio-serial-pci".into(),
        "-chardev".into(),
        format!("socket,id=c0,path={},server=on,wait=off", console.display()),
        "-device".into(),
        "virtconsole,chardev=c0".into(),
        "-chardev".into(),
        format!("socket,id=c1,path={},server=on,wait=off", port.display()),
        "-device".into(),
        "virtserialport,chardev=c1,name=org.test.0,id=port1".into(),
    ];
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    let connect = |path| {
        let stream = UnixStream::connect(path).expect("it listens");
        stream
            .set_read_timeout(Some(seconds(30)))
            .expect("a socket");
        stream
    };
    let (mut console, mut port) = (connect(&console), connect(&port));
    serial.run("echo to-the-console > /dev/hvc0");
    let mut bytes = [0; 14];
    console.read_exact(&mut bytes).expect("bytes");
    assert_eq!(&bytes, b"to-the-console");
    let device = serial.run("for p in /sys/class/virtio-ports/*; do grep -qs org.test.0 $p/name && echo /dev/${p##*/}; done");
    assert!(device.starts_with("/dev/vport"), "{device}");
    // Opening and closing it is told.
    serial.run(&format!("exec 7<>{device}"));
    let event = vm.qmp().event("VSERPORT_CHANGE");
    assert_eq!(
        event["data"],
        serde_json::json!({"id": "port1", "open": true})
    );
    serial.run("echo to-the-port >&7");
    let mut bytes = [0; 11];
    port.read_exact(&mut bytes).expect("bytes");
    assert_eq!(&bytes, b"to-the-port");
    port.write_all(b"from-the-host\n").expect("bytes");
    assert_eq!(serial.run("read line <&7; echo $line"), "from-the-host");
    serial.run("exec 7>&-");
    let event = vm.qmp().event("VSERPORT_CHANGE");
    assert_eq!(event["data"]["open"], false);
}

#[test]
fn entropy() {
    let args = [
        "-object",
        "rng-random,id=r0,filename=/dev/urandom",
        "-device",
        "virtio-rng-pci,rng=r0",
    ];
    let Some((_vm, mut serial)) = boot("512", &args) else {
        return;
    };
    assert!(
        serial
            .run("cat /sys/class/misc/hw_random/rng_current")
            .starts_with("virtio_rng")
    );
    let count = serial.run("dd if=/dev/hwrng bs=512 count=2 2>/dev/null | wc -c");
    assert_eq!(count, "1024");
}

#[test]
fn devices_behind_root_ports() {
    let builder = VmBuilder::new();
    let path = disk::numbered(builder.dir(), "disk.img", 2048);
    let node = format!("driver=file,node-name=f,filename={}", path.display());
    let args = [
        "-device",
        "pcie-root-port,id=rp0,chassis=1,slot=1",
        "-device",
        "pcie-root-port,id=rp1,chassis=2,slot=2",
        "-blockdev",
        &node,
        "-device",
        "virtio-blk-pci,drive=f,bus=rp0",
        "-device",
        "virtio-rng-pci,bus=rp1",
    ];
    let Some((_vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    assert_eq!(serial.run("cat /sys/block/vda/size"), "2048");
    serial.run("dd if=/dev/hwrng bs=64 count=1 of=/dev/null 2>/dev/null");
    // By messages, not by pins.
    let lines = serial.run("grep -c 'MSI.*virtio' /proc/interrupts");
    assert!(lines.parse::<u32>().is_ok_and(|n| n >= 2), "{lines}");
}

#[test]
fn a_disk_that_works_on_while_the_machine_is_stopped_and_continued() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 64 * MIB);
    let node = format!("driver=file,node-name=f,filename={}", path.display());
    let args = [
        "-blockdev",
        &node,
        "-object",
        "iothread,id=io0",
        "-device",
        "virtio-blk-pci,drive=f,iothread=io0",
    ];
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.run("dd if=/dev/urandom of=/random bs=1M count=16 2>/dev/null");
    serial.send(b"dd if=/random of=/dev/vda bs=4k conv=fsync 2>/dev/null; echo wrote-$?\n");
    for _ in 0..30 {
        vm.query("stop");
        vm.query("cont");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    serial.expect("wrote-0");
    serial.run("echo 3 > /proc/sys/vm/drop_caches; head -c 16777216 /dev/vda | cmp - /random");
}

#[test]
fn a_disk_after_a_reset() {
    let builder = VmBuilder::new();
    let path = disk::raw(builder.dir(), "disk.img", 16 * MIB);
    let node = format!("driver=file,node-name=f,filename={}", path.display());
    let args = ["-blockdev", &node, "-device", "virtio-blk-pci,drive=f"];
    let Some((mut vm, mut serial)) = boot_with(builder, "512", &args, "") else {
        return;
    };
    serial.run("echo before | dd of=/dev/vda conv=fsync 2>/dev/null");
    vm.query("system_reset");
    crate::wait(&mut serial);
    assert_eq!(serial.run("head -n 1 /dev/vda"), "before");
}
