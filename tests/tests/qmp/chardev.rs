//! Character devices made and removed while the program runs.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};
use tests::{Vm, VmBuilder, sys};

fn find(vm: &mut Vm, label: &str) -> Option<Value> {
    let list = vm.query("query-chardev");
    let list = list.as_array().expect("a list");
    list.iter().find(|dev| dev["label"] == label).cloned()
}

#[test]
fn the_monitors_own_are_listed() {
    let mut vm = Vm::none();
    let list = vm.query("query-chardev");
    let entry = &list[0];
    assert_eq!(entry["frontend-open"], true);
    let name = entry["filename"].as_str().expect("a name");
    assert!(name.starts_with("unix:"), "{name}");
    assert!(name.contains(",server=on"), "{name}");
}

#[test]
fn add_and_remove() {
    let mut vm = Vm::none();
    let added = vm.exec(
        "chardev-add",
        json!({"id": "c", "backend": {"type": "null", "data": {}}}),
    );
    assert_eq!(added, json!({}));
    let entry = find(&mut vm, "c").expect("listed");
    assert_eq!(
        entry,
        json!({"label": "c", "filename": "null", "frontend-open": false})
    );
    vm.exec("chardev-remove", json!({"id": "c"}));
    assert_eq!(find(&mut vm, "c"), None);
    let error = vm.refused("chardev-remove", json!({"id": "c"}));
    assert_eq!(error.to_string(), "GenericError: Chardev 'c' not found");
}

#[test]
fn an_id_is_taken_once() {
    let mut vm = Vm::none();
    let null = json!({"id": "c", "backend": {"type": "null", "data": {}}});
    vm.exec("chardev-add", null.clone());
    let error = vm.refused("chardev-add", null.clone());
    assert_eq!(error.desc, "Chardev with id 'c' already exists");
    vm.exec("chardev-remove", json!({"id": "c"}));
    vm.exec("chardev-add", null);
}

#[test]
fn ringbuf_keeps_the_last_bytes() {
    let mut vm = Vm::none();
    vm.exec(
        "chardev-add",
        json!({"id": "r", "backend": {"type": "ringbuf", "data": {"size": 8}}}),
    );
    let write =
        |vm: &mut Vm, data: &str| vm.exec("ringbuf-write", json!({"device": "r", "data": data}));
    let read =
        |vm: &mut Vm, size: u64| vm.exec("ringbuf-read", json!({"device": "r", "size": size}));
    assert_eq!(read(&mut vm, 10), "");
    write(&mut vm, "abc");
    assert_eq!(read(&mut vm, 2), "ab");
    assert_eq!(read(&mut vm, 10), "c");
    write(&mut vm, "0123456789");
    assert_eq!(read(&mut vm, 100), "23456789");
    vm.exec(
        "ringbuf-write",
        json!({"device": "r", "data": "/wB6", "format": "base64"}),
    );
    let bytes = vm.exec(
        "ringbuf-read",
        json!({"device": "r", "size": 9, "format": "base64"}),
    );
    assert_eq!(bytes, "/wB6");
}

#[test]
fn ringbuf_refusals() {
    let mut vm = Vm::none();
    for (size, words) in [(3, "power of two"), (-8, "")] {
        let error = vm.refused(
            "chardev-add",
            json!({"id": "r", "backend": {"type": "ringbuf", "data": {"size": size}}}),
        );
        assert!(error.desc.contains(words), "{error}");
    }
    vm.exec(
        "chardev-add",
        json!({"id": "n", "backend": {"type": "null", "data": {}}}),
    );
    vm.exec(
        "chardev-add",
        json!({"id": "r", "backend": {"type": "ringbuf", "data": {}}}),
    );
    let error = vm.refused("ringbuf-write", json!({"device": "x", "data": "a"}));
    assert_eq!(error.desc, "Device 'x' not found");
    let error = vm.refused("ringbuf-write", json!({"device": "n", "data": "a"}));
    assert_eq!(error.desc, "n is not a ringbuf device");
    let error = vm.refused("ringbuf-read", json!({"device": "r", "size": 0}));
    assert_eq!(error.desc, "size must be greater than zero");
    let error = vm.refused("ringbuf-read", json!({"device": "r", "size": -1}));
    assert_eq!(error.desc, "size must be greater than zero");
    let error = vm.refused(
        "ringbuf-write",
        json!({"device": "r", "data": "*", "format": "base64"}),
    );
    assert!(error.desc.to_lowercase().contains("base64"), "{error}");
    let error = vm.refused(
        "ringbuf-read",
        json!({"device": "r", "size": 1, "format": "hex"}),
    );
    assert!(error.desc.contains("hex"), "{error}");
}

