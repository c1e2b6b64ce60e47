//! Character devices that change under a serial port and a hot-plugged one.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use tests::qtest::Qtest;
use tests::{VmBuilder, seconds};

const COM1: u16 = 0x3f8;

fn start() -> Qtest {
    let builder = VmBuilder::new().idle();
    let path = builder.path("a");
    let chardev = format!("socket,id=c,path={},server=on,wait=off", path.display());
    let builder = builder
        .args(["-device", "virtio-serial-pci,addr=4.0,id=s0"])
        .args(["-chardev", &chardev, "-serial", "chardev:c"]);
    Qtest::start_with(builder, &[])
}

fn socket(t: &Qtest, name: &str) -> Value {
    let path = t.vm.path(name);
    let addr = json!({"type": "unix", "data": {"path": path}});
    let data = json!({"addr": addr, "server": true, "wait": false});
    json!({"type": "socket", "data": data})
}

fn connect(t: &Qtest, name: &str) -> UnixStream {
    let stream = UnixStream::connect(t.vm.path(name)).expect("it listens");
    stream
        .set_read_timeout(Some(seconds(10)))
        .expect("a socket");
    stream
}

fn hears(stream: &mut UnixStream, byte: u8) {
    let mut got = [0];
    stream.read_exact(&mut got).expect("a character");
    assert_eq!(got, [byte]);
}

/// Waits until the line status says so.
fn line_status(t: &mut Qtest, bits: u8) {
    for _ in 0..1000 {
        if t.inb(COM1 + 5) & bits == bits {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("the line status never has {bits:#x}");
}

#[test]
fn a_serial_port_goes_on_with_another_host_side() {
    let mut t = start();
    let mut first = connect(&t, "a");
    t.outb(COM1, b'1');
    hears(&mut first, b'1');
    let args = json!({"id": "c", "backend": socket(&t, "b")});
    assert_eq!(t.vm.exec("chardev-change", args), json!({}));
    assert_eq!(first.read(&mut [0]).expect("the end"), 0);
    let mut second = connect(&t, "b");
    t.outb(COM1, b'2');
    hears(&mut second, b'2');
    second.write_all(b"x").expect("it is taken");
    line_status(&mut t, 1);
    assert_eq!(t.inb(COM1), b'x');
    // What cannot be opened changes nothing.
    let file = json!({"type": "file", "data": {"out": "/nowhere/x"}});
    let error =
        t.vm.refused("chardev-change", json!({"id": "c", "backend": file}));
    assert_eq!(
        error.desc,
        "Could not open '/nowhere/x': No such file or directory"
    );
    t.outb(COM1, b'3');
    hears(&mut second, b'3');
    // The same place again.
    let args = json!({"id": "c", "backend": socket(&t, "b")});
    t.vm.exec("chardev-change", args);
    let mut third = connect(&t, "b");
    t.outb(COM1, b'4');
    hears(&mut third, b'4');
    let list = t.vm.query("query-yank");
    assert!(
        list.as_array()
            .expect("a list")
            .contains(&json!({"type": "chardev", "id": "c"}))
    );
    let text = t.vm.qmp().hmp("chardev-change c null");
    assert_eq!(text, "");
    let list = t.vm.query("query-yank");
    assert!(
        !list
            .as_array()
            .expect("a list")
            .contains(&json!({"type": "chardev", "id": "c"}))
    );
    assert_eq!(third.read(&mut [0]).expect("the end"), 0);
    t.outb(COM1, b'5');
}

#[test]
fn a_break_reaches_the_serial_port() {
    let mut t = start();
    t.vm.exec("chardev-send-break", json!({"id": "c"}));
    line_status(&mut t, 0x11);
    assert_eq!((t.inb(COM1), t.inb(COM1 + 5)), (0, 0x60));
    assert_eq!(t.vm.qmp().hmp("chardev-send-break c"), "");
    line_status(&mut t, 0x11);
    let error = t.vm.refused("chardev-send-break", json!({"id": "x"}));
    assert_eq!(error.to_string(), "GenericError: Chardev 'x' not found");
}

#[test]
fn what_a_plugged_port_uses_is_busy_until_it_is_gone() {
    let mut t = start();
    for _ in 0..3 {
        let args = json!({"id": "p", "backend": socket(&t, "p")});
        t.vm.exec("chardev-add", args);
        t.vm.exec(
            "device_add",
            json!({"driver": "virtserialport", "id": "port", "chardev": "p", "name": "org.test"}),
        );
        let error = t.vm.refused("chardev-remove", json!({"id": "p"}));
        assert_eq!(error.to_string(), "GenericError: Chardev 'p' is busy");
        let peer = connect(&t, "p");
        let args = json!({"id": "p", "backend": socket(&t, "q")});
        t.vm.exec("chardev-change", args);
        assert_eq!((&peer).read(&mut [0]).expect("the end"), 0);
        let _peer = connect(&t, "q");
        t.vm.exec("device_del", json!({"id": "port"}));
        t.vm.qmp().event("DEVICE_DELETED");
        t.vm.exec("chardev-remove", json!({"id": "p"}));
    }
}
