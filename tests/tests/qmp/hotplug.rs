//! Devices that come and go: words and classes of refusals, events, what is free afterwards.

use serde_json::{Value, json};
use tests::{Vm, VmBuilder};

fn machine(args: &[&str]) -> Vm {
    let ports = [
        "-device",
        "pcie-root-port,id=rp0,chassis=1",
        "-device",
        "pcie-root-port,id=rp1,chassis=2,hotplug=off",
        "-device",
        "virtio-scsi-pci,id=scsi,addr=8",
        "-device",
        "virtio-serial-pci,id=ser,addr=9",
    ];
    VmBuilder::new().stopped().args(ports).args(args).start()
}

fn deleted(vm: &mut Vm) -> Value {
    vm.qmp().event("DEVICE_DELETED")["data"].clone()
}

#[test]
fn refusals_are_worded_as_clients_know_them() {
    let mut vm = machine(&[
        "-device",
        "virtio-rng-pci,id=cold,bus=rp1",
        "-device",
        "isa-serial,id=com",
        "-device",
        "virtio-rng-pci,id=fixed,addr=a",
    ]);
    vm.exec(
        "device_add",
        json!({"driver": "virtio-rng-pci", "id": "hot", "bus": "rp0"}),
    );
    for (device, desc) in [
        (
            json!({"driver": "virtio-rng-pci"}),
            "Bus 'pcie.0' does not support hotplugging",
        ),
        (
            json!({"driver": "virtio-rng-pci", "bus": "pcie.0"}),
            "Bus 'pcie.0' does not support hotplugging",
        ),
        (
            json!({"driver": "virtio-rng-pci", "bus": "rp1"}),
            "Bus 'rp1' does not support hotplugging",
        ),
        (
            json!({"driver": "pcie-root-port", "id": "p"}),
            "Bus 'pcie.0' does not support hotplugging",
        ),
        (
            json!({"driver": "isa-serial", "id": "c"}),
            "Bus 'isa.0' does not support hotplugging",
        ),
        (
            json!({"driver": "virtio-rng-pci", "bus": "nowhere"}),
            "Bus 'nowhere' not found",
        ),
        (
            json!({"driver": "virtio-rng-pci", "bus": "scsi.0"}),
            "Device 'virtio-rng-pci' can't go on SCSI bus",
        ),
        (
            json!({"driver": "virtio-rng-pci", "id": "hot", "bus": "rp0"}),
            "Duplicate device ID 'hot'",
        ),
        (
            json!({"driver": "virtio-rng-pci", "id": "b", "bus": "rp0", "addr": "0"}),
            "PCI: slot 0 function 0 not available for virtio-rng-pci, in use by \
             virtio-rng-pci,id=hot",
        ),
        (
            json!({"driver": "virtio-rng-pci", "id": "b", "bus": "rp0", "addr": "0.1"}),
            "PCI: slot 0 function 0 already occupied by virtio-rng-pci, new func virtio-rng-pci \
             cannot be exposed to guest.",
        ),
        (
            json!({"driver": "nothing"}),
            "'nothing' is not a valid device model name",
        ),
        (json!({"id": "b"}), "Parameter 'driver' is missing"),
    ] {
        let refusal = vm.refused("device_add", device.clone());
        assert_eq!(
            (refusal.class.as_str(), refusal.desc.as_str()),
            ("GenericError", desc),
            "{device}"
        );
    }
    for (id, class, desc) in [
        ("b", "DeviceNotFound", "Device 'b' not found"),
        (
            "/machine/peripheral/b",
            "DeviceNotFound",
            "Device '/machine/peripheral/b' not found",
        ),
        (
            "cold",
            "GenericError",
            "Bus 'rp1' does not support hotplugging",
        ),
        (
            "fixed",
            "GenericError",
            "Bus 'pcie.0' does not support hotplugging",
        ),
        (
            "rp0",
            "GenericError",
            "Bus 'pcie.0' does not support hotplugging",
        ),
        (
            "com",
            "GenericError",
            "Bus 'isa.0' does not support hotplugging",
        ),
        (
            "/machine/peripheral/fixed/virtio-backend",
            "GenericError",
            "Bus 'virtio-bus' does not support hotplugging",
        ),
        ("/machine", "GenericError", "/machine is not a device"),
    ] {
        let refusal = vm.refused("device_del", json!({ "id": id }));
        assert_eq!(
            (refusal.class.as_str(), refusal.desc.as_str()),
            (class, desc),
            "{id}"
        );
    }
    let missing = vm.refused("device_del", json!({}));
    assert_eq!(missing.desc, "Parameter 'id' is missing");
}