#[test]
fn a_listening_socket_appears_and_disappears() {
    let mut vm = Vm::none();
    let path = vm.path("c.sock");
    vm.exec(
        "chardev-add",
        json!({"id": "c", "backend": {"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": path}}, "server": true, "wait": false}}}),
    );
    let name = find(&mut vm, "c").expect("listed")["filename"]
        .as_str()
        .map(str::to_owned);
    let name = name.expect("a name");
    assert!(name.starts_with("disconnected:unix:"), "{name}");
    let _client = UnixStream::connect(&path).expect("it listens");
    vm.exec("chardev-remove", json!({"id": "c"}));
    assert!(!path.exists(), "the socket is still there");
    assert!(UnixStream::connect(&path).is_err());
}

#[test]
fn a_connecting_socket() {
    let mut vm = Vm::none();
    let path = vm.path("peer.sock");
    let add = json!({"id": "c", "backend": {"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": path}}, "server": false}}});
    let error = vm.refused("chardev-add", add.clone());
    assert!(error.desc.contains("Failed to connect"), "{error}");
    let listener = UnixListener::bind(&path).expect("a listener");
    vm.exec("chardev-add", add);
    let (_peer, _) = listener.accept().expect("it connects");
    vm.exec("chardev-remove", json!({"id": "c"}));
}

#[test]
fn a_socket_over_tcp_tells_its_port() {
    let mut vm = Vm::none();
    vm.exec(
        "chardev-add",
        json!({"id": "c", "backend": {"type": "socket", "data": {
            "addr": {"type": "inet", "data": {"host": "127.0.0.1", "port": "0"}}, "server": true, "wait": false}}}),
    );
    let name = find(&mut vm, "c").expect("listed")["filename"].clone();
    let name = name.as_str().expect("a name");
    let port = name
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(',').next())
        .and_then(|port| port.parse::<u16>().ok())
        .unwrap_or_else(|| panic!("no port in {name}"));
    std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
}

#[test]
fn a_terminal_is_made_and_named() {
    let mut vm = Vm::none();
    let added = vm.exec(
        "chardev-add",
        json!({"id": "p", "backend": {"type": "pty", "data": {}}}),
    );
    let path = added["pty"].as_str().expect("a path");
    assert!(path.starts_with("/dev/pts/"), "{path}");
    assert!(std::path::Path::new(path).exists());
    assert_eq!(
        find(&mut vm, "p").expect("listed")["filename"],
        format!("pty:{path}")
    );
}

#[test]
fn a_file_gets_what_a_serial_port_says() {
    let builder = VmBuilder::new();
    let log = builder.path("log");
    let out = builder.path("out");
    let mut vm = builder
        .stopped()
        .arg("-chardev")
        .arg(format!(
            "file,id=f,path={},logfile={}",
            out.display(),
            log.display()
        ))
        .args(["-serial", "chardev:f"])
        .start();
    assert!(
        find(&mut vm, "f").expect("listed")["frontend-open"]
            .as_bool()
            .expect("a bool")
    );
    assert!(out.exists() && log.exists());
    let error = vm.refused("chardev-remove", json!({"id": "f"}));
    assert_eq!(error.desc, "Chardev 'f' is busy");
}

#[test]
fn bad_backends_are_refused() {
    let mut vm = Vm::none();
    for (arguments, words) in [
        (json!({"id": "c"}), "Parameter 'backend' is missing"),
        (
            json!({"backend": {"type": "null", "data": {}}}),
            "Parameter 'id' is missing",
        ),
        (
            json!({"id": "c", "backend": {}}),
            "Parameter 'backend.type' is missing",
        ),
        (
            json!({"id": "c", "backend": {"type": "null"}}),
            "Parameter 'backend.data' is missing",
        ),
        (
            json!({"id": "c", "backend": {"type": "bogus", "data": {}}}),
            "bogus",
        ),
        (
            json!({"id": "c", "backend": {"type": "file", "data": {}}}),
            "Parameter 'backend.data.out' is missing",
        ),
        (
            json!({"id": "c", "backend": {"type": "null", "data": {"x": 1}}}),
            "Parameter 'backend.data.x' is unexpected",
        ),
        (
            json!({"id": "c", "backend": "null"}),
            "Invalid parameter type for 'backend', expected: object",
        ),
        (
            json!({"id": 1, "backend": {"type": "null", "data": {}}}),
            "Invalid parameter type for 'id', expected: string",
        ),
    ] {
        let error = vm.refused("chardev-add", arguments.clone());
        assert_eq!(error.class, "GenericError");
        assert!(error.desc.contains(words), "{arguments}: {error}");
    }
    let error = vm.refused(
        "chardev-add",
        json!({"id": "c", "backend": {"type": "file", "data": {"out": "/no/such/dir/file"}}}),
    );
    assert!(error.desc.contains("No such file or directory"), "{error}");
    assert_eq!(find(&mut vm, "c"), None);
}

