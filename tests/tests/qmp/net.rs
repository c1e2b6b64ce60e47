//! Netdevs and links by command: what is refused and how, and what the text monitor shows. The
//! wording is the stand-in's unless a test says otherwise.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tests::binary::skip_on_stand_in;
use tests::{Vm, VmBuilder};

fn null() -> OwnedFd {
    let file = File::options().read(true).write(true).open("/dev/null");
    file.expect("/dev/null").into()
}

/// Gives the program a descriptor of that name that is no tap.
fn pass_null(vm: &mut Vm, name: &str) {
    let fd = null();
    vm.qmp()
        .try_exec_fds("getfd", json!({ "fdname": name }), &[fd.as_fd()])
        .expect("getfd");
}

/// Whether this machine has taps for us.
fn has_taps() -> bool {
    let there = File::options()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .is_ok();
    if !there || tests::sys::user_id() != 0 {
        eprintln!("skipped: there are no taps here");
    }
    there && tests::sys::user_id() == 0
}

fn program(directory: &Path, name: &str, lines: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn options_that_make_no_sense_are_refused() {
    const FD: &str = "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, fds=, and \
                      vhostfds= are invalid with fd=";
    const FDS: &str = "ifname=, script=, downscript=, vnet_hdr=, helper=, queues=, and vhostfd= \
                       are invalid with fds=";
    const HELPER: &str = "ifname=, script=, downscript=, vnet_hdr=, queues=, and vhostfds= are \
                          invalid with helper=";
    let mut vm = Vm::none();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        pass_null(&mut vm, name);
    }
    for (arguments, words) in [
        (
            json!({"type": "foo", "id": "x"}),
            "Parameter 'type' does not accept value 'foo'",
        ),
        (json!({"type": "tap"}), "Parameter 'id' is missing"),
        (
            json!({"type": "tap", "id": "1x"}),
            "Parameter 'id' expects an identifier",
        ),
        (
            json!({"type": "tap", "id": "a b"}),
            "Parameter 'id' expects an identifier",
        ),
        (
            json!({"type": "tap", "id": "x", "foo": 1}),
            "Parameter 'foo' is unexpected",
        ),
        (
            json!({"type": "tap", "id": "x", "vhost": "on"}),
            "Invalid parameter type for 'vhost', expected: boolean",
        ),
        (
            json!({"type": "tap", "id": "x", "fd": "zz"}),
            "File descriptor named 'zz' has not been found",
        ),
        (
            json!({"type": "tap", "id": "x", "fd": "a", "ifname": "y"}),
            FD,
        ),
        (
            json!({"type": "tap", "id": "x", "fd": "b", "queues": 2}),
            FD,
        ),
        (
            json!({"type": "tap", "id": "x", "fds": "c:d", "queues": 2}),
            FDS,
        ),
        (
            json!({"type": "tap", "id": "x", "helper": "/bin/echo", "ifname": "y"}),
            HELPER,
        ),
        (
            json!({"type": "tap", "id": "x", "fds": "e:f", "vhostfds": "g"}),
            "The number of fds passed does not match the number of vhostfds passed",
        ),
        (
            json!({"type": "hubport", "id": "x"}),
            "Parameter 'hubid' is missing",
        ),
        (
            json!({"type": "hubport", "id": "x", "hubid": 1, "netdev": "zz"}),
            "netdev 'zz' not found",
        ),
    ] {
        let error = vm.refused("netdev_add", arguments.clone());
        assert_eq!(
            error.to_string(),
            format!("GenericError: {words}"),
            "{arguments}"
        );
    }
    // What is refused leaves nothing behind.
    for id in ["x", "1x"] {
        let error = vm.refused("netdev_del", json!({ "id": id }));
        assert_eq!(
            error.to_string(),
            format!("DeviceNotFound: Device '{id}' not found")
        );
    }
}

#[test]
fn a_descriptor_of_another_kind_is_refused() {
    let mut vm = Vm::none();
    pass_null(&mut vm, "net");
    let error = vm.refused("netdev_add", json!({"type": "tap", "id": "x", "fd": "net"}));
    let text = error.to_string();
    let start = "GenericError: Unable to query TUNGETIFF on FD ";
    assert!(text.starts_with(start), "{text}");
    assert!(text.ends_with(": Inappropriate ioctl for device"), "{text}");
    // It was used up.
    let error = vm.refused("closefd", json!({"fdname": "net"}));
    assert_eq!(error.desc, "File descriptor named 'net' not found");
    vm.assert_alive();
}

