//! Images made, checked and exchanged without a guest.

use serde_json::{Value, json};
use tests::{Vm, disk};

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
