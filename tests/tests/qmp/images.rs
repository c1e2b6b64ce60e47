//! Images made, checked and exchanged without a guest.

use serde_json::{Value, json};
use tests::{Vm, VmBuilder, disk};

/// The states that a job passes from now on, up to one of them.
fn states(vm: &mut Vm, id: &str, last: &str) -> Vec<String> {
    let mut states = Vec::new();
    while states.last().is_none_or(|state| state != last) {
        let event = vm.qmp().event("JOB_STATUS_CHANGE");
        assert_eq!(event["data"]["id"], id);
        let state = event["data"]["status"].as_str().expect("a state");
        states.push(state.to_owned());
    }
    states
}

fn create(vm: &mut Vm, options: Value) {
    vm.exec(
        "blockdev-create",
        json!({"job-id": "j", "options": options}),
    );
}

#[test]
fn a_file_is_made_by_a_job() {
    let mut vm = Vm::none();
    let path = vm.path("new.img");
    create(
        &mut vm,
        json!({"driver": "file", "filename": path, "size": 1 << 20, "preallocation": "falloc",
               "nocow": true, "extent-size-hint": 65536}),
    );
    let passed = states(&mut vm, "j", "concluded");
    let wanted = ["created", "running", "waiting", "pending", "concluded"];
    assert_eq!(passed, wanted);
    assert_eq!(
        vm.query("query-jobs"),
        json!([{"id": "j", "type": "create", "status": "concluded",
                "current-progress": 1, "total-progress": 1}])
    );
    assert_eq!(std::fs::metadata(&path).expect("made").len(), 1 << 20);
    for (verb, desc) in [
        (
            "pause",
            "Job 'j' in state 'concluded' cannot accept command verb 'pause'",
        ),
        (
            "cancel",
            "Job 'j' in state 'concluded' cannot accept command verb 'cancel'",
        ),
        (
            "finalize",
            "Job 'j' in state 'concluded' cannot accept command verb 'finalize'",
        ),
    ] {
        let error = vm.refused(&format!("job-{verb}"), json!({"id": "j"}));
        assert_eq!(error.desc, desc);
    }
    let again = json!({"driver": "file", "filename": path, "size": 0});
    let error = vm.refused("blockdev-create", json!({"job-id": "j", "options": again}));
    assert_eq!(error.desc, "Job ID 'j' already in use");
    vm.exec("job-dismiss", json!({"id": "j"}));
    assert_eq!(states(&mut vm, "j", "null"), ["null"]);
    assert_eq!(vm.query("query-jobs"), json!([]));
    let error = vm.refused("job-dismiss", json!({"id": "j"}));
    assert_eq!(error.to_string(), "GenericError: Job not found");
}

#[test]
fn a_job_tells_why_no_image_was_made() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "used.img", 1 << 20);
    vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path, "read-only": true}),
    );
    let nowhere = vm.path("no/new.img");
    let wanted = format!(
        "Could not create '{}': No such file or directory",
        nowhere.display()
    );
    for (options, message) in [
        (
            json!({"driver": "file", "filename": nowhere, "size": 512}),
            wanted.as_str(),
        ),
        (
            json!({"driver": "file", "filename": vm.path("a"), "size": 512, "preallocation": "metadata"}),
            "Unsupported preallocation mode 'metadata'",
        ),
    ] {
        create(&mut vm, options);
        let passed = states(&mut vm, "j", "concluded");
        assert_eq!(passed, ["created", "running", "aborting", "concluded"]);
        let jobs = vm.query("query-jobs");
        assert_eq!(jobs[0]["error"], message);
        vm.exec("job-dismiss", json!({"id": "j"}));
        states(&mut vm, "j", "null");
    }
    for (options, message) in [
        (
            json!({"driver": "raw"}),
            "Driver does not support blockdev-create",
        ),
        (
            json!({"driver": "file", "filename": "a"}),
            "Parameter 'options.size' is missing",
        ),
    ] {
        let error = vm.refused(
            "blockdev-create",
            json!({"job-id": "j", "options": options}),
        );
        assert_eq!(error.desc, message);
    }
    assert!(!vm.path("a").exists());
}

