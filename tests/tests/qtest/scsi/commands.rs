//! What units answer.

use serde_json::json;
use tests::{disk, iso};

use super::{BAD_TARGET, Bus, CD, CHECK, DISK, GOOD, OK, ten};

#[test]
fn units_say_who_they_are() {
    let mut bus = Bus::start("");
    let config = bus.device.config();
    let words: Vec<u32> = (0..9).map(|n| bus.t.readl(config + 4 * n)).collect();
    assert_eq!(words, [1, 254, 65535, 128, 16, 96, 32, 0x00ff_0000, 16383]);
    let inquiry = [0x12, 0, 0, 0, 36, 0];
    let disk = bus.read(DISK, &inquiry, 36);
    assert_eq!((disk[0], disk[1]), (0, 0));
    assert_eq!(&disk[8..36], b"QEMU    QEMU HARDDISK   2.5+");
    let cd = bus.read(CD, &inquiry, 36);
    assert_eq!((cd[0], cd[1]), (5, 0x80));
    assert_eq!(&cd[8..36], b"QEMU    QEMU CD-ROM     2.5+");
    let pages = bus.read(DISK, &[0x12, 1, 0, 0, 64, 0], 64);
    assert_eq!(pages[..10], [0, 0, 0, 6, 0, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    let serial = bus.read(DISK, &[0x12, 1, 0x80, 0, 64, 0], 64);
    assert_eq!(&serial[3..7], b"\x03abc");
    let limits = bus.read(DISK, &[0x12, 1, 0xb0, 0, 64, 0], 64);
    assert_eq!(limits[20..24], (1u32 << 21).to_be_bytes());
    assert_eq!(limits[28..32], 8u32.to_be_bytes());
    let luns = bus.read((1, 0), &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], 64);
    assert_eq!(luns[..4], [0, 0, 0, 16]);
    assert_eq!(luns[16..18], [0, 2]);
    assert_eq!(bus.command((9, 0), &[0; 6], &[], 0).response, BAD_TARGET);
    assert_eq!(bus.read((1, 0), &inquiry, 36)[0], 0x3f);
    assert_eq!(bus.read((1, 1), &inquiry, 36)[0], 0x7f);
}

#[test]
fn a_disk_is_read_and_written() {
    for controller in ["", ",iothread=io0"] {
        let mut bus = Bus::start(controller);
        bus.settle(DISK);
        let capacity = bus.read(DISK, &ten(0x25, 0, 0), 8);
        assert_eq!(capacity, [0, 0, 7, 0xff, 0, 0, 2, 0]);
        let data = bus.read(DISK, &ten(0x28, 5, 2), 1024);
        assert_eq!(&data[..512], disk::numbered_sector(5));
        assert_eq!(&data[512..], disk::numbered_sector(6));
        let written = bus.command(DISK, &ten(0x2a, 7, 1), &[0xa5; 512], 0);
        assert_eq!((written.response, written.status), (OK, GOOD));
        let flushed = bus.command(DISK, &ten(0x35, 0, 0), &[], 0);
        assert_eq!((flushed.response, flushed.status), (OK, GOOD));
        assert_eq!(disk::read(&bus.path, 7 * 512, 512), [0xa5; 512]);
        assert_eq!(
            disk::read(&bus.path, 8 * 512, 512),
            disk::numbered_sector(8)
        );
        let mut far = ten(0x28, 0, 1);
        far[4] = 8;
        let beyond = bus.command(DISK, &far, &[], 512);
        assert_eq!((beyond.status, beyond.sense), (CHECK, [5, 0x21, 0]));
        let unknown = bus.command(DISK, &[0x06, 0, 0, 0, 0, 0], &[], 0);
        assert_eq!(unknown.status, CHECK);
    }
}

#[test]
fn an_optical_drive_is_read() {
    let mut bus = Bus::start("");
    bus.settle(CD);
    let capacity = bus.read(CD, &ten(0x25, 0, 0), 8);
    assert_eq!(capacity, [0, 0, 0, 21, 0, 0, 8, 0]);
    let descriptor = bus.read(CD, &ten(0x28, 16, 1), 2048);
    assert_eq!(&descriptor[..6], b"\x01CD001");
    let toc = bus.read(CD, &[0x43, 0, 0, 0, 0, 0, 0, 0, 20, 0], 20);
    assert_eq!(toc[..4], [0, 18, 1, 1]);
    let configuration = bus.read(CD, &[0x46, 0, 0, 0, 0, 0, 0, 0, 8, 0], 8);
    assert_eq!(configuration[6..8], [0, 8]);
    let refused = bus.command(CD, &ten(0x2a, 0, 1), &[0; 2048], 0);
    assert_eq!(refused.status, CHECK);
    // The tray opens, and nothing is read any more.
    let eject = bus.command(CD, &[0x1b, 0, 0, 0, 2, 0], &[], 0);
    assert_eq!(eject.status, GOOD);
    let moved = bus.t.vm.qmp().event("DEVICE_TRAY_MOVED");
    assert_eq!(moved["data"]["id"], "cd0");
    assert_eq!(moved["data"]["tray-open"], true);
    let empty = bus.command(CD, &ten(0x28, 16, 1), &[], 2048);
    assert_eq!((empty.status, &empty.sense[..2]), (CHECK, &[2, 0x3a][..]));
    let load = bus.command(CD, &[0x1b, 0, 0, 0, 3, 0], &[], 0);
    assert_eq!(load.status, GOOD);
    let moved = bus.t.vm.qmp().event("DEVICE_TRAY_MOVED");
    assert_eq!(moved["data"]["tray-open"], false);
    assert_eq!(bus.read(CD, &ten(0x28, 16, 1), 2048), descriptor);
}

#[test]
fn a_unit_is_reset() {
    let mut bus = Bus::start("");
    bus.settle(DISK);
    bus.settle(CD);
    let t = &mut bus.t;
    let at = t.alloc(64);
    // LOGICAL UNIT RESET of the disk.
    let mut request = vec![0, 0, 0, 0, 5, 0, 0, 0, 1, 0, 0x40, 0];
    request.resize(24, 0);
    t.write(at, &request);
    t.writeb(at + 32, 0xff);
    bus.control.add(t, &[(at, 24, false), (at + 32, 1, true)]);
    bus.control.kick(t);
    bus.control.wait(t);
    assert_eq!(t.readb(at + 32), 0);
    bus.settle(DISK);
    assert_eq!(bus.command(CD, &[0; 6], &[], 0).status, GOOD);
}

#[test]
fn the_monitor_exchanges_the_medium() {
    let mut bus = Bus::start("");
    bus.settle(CD);
    let other = iso::file(bus._directory.path(), "b.iso", "OTHER", "B.TXT", b"other");
    let ready = |bus: &mut Bus| {
        let ended = bus.command(CD, &[0; 6], &[], 0);
        (ended.status, ended.sense)
    };
    let volume = |bus: &mut Bus| bus.read(CD, &ten(0x28, 16, 1), 2048)[40..45].to_vec();
    assert_eq!(volume(&mut bus), b"TEST ");
    let tray = |bus: &mut Bus, open: bool| {
        let moved = bus.t.vm.qmp().event("DEVICE_TRAY_MOVED");
        assert_eq!(moved["data"]["id"], "cd0");
        assert_eq!(moved["data"]["tray-open"], open);
    };
    let id = json!({"id": "cd0"});
    // The guest has it locked.
    bus.command(CD, &[0x1e, 0, 0, 0, 1, 0], &[], 0);
    bus.t.vm.exec("blockdev-open-tray", id.clone());
    let drives = bus.t.vm.query("query-block");
    let drive = drives
        .as_array()
        .expect("a list")
        .iter()
        .find(|d| d["qdev"] == "cd0");
    let drive = drive.expect("the drive");
    assert_eq!(
        (&drive["locked"], &drive["tray_open"]),
        (&json!(true), &json!(false))
    );
    let event = bus.read(CD, &[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0], 8);
    assert_eq!(event[4] & 0xf, 1, "an eject request");
    bus.command(CD, &[0x1e, 0, 0, 0, 0, 0], &[], 0);
    bus.t.vm.exec("blockdev-open-tray", id.clone());
    tray(&mut bus, true);
    bus.t.vm.exec("blockdev-remove-medium", id.clone());
    let (status, _) = ready(&mut bus);
    assert_eq!(status, CHECK);
    let (status, sense) = ready(&mut bus);
    assert_eq!((status, &sense[..2]), (CHECK, &[2, 0x3a][..]));
    bus.t.vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "b", "filename": other, "read-only": true}),
    );
    bus.t.vm.exec(
        "blockdev-insert-medium",
        json!({"id": "cd0", "node-name": "b"}),
    );
    bus.t.vm.exec("blockdev-close-tray", id);
    tray(&mut bus, false);
    // What it is told at last is that there is another medium.
    let told: Vec<_> = std::iter::from_fn(|| match ready(&mut bus) {
        (GOOD, _) => None,
        (_, sense) => Some(sense),
    })
    .take(4)
    .collect();
    assert_eq!(told.last(), Some(&[6, 0x28, 0]));
    assert_eq!(volume(&mut bus), b"OTHER");
}
