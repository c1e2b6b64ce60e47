//! A guest without an operating system on plain KVM: it drives the devices with a crate that no one here
//! wrote. Its source is `tests/guest`; see there for the words it knows.
#![allow(clippy::disallowed_methods)] // The rule for threads is for those of the program.

use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tests::baremetal::{guest, guest_on};
use tests::{Serial, Vm, VmBuilder, disk, seconds, vsock};

/// Ends with this status where all went well.
const SUCCESS: i32 = 33;

/// Starts it and lets it run; its console is connected before it says a word.
fn start(builder: VmBuilder) -> (Vm, Serial) {
    let mut vm = builder.start();
    let serial = vm.serial();
    vm.query("cont");
    (vm, serial)
}

fn assert_success(vm: &mut Vm, serial: &mut Serial) {
    let exit = vm.wait_within(seconds(60));
    let said = serial.rest().to_owned();
    let exit = exit.unwrap_or_else(|| panic!("it still runs; it said {said}"));
    assert_eq!(
        exit.status,
        Some(SUCCESS),
        "{exit:?}; it said {}",
        serial.seen()
    );
}

#[test]
fn it_comes_up_and_ends() {
    let Some(builder) = guest(VmBuilder::new(), "") else {
        return;
    };
    let (mut vm, mut serial) = start(builder);
    serial.expect("baremetal-guest up, ");
    let kib: u64 = serial.expect(" KiB").parse().expect("a number");
    assert!(
        (60_000..=65_536).contains(&kib),
        "{kib} KiB in the map of memory"
    );
    serial.expect("acpi true");
    serial.expect("all fine");
    assert_success(&mut vm, &mut serial);
}

#[test]
fn a_disk() {
    for options in ["", ",aio=io_uring", ",aio=native,cache.direct=on"] {
        let builder = VmBuilder::new();
        if options.contains("direct") && !disk::takes_direct_io(builder.dir()) {
            continue;
        }
        let path = disk::numbered(builder.dir(), "disk.img", 4096);
        let Some(builder) = guest(builder, "drive") else {
            return;
        };
        let builder = builder
            .args(["-object", "iothread,id=io0"])
            .arg("-blockdev")
            .arg(format!(
                "file,node-name=f,filename={}{options}",
                path.display()
            ))
            .args(["-device", "virtio-blk-pci,drive=f,serial=bare,iothread=io0"]);
        let (mut vm, mut serial) = start(builder);
        serial.expect("disk of 4096 sectors, read-only false");
        serial.expect("disk serial bare");
        serial.expect("disk fine");
        assert_success(&mut vm, &mut serial);
        assert_eq!(disk::read(&path, 512, 512), [0x5a; 512]);
        assert_eq!(disk::read(&path, 1024, 512), disk::numbered_sector(2));
    }
}

#[test]
fn a_disk_that_is_measured() {
    // The guest's memory holds nothing, which is written everywhere first.
    let works = [
        "seqwrite1m:8",
        "randread4k:1",
        "randread4k:32",
        "seqread1m:32",
        "randwrite4k:32",
        "flush:1",
        "sync:8",
        "alloc4k:32",
    ];
    for size in ["128", "1024"] {
        let builder = VmBuilder::new();
        let path = disk::numbered(builder.dir(), "disk.img", 32768);
        let words: Vec<_> = works
            .iter()
            .map(|work| format!("disk=0:{work}:512"))
            .collect();
        let Some(builder) = guest(builder, &words.join(" ")) else {
            return;
        };
        let builder = builder
            .arg("-blockdev")
            .arg(format!("file,node-name=f,filename={}", path.display()))
            .arg("-device")
            .arg(format!("virtio-blk-pci,drive=f,queue-size={size}"));
        let (mut vm, mut serial) = start(builder);
        for work in works {
            serial.expect(&format!("end disk 0:{work}:512 requests 512 ns "));
            let time: u64 = serial.expect("\n").trim().parse().expect("a number");
            assert!(time > 0);
        }
        assert_success(&mut vm, &mut serial);
        for sector in [0, 1, 32767] {
            assert_eq!(disk::read(&path, sector * 512, 512), [0; 512]);
        }
    }
}