#[test]
fn an_id_is_taken_once() {
    let mut vm = Vm::none();
    let port = json!({"type": "hubport", "id": "h", "hubid": 0});
    vm.exec("netdev_add", port.clone());
    let error = vm.refused("netdev_add", port.clone());
    assert_eq!(error.to_string(), "GenericError: Duplicate ID 'h'");
    vm.exec("netdev_del", json!({"id": "h"}));
    let error = vm.refused("netdev_del", json!({"id": "h"}));
    assert_eq!(error.to_string(), "DeviceNotFound: Device 'h' not found");
    vm.exec("netdev_add", port);
}

#[test]
fn links_are_moved_by_name() {
    let mut vm = Vm::none();
    vm.exec(
        "netdev_add",
        json!({"type": "hubport", "id": "h", "hubid": 0}),
    );
    for up in [false, true] {
        vm.exec("set_link", json!({"name": "h", "up": up}));
    }
    let error = vm.refused("set_link", json!({"name": "zz", "up": true}));
    assert_eq!(error.to_string(), "DeviceNotFound: Device 'zz' not found");
}

#[test]
fn announcements_are_taken_as_they_come() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-device", "virtio-net-pci,id=nic"])
        .start();
    let usual = json!({"initial": 50, "max": 550, "rounds": 5, "step": 50});
    let with = |key: &str, value: Value| {
        let mut arguments = usual.clone();
        arguments[key] = value;
        arguments
    };
    for arguments in [
        usual.clone(),
        with("rounds", json!(0)),
        with("rounds", json!(5000)),
        with("initial", json!(200_000)),
        with("max", json!(-1)),
        with("interfaces", json!(["zz"])),
        with("interfaces", json!(["nic"])),
        with("id", json!("one")),
    ] {
        vm.exec("announce-self", arguments);
    }
    let stop =
        json!({"initial": 1, "max": 1, "rounds": 1, "step": 1, "interfaces": [], "id": "one"});
    vm.exec("announce-self", stop);
    let error = vm.refused(
        "announce-self",
        json!({"initial": 50, "max": 550, "rounds": 5}),
    );
    assert_eq!(
        error.to_string(),
        "GenericError: Parameter 'step' is missing"
    );
    assert_eq!(vm.qmp().hmp("announce_self"), "");
    assert_eq!(vm.qmp().hmp("announce_self nic,zz series"), "");
}

#[test]
fn text_commands_say_the_same() {
    let mut vm = Vm::none();
    let qmp = vm.qmp();
    assert_eq!(qmp.hmp("netdev_add hubport,id=h9,hubid=3"), "");
    assert_eq!(
        qmp.hmp("netdev_add hubport"),
        "Error: Parameter 'id' is missing\r\n"
    );
    assert_eq!(
        qmp.hmp("netdev_add foo,id=u1"),
        "Error: Parameter 'type' does not accept value 'foo'\r\n"
    );
    assert_eq!(qmp.hmp("netdev_del zz"), "Error: Device 'zz' not found\r\n");
    assert_eq!(
        qmp.hmp("set_link zz on"),
        "Error: Device 'zz' not found\r\n"
    );
    assert_eq!(
        qmp.hmp("set_link h9 up"),
        "Expected 'on' or 'off'\r\nTry \"help set_link\" for more information\r\n"
    );
    assert_eq!(qmp.hmp("set_link h9 off"), "");
    assert_eq!(qmp.hmp("info network"), "hub 3\r\n \\ h9\r\n");
    assert_eq!(qmp.hmp("netdev_del h9"), "");
    let kinds = qmp.hmp("netdev_add help");
    assert!(
        kinds.starts_with("Available netdev backend types:\r\n"),
        "{kinds}"
    );
    for kind in [
        "tap", "bridge", "user", "stream", "dgram", "socket", "hubport",
    ] {
        assert!(kinds.contains(&format!("{kind}\r\n")), "{kinds}");
    }
}

#[test]
fn a_device_takes_a_netdev_alone() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-netdev", "hubport,id=h,hubid=0"])
        .args([
            "-device",
            "virtio-net-pci,id=nic,netdev=h,mac=52:54:00:12:34:56",
        ])
        .start();
    assert_eq!(
        vm.qmp().hmp("info network"),
        "hub 0\r\n \\ h: nic: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:12:34:56\r\n"
    );
    vm.exec("netdev_del", json!({"id": "h"}));
    vm.exec(
        "netdev_add",
        json!({"type": "hubport", "id": "h", "hubid": 0}),
    );
    vm.assert_alive();
}

#[test]
fn devices_that_cannot_have_their_netdev_are_refused() {
    for (devices, words) in [
        (
            vec!["virtio-net-pci,netdev=zz"],
            "Property 'virtio-net-device.netdev' can't find value 'zz'",
        ),
        (
            vec!["virtio-net-pci,netdev=h", "virtio-net-pci,netdev=h"],
            "Property 'virtio-net-device.netdev' can't take value 'h', it's in use",
        ),
    ] {
        let mut builder = VmBuilder::new()
            .stopped()
            .args(["-netdev", "hubport,id=h,hubid=0"]);
        for device in devices {
            builder = builder.args(["-device", device]);
        }
        builder.run().assert_refused().assert_says(words);
    }
}

