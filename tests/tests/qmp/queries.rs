//! The shapes of what queries return.

use std::path::Path;

use serde_json::{Value, json};
use tests::binary::{is_stand_in, skip_on_stand_in};
use tests::{Vm, VmBuilder};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn version() {
    let mut vm = Vm::none();
    let version = vm.query("query-version");
    assert_eq!(
        version["qemu"],
        json!({"major": 10, "minor": 0, "micro": 2})
    );
    assert_eq!(keys(&version), ["package", "qemu"]);
    if !is_stand_in() {
        let package = version["package"].as_str().expect("text");
        assert!(package.contains("qvmd "), "{package}");
    }
}

#[test]
fn name_and_uuid() {
    let mut vm = Vm::none();
    assert_eq!(vm.query("query-name"), json!({}));
    assert_eq!(
        vm.query("query-uuid"),
        json!({"UUID": "00000000-0000-0000-0000-000000000000"})
    );
    let mut vm = VmBuilder::new()
        .none()
        .args([
            "-name",
            "guest=one,debug-threads=on",
            "-uuid",
            "12345678-9abc-DEF0-1234-56789abcdef0",
        ])
        .start();
    assert_eq!(vm.query("query-name"), json!({"name": "one"}));
    assert_eq!(
        vm.query("query-uuid"),
        json!({"UUID": "12345678-9abc-def0-1234-56789abcdef0"})
    );
}

#[test]
fn kvm_and_target() {
    let mut vm = Vm::stopped();
    let kvm = vm.query("query-kvm");
    assert_eq!(keys(&kvm), ["enabled", "present"]);
    assert_eq!(kvm["enabled"], false);
    assert_eq!(vm.query("query-target"), json!({"arch": "x86_64"}));
}

#[test]
fn commands_and_events() {
    let mut vm = Vm::none();
    let list = vm.query("query-commands");
    let names: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    for name in [
        "qmp_capabilities",
        "query-version",
        "query-commands",
        "query-qmp-schema",
        "query-status",
        "query-name",
        "query-uuid",
        "query-kvm",
        "query-target",
        "query-machines",
        "query-cpus-fast",
        "query-iothreads",
        "query-memdev",
        "query-memory-size-summary",
        "query-pci",
        "query-chardev",
        "query-block",
        "query-blockstats",
        "query-named-block-nodes",
        "blockdev-add",
        "blockdev-del",
        "chardev-add",
        "chardev-remove",
        "ringbuf-read",
        "ringbuf-write",
        "object-add",
        "object-del",
        "qom-list",
        "qom-get",
        "qom-list-types",
        "device-list-properties",
        "stop",
        "cont",
        "system_reset",
        "system_powerdown",
        "inject-nmi",
        "set-action",
        "quit",
        "human-monitor-command",
        "getfd",
        "closefd",
        "add-fd",
        "remove-fd",
        "query-fdsets",
    ] {
        assert!(names.contains(&name), "no {name}");
    }
    let schema = vm.query("query-qmp-schema");
    let mut in_schema: Vec<_> = schema
        .as_array()
        .expect("a list")
        .iter()
        .filter(|entry| entry["meta-type"] == "command")
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    let mut names = names;
    names.sort_unstable();
    in_schema.sort_unstable();
    assert_eq!(names, in_schema);
    if skip_on_stand_in("the reference has no query-events any more") {
        return;
    }
    let events = vm.query("query-events");
    for name in [
        "SHUTDOWN",
        "POWERDOWN",
        "RESET",
        "STOP",
        "RESUME",
        "GUEST_PANICKED",
        "VSERPORT_CHANGE",
        "RTC_CHANGE",
    ] {
        assert!(
            events
                .as_array()
                .expect("a list")
                .contains(&json!({"name": name})),
            "no {name}"
        );
    }
}

#[test]
fn machines() {
    let mut vm = Vm::none();
    let list = vm.query("query-machines");
    let list = list.as_array().expect("a list");
    for machine in list {
        for key in [
            "name",
            "cpu-max",
            "hotpluggable-cpus",
            "numa-mem-supported",
            "deprecated",
            "acpi",
        ] {
            assert!(machine.get(key).is_some(), "no {key} in {machine}");
        }
        for key in keys(machine) {
            assert!(
                [
                    "name",
                    "alias",
                    "is-default",
                    "cpu-max",
                    "hotpluggable-cpus",
                    "numa-mem-supported",
                    "deprecated",
                    "default-cpu-type",
                    "default-ram-id",
                    "acpi"
                ]
                .contains(&key),
                "{key} in {machine}"
            );
        }
    }
    let q35 = list
        .iter()
        .find(|m| m["alias"] == "q35")
        .expect("an alias q35");
    assert_eq!(q35["name"], "pc-q35-10.0");
    let pc = list
        .iter()
        .find(|m| m["alias"] == "pc")
        .expect("an alias pc");
    assert_eq!(pc["name"], "pc-i440fx-10.0");
    assert_eq!(pc["cpu-max"], 255);
    let default: Vec<_> = list.iter().filter(|m| m["is-default"] == true).collect();
    assert_eq!(default.len(), 1);
    assert!(list.iter().any(|m| m["name"] == "none"));
    if !is_stand_in() {
        assert_eq!(q35["default-ram-id"], "pc.ram");
    }
}