#[test]
fn a_read_only_disk() {
    let builder = VmBuilder::new();
    let path = disk::numbered(builder.dir(), "disk.img", 4096);
    let Some(builder) = guest(builder, "drive") else {
        return;
    };
    let builder = builder
        .arg("-blockdev")
        .arg(format!(
            "file,node-name=f,filename={},read-only=on",
            path.display()
        ))
        .args(["-device", "virtio-blk-pci,drive=f"]);
    let (mut vm, mut serial) = start(builder);
    serial.expect("read-only true");
    assert_success(&mut vm, &mut serial);
    assert_eq!(disk::read(&path, 512, 512), disk::numbered_sector(1));
}

#[test]
fn entropy() {
    let Some(builder) = guest(VmBuilder::new(), "drive") else {
        return;
    };
    let (mut vm, mut serial) = start(builder.args(["-device", "virtio-rng-pci"]));
    serial.expect("entropy fine");
    assert_success(&mut vm, &mut serial);
}

#[test]
fn a_console() {
    let builder = VmBuilder::new();
    let path = builder.path("console.sock");
    let Some(builder) = guest(builder, "drive") else {
        return;
    };
    let builder = builder
        .args(["-device", "virtio-serial-pci"])
        .arg("-chardev")
        .arg(format!(
            "socket,id=c0,path={},server=on,wait=off",
            path.display()
        ))
        .args(["-device", "virtconsole,chardev=c0"]);
    let mut vm = builder.start();
    let mut serial = vm.serial();
    let mut console = UnixStream::connect(path).expect("it listens");
    console
        .set_read_timeout(Some(seconds(30)))
        .expect("a socket");
    vm.query("cont");
    let mut bytes = [0; 21];
    console.read_exact(&mut bytes).expect("bytes");
    assert_eq!(&bytes, b"hello from the guest\n");
    console.write_all(b"say it loud\n").expect("bytes");
    let mut bytes = [0; 12];
    console.read_exact(&mut bytes).expect("bytes");
    assert_eq!(&bytes, b"SAY IT LOUD\n");
    serial.expect("console fine");
    assert_success(&mut vm, &mut serial);
}

/// The sum of a stream's bytes, each with its place.
fn sum(bytes: &[u8]) -> u64 {
    let weigh = |sum: u64, (place, byte): (u64, &u8)| {
        sum.wrapping_add(place.wrapping_mul(u64::from(*byte)))
    };
    (1..).zip(bytes).fold(0, weigh)
}

/// Bytes that look random, the same for everybody.
fn bytes(count: usize) -> Vec<u8> {
    let step = |last: &mut u32| {
        *last = last.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*last >> 24) as u8)
    };
    std::iter::repeat(())
        .scan(1, |last, ()| step(last))
        .take(count)
        .collect()
}

#[test]
fn sockets_between_guest_and_host() {
    if !Path::new("/dev/vhost-vsock").exists() {
        println!("skipped: no /dev/vhost-vsock");
        return;
    }
    let Some(builder) = guest(VmBuilder::new(), "drive") else {
        return;
    };
    let door = vsock::Listener::bind(5001);
    let (mut vm, mut serial) = start(builder.args(["-device", "vhost-vsock-pci,guest-cid=4711"]));
    serial.expect("socket of guest 4711");
    serial.expect("socket listens");
    let mut stream = vsock::connect(4711, 5000);
    let data = bytes(1 << 20);
    let mut writer = stream.try_clone().expect("a second handle");
    writer
        .write_all(&(data.len() as u64).to_le_bytes())
        .expect("the length");
    writer.write_all(&data).expect("the data");
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).expect("the sum");
    assert_eq!(u64::from_le_bytes(answer), sum(&data));
    let mut back = vec![0; data.len()];
    stream.read_exact(&mut back).expect("the guest's data");
    assert!(back == data, "the guest's data came changed");
    drop((stream, writer));
    // The other way round.
    let (peer, cid) = door.accept();
    assert_eq!(cid, 4711);
    drop(peer);
    serial.expect("socket fine");
    assert_success(&mut vm, &mut serial);
}

