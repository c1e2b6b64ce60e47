//! Block nodes made and removed while the program runs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tests::{Vm, VmBuilder, disk};

fn node(vm: &mut Vm, name: &str) -> Option<Value> {
    let nodes = vm.query("query-named-block-nodes");
    nodes
        .as_array()
        .expect("a list")
        .iter()
        .find(|n| n["node-name"] == name)
        .cloned()
}

#[test]
fn a_file_node() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "disk.img", 1 << 20);
    vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path}),
    );
    let info = node(&mut vm, "f").expect("listed");
    assert_eq!(info["drv"], "file");
    assert_eq!(info["ro"], false);
    assert_eq!(info["file"], json!(path));
    assert_eq!(info["image"]["virtual-size"], 1 << 20);
    assert_eq!(info["image"]["format"], "file");
    assert_eq!(
        info["cache"],
        json!({"writeback": true, "direct": false, "no-flush": false})
    );
    assert_eq!(info["detect_zeroes"], "off");
    assert_eq!(info["backing_file_depth"], 0);
    assert_eq!(info["encrypted"], false);
    vm.exec("blockdev-del", json!({"node-name": "f"}));
    assert_eq!(node(&mut vm, "f"), None);
    let error = vm.refused("blockdev-del", json!({"node-name": "f"}));
    assert_eq!(
        error.to_string(),
        "GenericError: Failed to find node with node-name='f'"
    );
}

#[test]
fn a_raw_node_over_a_nested_file_or_a_named_one() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "disk.img", 1 << 20);
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "r", "file": {"driver": "file", "filename": path, "node-name": "f"}}),
    );
    assert_eq!(node(&mut vm, "r").expect("listed")["drv"], "raw");
    assert!(node(&mut vm, "f").is_some());
    let error = vm.refused("blockdev-del", json!({"node-name": "f"}));
    assert_eq!(error.desc, "Node f is not owned by the monitor");
    vm.exec("blockdev-del", json!({"node-name": "r"}));
    // What was made with it goes with it.
    assert_eq!(node(&mut vm, "f"), None);
    vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path}),
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "raw", "node-name": "r", "file": "f"}),
    );
    vm.exec("blockdev-del", json!({"node-name": "r"}));
    // What was there before stays.
    assert!(node(&mut vm, "f").is_some());
    vm.exec("blockdev-del", json!({"node-name": "f"}));
}

#[test]
fn options_of_a_node() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "disk.img", 1 << 20);
    for aio in ["threads", "io_uring"] {
        vm.exec(
            "blockdev-add",
            json!({"driver": "file", "node-name": "f", "filename": path, "aio": aio, "discard": "unmap",
                   "detect-zeroes": "unmap", "cache": {"no-flush": true}, "read-only": false,
                   "auto-read-only": true, "locking": "on"}),
        );
        let info = node(&mut vm, "f").expect("listed");
        assert_eq!(info["cache"]["no-flush"], true);
        assert_eq!(info["detect_zeroes"], "unmap");
        vm.exec("blockdev-del", json!({"node-name": "f"}));
    }
    let error = vm.refused(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path, "aio": "native"}),
    );
    assert_eq!(
        error.desc,
        "aio=native was specified, but it requires cache.direct=on, which was not specified."
    );
    vm.exec(
        "blockdev-add",
        json!({"driver": "file", "node-name": "f", "filename": path, "read-only": true}),
    );
    assert_eq!(node(&mut vm, "f").expect("listed")["ro"], true);
}

#[test]
fn a_null_node() {
    let mut vm = Vm::none();
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "n", "size": 1 << 30}),
    );
    let info = node(&mut vm, "n").expect("listed");
    assert_eq!(info["drv"], "null-co");
    assert_eq!(info["image"]["virtual-size"], 1 << 30);
}