#[test]
fn options_of_older_days_make_devices() {
    if skip_on_stand_in("hubs are always there, and models are others") {
        return;
    }
    for (args, shown) in [
        (vec!["-net", "none"], ""),
        (vec!["-nic", "none"], ""),
        (
            vec![
                "-nic",
                "hubport,hubid=1,id=h,model=virtio,mac=52:54:00:12:34:57",
            ],
            "hub 1\r\n \\ h: ",
        ),
    ] {
        let mut vm = VmBuilder::new().stopped().args(&args).start();
        let text = vm.qmp().hmp("info network");
        assert!(
            text.starts_with(shown) && text.is_empty() == shown.is_empty(),
            "{text}"
        );
    }
    VmBuilder::new()
        .stopped()
        .args(["-nic", "hubport,hubid=1,model=e1000"])
        .run()
        .assert_refused()
        .assert_says("Unsupported NIC model: e1000");
}

#[test]
fn a_bridge_helper_that_fails_is_told() {
    let mut vm = Vm::none();
    let helper = program(
        vm.dir(),
        "helper",
        "echo 'access denied by acl file' >&2; exit 1",
    );
    let error = vm.refused(
        "netdev_add",
        json!({"type": "bridge", "id": "b", "br": "br7", "helper": helper}),
    );
    assert!(error.desc.starts_with("bridge helper failed"), "{error}");
    if skip_on_stand_in("it says why on standard error") {
        return;
    }
    assert_eq!(
        error.desc,
        "bridge helper failed: access denied by acl file"
    );
}