#[test]
fn what_is_no_image_is_not_checked() {
    let mut vm = Vm::none();
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n"}),
    );
    for (node, message) in [
        ("n", "This image format does not support checks"),
        ("m", "Failed to find node with node-name='m'"),
    ] {
        let error = vm.refused("blockdev-check", json!({"node-name": node, "fix": "none"}));
        assert_eq!(error.desc, message);
    }
}

#[test]
fn media_go_in_and_out_of_devices_that_take_them() {
    let mut vm = Vm::stopped();
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n"}),
    );
    for (command, arguments, message) in [
        ("eject", json!({}), "Need exactly one of 'device' and 'id'"),
        (
            "eject",
            json!({"device": "a", "id": "b"}),
            "Need exactly one of 'device' and 'id'",
        ),
        ("eject", json!({"device": "a"}), "Device 'a' not found"),
        (
            "blockdev-close-tray",
            json!({"id": "/machine/unattached"}),
            "Device does not have a block device backend",
        ),
        (
            "blockdev-insert-medium",
            json!({"id": "b", "node-name": "n"}),
            "Device 'b' not found",
        ),
    ] {
        let error = vm.refused(command, arguments);
        assert_eq!(error.desc, message, "{command}");
    }
}

#[test]
fn drives_come_and_go_by_text_commands() {
    let mut vm = Vm::stopped();
    let path = disk::raw(vm.dir(), "a b.img", 1 << 20);
    let shown = path.display();
    let add = format!("drive_add 0 \"file={shown},if=none,id=x,format=raw,cache=none\"");
    assert_eq!(vm.qmp().hmp(&add), "OK\r\n");
    assert_eq!(vm.qmp().hmp(&add), "Duplicate ID 'x' for drive\r\n");
    let text = vm.qmp().hmp("info block x");
    assert!(text.starts_with("x (#block"), "{text}");
    let wanted = format!(
        "): {shown} (raw)\r\n    Removable device: not locked, tray closed\r\n    Cache mode:       \
         writeback, direct\r\n"
    );
    assert!(text.ends_with(&wanted), "{text}");
    let text = vm.qmp().hmp("info block -v x");
    let wanted = format!(
        "\r\nImages:\r\nimage: {shown}\r\nfile format: raw\r\nvirtual size: 1 MiB (1048576 bytes)\r\n"
    );
    assert!(text.contains(&wanted), "{text}");
    let text = vm.qmp().hmp("info blockstats");
    assert!(
        text.starts_with("x: rd_bytes=0 wr_bytes=0 rd_operations=0 "),
        "{text}"
    );
    assert_eq!(vm.qmp().hmp("eject x"), "");
    assert!(
        vm.qmp()
            .hmp("info block")
            .starts_with("x: [not inserted]\r\n")
    );
    assert_eq!(
        vm.qmp().hmp(&format!("change x \"{shown}\" raw read-only")),
        ""
    );
    assert!(vm.qmp().hmp("info block").contains("(raw, read-only)"));
    assert_eq!(
        vm.qmp().hmp("change x /nope raw"),
        "Error: Could not open '/nope': No such file or directory\r\n"
    );
    assert_eq!(vm.qmp().hmp("drive_del x"), "");
    assert_eq!(vm.qmp().hmp("drive_del x"), "Device 'x' not found\r\n");
    assert_eq!(vm.query("query-block"), json!([]));
    assert_eq!(vm.query("query-named-block-nodes"), json!([]));
    assert_eq!(
        vm.qmp().hmp("drive_add -n 0 driver=null-co,node-name=n"),
        ""
    );
    assert_eq!(
        vm.qmp().hmp("info block -n"),
        "n: null-co:// (null-co)\r\n    Cache mode:       writeback\r\n"
    );
    assert_eq!(vm.qmp().hmp("drive_del n"), "");
    for (line, text) in [
        (
            "drive_add 0 if=virtio,driver=null-co",
            "Can't hot-add drive to type virtio\r\n",
        ),
        ("eject x", "Error: Device 'x' not found\r\n"),
        (
            "eject",
            "eject: block device name expected\r\nTry \"help eject\" for more information\r\n",
        ),
    ] {
        assert_eq!(vm.qmp().hmp(line), text);
    }
}

