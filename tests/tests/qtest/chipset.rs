//! What is on a PC's board.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::json;
use tests::pci::Function;
use tests::qtest::Qtest;
use tests::{VmBuilder, seconds};

/// Where the test puts the ports of power management.
const PM: u16 = 0x600;

fn power_management(t: &mut Qtest) {
    let lpc = Function::at(31, 0);
    lpc.write32(t, 0x40, u32::from(PM) | 1);
    lpc.write8(t, 0x44, 0x80);
}

fn cmos(t: &mut Qtest, index: u8) -> u8 {
    t.outb(0x70, index);
    t.inb(0x71)
}

#[test]
fn the_reset_register() {
    let mut t = Qtest::start(&[]);
    t.outb(0xcf9, 0x02);
    t.outb(0xcf9, 0x06);
    let event = t.vm.qmp().event("RESET");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
}

#[test]
fn the_keyboard_controllers_reset() {
    let mut t = Qtest::start(&[]);
    t.outb(0x64, 0xfe);
    let event = t.vm.qmp().event("RESET");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
}

#[test]
fn a_guests_reset_with_no_reboot_ends_the_program() {
    let mut t = Qtest::start(&["-no-reboot"]);
    t.outb(0xcf9, 0x06);
    let event = t.vm.qmp().event("SHUTDOWN");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(t.vm.wait().status, Some(0));
}

#[test]
fn the_power_button() {
    let mut t = Qtest::start(&[]);
    power_management(&mut t);
    t.outw(PM + 2, 0x100);
    assert_eq!(t.inw(PM) & 0x100, 0);
    t.vm.query("system_powerdown");
    t.vm.qmp().event("POWERDOWN");
    assert_ne!(t.inw(PM) & 0x100, 0);
    // Written back it is cleared.
    t.outw(PM, 0x100);
    assert_eq!(t.inw(PM) & 0x100, 0);
}

#[test]
fn switching_off() {
    let mut t = Qtest::start(&[]);
    power_management(&mut t);
    t.outw(PM + 4, 1 << 13);
    let event = t.vm.qmp().event("SHUTDOWN");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(t.vm.wait().status, Some(0));
}

#[test]
fn switching_off_with_no_shutdown_is_a_pause() {
    let mut t = Qtest::start(&["-no-shutdown"]);
    power_management(&mut t);
    t.outw(PM + 4, 1 << 13);
    t.vm.qmp().event("SHUTDOWN");
    t.vm.qmp().event("STOP");
    assert_eq!(
        t.vm.query("query-status"),
        json!({"running": false, "status": "shutdown"})
    );
    t.vm.query("system_reset");
    t.vm.query("cont");
    assert_eq!(t.vm.query("query-status")["status"], "running");
}

#[test]
fn the_power_management_timer_runs() {
    let mut t = Qtest::start(&[]);
    power_management(&mut t);
    let first = t.inl(PM + 8);
    if tests::binary::is_stand_in() {
        std::thread::sleep(std::time::Duration::from_millis(10));
    } else {
        t.ok("clock_step 10000000");
    }
    let ticks = t.inl(PM + 8).wrapping_sub(first) & 0xff_ffff;
    assert!(ticks >= 35_795, "{ticks}");
}

#[test]
fn a_panic() {
    let mut t = Qtest::start(&["-device", "pvpanic", "-action", "panic=pause"]);
    assert_ne!(t.inb(0x505) & 1, 0);
    t.outb(0x505, 1);
    let event = t.vm.qmp().event("GUEST_PANICKED");
    assert_eq!(event["data"]["action"], "pause");
    t.vm.wait_status("guest-panicked");
    let mut t = Qtest::start(&["-device", "pvpanic", "-action", "panic=none"]);
    t.outb(0x505, 1);
    assert_eq!(t.vm.qmp().event("GUEST_PANICKED")["data"]["action"], "run");
    assert_eq!(t.vm.query("query-status")["status"], "running");
    let mut t = Qtest::start(&["-device", "pvpanic"]);
    t.outb(0x505, 2);
    assert_eq!(
        t.vm.qmp().event("GUEST_CRASHLOADED")["data"]["action"],
        "run"
    );
}

