//! The block graph changes: options, overlays, backing files, sizes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::binary::{is_stand_in, skip_on_stand_in};
use tests::{Vm, VmBuilder, disk};

/// An image by QEMU's tool; `None` where that is not there.
fn image(vm: &Vm, name: &str, options: &[&str], size: &str) -> Option<PathBuf> {
    let path = vm.dir().join(name);
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .args(options)
        .arg(&path)
        .args((!size.is_empty()).then_some(size))
        .status();
    made.is_ok_and(|status| status.success()).then_some(path)
}

fn check(path: &Path) {
    let checked = Command::new("qemu-img")
        .args(["check", "-q"])
        .arg(path)
        .status();
    assert!(checked.expect("qemu-img").success(), "{}", path.display());
}

fn info(path: &Path) -> Value {
    let output = Command::new("qemu-img")
        .args(["info", "-U", "--output=json"])
        .arg(path)
        .output()
        .expect("qemu-img");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn node(vm: &mut Vm, name: &str) -> Value {
    let nodes = vm.query("query-named-block-nodes");
    let mut nodes = nodes.as_array().expect("a list").iter();
    let found = nodes.find(|node| node["node-name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

fn add_image(vm: &mut Vm, name: &str, path: &Path, more: Value) {
    let mut options = json!({"driver": "qcow2", "node-name": name,
                             "file": {"driver": "file", "filename": path}});
    for (key, value) in more.as_object().expect("an object") {
        options[key] = value.clone();
    }
    vm.exec("blockdev-add", options);
}

fn refusals(vm: &mut Vm, command: &str, cases: &[(Value, &str)]) {
    for (arguments, desc) in cases {
        let error = vm.refused(command, arguments.clone());
        assert_eq!(error.desc, *desc, "{arguments}");
    }
}

#[test]
fn options_of_nodes_change() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "a.img", 1 << 20);
    let file = |more: Value| {
        let mut options = json!({"driver": "file", "node-name": "f", "filename": path});
        for (key, value) in more.as_object().expect("an object") {
            options[key] = value.clone();
        }
        options
    };
    let reopen = |options: Value| json!({"options": [options]});
    vm.exec("blockdev-add", file(json!({})));
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "r", "file": "f"}),
    );
    vm.exec("blockdev-reopen", reopen(file(json!({"read-only": true}))));
    assert_eq!(node(&mut vm, "f")["ro"], true);
    let zeroes = json!({"discard": "unmap", "detect-zeroes": "unmap", "cache": {"no-flush": true}});
    vm.exec("blockdev-reopen", reopen(file(zeroes)));
    let info = node(&mut vm, "f");
    assert_eq!(
        (&info["ro"], &info["detect_zeroes"]),
        (&json!(false), &json!("unmap"))
    );
    assert_eq!(info["cache"]["no-flush"], true);
    vm.exec("blockdev-reopen", reopen(file(json!({}))));
    assert_eq!(node(&mut vm, "f")["detect_zeroes"], "off");
    let raw = |below: Value| reopen(json!({"driver": "raw", "node-name": "r", "file": below}));
    refusals(
        &mut vm,
        "blockdev-reopen",
        &[
            (
                reopen(file(json!({"filename": "/dev/null"}))),
                "Cannot change the option 'filename'",
            ),
            (
                reopen(file(json!({"aio": "io_uring"}))),
                "Cannot change the option 'aio'",
            ),
            (
                reopen(file(json!({"force-share": true, "read-only": true}))),
                "Cannot change the option 'force-share'",
            ),
            (
                reopen(file(json!({"driver": "host_device"}))),
                "Cannot change the option 'driver'",
            ),
            (
                reopen(file(json!({"node-name": "nope"}))),
                "Failed to find node with node-name='nope'",
            ),
            (
                reopen(json!({"driver": "file", "filename": path})),
                "node-name not specified",
            ),
            (
                raw(json!("r")),
                "Making 'r' a file child of 'r' would create a cycle",
            ),
            (raw(json!("zz")), "Cannot find device='' nor node-name='zz'"),
            (
                raw(json!({"driver": "file", "filename": path})),
                "Cannot change the option 'file.driver'",
            ),
            (
                // All or nothing.
                json!({"options": [file(json!({"read-only": true})),
                                   {"driver": "raw", "node-name": "r", "file": "r"}]}),
                "Making 'r' a file child of 'r' would create a cycle",
            ),
        ],
    );
    assert_eq!(node(&mut vm, "f")["ro"], false);
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n", "size": 4096}),
    );
    vm.exec("blockdev-reopen", raw(json!("n")));
    assert_eq!(node(&mut vm, "r")["image"]["virtual-size"], 4096);
}