#[test]
fn a_drive_is_deleted_under_its_device() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args(["-drive", "if=none,id=x,driver=null-co"])
        .args(["-device", "virtio-blk-pci,drive=x,id=d"])
        .start();
    for (command, arguments) in [
        ("eject", json!({"id": "d"})),
        ("eject", json!({"device": "x", "force": true})),
        (
            "blockdev-remove-medium",
            json!({"id": "/machine/peripheral/d"}),
        ),
    ] {
        let error = vm.refused(command, arguments);
        assert!(error.desc.ends_with("is not removable"), "{error}");
    }
    assert_eq!(vm.qmp().hmp("drive_del x"), "");
    let blocks = vm.query("query-block");
    assert_eq!(blocks[0]["device"], "");
    assert_eq!(blocks[0]["qdev"], "/machine/peripheral/d/virtio-backend");
    assert_eq!(blocks[0].get("inserted"), None);
    assert_eq!(vm.query("query-named-block-nodes"), json!([]));
    vm.assert_alive();
}

/// Runs a job to its end, forgets it, and gives its error.
fn created(vm: &mut Vm, options: Value) -> Option<String> {
    create(vm, options);
    states(vm, "j", "concluded");
    let jobs = vm.query("query-jobs");
    vm.exec("job-dismiss", json!({"id": "j"}));
    states(vm, "j", "null");
    jobs[0]["error"].as_str().map(str::to_owned)
}

#[test]
fn a_qed_image_is_made_in_a_node() {
    let mut vm = Vm::none();
    let file = json!({"driver": "file", "filename": "q.img", "size": 0});
    assert_eq!(created(&mut vm, file), None);
    let qed = json!({"driver": "qed", "size": 1 << 30, "cluster-size": 4096, "table-size": 1,
                     "file": {"driver": "file", "filename": "q.img"}});
    assert_eq!(created(&mut vm, qed), None);
    assert_eq!(vm.query("query-named-block-nodes"), json!([]));
    let image = json!({"driver": "qed", "node-name": "q", "read-only": true,
                       "file": {"driver": "file", "filename": "q.img", "node-name": "f"}});
    vm.exec("blockdev-add", image);
    let nodes = vm.query("query-named-block-nodes");
    assert_eq!(nodes[0]["image"]["virtual-size"], 1 << 30);
    // A node that is read-only, one that is in use, one that is not there.
    let file = json!({"driver": "file", "node-name": "r", "filename": "q.img", "read-only": true});
    vm.exec("blockdev-add", file);
    for (node, message) in [
        ("r", "Block node is read-only"),
        ("x", "Cannot find device='x' nor node-name='x'"),
    ] {
        let qed = json!({"driver": "qed", "size": 512, "file": node});
        assert_eq!(created(&mut vm, qed).as_deref(), Some(message));
    }
    vm.exec("blockdev-del", json!({"node-name": "q"}));
    let image = json!({"driver": "qed", "node-name": "q",
                       "file": {"driver": "file", "filename": "q.img", "node-name": "f"}});
    vm.exec("blockdev-add", image);
    let qed = json!({"driver": "qed", "size": 512, "file": "f"});
    let error = created(&mut vm, qed).expect("refused");
    assert!(
        error.starts_with("Permission conflict on node 'f': permissions 'write, resize'"),
        "{error}"
    );
    let check = vm.exec("blockdev-check", json!({"node-name": "q"}));
    assert_eq!(check["check-errors"], 0);
    assert_eq!(
        (&check["format"], &check["filename"]),
        (&json!("qed"), &json!("q.img"))
    );
    assert_eq!(check.get("leaks"), None);
}

