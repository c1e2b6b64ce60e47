//! object-add, object-del and the object tree.

use serde_json::{Value, json};
use tests::Vm;

#[test]
fn objects_come_and_go() {
    let mut vm = Vm::none();
    vm.exec(
        "object-add",
        json!({"qom-type": "iothread", "id": "io1", "poll-max-ns": 0}),
    );
    let threads = vm.query("query-iothreads");
    assert_eq!(threads[0]["id"], "io1");
    assert_eq!(threads[0]["poll-max-ns"], 0);
    let tid = threads[0]["thread-id"].as_u64().expect("a number");
    assert!(std::path::Path::new(&format!("/proc/{}/task/{tid}", vm.pid())).exists());
    assert_eq!(
        vm.exec(
            "qom-get",
            json!({"path": "/objects/io1", "property": "type"})
        ),
        "iothread"
    );
    vm.exec("object-del", json!({"id": "io1"}));
    assert_eq!(vm.query("query-iothreads"), json!([]));
    assert!(!std::path::Path::new(&format!("/proc/{}/task/{tid}", vm.pid())).exists());
    let error = vm.refused("object-del", json!({"id": "io1"}));
    assert_eq!(error.to_string(), "GenericError: object 'io1' not found");
}

#[test]
fn an_iothread_has_the_usual_defaults() {
    let mut vm = Vm::none();
    vm.exec("object-add", json!({"qom-type": "iothread", "id": "io1"}));
    let thread = vm.query("query-iothreads")[0].clone();
    assert_eq!(thread["poll-max-ns"], 32768);
    assert_eq!(thread["poll-grow"], 0);
    assert_eq!(thread["poll-shrink"], 0);
    assert_eq!(thread["aio-max-batch"], 0);
}

#[test]
fn memory_backends_are_listed() {
    let mut vm = Vm::none();
    let file = vm.path("ram");
    vm.exec(
        "object-add",
        json!({"qom-type": "memory-backend-ram", "id": "m0", "size": 1 << 20}),
    );
    vm.exec(
        "object-add",
        json!({"qom-type": "memory-backend-memfd", "id": "m1", "size": 2 << 20, "share": true}),
    );
    vm.exec(
        "object-add",
        json!({"qom-type": "memory-backend-file", "id": "m2", "size": 4 << 20, "mem-path": file,
               "share": true, "prealloc": true, "merge": false, "dump": false}),
    );
    let list = vm.query("query-memdev");
    let list = list.as_array().expect("a list");
    let find = |id: &str| {
        list.iter()
            .find(|m| m["id"] == id)
            .unwrap_or_else(|| panic!("no {id}"))
    };
    assert_eq!(find("m0")["size"], 1 << 20);
    assert_eq!(find("m0")["share"], false);
    assert_eq!(find("m0")["merge"], true);
    assert_eq!(find("m0")["dump"], true);
    assert_eq!(find("m0")["prealloc"], false);
    assert_eq!(find("m0")["host-nodes"], json!([]));
    assert_eq!(find("m0")["policy"], "default");
    assert_eq!(find("m1")["share"], true);
    let m2 = find("m2");
    assert_eq!(
        (&m2["merge"], &m2["dump"], &m2["prealloc"]),
        (&json!(false), &json!(false), &json!(true))
    );
    assert_eq!(std::fs::metadata(&file).expect("the file").len(), 4 << 20);
    assert_eq!(tests::disk::allocated(&file), 4 << 20);
    for id in ["m0", "m1", "m2"] {
        vm.exec("object-del", json!({"id": id}));
    }
    assert_eq!(vm.query("query-memdev"), json!([]));
}

#[test]
fn bad_objects_are_refused() {
    let mut vm = Vm::none();
    for (arguments, words) in [
        (json!({}), "Parameter 'qom-type' is missing"),
        (json!({"qom-type": "iothread"}), "Parameter 'id' is missing"),
        (json!({"qom-type": "bogus", "id": "x"}), "bogus"),
        (
            json!({"qom-type": "iothread", "id": "x", "bogus": 1}),
            "Parameter 'bogus' is unexpected",
        ),
        (
            json!({"qom-type": "iothread", "id": "x", "props": {}}),
            "Parameter 'props' is unexpected",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "x"}),
            "Parameter 'size' is missing",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "x", "size": true}),
            "'size'",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "x", "size": 0}),
            "size",
        ),
        (
            json!({"qom-type": "memory-backend-file", "id": "x", "size": 4096}),
            "Parameter 'mem-path' is missing",
        ),
        (
            json!({"qom-type": "memory-backend-file", "id": "x", "size": 4096, "mem-path": "/no/such/dir/f"}),
            "No such file or directory",
        ),
        (
            json!({"qom-type": "rng-random", "id": "x", "filename": 5}),
            "Invalid parameter type for 'filename', expected: string",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "x", "size": 4096, "policy": "bogus"}),
            "bogus",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "x", "size": 4096, "policy": "bind"}),
            "host-nodes",
        ),
    ] {
        let error = vm.refused("object-add", arguments.clone());
        assert_eq!(error.class, "GenericError");
        assert!(error.desc.contains(words), "{arguments}: {error}");
    }
    let list = vm.exec("qom-list", json!({"path": "/objects"}));
    let children = list.as_array().expect("a list").iter();
    assert_eq!(
        children
            .filter(|p| p["type"].as_str().is_some_and(|t| t.starts_with("child<")))
            .count(),
        0
    );
}

