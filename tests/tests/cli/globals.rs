//! `-global` and `-set`.

use serde_json::json;
use tests::{VmBuilder, binary::is_stand_in};

const BALLOON: [&str; 2] = ["-device", "virtio-balloon-pci,id=b"];

fn deflates(args: &[&str]) -> serde_json::Value {
    let mut vm = VmBuilder::new().stopped().args(args).start();
    let path = "/machine/peripheral/b";
    let arguments = json!({"path": path, "property": "deflate-on-oom"});
    vm.qmp().exec("qom-get", arguments)
}

#[test]
fn a_global_holds_for_all_devices_of_a_driver() {
    for (global, expected) in [
        ("virtio-balloon-pci.deflate-on-oom=on", true),
        ("virtio-balloon-device.deflate-on-oom=on", true),
        (
            "driver=virtio-balloon-pci,property=deflate-on-oom,value=on",
            true,
        ),
        ("virtio-rng-pci.period=5", false),
        ("nothing.of=this", false),
    ] {
        let args = [&["-global", global][..], &BALLOON].concat();
        assert_eq!(deflates(&args), expected, "{global}");
    }
    let args = [
        "-global",
        "virtio-balloon-pci.deflate-on-oom=off",
        "-global",
        "virtio-balloon-pci.deflate-on-oom=on",
        "-device",
        "virtio-balloon-pci,id=b,deflate-on-oom=off",
    ];
    assert_eq!(deflates(&args), false, "the device says otherwise");
    let args = [&args[..4], &BALLOON].concat();
    assert_eq!(deflates(&args), true, "the last one counts");
}

#[test]
fn a_global_holds_for_devices_that_come_later() {
    let args = [
        "-global",
        "virtio-balloon-pci.deflate-on-oom=on",
        "-device",
        "pcie-root-port,id=rp0,chassis=1,slot=1",
    ];
    let mut vm = VmBuilder::new().stopped().args(args).start();
    let device = json!({"driver": "virtio-balloon-pci", "id": "b", "bus": "rp0"});
    vm.qmp().exec("device_add", device);
    let path = "/machine/peripheral/b";
    let arguments = json!({"path": path, "property": "deflate-on-oom"});
    assert_eq!(vm.qmp().exec("qom-get", arguments), true);
}

#[test]
fn what_was_given_before_can_be_added_to() {
    let args = [&BALLOON[..], &["-set", "device.b.deflate-on-oom=on"]].concat();
    assert_eq!(deflates(&args), true);
    let args = [
        "-chardev",
        "null,id=c",
        "-set",
        "chardev.c.logfile=/dev/null",
        "-drive",
        "if=none,id=d,file=null-co://,format=raw",
        "-set",
        "drive.d.readonly=on",
    ];
    let mut vm = VmBuilder::new().stopped().args(args).start();
    vm.query("query-chardev");
    assert_eq!(vm.query("query-block")[0]["inserted"]["ro"], true);
}

#[test]
fn refusals() {
    for (args, text) in [
        (
            &["-global", "foo"][..],
            "-global foo: Invalid parameter 'foo'",
        ),
        (
            &["-global", "driver=foo"],
            "options 'driver', 'property', and 'value' are required",
        ),
        (
            &[
                "-global",
                "virtio-balloon-pci.nope=on",
                "-device",
                "virtio-balloon-pci",
            ],
            "-device virtio-balloon-pci: can't apply global virtio-balloon-pci.nope=on: \
             Property 'virtio-balloon-pci.nope' not found",
        ),
        (
            &[
                "-global",
                "virtio-balloon-pci.deflate-on-oom=xx",
                "-device",
                "virtio-balloon-pci",
            ],
            "can't apply global virtio-balloon-pci.deflate-on-oom=xx: \
             Parameter 'deflate-on-oom' expects 'on' or 'off'",
        ),
        (&["-set", "foo"], "-set foo: can't parse: \"foo\""),
        (
            &["-set", "foo.b.c=1"],
            "-set foo.b.c=1: There is no option group 'foo'",
        ),
        (
            &["-set", "device.b.deflate-on-oom=on"],
            "there is no device \"b\" defined",
        ),
        (
            &[
                "-device",
                "virtio-balloon-pci,id=b",
                "-set",
                "device.b.nope=on",
            ],
            "Property 'virtio-balloon-pci.nope' not found",
        ),
        (
            &[
                "-netdev",
                "hubport,id=n,hubid=0",
                "-set",
                "netdev.m.hubid=1",
            ],
            "there is no netdev \"m\" defined",
        ),
        (
            &["-netdev", "hubport,id=n", "-set", "netdev.n.hubid=x"],
            "Parameter 'hubid' expects",
        ),
        (
            &["-nic", "hubport,id=n", "-set", "nic.n.hubid=x"],
            "Parameter 'hubid' expects",
        ),
        (
            &["-net", "nic,id=n", "-set", "net.n.macaddr=xx"],
            "invalid syntax for ethernet address",
        ),
        (
            &["-object", "iothread,id=i", "-set", "object.i.poll-max-ns=1"],
            "-set is not supported with object",
        ),
    ] {
        let exit = VmBuilder::new().stopped().args(args).run();
        exit.assert_refused().assert_says(text);
    }
}

#[test]
fn what_nobody_uses_is_told() {
    if is_stand_in() {
        return;
    }
    // It ends because of the last option, after everything is made.
    for (global, text) in [
        (
            "foo.bar=1",
            "warning: global foo.bar has invalid class name",
        ),
        ("mch.x=2", "warning: global mch.x=2 not used"),
    ] {
        let mut vm = VmBuilder::new().stopped().args(["-global", global]).start();
        vm.query("quit");
        let exit = vm.wait();
        exit.assert_says(text);
    }
}