#[test]
fn backing_files_change() {
    let mut vm = Vm::none();
    let Some(base) = image(&vm, "b.qcow2", &[], "1M") else {
        return;
    };
    let options = ["-b", base.to_str().expect("a name"), "-F", "qcow2"];
    let Some(over) = image(&vm, "o.qcow2", &options, "") else {
        return;
    };
    add_image(&mut vm, "b", &base, json!({}));
    add_image(&mut vm, "o", &over, json!({"backing": null}));
    let reopen = |more: Value| {
        let mut options = json!({"driver": "qcow2", "node-name": "o",
                                 "file": {"driver": "file", "filename": over}});
        for (key, value) in more.as_object().expect("an object") {
            options[key] = value.clone();
        }
        json!({"options": [options]})
    };
    assert_eq!(node(&mut vm, "o")["backing_file"], Value::Null);
    vm.exec("blockdev-reopen", reopen(json!({"backing": "b"})));
    let there = node(&mut vm, "o");
    assert_eq!(there["backing_file"], json!(base));
    assert_eq!(
        there["file"],
        json!(over),
        "as opening the file would make it"
    );
    assert_eq!(there["backing_file_depth"], 1);
    assert_eq!(there["image"]["backing-image"]["filename"], json!(base));
    assert_eq!(there["image"]["backing-filename-format"], "qcow2");
    let specific = json!({"type": "qcow2", "data": {
        "compat": "1.1", "compression-type": "zlib", "lazy-refcounts": false,
        "refcount-bits": 16, "corrupt": false, "extended-l2": false}});
    assert_eq!(there["image"]["format-specific"], specific);
    refusals(
        &mut vm,
        "blockdev-reopen",
        &[
            (reopen(json!({})), "backing is missing for 'o'"),
            (
                reopen(json!({"backing": "o"})),
                "Making 'o' a backing child of 'o' would create a cycle",
            ),
            (
                reopen(json!({"backing": "zz"})),
                "Cannot find device='' nor node-name='zz'",
            ),
            (
                reopen(json!({"backing": {"driver": "null-co"}})),
                "Cannot change the option 'backing.driver'",
            ),
        ],
    );
    vm.exec("blockdev-reopen", reopen(json!({"backing": null})));
    let name = node(&mut vm, "o")["file"].clone();
    assert!(
        name.as_str()
            .expect("a name")
            .starts_with("json:{\"backing\": null")
    );
    vm.exec("quit", json!({}));
    vm.wait();
    check(&over);
}