#[test]
fn memory_the_host_cannot_give() {
    let mut vm = Vm::none();
    let error = vm.refused(
        "object-add",
        json!({"qom-type": "memory-backend-ram", "id": "m", "size": 1u64 << 56}),
    );
    assert!(error.desc.contains("Cannot allocate memory"), "{error}");
    vm.assert_alive();
    assert_eq!(vm.query("query-memdev"), json!([]));
}

#[test]
fn an_id_is_taken_once_and_must_be_well_formed() {
    let mut vm = Vm::none();
    vm.exec("object-add", json!({"qom-type": "rng-builtin", "id": "a"}));
    let error = vm.refused("object-add", json!({"qom-type": "rng-builtin", "id": "a"}));
    assert!(
        error.desc.contains("attempt to add duplicate property 'a'"),
        "{error}"
    );
    for id in ["", "1a", "a b", "a/b"] {
        let error = vm.refused("object-add", json!({"qom-type": "rng-builtin", "id": id}));
        assert!(error.desc.contains("identifier"), "{id:?}: {error}");
    }
}

#[test]
fn what_is_used_cannot_be_removed() {
    let mut vm = tests::VmBuilder::new()
        .stopped()
        .args(["-object", "rng-builtin,id=r", "-object", "iothread,id=io"])
        .args([
            "-object",
            "memory-backend-ram,id=m,size=64M",
            "-machine",
            "memory-backend=m",
        ])
        .args(["-blockdev", "null-co,node-name=n,size=1048576"])
        .args(["-device", "virtio-rng-pci,rng=r,id=rng0"])
        .args(["-device", "virtio-blk-pci,drive=n,iothread=io,id=disk0"])
        .start();
    // The reference lets go of all but memory, though devices use it.
    let used: &[&str] = if tests::binary::is_stand_in() {
        &["m"]
    } else {
        &["m", "io", "r"]
    };
    for id in used {
        let error = vm.refused("object-del", json!({"id": id}));
        assert_eq!(
            error.desc,
            format!("object '{id}' is in use, can not be deleted")
        );
    }
    let error = vm.refused("blockdev-del", json!({"node-name": "n"}));
    assert!(
        error.desc.contains("in use") || error.desc.contains("busy"),
        "{error}"
    );
}

#[test]
fn the_tree_can_be_walked() {
    let mut vm = tests::VmBuilder::new()
        .stopped()
        .args(["-smp", "2"])
        .args(["-device", "virtio-rng-pci,id=rng0"])
        .args(["-device", "virtio-rng-pci"])
        .start();
    let root = vm.exec("qom-list", json!({"path": "/"}));
    let names: Vec<_> = root
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| p["name"].clone())
        .collect();
    for name in ["type", "objects", "machine", "chardevs"] {
        assert!(names.contains(&json!(name)), "no {name} in {names:?}");
    }
    let get = |vm: &mut Vm, path: &str, property: &str| {
        vm.exec("qom-get", json!({"path": path, "property": property}))
    };
    assert_eq!(get(&mut vm, "/machine", "type"), "pc-q35-10.0-machine");
    assert_eq!(get(&mut vm, "/machine/peripheral", "type"), "container");
    assert_eq!(
        get(&mut vm, "/machine/peripheral/rng0", "type"),
        "virtio-rng-pci"
    );
    assert_eq!(get(&mut vm, "rng0", "type"), "virtio-rng-pci");
    assert_eq!(
        get(&mut vm, "/machine/peripheral-anon/device[0]", "type"),
        "virtio-rng-pci"
    );
    let cpus = vm.query("query-cpus-fast");
    for cpu in cpus.as_array().expect("a list") {
        let path = cpu["qom-path"].as_str().expect("a path");
        let kind = get(&mut vm, path, "type");
        assert!(
            kind.as_str().is_some_and(|k| k.ends_with("-x86_64-cpu")),
            "{kind}"
        );
    }
    let list = vm.exec("qom-list", json!({"path": "/machine/peripheral"}));
    assert!(
        list.as_array()
            .expect("a list")
            .contains(&json!({"name": "rng0", "type": "child<virtio-rng-pci>"}))
    );
    let list = vm.exec("qom-list", json!({"path": "/machine/peripheral/rng0"}));
    let list = list.as_array().expect("a list");
    let kind = |name: &str| {
        list.iter()
            .find(|p| p["name"] == name)
            .map(|p| p["type"].clone())
    };
    assert_eq!(kind("max-bytes"), Some(Value::from("uint64")));
    assert_eq!(kind("type"), Some(Value::from("string")));
}

