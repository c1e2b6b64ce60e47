//! Descriptors that come with commands.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use serde_json::{Value, json};
use tests::binary::skip_on_stand_in;
use tests::qmp::outcome;
use tests::{Vm, disk};

fn null() -> OwnedFd {
    File::open("/dev/null").expect("/dev/null").into()
}

/// How many descriptors the program has open.
fn open_fds(vm: &Vm) -> usize {
    fs::read_dir(format!("/proc/{}/fd", vm.pid()))
        .expect("descriptors")
        .count()
}

#[test]
fn getfd_and_closefd() {
    let mut vm = Vm::stopped();
    let before = open_fds(&vm);
    let fd = null();
    for name in ["fd1", "other"] {
        vm.qmp()
            .try_exec_fds("getfd", json!({"fdname": name}), &[fd.as_fd()])
            .expect("getfd");
    }
    assert_eq!(open_fds(&vm), before + 2);
    vm.exec("closefd", json!({"fdname": "fd1"}));
    assert_eq!(open_fds(&vm), before + 1);
    let error = vm.refused("closefd", json!({"fdname": "fd1"}));
    assert_eq!(
        error.to_string(),
        "GenericError: File descriptor named 'fd1' not found"
    );
}

#[test]
fn a_name_that_is_used_again_loses_its_old_descriptor() {
    let mut vm = Vm::stopped();
    let (mut here, there) = std::os::unix::net::UnixStream::pair().expect("a pair");
    vm.qmp()
        .try_exec_fds("getfd", json!({"fdname": "x"}), &[there.as_fd()])
        .expect("getfd");
    drop(there);
    vm.qmp()
        .try_exec_fds("getfd", json!({"fdname": "x"}), &[null().as_fd()])
        .expect("getfd");
    // Its other end is gone now.
    assert_eq!(here.read(&mut [0; 8]).expect("the end"), 0);
}

#[test]
fn getfd_without_a_descriptor_or_with_a_bad_name() {
    let mut vm = Vm::stopped();
    let error = vm.refused("getfd", json!({"fdname": "fd1"}));
    assert_eq!(error.desc, "No file descriptor supplied via SCM_RIGHTS");
    let error = vm
        .qmp()
        .try_exec_fds("getfd", json!({"fdname": "1fd"}), &[null().as_fd()])
        .expect_err("a refusal");
    assert_eq!(
        error.desc,
        "Parameter 'fdname' expects a name not starting with a digit"
    );
    let error = vm.refused("add-fd", json!({}));
    assert_eq!(error.desc, "No file descriptor supplied via SCM_RIGHTS");
}

#[test]
fn descriptor_sets() {
    let mut vm = Vm::none();
    assert_eq!(vm.query("query-fdsets"), json!([]));
    let fd = null();
    let added = vm
        .qmp()
        .try_exec_fds(
            "add-fd",
            json!({"fdset-id": 7, "opaque": "text"}),
            &[fd.as_fd()],
        )
        .expect("add-fd");
    assert_eq!(added["fdset-id"], 7);
    let first = added["fd"].as_i64().expect("a number");
    let added = vm
        .qmp()
        .try_exec_fds("add-fd", json!({"fdset-id": 7}), &[fd.as_fd()])
        .expect("add-fd");
    let second = added["fd"].as_i64().expect("a number");
    let sets = vm.query("query-fdsets");
    assert_eq!(sets[0]["fdset-id"], 7);
    let mut fds: Vec<Value> = sets[0]["fds"].as_array().expect("a list").clone();
    fds.sort_by_key(|fd| fd["fd"].as_i64());
    let mut wanted = vec![
        json!({"fd": first, "opaque": "text"}),
        json!({"fd": second}),
    ];
    wanted.sort_by_key(|fd| fd["fd"].as_i64());
    assert_eq!(fds, wanted);
    vm.exec("remove-fd", json!({"fdset-id": 7, "fd": first}));
    assert_eq!(vm.query("query-fdsets")[0]["fds"], json!([{"fd": second}]));
    let error = vm.refused("remove-fd", json!({"fdset-id": 7, "fd": first}));
    assert_eq!(
        error.desc,
        format!("File descriptor named 'fdset-id:7, fd:{first}' not found")
    );
    vm.exec("remove-fd", json!({"fdset-id": 7}));
    assert_eq!(vm.query("query-fdsets"), json!([]));
    let error = vm.refused("remove-fd", json!({"fdset-id": 7}));
    assert_eq!(error.desc, "File descriptor named 'fdset-id:7' not found");
}

#[test]
fn a_set_without_an_id_gets_the_first_that_is_free() {
    let mut vm = Vm::none();
    let fd = null();
    for (arguments, id) in [
        (json!({}), 0),
        (json!({"fdset-id": 1}), 1),
        (json!({}), 2),
        (json!({"fdset-id": 9}), 9),
        (json!({}), 3),
    ] {
        let added = vm
            .qmp()
            .try_exec_fds("add-fd", arguments, &[fd.as_fd()])
            .expect("add-fd");
        assert_eq!(added["fdset-id"], id);
    }
    let error = vm
        .qmp()
        .try_exec_fds("add-fd", json!({"fdset-id": -1}), &[fd.as_fd()])
        .expect_err("a refusal");
    assert_eq!(
        error.desc,
        "Parameter 'fdset-id' expects a non-negative value"
    );
}