#[test]
fn an_address_is_one_guests() {
    if !Path::new("/dev/vhost-vsock").exists() {
        println!("skipped: no /dev/vhost-vsock");
        return;
    }
    let device = ["-device", "vhost-vsock-pci,guest-cid=4712"];
    let Some(builder) = guest(VmBuilder::new(), "tick") else {
        return;
    };
    let _first = builder.args(device).start();
    let Some(second) = guest(VmBuilder::new(), "tick") else {
        return;
    };
    let refused = second.args(device).run();
    refused
        .assert_refused()
        .assert_says("vhost-vsock: unable to set guest cid: Address already in use");
}

#[test]
fn several_devices_with_several_processors() {
    let builder = VmBuilder::new();
    let path = disk::numbered(builder.dir(), "disk.img", 4096);
    let Some(builder) = guest(builder, "drive") else {
        return;
    };
    let builder = builder
        .args(["-smp", "2", "-device", "virtio-rng-pci"])
        .arg("-blockdev")
        .arg(format!("file,node-name=f,filename={}", path.display()))
        .args(["-device", "virtio-blk-pci,drive=f"]);
    let (mut vm, mut serial) = start(builder);
    serial.expect("entropy fine");
    serial.expect("disk fine");
    assert_success(&mut vm, &mut serial);
}