#[test]
fn overlays_are_made_and_put_on_top() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "a.img", 1 << 20);
    let Some(other) = image(&vm, "other.qcow2", &[], "1M") else {
        return;
    };
    let at = |name: &str| vm.dir().join(name);
    let (first, lost, existing) = (at("1.qcow2"), at("/no/such/1.qcow2"), at("2.qcow2"));
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "r", "file": {"driver": "file", "filename": path}}),
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "top", "file": "r"}),
    );
    let sync = |node: &str, file: &Path, name: &str| json!({"node-name": node, "snapshot-file": file, "snapshot-node-name": name});
    vm.exec("blockdev-snapshot-sync", sync("r", &first, "s"));
    let there = node(&mut vm, "s");
    assert_eq!(there["backing_file"], json!(path));
    assert_eq!(there["image"]["backing-filename-format"], "raw");
    assert_eq!(node(&mut vm, "r")["ro"], true);
    assert_eq!(info(&first)["full-backing-filename"], json!(path));
    refusals(
        &mut vm,
        "blockdev-snapshot-sync",
        &[
            (
                sync("r", &existing, "t"),
                "Node 'r' is busy: node is used as backing hd of 's'",
            ),
            (
                sync("zz", &existing, "t"),
                "Cannot find device='' nor node-name='zz'",
            ),
            (
                json!({"device": "zz", "snapshot-file": existing}),
                "Cannot find device='zz' nor node-name=''",
            ),
            (
                json!({"node-name": "s", "snapshot-file": existing}),
                "New overlay node-name missing",
            ),
            (
                sync("s", &existing, "r"),
                "New overlay node-name already in use",
            ),
            (
                json!({"node-name": "s", "snapshot-file": existing, "snapshot-node-name": "t",
                       "format": "raw"}),
                "Backing file not supported for file format 'raw'",
            ),
            (
                json!({"node-name": "s", "snapshot-file": existing, "snapshot-node-name": "t",
                       "format": "bogus"}),
                "Unknown file format 'bogus'",
            ),
        ],
    );
    let error = vm.refused("blockdev-snapshot-sync", sync("s", &lost, "t"));
    assert!(error.desc.contains("No such file or directory"), "{error}");
    add_image(&mut vm, "other", &other, json!({}));
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n"}),
    );
    let put = |node: &str, overlay: &str| json!({"node": node, "overlay": overlay});
    refusals(
        &mut vm,
        "blockdev-snapshot",
        &[
            (
                put("zz", "other"),
                "Cannot find device='zz' nor node-name='zz'",
            ),
            (put("s", "zz"), "Cannot find device='zz' nor node-name='zz'"),
            (put("s", "n"), "The overlay does not support backing images"),
            (put("s", "s"), "The overlay already has a backing image"),
            (
                put("r", "other"),
                "Node 'r' is busy: node is used as backing hd of 's'",
            ),
        ],
    );
    vm.exec("blockdev-snapshot", put("s", "other"));
    let nested = node(&mut vm, "other");
    assert_eq!(nested["backing_file_depth"], 2);
    let deepest = &nested["image"]["backing-image"]["backing-image"];
    assert_eq!(deepest["filename"], json!(path));
    vm.exec("quit", json!({}));
    vm.wait();
    for path in [first, other] {
        check(&path);
    }
}

#[test]
fn names_in_images_change() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "a.img", 1 << 20);
    let options = ["-b", path.to_str().expect("a name"), "-F", "raw"];
    let Some(over) = image(&vm, "o.qcow2", &options, "") else {
        return;
    };
    add_image(&mut vm, "o", &over, json!({}));
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n"}),
    );
    let change = |device: &str, image: &str| json!({"device": device, "image-node-name": image, "backing-file": "other.img"});
    refusals(
        &mut vm,
        "change-backing-file",
        &[
            (
                change("zz", "o"),
                "Cannot find device='zz' nor node-name='zz'",
            ),
            (
                change("o", "zz"),
                "Cannot find device='' nor node-name='zz'",
            ),
            (
                change("o", "n"),
                "not allowing backing file change on an image without a backing file",
            ),
            (
                change("n", "o"),
                "'n' and image file are not in the same chain",
            ),
        ],
    );
    vm.exec("change-backing-file", change("o", "o"));
    assert_eq!(node(&mut vm, "o")["image"]["backing-filename"], "other.img");
    vm.exec("quit", json!({}));
    vm.wait();
    assert_eq!(info(&over)["backing-filename"], "other.img");
}