#[test]
fn paths_and_properties_that_are_not_there() {
    let mut vm = Vm::none();
    for path in ["/no/such", "/objects/x", "nobody"] {
        let error = vm.refused("qom-get", json!({"path": path, "property": "type"}));
        assert_eq!(error.class, "DeviceNotFound");
        assert_eq!(error.desc, format!("Device '{path}' not found"));
        let error = vm.refused("qom-list", json!({"path": path}));
        assert_eq!(error.class, "DeviceNotFound");
    }
    let error = vm.refused("qom-get", json!({"path": "/objects", "property": "bogus"}));
    assert_eq!(
        error.to_string(),
        "GenericError: Property 'container.bogus' not found"
    );
}

#[test]
fn types_are_listed() {
    let mut vm = Vm::none();
    let types = vm.exec(
        "qom-list-types",
        json!({"implements": "device", "abstract": false}),
    );
    let types = types.as_array().expect("a list");
    let names: Vec<&str> = types.iter().filter_map(|t| t["name"].as_str()).collect();
    for name in [
        "virtio-blk-pci",
        "virtio-rng-pci",
        "virtio-serial-pci",
        "virtio-scsi-pci",
        "scsi-hd",
        "scsi-cd",
        "virtconsole",
        "virtserialport",
        "isa-serial",
        "pvpanic",
        "pvpanic-pci",
        "virtio-balloon-pci",
        "i6300esb",
        "vmgenid",
        "isa-debug-exit",
        "pcie-root-port",
    ] {
        assert!(names.contains(&name), "no {name}");
    }
    for entry in types {
        for key in entry.as_object().expect("an object").keys() {
            assert!(
                ["name", "abstract", "parent"].contains(&key.as_str()),
                "{entry}"
            );
        }
        assert_ne!(entry["abstract"], true, "{entry}");
    }
    let accels = vm.exec("qom-list-types", json!({"implements": "accel"}));
    let accels = accels.as_array().expect("a list");
    assert!(accels.iter().any(|t| t["name"] == "kvm-accel"));
    let all = vm.exec(
        "qom-list-types",
        json!({"implements": "device", "abstract": true}),
    );
    assert!(
        all.as_array()
            .expect("a list")
            .iter()
            .any(|t| t["abstract"] == true)
    );
}

#[test]
fn properties_of_devices_are_listed() {
    let mut vm = Vm::none();
    for (driver, property, kind) in [
        ("virtio-blk-pci", "drive", "str"),
        ("virtio-blk-pci", "num-queues", "uint16"),
        ("virtio-blk-pci", "iothread", "link<iothread>"),
        ("virtio-rng-pci", "max-bytes", "uint64"),
        ("virtserialport", "chardev", "str"),
        ("virtio-scsi-pci", "num_queues", "uint32"),
        ("scsi-hd", "lun", "uint32"),
        ("scsi-hd", "wwn", "uint64"),
        ("scsi-cd", "device_id", "str"),
        ("pvpanic", "ioport", "uint16"),
    ] {
        let list = vm.exec("device-list-properties", json!({"typename": driver}));
        let entry = list
            .as_array()
            .expect("a list")
            .iter()
            .find(|p| p["name"] == property)
            .cloned();
        let entry = entry.unwrap_or_else(|| panic!("no {property} of {driver}"));
        assert_eq!(entry["type"], kind, "{driver}.{property}");
    }
    let error = vm.refused("device-list-properties", json!({"typename": "bogus"}));
    assert_eq!(
        error.to_string(),
        "DeviceNotFound: Device 'bogus' not found"
    );
    let error = vm.refused("device-list-properties", json!({"typename": "iothread"}));
    assert_eq!(
        error.desc,
        "Parameter 'typename' expects a non-abstract device type"
    );
    let error = vm.refused("device-list-properties", json!({"typename": "device"}));
    assert_eq!(
        error.desc,
        "Parameter 'typename' expects a non-abstract device type"
    );
}