#[test]
fn status_of_a_machine() {
    let mut vm = Vm::stopped();
    assert_eq!(
        vm.query("query-status"),
        json!({"status": "prelaunch", "running": false})
    );
    let mut vm = VmBuilder::new().idle().start();
    assert_eq!(
        vm.query("query-status"),
        json!({"status": "running", "running": true})
    );
}

#[test]
fn processors() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-smp", "cpus=4,sockets=1,cores=2,threads=2"])
        .start();
    let cpus = vm.query("query-cpus-fast");
    let cpus = cpus.as_array().expect("a list");
    assert_eq!(cpus.len(), 4);
    for (index, cpu) in cpus.iter().enumerate() {
        assert_eq!(cpu["cpu-index"], index);
        assert_eq!(cpu["target"], "x86_64");
        assert!(
            cpu["qom-path"]
                .as_str()
                .is_some_and(|p| p.starts_with("/machine/")),
            "{cpu}"
        );
        assert_eq!(cpu["props"]["socket-id"], 0);
        assert_eq!(cpu["props"]["core-id"], index / 2);
        assert_eq!(cpu["props"]["thread-id"], index % 2);
        let tid = cpu["thread-id"].as_u64().expect("a thread");
        assert!(
            Path::new(&format!("/proc/{}/task/{tid}", vm.pid())).exists(),
            "{cpu}"
        );
    }
    let mut vm = Vm::none();
    assert_eq!(vm.query("query-cpus-fast"), json!([]));
}

#[test]
fn memory() {
    let mut vm = VmBuilder::new().stopped().args(["-m", "96"]).start();
    let summary = vm.query("query-memory-size-summary");
    assert_eq!(summary["base-memory"], 96 << 20);
    let mut vm = VmBuilder::new()
        .args([
            "-machine",
            "q35,memory-backend=m0",
            "-accel",
            "qtest",
            "-S",
            "-m",
            "64",
        ])
        .args(["-object", "memory-backend-memfd,id=m0,size=64M,share=on"])
        .start();
    assert_eq!(
        vm.query("query-memory-size-summary")["base-memory"],
        64 << 20
    );
    assert_eq!(vm.query("query-memdev")[0]["share"], true);
}

#[test]
fn pci() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-device", "virtio-rng-pci,id=rng0,addr=05.0"])
        .args(["-device", "pcie-root-port,id=rp0,chassis=1,addr=06.0"])
        .args(["-device", "virtio-rng-pci,id=rng1,bus=rp0"])
        .start();
    let list = vm.query("query-pci");
    assert_eq!(list[0]["bus"], 0);
    let devices = list[0]["devices"].as_array().expect("a list");
    let at = |slot: u64, function: u64| {
        devices
            .iter()
            .find(|d| d["slot"] == slot && d["function"] == function)
            .unwrap_or_else(|| panic!("nothing at {slot}.{function}"))
    };
    let host = at(0, 0);
    assert_eq!(
        (&host["id"]["vendor"], &host["id"]["device"]),
        (&json!(0x8086), &json!(0x29c0))
    );
    assert_eq!(host["class_info"]["class"], 0x600);
    let lpc = at(31, 0);
    assert_eq!(
        (&lpc["id"]["vendor"], &lpc["id"]["device"]),
        (&json!(0x8086), &json!(0x2918))
    );
    let rng = at(5, 0);
    assert_eq!(rng["qdev_id"], "rng0");
    assert_eq!(rng["id"]["vendor"], 0x1af4);
    assert_eq!(rng["irq_pin"], 1);
    let port = at(6, 0);
    assert_eq!(port["class_info"]["class"], 0x604);
    let behind = &port["pci_bridge"];
    for key in [
        "number",
        "secondary",
        "subordinate",
        "io_range",
        "memory_range",
        "prefetchable_range",
    ] {
        assert!(behind["bus"].get(key).is_some(), "no {key} in {behind}");
    }
}