#[test]
fn transactions_are_whole_or_nothing() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "a.img", 1 << 20);
    vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path}),
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "top", "file": "f"}),
    );
    let file = vm.dir().join("s.qcow2");
    let sync = |name: &str| {
        json!({"type": "blockdev-snapshot-sync", "data": {
            "node-name": "f", "snapshot-file": file, "snapshot-node-name": name}})
    };
    let abort = json!({"type": "abort", "data": {}});
    vm.exec("transaction", json!({"actions": []}));
    let grouped = json!({"actions": [sync("s")], "properties": {"completion-mode": "grouped"}});
    refusals(
        &mut vm,
        "transaction",
        &[
            (
                json!({"actions": [sync("s"), abort]}),
                "Transaction aborted using Abort action",
            ),
            (
                json!({"actions": [sync("s"), sync("t")]}),
                "Node 'f' is busy: node is used as backing hd of 's'",
            ),
            (
                grouped,
                "Action 'blockdev-snapshot-sync' does not support transaction property \
                 completion-mode = grouped",
            ),
        ],
    );
    let error = vm.refused(
        "transaction",
        json!({"actions": [{"type": "bogus", "data": {}}]}),
    );
    assert!(
        error.desc.contains("does not accept value 'bogus'"),
        "{error}"
    );
    assert_eq!(node(&mut vm, "f")["ro"], false);
    assert_eq!(node(&mut vm, "s"), Value::Null);
    vm.exec(
        "transaction",
        json!({"actions": [sync("s")], "properties": {"completion-mode": "individual"}}),
    );
    assert_eq!(node(&mut vm, "f")["ro"], true);
    assert_eq!(node(&mut vm, "s")["backing_file"], json!(path));
    vm.exec("quit", json!({}));
    vm.wait();
    check(&file);
}

#[test]
fn snapshots_inside_of_images() {
    let mut vm = Vm::none();
    let Some(path) = image(&vm, "a.qcow2", &[], "1M") else {
        return;
    };
    add_image(&mut vm, "a", &path, json!({}));
    add_image(
        &mut vm,
        "base",
        &path.with_file_name("a.qcow2"),
        json!({"read-only": true, "force-share": true}),
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n"}),
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "r", "file": "n"}),
    );
    let take = |device: &str, name: &str| json!({"device": device, "name": name});
    vm.exec("blockdev-snapshot-internal-sync", take("a", "s"));
    refusals(
        &mut vm,
        "blockdev-snapshot-internal-sync",
        &[
            (
                take("zz", "s"),
                "Cannot find device='zz' nor node-name='zz'",
            ),
            (take("n", "s"), "Need a root block node"),
            (take("a", ""), "Name is empty"),
            (
                take("a", "s"),
                "Snapshot with name 's' already exists on device 'a'",
            ),
            (take("base", "t"), "Device 'base' is read only"),
            (
                take("r", "t"),
                "Block format 'raw' used by device 'r' does not support internal snapshots",
            ),
        ],
    );
    let listed = node(&mut vm, "a")["image"]["snapshots"].clone();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["name"]),
        (&json!("1"), &json!("s"))
    );
    let both = |name: &str, last: Value| {
        let snapshot = json!({"type": "blockdev-snapshot-internal-sync", "data": take("a", name)});
        json!({"actions": [snapshot, last]})
    };
    let abort = json!({"type": "abort", "data": {}});
    let error = vm.refused("transaction", both("t", abort));
    assert_eq!(error.desc, "Transaction aborted using Abort action");
    let listed = node(&mut vm, "a")["image"]["snapshots"].clone();
    assert_eq!(
        listed.as_array().map(Vec::len),
        Some(1),
        "the other is gone again"
    );
    refusals(
        &mut vm,
        "blockdev-snapshot-delete-internal-sync",
        &[
            (
                take("zz", "s"),
                "Cannot find device='zz' nor node-name='zz'",
            ),
            (json!({"device": "a"}), "Name or id must be provided"),
            (
                take("a", "t"),
                "Snapshot with id 'null' and name 't' does not exist on device 'a'",
            ),
            (
                json!({"device": "a", "id": "9"}),
                "Snapshot with id '9' and name 'null' does not exist on device 'a'",
            ),
        ],
    );
    let deleted = vm.exec(
        "blockdev-snapshot-delete-internal-sync",
        json!({"device": "a", "id": "1", "name": "s"}),
    );
    assert_eq!(
        (&deleted["id"], &deleted["name"]),
        (&json!("1"), &json!("s"))
    );
    assert_eq!(deleted["vm-state-size"], 0);
    assert_eq!(node(&mut vm, "a")["image"]["snapshots"], Value::Null);
    vm.exec("quit", json!({}));
    vm.wait();
    check(&path);
}