#[test]
fn ports_and_disks_come_and_go_at_once() {
    let mut vm = machine(&["-chardev", "null,id=chr"]);
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n", "size": 1 << 20}),
    );
    let hd = json!({"driver": "scsi-hd", "id": "hd", "bus": "scsi.0", "drive": "n"});
    let port = json!({"driver": "virtserialport", "id": "p", "bus": "ser.0", "chardev": "chr"});
    for _ in 0..3 {
        vm.exec("device_add", hd.clone());
        vm.exec("device_add", port.clone());
        let used = vm.refused("blockdev-del", json!({"node-name": "n"}));
        assert!(used.desc.contains("in use"), "{used}");
        let used = vm.refused("chardev-remove", json!({"id": "chr"}));
        assert!(used.desc.contains("busy"), "{used}");
        for id in ["hd", "p"] {
            vm.exec("device_del", json!({ "id": id }));
            let path = format!("/machine/peripheral/{id}");
            assert_eq!(deleted(&mut vm), json!({"device": id, "path": path}));
        }
    }
    vm.exec("blockdev-del", json!({"node-name": "n"}));
    vm.exec("chardev-remove", json!({"id": "chr"}));
    // Without an id it goes by its path, and the next one has another.
    for n in 0..2 {
        vm.exec(
            "device_add",
            json!({"driver": "virtserialport", "bus": "ser.0"}),
        );
        let path = format!("/machine/peripheral-anon/device[{n}]");
        vm.exec("device_del", json!({ "id": path }));
        assert_eq!(deleted(&mut vm), json!({ "path": path }));
    }
}

#[test]
fn a_drive_goes_with_its_device() {
    let mut vm = machine(&["-drive", "if=none,id=dr,driver=null-co,size=1M"]);
    let hd = |lun: u32| json!({"driver": "scsi-hd", "id": "hd", "bus": "scsi.0", "drive": "dr", "lun": lun});
    vm.refused("device_add", hd(1 << 20));
    vm.exec("device_add", hd(1));
    vm.exec("device_del", json!({"id": "hd"}));
    deleted(&mut vm);
    assert!(!vm.query("query-block").to_string().contains("\"dr\""));
    assert_eq!(
        vm.qmp().hmp("drive_add 0 if=none,id=dr,driver=null-co"),
        "OK\r\n"
    );
    vm.exec("device_add", hd(2));
}

#[test]
fn text_commands_do_the_same() {
    let mut vm = machine(&[]);
    for (line, answer) in [
        ("device_add virtserialport,id=p,bus=ser.0,name=a,nr=3", ""),
        ("device_del p", ""),
        ("device_del nobody", "Error: Device 'nobody' not found\r\n"),
        (
            "device_add virtio-rng-pci",
            "Error: Bus 'pcie.0' does not support hotplugging\r\n",
        ),
        ("device_add", "Error: Parameter 'driver' is missing\r\n"),
        (
            "device_add nothing",
            "Error: 'nothing' is not a valid device model name\r\n",
        ),
        (
            "device_del",
            "device_del: string expected\r\n\
             Try \"help device_del\" for more information\r\n",
        ),
    ] {
        assert_eq!(vm.qmp().hmp(line), answer, "{line}");
    }
    assert_eq!(deleted(&mut vm)["device"], "p");
    let all = vm.qmp().hmp("device_add help");
    assert!(all.contains("name \"virtio-blk-pci\", bus PCI"), "{all}");
    let one = vm.qmp().hmp("device_add virtio-rng-pci,help");
    assert!(one.contains("max-bytes=<uint64>"), "{one}");
}

#[test]
fn the_object_tree_follows() {
    let mut vm = machine(&[]);
    let port = json!({"driver": "virtserialport", "id": "p", "bus": "ser.0"});
    vm.exec("device_add", port);
    let get = |vm: &mut Vm, property: &str| {
        let path = "/machine/peripheral/p";
        vm.exec("qom-get", json!({"path": path, "property": property}))
    };
    assert_eq!(get(&mut vm, "hotplugged"), true);
    assert_eq!(get(&mut vm, "hotpluggable"), true);
    vm.exec("device_del", json!({"id": "p"}));
    deleted(&mut vm);
    let gone = vm.refused("qom-list", json!({"path": "/machine/peripheral/p"}));
    assert_eq!(gone.class, "DeviceNotFound");
}