#[test]
fn a_bridge_helper_that_hangs_holds_up_nobody_else() {
    if skip_on_stand_in("it waits") {
        return;
    }
    let mut vm = VmBuilder::new().none().monitors(2).start();
    let helper = program(
        vm.dir(),
        "helper",
        &format!("touch {}; exec sleep 600", vm.path("started").display()),
    );
    let mut other = tests::Qmp::connect(&vm.monitor(1));
    let add = json!({"execute": "netdev_add", "arguments":
        {"type": "bridge", "id": "b", "helper": helper}});
    vm.qmp().send(add.to_string().as_bytes());
    other.query("query-status");
    let end = std::time::Instant::now() + tests::seconds(20);
    let started = vm.path("started");
    while !started.exists() {
        assert!(std::time::Instant::now() < end, "the helper does not run");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    // Its id is taken meanwhile.
    let taken = json!({"type": "hubport", "id": "b", "hubid": 0});
    let error = other.refused("netdev_add", taken);
    assert_eq!(error.desc, "Duplicate ID 'b'");
    let _ = other.try_exec("quit", json!({}));
    vm.wait();
}

/// A script that has begun, and ends when it is allowed to.
fn waiting_script(vm: &Vm, name: &str) -> String {
    let (begun, go) = (vm.path(&format!("{name}-begun")), vm.path("go"));
    let lines = format!(
        "touch {}; until test -e {}; do sleep 0.02; done",
        begun.display(),
        go.display()
    );
    program(vm.dir(), name, &lines)
}

#[test]
fn scripts_that_take_their_time_hold_up_nobody_else() {
    if skip_on_stand_in("it waits") || !has_taps() {
        return;
    }
    let mut vm = VmBuilder::new().none().monitors(2).start();
    let mut other = tests::Qmp::connect(&vm.monitor(1));
    let name = format!("qw{}", vm.pid() % 1_000_000);
    let (up, down) = (waiting_script(&vm, "up"), waiting_script(&vm, "down"));
    let options =
        json!({"type": "tap", "id": "t", "ifname": name, "script": up, "downscript": down});
    let line = format!("netdev_add tap,id=t,ifname={name},script={up},downscript={down}");
    let hmp = |line: &str| json!({"execute": "human-monitor-command", "arguments": {"command-line": line}});
    for (request, script) in [
        (json!({"execute": "netdev_add", "arguments": options}), "up"),
        (
            json!({"execute": "netdev_del", "arguments": {"id": "t"}}),
            "down",
        ),
        (hmp(&line), "up"),
        (hmp("netdev_del t"), "down"),
    ] {
        vm.qmp().send(request.to_string().as_bytes());
        let begun = vm.path(&format!("{script}-begun"));
        let end = std::time::Instant::now() + tests::seconds(20);
        while !begun.exists() {
            assert!(std::time::Instant::now() < end, "no script for {request}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // The script ends only after these have their answers.
        other.query("query-status");
        let other_tap = json!({"type": "tap", "id": "u", "script": "no", "downscript": "no"});
        other.exec("netdev_add", other_tap);
        other.exec("netdev_del", json!({"id": "u"}));
        fs::write(vm.path("go"), "").expect("it may end");
        let answer = vm.qmp().answer();
        assert!(answer.get("error").is_none(), "{answer}");
        for file in [begun, vm.path("go")] {
            fs::remove_file(file).expect("for the next one");
        }
    }
}

#[test]
fn taps_come_and_go_with_their_scripts() {
    if !has_taps() {
        return;
    }
    let mut vm = Vm::none();
    let said = vm.path("said");
    let up = program(vm.dir(), "up", &format!("echo up $1 >> {}", said.display()));
    let down = program(
        vm.dir(),
        "down",
        &format!(
            "test -e /sys/class/net/$1 && echo down $1 >> {}",
            said.display()
        ),
    );
    let name = format!("qv{}", vm.pid() % 1_000_000);
    vm.exec(
        "netdev_add",
        json!({"type": "tap", "id": "t", "ifname": name, "script": up, "downscript": down}),
    );
    let device = format!("/sys/class/net/{name}");
    assert!(Path::new(&device).exists());
    assert_eq!(
        vm.qmp().hmp("info network"),
        format!("t: index=0,type=tap,ifname={name},script={up},downscript={down}\r\n")
    );
    vm.exec("netdev_del", json!({"id": "t"}));
    assert!(!Path::new(&device).exists());
    assert_eq!(
        fs::read_to_string(&said).expect("what was said"),
        format!("up {name}\ndown {name}\n")
    );
    // A script that fails leaves nothing behind.
    let bad = program(vm.dir(), "bad", "exit 1");
    let error = vm.refused(
        "netdev_add",
        json!({"type": "tap", "id": "t", "ifname": name, "script": bad}),
    );
    assert_eq!(
        error.desc,
        format!("network script {bad} failed with status 256")
    );
    assert!(!Path::new(&device).exists());
    vm.exec(
        "netdev_add",
        json!({"type": "tap", "id": "t", "ifname": name, "script": "no", "downscript": "no", "queues": 2}),
    );
    let queues = fs::read_dir(format!("{device}/queues"))
        .expect("queues")
        .count();
    assert_eq!(queues, 4, "two for each way");
}

#[test]
fn netdevs_end_with_the_program() {
    if !has_taps() {
        return;
    }
    let mut vm = Vm::none();
    let said = vm.path("said");
    let keep = said.with_file_name(format!("../said-{}", vm.pid()));
    let down = program(vm.dir(), "down", &format!("echo $1 > {}", keep.display()));
    vm.exec(
        "netdev_add",
        json!({"type": "tap", "id": "t", "script": "no", "downscript": down}),
    );
    let shown = vm.qmp().hmp("info network");
    let (_, rest) = shown.split_once("ifname=").expect("a name");
    let name = rest.split(',').next().expect("a name").to_owned();
    assert!(name.starts_with("tap"), "{name}");
    let exit = {
        vm.qmp().send(b"{\"execute\": \"quit\"}");
        vm.wait()
    };
    drop(exit);
    assert_eq!(
        fs::read_to_string(&keep).expect("it ran"),
        format!("{name}\n")
    );
    fs::remove_file(&keep).expect("removed");
}

#[test]
fn the_manuals_taps_run_as_they_are_written() {
    if skip_on_stand_in("it has no vlan= any more") || !has_taps() {
        return;
    }
    for (args, shown) in [
        (
            vec![
                "-net",
                "nic,vlan=0,model=virtio,macaddr=00:16:35:AF:94:4B",
                "-net",
                "tap,vlan=0,script=no,downscript=no",
            ],
            "model=virtio-net-pci,macaddr=00:16:35:af:94:4b",
        ),
        (
            vec![
                "-net",
                "nic,vlan=1,macaddr=00:16:35:AF:94:4B,model=virtio,name=ncard1",
                "-net",
                "tap,vlan=1,script=no,downscript=no",
            ],
            "ncard1: index=0,type=nic,model=virtio-net-pci",
        ),
        (
            vec![
                "-netdev",
                "tap,id=guest0,script=no,downscript=no",
                "-net",
                "nic,model=virtio,netdev=guest0,macaddr=00:16:35:AF:94:4B",
            ],
            " \\ guest0: index=0,type=tap,ifname=tap",
        ),
    ] {
        let mut vm = VmBuilder::new().stopped().args(&args).start();
        let text = vm.qmp().hmp("info network");
        assert!(text.contains(shown), "{args:?}: {text}");
        assert!(text.contains("\r\n \\ "), "{text}");
    }
}