#[test]
fn a_qcow2_image_is_made_with_all_its_options() {
    let mut vm = Vm::none();
    for name in ["i.qcow2", "d.raw", "base.img"] {
        let file = json!({"driver": "file", "filename": name, "size": 0});
        assert_eq!(created(&mut vm, file), None);
    }
    let file = || json!({"driver": "file", "filename": "i.qcow2"});
    for (options, wanted) in [
        (json!({}), json!({"compat": "1.1", "refcount-bits": 16})),
        (
            json!({"version": "v2", "cluster-size": 4096}),
            json!({"compat": "0.10", "refcount-bits": 16}),
        ),
        (
            json!({"lazy-refcounts": true, "refcount-bits": 8, "compression-type": "zstd",
                   "extended-l2": true, "cluster-size": 65536, "preallocation": "metadata"}),
            json!({"compat": "1.1", "lazy-refcounts": true, "refcount-bits": 8,
                   "compression-type": "zstd", "extended-l2": true}),
        ),
        (
            json!({"data-file": {"driver": "file", "filename": "d.raw"}, "data-file-raw": true}),
            json!({"compat": "1.1", "data-file": "d.raw", "data-file-raw": true}),
        ),
        (
            json!({"backing-file": "base.img", "backing-fmt": "raw"}),
            json!({"compat": "1.1"}),
        ),
    ] {
        let mut image = json!({"driver": "qcow2", "size": 1 << 24, "file": file()});
        let members = image.as_object_mut().expect("an object");
        members.extend(options.as_object().expect("an object").clone());
        assert_eq!(created(&mut vm, image), None, "{options}");
        vm.exec(
            "blockdev-add",
            json!({"driver": "qcow2", "node-name": "q", "file": file()}),
        );
        let nodes = vm.query("query-named-block-nodes");
        let node = nodes.as_array().expect("a list").iter();
        let node = node.into_iter().find(|node| node["node-name"] == "q");
        let info = &node.expect("listed")["image"];
        assert_eq!(info["virtual-size"], 1 << 24);
        if let Some(data) = info.get("format-specific") {
            for (key, value) in wanted.as_object().expect("an object") {
                assert_eq!(&data["data"][key], value, "{options}: {key}");
            }
        }
        let check = vm.exec("blockdev-check", json!({"node-name": "q", "fix": "all"}));
        assert_eq!(check["check-errors"], 0, "{options}");
        let found = (check.get("corruptions"), check.get("leaks"));
        assert_eq!(found, (None, None), "{options}");
        vm.exec("blockdev-del", json!({"node-name": "q"}));
    }
    for (options, message) in [
        (
            json!({"cluster-size": 513}),
            "Cluster size must be a power of two between 512 and 2048k",
        ),
        (
            json!({"version": "v2", "refcount-bits": 1}),
            "Different refcount widths than 16 bits require compatibility level 1.1 or above (use \
             version=v3 or greater)",
        ),
        (
            json!({"refcount-bits": -1}),
            "Value '-1' is out of range for parameter 'refcount-bits'",
        ),
    ] {
        let mut image = json!({"driver": "qcow2", "size": 1 << 24, "file": file()});
        let members = image.as_object_mut().expect("an object");
        members.extend(options.as_object().expect("an object").clone());
        assert_eq!(created(&mut vm, image).as_deref(), Some(message));
    }
}

#[test]
fn an_image_that_is_written_is_not_checked() {
    let mut vm = VmBuilder::new().stopped().start();
    let file = json!({"driver": "file", "filename": "i.qcow2", "size": 0});
    assert_eq!(created(&mut vm, file), None);
    let image = json!({"driver": "qcow2", "size": 1 << 24,
                       "file": {"driver": "file", "filename": "i.qcow2"}});
    assert_eq!(created(&mut vm, image), None);
    drop(vm.query("query-jobs"));
    let path = vm.path("i.qcow2");
    let mut other = VmBuilder::new()
        .stopped()
        .args([
            "-drive",
            &format!("file={},format=qcow2,id=x,if=none", path.display()),
        ])
        .args(["-device", "virtio-blk-pci,drive=x,id=d"])
        .start();
    let node = other.query("query-block")[0]["inserted"]["node-name"].clone();
    let error = other.refused("blockdev-check", json!({"node-name": node}));
    assert!(
        error.desc.starts_with("Permission conflict on node"),
        "{error}"
    );
}