#[test]
fn bad_nodes_are_refused() {
    let mut vm = Vm::none();
    let path = disk::raw(vm.dir(), "disk.img", 1 << 20);
    let path = path.to_str().expect("a name");
    for (arguments, words) in [
        (json!({}), "Parameter 'driver' is missing"),
        (json!({"driver": "bogus", "node-name": "x"}), "bogus"),
        (
            json!({"driver": "file", "node-name": "x"}),
            "Parameter 'filename' is missing",
        ),
        (
            json!({"driver": "file", "filename": path}),
            "'node-name' must be specified for the root node",
        ),
        (
            json!({"driver": "file", "filename": path, "node-name": "1x"}),
            "Invalid node-name: '1x'",
        ),
        (
            json!({"driver": "file", "filename": path, "node-name": "x", "bogus": 1}),
            "Parameter 'bogus' is unexpected",
        ),
        (
            json!({"driver": "file", "filename": path, "node-name": "x", "aio": "bogus"}),
            "bogus",
        ),
        (
            json!({"driver": "file", "filename": path, "node-name": "x", "read-only": "on"}),
            "Invalid parameter type for 'read-only', expected: boolean",
        ),
        (
            json!({"driver": "file", "filename": path, "node-name": "x", "cache": {"direct": "on"}}),
            "Invalid parameter type for 'cache.direct', expected: boolean",
        ),
        (
            json!({"driver": "file", "filename": 7, "node-name": "x"}),
            "Invalid parameter type for 'filename', expected: string",
        ),
        (
            json!({"driver": "file", "filename": "/no/such/file", "node-name": "x"}),
            "Could not open '/no/such/file': No such file or directory",
        ),
        (
            json!({"driver": "file", "filename": "/", "node-name": "x"}),
            "Could not open '/': Is a directory",
        ),
        (
            json!({"driver": "host_device", "filename": path, "node-name": "x"}),
            "'host_device' driver requires",
        ),
        (
            json!({"driver": "raw", "node-name": "x"}),
            "Parameter 'file' is missing",
        ),
        (
            json!({"driver": "raw", "node-name": "x", "file": "nobody"}),
            "nor node-name='nobody'",
        ),
        (
            json!({"driver": "raw", "node-name": "x", "file": {"driver": "file"}}),
            "Parameter 'file.filename' is missing",
        ),
    ] {
        let error = vm.refused("blockdev-add", arguments.clone());
        assert_eq!(error.class, "GenericError");
        assert!(error.desc.contains(words), "{arguments}: {error}");
    }
    assert_eq!(vm.query("query-named-block-nodes"), json!([]));
    vm.exec(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "x"}),
    );
    let error = vm.refused(
        "blockdev-add",
        json!({"driver": "null-co", "node-name": "x"}),
    );
    assert!(
        error.desc.contains("Duplicate nodes with node-name='x'"),
        "{error}"
    );
}

/// A machine with a disk on the image, that waits to be continued.
fn with_disk(path: &Path, options: &str) -> VmBuilder {
    VmBuilder::new()
        .stopped()
        .arg("-blockdev")
        .arg(format!(
            "driver=file,node-name=f,filename={}{options}",
            path.display()
        ))
        .args(["-device", "virtio-blk-pci,drive=f,id=disk0,serial=abc"])
}

#[test]
fn two_writers_of_one_image_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 1 << 20);
    let mut first = with_disk(&path, "").start();
    let exit = with_disk(&path, "").run();
    exit.assert_refused()
        .assert_says("Failed to get \"write\" lock");
    exit.assert_says("Is another process using the image");
    // Readers are refused too, unless they share.
    with_disk(&path, ",read-only=on")
        .run()
        .assert_refused()
        .assert_says("lock");
    first.assert_alive();
    first.quit();
    with_disk(&path, "").start().quit();
}

#[test]
fn two_readers_of_one_image_are_fine() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 1 << 20);
    let mut first = with_disk(&path, ",read-only=on").start();
    with_disk(&path, ",read-only=on").start().quit();
    with_disk(&path, "")
        .run()
        .assert_refused()
        .assert_says("lock");
    first.assert_alive();
}

#[test]
fn images_are_locked_against_the_image_tool_and_by_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 1 << 20);
    let Ok(version) = Command::new("qemu-img").arg("--version").output() else {
        println!("skipped: no qemu-img");
        return;
    };
    assert!(version.status.success());
    let mut vm = with_disk(&path, "").start();
    let resize = || {
        Command::new("qemu-img")
            .args(["resize", "-q", "-f", "raw"])
            .arg(&path)
            .arg("2M")
            .output()
            .expect("qemu-img")
    };
    let output = resize();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && words.contains("lock"),
        "{words}"
    );
    vm.assert_alive();
    vm.quit();
    assert!(resize().status.success());
    // And one that another program holds: qemu-io waits on its standard input.
    let Ok(mut holder) = Command::new("qemu-io")
        .args(["-f", "raw"])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
    else {
        println!("skipped: no qemu-io");
        return;
    };
    let mut prompt = [0; 1];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut prompt)
        .expect("its prompt");
    with_disk(&path, "")
        .run()
        .assert_refused()
        .assert_says("lock");
    drop(holder.stdin.take());
    holder.wait().expect("qemu-io ends");
}

