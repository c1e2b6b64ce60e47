//! Calls of the host's kernel that commands lead to seldom: under a filter of system calls that
//! lacks one of them, the process would end.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};
use tests::{Qmp, Vm, VmBuilder, binary, seconds, sys};

/// Accepts one connection within the limit, and says over which socket.
fn accept(listener: &TcpListener) -> std::net::TcpStream {
    assert!(
        sys::wait_readable(listener.as_fd(), seconds(20)),
        "nobody connected"
    );
    listener.accept().expect("a connection").0
}

#[test]
fn a_monitor_connects_over_tcp_again_and_again() {
    for host in ["127.0.0.1", "::1"] {
        let Ok(listener) = TcpListener::bind((host, 0)) else {
            println!("skipped: this host has no {host}");
            continue;
        };
        let port = listener.local_addr().expect("an address").port();
        let _vm = VmBuilder::bare()
            .args(["-machine", "none", "-nodefaults", "-display", "none"])
            .arg("-chardev")
            .arg(format!(
                "socket,id=c,host={host},port={port},reconnect-ms=50"
            ))
            .args(["-mon", "chardev=c,mode=control"])
            .spawn();
        for _ in 0..3 {
            let mut qmp = Qmp::over_socket(OwnedFd::from(accept(&listener)));
            qmp.negotiate();
            qmp.query("query-status");
        }
    }
}

#[test]
fn a_connection_that_is_kept_alive() {
    let mut vm = Vm::none();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let address = json!({
        "type": "inet",
        "data": {"host": "127.0.0.1", "port": port.to_string(), "keep-alive": true},
    });
    vm.exec(
        "chardev-add",
        json!({"id": "out", "backend": {"type": "socket", "data": {
            "addr": address, "server": false}}}),
    );
    accept(&listener);
    vm.assert_alive();
}

#[test]
fn memory_of_a_node_of_the_host() {
    let mut vm = Vm::none();
    let answer = vm.qmp().try_exec(
        "object-add",
        json!({"qom-type": "memory-backend-ram", "id": "m", "size": 1 << 20,
               "host-nodes": [0], "policy": "bind"}),
    );
    match answer {
        Ok(_) => {
            let list = vm.query("query-memdev");
            let found = list.as_array().into_iter().flatten();
            let found: Vec<&Value> = found.filter(|m| m["id"] == "m").collect();
            assert_eq!(found.len(), 1, "{list}");
            assert_eq!(found[0]["policy"], "bind");
        }
        // A host, or what this runs in, may have no nodes to choose from.
        Err(error) => assert!(error.desc.contains("bind"), "{error}"),
    }
    vm.assert_alive();
}

#[test]
fn a_socket_of_a_group() {
    if binary::is_stand_in() {
        println!("skipped: only qvmd knows groups");
        return;
    }
    let mut vm = Vm::none();
    let path = vm.path("grouped.sock");
    let own = std::fs::metadata(vm.dir()).expect("a directory").gid();
    let groups = std::fs::read_to_string("/etc/group").expect("groups");
    let named = |line: &&str| line.split(':').nth(2) == Some(own.to_string().as_str());
    let name = groups.lines().find(named).and_then(|l| l.split(':').next());
    let Some(name) = name else {
        println!("skipped: the own group has no name");
        return;
    };
    let address = json!({"type": "unix", "data": {"path": path}});
    let data = json!({"addr": address, "server": true, "wait": false, "group": name});
    vm.exec(
        "chardev-add",
        json!({"id": "g", "backend": {"type": "socket", "data": data}}),
    );
    assert_eq!(std::fs::metadata(&path).expect("a socket").gid(), own);
}

#[test]
fn registers_and_an_nmi_on_kvm() {
    if !binary::has_kvm() {
        println!("skipped: no /dev/kvm");
        return;
    }
    let mut vm = VmBuilder::new()
        .args(["-machine", "q35", "-accel", "kvm", "-m", "64", "-S"])
        .start();
    let text = vm.qmp().hmp("info registers");
    assert!(text.contains("CR0=") && text.contains("FCW="), "{text}");
    vm.query("inject-nmi");
    vm.assert_alive();
}