#[test]
fn a_panic_that_ends_the_program() {
    for (action, status) in [("shutdown", 0), ("exit-failure", 1)] {
        let mut t = Qtest::start(&["-device", "pvpanic", "-action", &format!("panic={action}")]);
        t.outb(0x505, 1);
        let event = t.vm.qmp().event("GUEST_PANICKED");
        assert_eq!(event["data"]["action"], "poweroff");
        assert_eq!(
            t.vm.qmp().event("SHUTDOWN")["data"],
            json!({"guest": true, "reason": "guest-panic"})
        );
        assert_eq!(t.vm.wait().status, Some(status), "{action}");
    }
}

#[test]
fn the_exit_device() {
    for value in [0u8, 3, 0x10] {
        let mut t = Qtest::start(&["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        // The program is gone before it can answer.
        t.post(&format!("outb 0xf4 {value:#x}"));
        assert_eq!(t.vm.wait().status, Some(i32::from(value) << 1 | 1));
    }
}

#[test]
fn ram_size_by_the_firmware_interface() {
    let mut t = Qtest::start(&[]);
    t.outw(0x510, 0);
    let signature: Vec<u8> = (0..4).map(|_| t.inb(0x511)).collect();
    assert_eq!(signature, b"QEMU");
    t.outw(0x510, 3);
    let bytes: Vec<u8> = (0..8).map(|_| t.inb(0x511)).collect();
    assert_eq!(bytes, (64u64 << 20).to_le_bytes());
    // Behind an item's end there are zeroes, and an item that is not there is empty.
    assert_eq!(t.inb(0x511), 0);
    t.outw(0x510, 0x7fff);
    assert_eq!(t.inb(0x511), 0);
}

#[test]
fn the_clock_shows_the_date_that_was_set() {
    let mut t = Qtest::start(&["-rtc", "base=2020-02-03T04:05:06"]);
    assert_eq!(cmos(&mut t, 0x32), 0x20);
    assert_eq!(
        [cmos(&mut t, 9), cmos(&mut t, 8), cmos(&mut t, 7)],
        [0x20, 0x02, 0x03]
    );
    assert_eq!([cmos(&mut t, 4), cmos(&mut t, 2)], [0x04, 0x05]);
    assert_ne!(cmos(&mut t, 0x0d) & 0x80, 0, "the battery is good");
    // Binary and 12-hour notation.
    t.outb(0x70, 0x0b);
    t.outb(0x71, 0x06);
    assert_eq!(cmos(&mut t, 9), 20);
}

#[test]
fn setting_the_clock_is_an_event() {
    let mut t = Qtest::start(&["-rtc", "base=2020-02-03T04:05:06"]);
    t.outb(0x70, 4);
    t.outb(0x71, 0x05);
    let event = t.vm.qmp().event("RTC_CHANGE");
    let offset = event["data"]["offset"].as_i64().expect("a number");
    assert!((3590..=3610).contains(&offset), "{offset}");
    let path = event["data"]["qom-path"].as_str().expect("a path");
    let kind =
        t.vm.exec("qom-get", json!({"path": path, "property": "type"}));
    assert_eq!(kind, "mc146818rtc");
}

#[test]
fn memory_of_the_clock_keeps_what_is_written() {
    let mut t = Qtest::start(&[]);
    for index in [0x40u8, 0x7f] {
        t.outb(0x70, index);
        t.outb(0x71, 0x5a);
        assert_eq!(cmos(&mut t, index), 0x5a);
    }
    // Bit 7 of the index masks NMIs and is no part of it.
    assert_eq!(cmos(&mut t, 0xc0), 0x5a);
}

#[test]
fn a_serial_port() {
    let builder = VmBuilder::new().idle();
    let path = builder.path("serial.sock");
    let builder = builder
        .arg("-chardev")
        .arg(format!(
            "socket,id=s0,path={},server=on,wait=off",
            path.display()
        ))
        .args(["-serial", "chardev:s0"]);
    let mut t = Qtest::start_with(builder, &[]);
    let mut host = UnixStream::connect(path).expect("it listens");
    host.set_read_timeout(Some(seconds(10))).expect("a socket");
    // 8N1, FIFOs on, RTS and DTR.
    t.outb(0x3fb, 3);
    t.outb(0x3fa, 7);
    t.outb(0x3fc, 3);
    assert_eq!(t.inb(0x3fa) & 0xc0, 0xc0, "FIFOs");
    for byte in b"hello" {
        t.until("the transmitter", |t| t.inb(0x3fd) & 0x20 != 0);
        t.outb(0x3f8, *byte);
        if !tests::binary::is_stand_in() {
            t.ok("clock_step 2000000");
        }
    }
    let mut bytes = [0; 5];
    host.read_exact(&mut bytes).expect("bytes");
    assert_eq!(&bytes, b"hello");
    host.write_all(b"xyz").expect("bytes");
    let mut got = Vec::new();
    for _ in 0..3 {
        t.until("a byte", |t| t.inb(0x3fd) & 1 != 0);
        got.push(t.inb(0x3f8));
    }
    assert_eq!(got, b"xyz");
    assert_eq!(t.inb(0x3fd) & 1, 0);
    // The scratch register, and the loop inside.
    t.outb(0x3ff, 0x5a);
    assert_eq!(t.inb(0x3ff), 0x5a);
    t.outb(0x3fc, 0x10);
    t.outb(0x3f8, b'q');
    t.until("the loop", |t| t.inb(0x3fd) & 1 != 0);
    assert_eq!(t.inb(0x3f8), b'q');
}

#[test]
fn several_serial_ports_have_the_usual_places() {
    let mut t = Qtest::start(&[
        "-chardev",
        "ringbuf,id=a",
        "-chardev",
        "ringbuf,id=b",
        "-serial",
        "chardev:a",
        "-serial",
        "chardev:b",
    ]);
    t.outb(0x3f8, b'1');
    t.outb(0x2f8, b'2');
    for (device, text) in [("a", "1"), ("b", "2")] {
        let got =
            t.vm.exec("ringbuf-read", json!({"device": device, "size": 10}));
        assert_eq!(got, text);
    }
}

#[test]
fn shadow_memory_can_be_switched_on() {
    let mut t = Qtest::start(&[]);
    let host = Function::at(0, 0);
    // PAM1 of the MCH: 0xc0000 to 0xc3fff is memory for reads and writes.
    host.write8(&mut t, 0x91, 0x33);
    t.writel(0xc_0000, 0x1234_5678);
    assert_eq!(t.readl(0xc_0000), 0x1234_5678);
}

#[test]
fn shadow_memory_can_be_made_read_only() {
    let mut t = Qtest::start(&[]);
    let host = Function::at(0, 0);
    host.write8(&mut t, 0x91, 0x33);
    t.writel(0xc_0000, 0x1234_5678);
    if tests::binary::skip_on_stand_in("for writes by this protocol it makes no difference there") {
        return;
    }
    // For reads alone: writes are lost.
    host.write8(&mut t, 0x91, 0x11);
    t.writel(0xc_0000, 0);
    assert_eq!(t.readl(0xc_0000), 0x1234_5678);
}

#[test]
fn ports_that_nobody_has_read_as_ones() {
    let mut t = Qtest::start(&[]);
    assert_eq!(t.inb(0x1234), 0xff);
    assert_eq!(t.inl(0x1234), 0xffff_ffff);
    t.outl(0x1234, 0);
    t.inw(0xffff);
    t.vm.assert_alive();
}