#[test]
fn sizes_change() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "a.img", 1 << 20);
    let Some(grown) = image(&vm, "g.qcow2", &[], "1M") else {
        return;
    };
    vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path}),
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "r", "file": "f"}),
    );
    let mut read_only = json!({"driver": "null-co", "node-name": "n", "read-only": true});
    vm.exec("blockdev-add", read_only.take());
    add_image(&mut vm, "g", &grown, json!({}));
    vm.exec("block_resize", json!({"node-name": "f", "size": 2 << 20}));
    if !is_stand_in() {
        // QEMU's raw nodes stay as they were.
        assert_eq!(node(&mut vm, "r")["image"]["virtual-size"], 2 << 20);
    }
    vm.exec("block_resize", json!({"node-name": "r", "size": 1 << 20}));
    assert_eq!(std::fs::metadata(&path).expect("a file").len(), 1 << 20);
    vm.exec("block_resize", json!({"node-name": "g", "size": 64 << 20}));
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "w", "file": "f", "size": 512}),
    );
    refusals(
        &mut vm,
        "block_resize",
        &[
            (json!({"size": 5}), "Cannot find device='' nor node-name=''"),
            (
                json!({"device": "zz", "size": 5}),
                "Cannot find device='zz' nor node-name=''",
            ),
            (
                json!({"node-name": "r", "size": -1}),
                "Parameter 'size' expects a >0 size",
            ),
            (json!({"node-name": "n", "size": 512}), "Image is read-only"),
            (
                json!({"node-name": "w", "size": 1024}),
                "Cannot resize fixed-size raw disks",
            ),
        ],
    );
    vm.exec("quit", json!({}));
    vm.wait();
    assert_eq!(info(&grown)["virtual-size"], 64 << 20);
    check(&grown);
}

#[test]
fn drives_are_led_to_their_overlay_and_closed() {
    if skip_on_stand_in("its drives are put in otherwise") {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("lazy.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on"])
        .arg(&path)
        .arg("1M")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let drive = format!("if=none,id=d,format=qcow2,file={}", path.display());
    let mut vm = VmBuilder::new().none().arg("-drive").arg(&drive).start();
    let over = dir.path().join("over.qcow2");
    vm.exec(
        "blockdev-snapshot-sync",
        json!({"device": "d", "snapshot-file": over, "snapshot-node-name": "s"}),
    );
    let blocks = vm.query("query-block");
    assert_eq!(blocks[0]["inserted"]["node-name"], "s");
    assert_eq!(blocks[0]["inserted"]["backing_file_depth"], 1);
    let stats = vm.query("query-blockstats");
    assert_eq!(stats[0]["node-name"], "s");
    assert!(stats[0]["backing"]["parent"]["node-name"].is_string());
    let specific = &stats[0]["parent"]["driver-specific"];
    assert_eq!(specific["driver"], "file");
    assert_eq!(specific["discard-nb-failed"], 0);
    vm.signal(15);
    vm.wait();
    for path in [&path, &over] {
        check(path);
        assert_eq!(info(path)["dirty-flag"], false);
    }
}