#[test]
fn the_older_pc() {
    let builder = VmBuilder::new();
    let path = disk::numbered(builder.dir(), "disk.img", 4096);
    // Its devices, a reset, and off by its power management, whose place its firmware names.
    let Some(builder) = guest_on("pc", builder, "drive serve poweroff") else {
        return;
    };
    let builder = builder
        .args(["-smp", "2", "-device", "virtio-rng-pci,bus=pci.0,addr=4"])
        .arg("-blockdev")
        .arg(format!(
            "file,node-name=f,filename={},read-only=on",
            path.display()
        ))
        .args(["-device", "virtio-blk-pci,drive=f"]);
    let (mut vm, mut serial) = start(builder);
    for turn in 0..2 {
        serial.expect("baremetal-guest up");
        serial.expect("acpi true");
        serial.expect("disk fine");
        serial.expect("entropy fine");
        serial.expect("serving");
        if turn == 0 {
            serial.send(b"reset\n");
            vm.qmp().event("RESET");
        }
    }
    serial.send(b"\n");
    assert_eq!(
        vm.qmp().event("SHUTDOWN")["data"],
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn stop_and_cont() {
    let Some(builder) = guest(VmBuilder::new(), "tick") else {
        return;
    };
    let (mut vm, mut serial) = start(builder);
    serial.expect("tick 3\n");
    vm.query("stop");
    while serial.comes("tick", Duration::from_millis(200)) {}
    assert!(
        !serial.comes("tick", Duration::from_millis(300)),
        "it runs on"
    );
    assert_eq!(
        vm.query("query-status"),
        json!({"running": false, "status": "paused"})
    );
    for _ in 0..30 {
        vm.query("cont");
        vm.query("stop");
    }
    vm.query("cont");
    serial.expect("tick ");
    serial.expect("tick ");
    serial.send(b"q");
    serial.expect("all fine");
    assert_success(&mut vm, &mut serial);
}

#[test]
fn a_reset_from_outside() {
    let Some(builder) = guest(VmBuilder::new(), "tick") else {
        return;
    };
    let (mut vm, mut serial) = start(builder);
    for _ in 0..3 {
        serial.expect("baremetal-guest up");
        serial.expect("tick 2\n");
        vm.query("system_reset");
        vm.qmp().event("RESET");
    }
    serial.expect("baremetal-guest up");
    serial.expect("tick 1\n");
    serial.send(b"q");
    assert_success(&mut vm, &mut serial);
}

#[test]
fn a_reset_from_inside() {
    let Some(builder) = guest(VmBuilder::new(), "reset") else {
        return;
    };
    let (mut vm, mut serial) = start(builder);
    for _ in 0..3 {
        serial.expect("baremetal-guest up");
        let event = vm.qmp().event("RESET");
        assert_eq!(
            event["data"],
            json!({"guest": true, "reason": "guest-reset"})
        );
    }
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_reset_with_no_reboot() {
    let Some(builder) = guest(VmBuilder::new(), "reset") else {
        return;
    };
    let (mut vm, _serial) = start(builder.arg("-no-reboot"));
    assert_eq!(
        vm.qmp().event("SHUTDOWN")["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn switching_off() {
    let Some(builder) = guest(VmBuilder::new(), "poweroff") else {
        return;
    };
    let (mut vm, _serial) = start(builder);
    assert_eq!(
        vm.qmp().event("SHUTDOWN")["data"],
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_panic() {
    let Some(builder) = guest(VmBuilder::new(), "panic") else {
        return;
    };
    let (mut vm, _serial) = start(builder.args(["-device", "pvpanic", "-action", "panic=pause"]));
    assert_eq!(vm.qmp().event("GUEST_PANICKED")["data"]["action"], "pause");
    vm.wait_status("guest-panicked");
    vm.quit();
}

#[test]
fn a_halted_guest_costs_no_time() {
    let Some(builder) = guest(VmBuilder::new(), "halt") else {
        return;
    };
    let (mut vm, mut serial) = start(builder);
    serial.expect("halting");
    std::thread::sleep(Duration::from_millis(200));
    let ticks = |vm: &Vm| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", vm.pid())).expect("a process");
        let fields: Vec<_> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let field = |i: usize| fields[i].parse::<u64>().expect("a number");
        field(11) + field(12)
    };
    let before = ticks(&vm);
    std::thread::sleep(Duration::from_secs(1));
    let after = ticks(&vm);
    // Hundredths of a second.
    assert!(after - before < 20, "{} ticks in a second", after - before);
    vm.query("stop");
    vm.query("cont");
    vm.quit();
}

#[test]
fn a_guest_that_is_killed_in_mid_work_leaves_no_process() {
    let Some(builder) = guest(VmBuilder::new(), "tick") else {
        return;
    };
    let (mut vm, mut serial) = start(builder);
    serial.expect("tick 1\n");
    vm.signal(libc::SIGTERM);
    assert_eq!(vm.wait().status, Some(0));
}

/// How many frames go to the guest and back.
const FRAMES: usize = 500;

#[test]
fn an_interface() {
    let builder = VmBuilder::new();
    let (ours, theirs) = (builder.path("ours"), builder.path("theirs"));
    let wire = UnixDatagram::bind(&theirs).expect("a socket");
    wire.set_read_timeout(Some(seconds(60))).expect("a limit");
    let Some(builder) = guest(builder, "drive") else {
        return;
    };
    let builder = builder
        .arg("-netdev")
        .arg(format!(
            "dgram,id=n,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            ours.display(),
            theirs.display()
        ))
        .args([
            "-device",
            "virtio-net-pci,netdev=n,mac=52:54:00:01:02:03,romfile=",
        ]);
    let (mut vm, mut serial) = start(builder);
    serial.expect("interface [52, 54, 00, 01, 02, 03]");
    let mut hello = [0; 2048];
    assert_eq!(wire.recv(&mut hello).expect("a frame"), 60);
    wire.connect(&ours).expect("the program's end");
    let begin = Instant::now();
    for count in 0..FRAMES {
        let last = count + 1 == FRAMES;
        let kind = [0x88, if last { 0xb6 } else { 0xb5 }];
        let head = [&[0x52, 0x54, 0, 1, 2, 3, 2, 0, 0, 0, 0, 9][..], &kind].concat();
        let contents = (0..46 + count % 1455).map(|at| (at + count) as u8);
        let sent: Vec<u8> = head.iter().copied().chain(contents).collect();
        wire.send(&sent).expect("sending");
        let mut got = vec![0; 2048];
        let length = wire.recv(&mut got).expect("a frame");
        assert_eq!(got[..12], [2, 0, 0, 0, 0, 9, 0x52, 0x54, 0, 1, 2, 3]);
        assert_eq!(got[12..length], sent[12..]);
    }
    let each = begin.elapsed() / FRAMES as u32;
    println!("{each:?} for a frame to the guest and back");
    serial.expect(&format!("{FRAMES} frames"));
    serial.expect("interface fine");
    assert_success(&mut vm, &mut serial);
}

/// Sends a frame back as often as it comes, until nothing comes any more.
fn mirror(wire: UnixDatagram, to: PathBuf) {
    wire.set_read_timeout(Some(seconds(60))).expect("a limit");
    let mut frame = vec![0; 70_000];
    while let Ok(length) = wire.recv(&mut frame) {
        if wire.send_to(&frame[..length], &to).is_err() {
            return;
        }
    }
}

#[test]
fn frames_are_measured() {
    let builder = VmBuilder::new();
    let (ours, theirs) = (builder.path("ours"), builder.path("theirs"));
    let wire = UnixDatagram::bind(&theirs).expect("a socket");
    let Some(builder) = guest(builder, "net=mirror:64:1:50 net=mirror:1514:8:50") else {
        return;
    };
    let builder = builder
        .arg("-netdev")
        .arg(format!(
            "dgram,id=n,local.type=unix,local.path={},remote.type=unix,remote.path={}",
            ours.display(),
            theirs.display()
        ))
        .args(["-device", "virtio-net-pci,netdev=n,romfile="]);
    let (mut vm, mut serial) = start(builder);
    std::thread::spawn(move || mirror(wire, ours));
    for word in ["mirror:64:1:50", "mirror:1514:8:50"] {
        serial.expect(&format!("end net {word} frames "));
        let frames: u64 = serial.expect(" ns ").parse().expect("a number");
        assert!(frames >= 1024, "{frames}");
    }
    assert_success(&mut vm, &mut serial);
}

/// The number of the next tick that the guest tells of.
fn tick(serial: &mut Serial) -> u64 {
    serial.expect("tick ");
    let number = serial.expect("\n");
    number.trim().parse().expect("a number")
}

fn tick_after(serial: &mut Serial, number: u64) {
    while tick(serial) <= number {}
}

/// Reads on until the guest's numbers are lower than the last one; gives the first of them. A line in
/// which it went back may be made of two halves.
fn tick_back(serial: &mut Serial, mut last: u64) -> u64 {
    loop {
        let line = serial.expect("\n");
        let number = line.rsplit("tick ").next().unwrap_or_default();
        match number.trim().parse() {
            Ok(number) if number < last => return number,
            Ok(number) => last = number,
            Err(_) => {}
        }
    }
}

#[test]
fn a_snapshot_takes_it_back() {
    let builder = VmBuilder::new();
    let path = builder.path("disk.qcow2");
    let made = std::process::Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&path)
        .arg("4M")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        println!("skipped: no qemu-img");
        return;
    }
    let node = json!({"driver": "qcow2", "node-name": "d",
                      "file": {"driver": "file", "filename": path}});
    let disk = [
        "-blockdev",
        &node.to_string(),
        "-device",
        "virtio-blk-pci,drive=d",
    ]
    .map(str::to_owned);
    let Some(builder) = guest(builder, "tick") else {
        return;
    };
    let (mut vm, mut serial) = start(builder.args(&disk));
    tick_after(&mut serial, 5);
    assert_eq!(vm.qmp().hmp("savevm s"), "", "{}", vm.stderr());
    // What it said before may still come, of a second perhaps.
    let saved = tick(&mut serial);
    tick_after(&mut serial, saved + 50);
    let last = tick(&mut serial);
    assert_eq!(vm.qmp().hmp("loadvm s"), "", "{}", vm.stderr());
    let back = tick_back(&mut serial, last);
    assert!(back >= saved, "{back} after {saved}");
    for next in back + 1..back + 10 {
        assert_eq!(tick(&mut serial), next, "{}", serial.seen());
    }
    vm.exec("quit", json!({}));
    vm.wait();
    let images = tempfile::tempdir().expect("a directory");
    let kept = images.path().join("disk.qcow2");
    std::fs::rename(&path, &kept).expect("it can be moved");
    // In a new program, which goes on from there.
    let node = json!({"driver": "qcow2", "node-name": "d",
                      "file": {"driver": "file", "filename": kept}});
    let disk = [
        "-blockdev",
        &node.to_string(),
        "-device",
        "virtio-blk-pci,drive=d",
    ]
    .map(str::to_owned);
    let Some(builder) = guest(VmBuilder::new(), "tick") else {
        return;
    };
    let (mut vm, mut serial) = start(builder.args(&disk).args(["-loadvm", "s"]));
    let first = tick(&mut serial);
    assert!((back - 1..back + 2).contains(&first), "{first}, {back}");
    tick_after(&mut serial, back + 10);
    serial.send(b"q");
    assert_success(&mut vm, &mut serial);
}