#[test]
fn a_socket_from_a_passed_descriptor() {
    let mut vm = Vm::stopped();
    let (mut here, there) = UnixStream::pair().expect("a pair");
    vm.qmp()
        .try_exec_fds("getfd", json!({"fdname": "sock"}), &[there.as_fd()])
        .expect("getfd");
    drop(there);
    vm.exec(
        "chardev-add",
        json!({"id": "c", "backend": {"type": "socket", "data": {
            "addr": {"type": "fd", "data": {"str": "sock"}}, "server": false}}}),
    );
    // The name was used up.
    assert!(
        vm.qmp()
            .try_exec("closefd", json!({"fdname": "sock"}))
            .is_err()
    );
    here.write_all(b"x").expect("it is open");
    vm.exec("chardev-remove", json!({"id": "c"}));
    assert!(sys::wait_readable(here.as_fd(), tests::seconds(5)));
    assert!(
        matches!(here.read(&mut [0; 8]), Ok(0) | Err(_)),
        "it is still open"
    );
}

#[test]
fn changing_what_cannot_be_changed() {
    let mut vm = Vm::none();
    let sink = json!({"type": "null", "data": {}});
    let error = vm.refused("chardev-change", json!({"id": "zz", "backend": sink}));
    assert_eq!(
        error.to_string(),
        "GenericError: Chardev 'zz' does not exist"
    );
    let own = vm.query("query-chardev")[0]["label"].clone();
    let error = vm.refused("chardev-change", json!({"id": own, "backend": sink}));
    assert_eq!(error.desc, "Chardev user does not support chardev hotswap");
    vm.exec("chardev-add", json!({"id": "c", "backend": sink}));
    let file = json!({"type": "file", "data": {"out": "/nope/x"}});
    let error = vm.refused("chardev-change", json!({"id": "c", "backend": file}));
    let text = "Failed to add chardev 'c': Could not open '/nope/x': No such file or directory";
    assert_eq!(error.desc, text);
    assert_eq!(find(&mut vm, "c").expect("it stays")["filename"], "null");
    let pty = vm.exec(
        "chardev-change",
        json!({"id": "c", "backend": {"type": "pty", "data": {}}}),
    );
    assert!(
        pty["pty"]
            .as_str()
            .expect("a path")
            .starts_with("/dev/pts/")
    );
}

#[test]
fn nobody_waits_for_a_name_server() {
    let mut vm = Vm::none();
    let addr = json!({"type": "inet", "data": {"host": "nowhere.invalid", "port": "1"}});
    let socket = json!({"type": "socket", "data": {"addr": addr, "server": false}});
    let error = vm.refused("chardev-add", json!({"id": "r", "backend": socket}));
    let why = "address resolution failed for nowhere.invalid:1: Name or service not known";
    assert_eq!(error.desc, format!("Failed to add chardev 'r': {why}"));
    let line = "chardev-add socket,id=r,host=nowhere.invalid,port=1";
    assert_eq!(vm.qmp().hmp(line), format!("Error: {why}\r\n"));
    assert_eq!(find(&mut vm, "r"), None);
}

#[test]
fn a_socket_that_a_netdev_has_is_not_exchanged() {
    let mut vm = Vm::stopped();
    let path = vm.path("peer.sock");
    let address = json!({"type": "unix", "data": {"path": path}});
    let socket =
        json!({"type": "socket", "data": {"addr": address, "server": true, "wait": false}});
    vm.exec("chardev-add", json!({"id": "c", "backend": socket}));
    let null = json!({"id": "c", "backend": {"type": "null", "data": {}}});
    let netdev = json!({"type": "vhost-user", "id": "n", "chardev": "c"});
    vm.exec("netdev_add", netdev.clone());
    let error = vm.refused("chardev-change", null.clone());
    assert_eq!(error.desc, "Chardev user does not support chardev hotswap");
    UnixStream::connect(&path).expect("it listens still");
    vm.exec("netdev_del", json!({"id": "n"}));
    vm.exec("chardev-change", null);
    assert_eq!(find(&mut vm, "c").expect("listed")["filename"], "null");
    let error = vm.refused("netdev_add", netdev);
    assert_eq!(error.desc, "chardev \"c\" is not reconnectable");
    vm.exec("chardev-remove", json!({"id": "c"}));
}