#[test]
fn pipelined_commands_each_get_their_own_descriptor() {
    let mut vm = Vm::none();
    let images: Vec<_> = (1u64..=3)
        .map(|n| File::open(disk::raw(vm.dir(), &format!("{n}.img"), n * 4096)).expect("an image"))
        .collect();
    for (id, image) in (1u64..).zip(&images) {
        let text = json!({"execute": "add-fd", "arguments": {"fdset-id": id}, "id": id});
        vm.qmp()
            .send_fds(text.to_string().as_bytes(), &[image.as_fd()]);
    }
    for id in 1..=3 {
        let answer = vm.qmp().answer();
        assert_eq!(answer["id"], id);
        assert_eq!(answer["return"]["fdset-id"], id);
    }
    for id in 1u64..=3 {
        vm.exec(
            "blockdev-add",
            json!({"driver": "file", "node-name": format!("n{id}"), "filename": format!("/dev/fdset/{id}"),
                   "read-only": true}),
        );
    }
    let nodes = vm.query("query-named-block-nodes");
    for node in nodes.as_array().expect("a list") {
        let n: u64 = node["node-name"].as_str().expect("a name")[1..]
            .parse()
            .expect("n1 to n3");
        assert_eq!(node["image"]["virtual-size"], n * 4096);
    }
}

#[test]
fn a_file_name_can_be_a_set() {
    let mut vm = Vm::none();
    let path = disk::numbered(vm.dir(), "disk.img", 16);
    let read_only = File::open(&path).expect("an image");
    let add = json!({"driver": "file", "node-name": "node", "filename": "/dev/fdset/4"});
    let error = vm.refused("blockdev-add", add.clone());
    assert!(error.desc.contains("/dev/fdset/4"), "{error}");
    vm.qmp()
        .try_exec_fds("add-fd", json!({"fdset-id": 4}), &[read_only.as_fd()])
        .expect("add-fd");
    // The set has no descriptor that can be written.
    let error = vm.refused("blockdev-add", add.clone());
    assert!(error.desc.contains("matching flags"), "{error}");
    let writable = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("an image");
    vm.qmp()
        .try_exec_fds("add-fd", json!({"fdset-id": 4}), &[writable.as_fd()])
        .expect("add-fd");
    vm.exec("blockdev-add", add.clone());
    // The set lives as long as it is used.
    vm.exec("remove-fd", json!({"fdset-id": 4}));
    let nodes = vm.query("query-named-block-nodes");
    assert_eq!(nodes[0]["image"]["virtual-size"], 8192);
    vm.exec("blockdev-del", json!({"node-name": "node"}));
    assert_eq!(vm.query("query-fdsets"), json!([]));
    assert!(vm.qmp().try_exec("blockdev-add", add).is_err());
}

#[test]
fn an_entropy_source_can_be_a_set() {
    let mut vm = Vm::none();
    let add = json!({"qom-type": "rng-random", "id": "r", "filename": "/dev/fdset/2"});
    let error = vm.refused("object-add", add.clone());
    assert!(error.desc.contains("/dev/fdset/2"), "{error}");
    let source = File::open("/dev/zero").expect("a source");
    vm.qmp()
        .try_exec_fds("add-fd", json!({"fdset-id": 2}), &[source.as_fd()])
        .expect("add-fd");
    vm.exec("object-add", add);
    vm.exec("object-del", json!({"id": "r"}));
}

#[test]
fn descriptors_that_no_command_takes_are_closed() {
    let mut vm = Vm::none();
    vm.assert_alive();
    let before = open_fds(&vm);
    let fd = null();
    for _ in 0..50 {
        vm.qmp()
            .send_fds(b"{\"execute\":\"query-name\"}", &[fd.as_fd(), fd.as_fd()]);
        assert!(outcome(&vm.qmp().answer()).is_ok());
    }
    let after = open_fds(&vm);
    assert!(after <= before + 4, "{before} descriptors became {after}");
    assert!(fd.as_raw_fd() >= 0);
}

#[test]
fn descriptors_of_a_client_that_leaves_are_closed() {
    let mut vm = Vm::none();
    vm.assert_alive();
    let before = open_fds(&vm);
    for _ in 0..20 {
        let mut qmp = vm.take_qmp();
        qmp.send_fds(b"{\"execute\":\"add-", &[null().as_fd()]);
        drop(qmp);
        vm.put_qmp(tests::Qmp::connect(&vm.monitor(0)));
    }
    let after = open_fds(&vm);
    assert!(after <= before + 4, "{before} descriptors became {after}");
}

/// Messages go to standard error: whatever a client says, no disk gets its number.
#[test]
fn standard_streams_stay_where_they_are() {
    if skip_on_stand_in("the reference gives them away") {
        return;
    }
    let mut vm = Vm::stopped();
    let streams = |vm: &Vm| {
        [0, 1, 2].map(|fd| fs::read_link(format!("/proc/{}/fd/{fd}", vm.pid())).expect("a stream"))
    };
    let before = streams(&vm);
    for fd in ["0", "1", "2"] {
        vm.refused("netdev_add", json!({"type": "tap", "id": "n", "fd": fd}));
        assert_eq!(streams(&vm), before);
    }
    let image = vm.path("image");
    fs::write(&image, [0; 1 << 20]).expect("an image");
    let file = json!({"driver": "file", "filename": image, "node-name": "f"});
    vm.exec("blockdev-add", file);
    vm.exec("migrate", json!({"uri": "tcp:127.0.0.1:1"}));
    tests::migrate::wait(&mut vm, "failed");
    assert_eq!(streams(&vm), before);
    assert!(
        fs::read(&image)
            .expect("an image")
            .iter()
            .all(|byte| *byte == 0)
    );
}