#[test]
fn snapshots_are_applied_where_no_guest_looks() {
    let mut vm = VmBuilder::new().stopped().start();
    let file = json!({"driver": "file", "filename": "i.qcow2", "size": 0});
    assert_eq!(created(&mut vm, file), None);
    let image = json!({"driver": "qcow2", "size": 1 << 20,
                       "file": {"driver": "file", "filename": "i.qcow2"}});
    assert_eq!(created(&mut vm, image), None);
    let path = vm.path("i.qcow2");
    let mut other = VmBuilder::new()
        .stopped()
        .args(["-blockdev", "null-co,node-name=n"])
        .args([
            "-drive",
            &format!("file={},format=qcow2,id=x,if=none", path.display()),
        ])
        .args(["-device", "virtio-blk-pci,drive=x,id=d"])
        .start();
    let vm = &mut other;
    let node = vm.query("query-block")[0]["inserted"]["node-name"].clone();
    vm.exec(
        "blockdev-snapshot-internal-sync",
        json!({"device": "x", "name": "s"}),
    );
    for (arguments, message) in [
        (
            json!({"device": "x", "name": "s"}),
            format!("Node {} is in use", node.as_str().expect("a name")),
        ),
        (
            json!({"device": "n", "name": "s"}),
            "Failed to get a snapshot list: Operation not supported".to_owned(),
        ),
        (
            json!({"device": "n"}),
            "Name or id must be provided".to_owned(),
        ),
        (
            json!({"device": "z", "id": "1"}),
            "Cannot find device='z' nor node-name='z'".to_owned(),
        ),
    ] {
        let error = vm.refused("blockdev-snapshot-apply", arguments);
        assert_eq!(error.desc, message);
    }
}

#[test]
fn images_change_by_text_commands() {
    let mut vm = VmBuilder::new().stopped().start();
    let file = json!({"driver": "file", "filename": "i.qcow2", "size": 0});
    assert_eq!(created(&mut vm, file), None);
    let image = json!({"driver": "qcow2", "size": 1 << 20,
                       "file": {"driver": "file", "filename": "i.qcow2"}});
    assert_eq!(created(&mut vm, image), None);
    assert_eq!(
        vm.qmp().hmp("info snapshots"),
        "no block device can store vmstate for snapshot\r\n"
    );
    let add = "drive_add 0 file=i.qcow2,if=none,id=x,format=qcow2";
    assert_eq!(vm.qmp().hmp(add), "OK\r\n");
    assert_eq!(vm.qmp().hmp("block_resize x 2"), "");
    let size =
        |vm: &mut Vm| vm.query("query-block")[0]["inserted"]["image"]["virtual-size"].clone();
    assert_eq!(size(&mut vm), 2 << 20);
    assert_eq!(vm.qmp().hmp("block_set_io_throttle x 0 0 0 100 0 0"), "");
    assert_eq!(vm.query("query-block")[0]["inserted"]["iops"], 100);
    assert_eq!(
        vm.qmp().hmp("info snapshots"),
        "There is no snapshot available.\r\n"
    );
    assert_eq!(vm.qmp().hmp("snapshot_blkdev_internal x s"), "");
    let text = vm.qmp().hmp("info snapshots");
    let head = "List of partial (non-loadable) snapshots on 'x':\r\nID      TAG ";
    assert!(text.starts_with(head), "{text}");
    assert!(
        text.contains("\r\n1       s                     0 B 20"),
        "{text}"
    );
    assert_eq!(vm.qmp().hmp("snapshot_delete_blkdev_internal x s"), "");
    assert_eq!(
        vm.qmp().hmp("snapshot_delete_blkdev_internal x s"),
        "Error: Snapshot with id 'null' and name 's' does not exist on device 'x'\r\n"
    );
    assert_eq!(vm.qmp().hmp("snapshot_blkdev x o.qcow2 qcow2"), "");
    let node = vm.query("query-block")[0]["inserted"].clone();
    assert_eq!(
        (&node["file"], &node["backing_file"]),
        (&json!("o.qcow2"), &json!("i.qcow2"))
    );
    for line in ["block_resize y 1", "block_set_io_throttle y 0 0 0 0 0 0"] {
        assert!(vm.qmp().hmp(line).starts_with("Error: "), "{line}");
    }
}
