//! yank and query-yank, in turn and out of band.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};
use tests::{Qmp, Vm, VmBuilder};

fn socket(vm: &Vm, id: &str) -> Value {
    let addr = json!({"type": "unix", "data": {"path": vm.path(id)}});
    let data = json!({"addr": addr, "server": true, "wait": false});
    json!({"id": id, "backend": {"type": "socket", "data": data}})
}

fn chardev(id: &str) -> Value {
    json!({"type": "chardev", "id": id})
}

#[test]
fn only_connections_can_be_yanked() {
    let mut vm = Vm::none();
    let before = vm.query("query-yank");
    let own = before.as_array().expect("a list").len();
    assert_eq!(own, 1, "the monitor's own");
    let null = json!({"id": "null", "backend": {"type": "null", "data": {}}});
    vm.exec("chardev-add", null);
    let args = socket(&vm, "c");
    vm.exec("chardev-add", args);
    assert_eq!(vm.query("query-yank")[1], chardev("c"));
    assert_eq!(vm.exec("yank", json!({"instances": []})), json!({}));
    for instance in [
        chardev("null"),
        chardev("x"),
        json!({"type": "block-node", "node-name": "x"}),
        json!({"type": "migration"}),
    ] {
        let error = vm.refused("yank", json!({"instances": [chardev("c"), instance]}));
        assert_eq!(error.to_string(), "DeviceNotFound: Instance not found");
    }
    let error = vm.refused("yank", json!({"instances": [{"type": "x"}]}));
    assert_eq!(error.desc, "Parameter 'type' does not accept value 'x'");
    // Without a peer there is nothing to break.
    vm.exec("yank", json!({"instances": [chardev("c")]}));
    vm.exec("chardev-remove", json!({"id": "c"}));
    assert_eq!(vm.query("query-yank"), before);
}

#[test]
fn a_yanked_peer_is_gone_and_another_may_come() {
    let mut vm = Vm::none();
    let args = socket(&vm, "c");
    vm.exec("chardev-add", args);
    for _ in 0..3 {
        let mut peer = UnixStream::connect(vm.path("c")).expect("it listens");
        connected(&mut vm, true);
        vm.exec("yank", json!({"instances": [chardev("c")]}));
        assert_eq!(peer.read(&mut [0; 1]).expect("the end"), 0);
        connected(&mut vm, false);
    }
}

fn connected(vm: &mut Vm, there: bool) {
    for _ in 0..500 {
        let list = vm.query("query-chardev");
        let list = list.as_array().expect("a list");
        let entry = list.iter().find(|entry| entry["label"] == "c");
        let name = entry
            .and_then(|entry| entry["filename"].as_str())
            .expect("a name");
        if name.starts_with("disconnected:") != there {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("c is not as it should be: {there}");
}

#[test]
fn out_of_band_it_is_done_while_the_monitor_is_busy() {
    let mut vm = Vm::none();
    let args = socket(&vm, "c");
    vm.exec("chardev-add", args);
    let mut peer = UnixStream::connect(vm.path("c")).expect("it listens");
    connected(&mut vm, true);
    drop(vm.take_qmp());
    let mut qmp = Qmp::connect_raw(&vm.monitor(0));
    qmp.greeting();
    qmp.send(b"{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}\n");
    assert_eq!(qmp.answer()["return"], json!({}));
    qmp.send(b"{\"exec-oob\": \"query-yank\", \"id\": 1}\n");
    let answer = qmp.answer();
    assert_eq!(
        (&answer["id"], &answer["return"][1]),
        (&json!(1), &chardev("c"))
    );
    let yank = json!({"exec-oob": "yank", "id": 2, "arguments": {"instances": [chardev("c")]}});
    qmp.send(format!("{yank}\n").as_bytes());
    assert_eq!(qmp.answer(), json!({"return": {}, "id": 2}));
    assert_eq!(peer.read(&mut [0; 1]).expect("the end"), 0);
    let yank = json!({"exec-oob": "yank", "id": 3, "arguments": {"instances": [chardev("x")]}});
    qmp.send(format!("{yank}\n").as_bytes());
    let error = json!({"class": "DeviceNotFound", "desc": "Instance not found"});
    assert_eq!(qmp.answer(), json!({"error": error, "id": 3}));
    // It overtakes a command that takes its time.
    let addr = json!({"type": "inet", "data": {"host": "10.255.255.1", "port": "1"}});
    let data = json!({"addr": addr, "server": false});
    let slow = json!({"execute": "chardev-add", "id": "slow", "arguments": {
        "id": "d", "backend": {"type": "socket", "data": data}}});
    qmp.send(format!("{slow}\n{}\n", json!({"exec-oob": "query-yank", "id": 4})).as_bytes());
    assert_eq!(qmp.answer()["id"], json!(4));
    assert_eq!(qmp.answer()["id"], json!("slow"));
}

#[test]
fn a_monitor_parts_from_its_client() {
    let mut vm = VmBuilder::new().none().monitors(2).start();
    let mut other = Qmp::connect(&vm.monitor(1));
    let list = vm.query("query-yank");
    let mine = vm.query("query-chardev");
    assert_eq!(list.as_array().map(Vec::len), mine.as_array().map(Vec::len));
    let second = list[1]["id"].as_str().expect("an id").to_owned();
    vm.exec("yank", json!({"instances": [chardev(&second)]}));
    assert_eq!(other.recv_bytes(), None);
    Qmp::connect(&vm.monitor(1)).query("query-status");
}