#[test]
fn nothing_is_listed_where_nothing_is() {
    let mut vm = Vm::none();
    for command in [
        "query-pci",
        "query-block",
        "query-blockstats",
        "query-named-block-nodes",
        "query-iothreads",
        "query-memdev",
        "query-fdsets",
    ] {
        assert_eq!(vm.query(command), json!([]), "{command}");
    }
}

#[test]
fn actions() {
    let mut vm = Vm::stopped();
    vm.exec("set-action", json!({"reboot": "shutdown", "shutdown": "pause", "panic": "exit-failure", "watchdog": "none"}));
    vm.exec("set-action", json!({}));
    let error = vm.refused("set-action", json!({"reboot": "bogus"}));
    assert!(error.desc.contains("bogus"), "{error}");
    let error = vm.refused("set-action", json!({"bogus": 1}));
    assert_eq!(error.desc, "Parameter 'bogus' is unexpected");
}

#[test]
fn unknown_things_and_wrong_types() {
    let mut vm = Vm::none();
    let error = vm.refused("no-such-command", json!({}));
    assert_eq!(
        error.to_string(),
        "CommandNotFound: The command no-such-command has not been found"
    );
    let error = vm.refused("query-status", json!({"x": 1}));
    assert_eq!(
        error.to_string(),
        "GenericError: Parameter 'x' is unexpected"
    );
    let error = vm.refused("qom-get", json!({"path": "/objects"}));
    assert_eq!(
        error.to_string(),
        "GenericError: Parameter 'property' is missing"
    );
    let error = vm.refused("qom-get", json!({"path": 1, "property": "type"}));
    assert_eq!(
        error.desc,
        "Invalid parameter type for 'path', expected: string"
    );
    let error = vm.refused("query-named-block-nodes", json!({"flat": 1}));
    assert_eq!(
        error.desc,
        "Invalid parameter type for 'flat', expected: boolean"
    );
    let error = vm.refused("remove-fd", json!({"fdset-id": "1"}));
    assert_eq!(
        error.desc,
        "Invalid parameter type for 'fdset-id', expected: integer"
    );
    let error = vm.refused("remove-fd", json!({"fdset-id": 1.5}));
    assert_eq!(
        error.desc,
        "Invalid parameter type for 'fdset-id', expected: integer"
    );
}

#[test]
fn an_nmi_needs_a_machine() {
    let mut vm = Vm::none();
    assert!(vm.qmp().try_exec("inject-nmi", json!({})).is_err());
    let mut vm = VmBuilder::new().idle().start();
    vm.query("inject-nmi");
}

/// What a management layer asks before it uses a program, in its order.
#[test]
fn the_probe_of_a_management_layer() {
    let mut vm = Vm::none();
    for command in [
        "query-version",
        "query-target",
        "query-qmp-schema",
        "query-kvm",
        "qom-list-types",
    ] {
        vm.query(command);
    }
    for driver in [
        "virtio-blk-pci",
        "virtio-net-pci",
        "virtio-scsi-pci",
        "virtio-balloon-pci",
        "virtio-gpu-pci",
        "vfio-pci",
        "scsi-hd",
        "ide-hd",
        "pcie-root-port",
        "ICH9-LPC",
        "PIIX4_PM",
        "mch",
        "intel-iommu",
        "nvdimm",
        "usb-host",
        "VGA",
        "vhost-user-fs-device",
        "no-such-device",
    ] {
        match vm
            .qmp()
            .try_exec("device-list-properties", json!({"typename": driver}))
        {
            Ok(list) => {
                for property in list.as_array().expect("a list") {
                    assert!(
                        property["name"].is_string() && property["type"].is_string(),
                        "{driver}: {property}"
                    );
                }
            }
            Err(error) => assert_eq!(
                error.to_string(),
                format!("DeviceNotFound: Device '{driver}' not found")
            ),
        }
    }
    for driver in [
        "virtio-blk-pci",
        "pcie-root-port",
        "ICH9-LPC",
        "mch",
        "i440FX",
        "PIIX3",
        "PIIX4_PM",
    ] {
        vm.exec("device-list-properties", json!({"typename": driver}));
    }
    vm.query("query-machines");
    let options = vm.query("query-command-line-options");
    for name in ["machine", "chardev", "device", "object"] {
        let found = options
            .as_array()
            .expect("a list")
            .iter()
            .any(|o| o["option"] == name);
        assert!(found, "no {name}");
    }
    let option = vm.exec("query-command-line-options", json!({"option": "machine"}));
    assert_eq!(option[0]["option"], "machine");
    let error = vm.refused(
        "query-command-line-options",
        json!({"option": "no-such-option"}),
    );
    assert_eq!(error.desc, "invalid option name: no-such-option");
}