#[test]
fn locking_can_be_switched_off() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 1 << 20);
    let mut first = with_disk(&path, ",locking=off").start();
    with_disk(&path, ",locking=off").start().quit();
    first.assert_alive();
}

#[test]
fn disks_are_listed() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 1 << 20);
    let mut vm = with_disk(&path, "").start();
    let blocks = vm.query("query-block");
    let entry = &blocks[0];
    assert_eq!(entry["device"], "");
    assert_eq!(entry["qdev"], "/machine/peripheral/disk0/virtio-backend");
    assert_eq!(entry["removable"], false);
    assert_eq!(entry["locked"], false);
    assert_eq!(entry["io-status"], "ok");
    assert_eq!(entry["inserted"]["node-name"], "f");
    let stats = vm.query("query-blockstats");
    let entry = &stats[0];
    assert_eq!(entry["node-name"], "f");
    assert_eq!(entry["qdev"], "/machine/peripheral/disk0/virtio-backend");
    for counter in [
        "rd_bytes",
        "wr_bytes",
        "rd_operations",
        "wr_operations",
        "flush_operations",
        "rd_total_time_ns",
        "wr_highest_offset",
        "failed_rd_operations",
        "unmap_bytes",
    ] {
        assert_eq!(entry["stats"][counter], 0, "{counter}");
    }
    let stats = vm.exec("query-blockstats", json!({"query-nodes": true}));
    assert_eq!(stats[0]["node-name"], "f");
}

#[test]
fn a_node_in_use_stays() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = disk::raw(directory.path(), "disk.img", 1 << 20);
    let mut vm = with_disk(&path, "").start();
    let error = vm.refused("blockdev-del", json!({"node-name": "f"}));
    assert_eq!(error.desc, "Node f is in use");
}

/// Where system calls can be watched: with strace, and the right to use it.
fn can_trace() -> bool {
    let tried = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn disks_are_flushed_at_the_end() {
    if tests::binary::skip_on_stand_in("it knows that nothing was written") || !can_trace() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let path = disk::raw(dir.path(), "disk.img", 1 << 20);
    let path = path.display();
    let drive = format!("if=none,id=d,format=raw,file={path}");
    let node = format!("driver=file,node-name=d,filename={path}");
    for made in [["-drive", &drive], ["-blockdev", &node]] {
        let trace = dir.path().join("trace");
        let mut program = Command::new("strace")
            .args(["-f", "-e", "trace=fdatasync,fsync", "-o"])
            .arg(&trace)
            .arg(tests::binary::program())
            .args([
                "-S",
                "-machine",
                "q35,accel=kvm:qtest",
                "-nodefaults",
                "-display",
            ])
            .args(["none", "-qmp", "stdio", "-device", "virtio-blk-pci,drive=d"])
            .args(made)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("strace starts");
        let commands = b"{\"execute\": \"qmp_capabilities\"}\n{\"execute\": \"quit\"}\n";
        let mut input = program.stdin.take().expect("a pipe");
        input.write_all(commands).expect("it reads");
        assert!(program.wait().expect("it ends").success());
        let trace = std::fs::read_to_string(&trace).expect("a trace");
        assert!(trace.contains("fdatasync("), "{made:?}: {trace}");
    }
}

#[test]
fn pipes_and_nodes_in_nodes_stop_nobody() {
    // The reference waits for a pipe's other end.
    if tests::binary::is_stand_in() {
        return;
    }
    let mut vm = Vm::none();
    let pipe = vm.dir().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let error = vm.refused(
        "blockdev-add",
        json!({"driver": "file", "node-name": "p", "filename": pipe, "read-only": true}),
    );
    assert!(error.to_string().contains("to be a regular file"));
    let nested = |levels| {
        (0..levels).fold(
            json!({"driver": "null-co"}),
            |below, _| json!({"driver": "raw", "file": below}),
        )
    };
    for (levels, is_made) in [(90, true), (110, false)] {
        let options = json!({"driver": "raw", "node-name": "n", "file": nested(levels)});
        match is_made {
            true => {
                vm.exec("blockdev-add", options);
                vm.exec("blockdev-del", json!({"node-name": "n"}));
            }
            false => {
                vm.refused("blockdev-add", options);
            }
        }
        assert_eq!(vm.query("query-named-block-nodes"), json!([]));
    }
}
