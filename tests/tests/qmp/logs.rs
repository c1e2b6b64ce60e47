//! Trace points and logs, switched while the program runs.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::binary::is_stand_in;
use tests::{Vm, VmBuilder, seconds};

#[test]
fn trace_points_are_switched() {
    let mut vm = Vm::none();
    let state = |name: &str, state: &str| json!({"name": name, "state": state});
    let name = json!({"name": "virtio_notify"});
    let set = |name: &str, enable| json!({"name": name, "enable": enable});
    let get = vm.exec("trace-event-get-state", name.clone());
    assert_eq!(get, json!([state("virtio_notify", "disabled")]));
    vm.exec("trace-event-set-state", set("virtio_not*", true));
    let get = vm.exec("trace-event-get-state", name.clone());
    assert_eq!(get, json!([state("virtio_notify", "enabled")]));
    let list = vm.qmp().hmp("info trace-events virtio_notify");
    assert_eq!(list.trim_end(), "virtio_notify : state 1");
    assert_eq!(vm.qmp().hmp("trace-event virtio_notify off"), "");
    let get = vm.exec("trace-event-get-state", name);
    assert_eq!(get, json!([state("virtio_notify", "disabled")]));
}

#[test]
fn unknown_trace_points() {
    let mut vm = Vm::none();
    let words = "GenericError: unknown event \"nosuch\"";
    let error = vm.refused("trace-event-get-state", json!({"name": "nosuch"}));
    assert_eq!(error.to_string(), words);
    for ignore in [false, true] {
        let args = json!({"name": "nosuch", "enable": true, "ignore-unavailable": ignore});
        let error = vm.refused("trace-event-set-state", args);
        assert_eq!(error.to_string(), words);
    }
    // A pattern that fits nothing is no error.
    let get = vm.exec("trace-event-get-state", json!({"name": "nosuch*"}));
    assert_eq!(get, json!([]));
    let args = json!({"name": "nosuch*", "enable": true});
    vm.exec("trace-event-set-state", args);
    let error = vm.refused("trace-event-set-state", json!({"name": "virtio_notify"}));
    assert_eq!(error.desc, "Parameter 'enable' is missing");
    let error = vm.refused(
        "trace-event-get-state",
        json!({"name": "virtio_notify", "vcpu": 0}),
    );
    assert_eq!(error.desc, "Parameter 'vcpu' is unexpected");
    for line in ["trace-event nosuch on", "info trace-events nosuch"] {
        assert_eq!(vm.qmp().hmp(line).trim_end(), "unknown event \"nosuch\"");
    }
}

#[test]
fn what_is_traced_is_in_the_file_and_the_file_can_be_rotated() {
    if is_stand_in() {
        return;
    }
    let builder = VmBuilder::new().none();
    let log = builder.path("log");
    let name = log.to_str().expect("UTF-8").to_owned();
    let mut vm = builder
        .args(["-D", &name, "-d", "trace:handle_qmp_*"])
        .start();
    let has = |text: &str| fs::read_to_string(&log).is_ok_and(|all| all.contains(text));
    vm.query("query-uuid");
    assert!(has(":qmp:handle_qmp_command name=query-uuid\n"));
    let old = log.with_extension("1");
    fs::rename(&log, &old).expect("a rename");
    assert_eq!(vm.qmp().hmp(&format!("logfile {name}")), "");
    vm.query("query-fdsets");
    assert!(has("name=query-fdsets\n") && !has("query-uuid"));
    // What copytruncate does: the file goes on from its new end.
    fs::File::options()
        .write(true)
        .truncate(true)
        .open(&log)
        .expect("the log");
    vm.query("query-target");
    let all = fs::read_to_string(&log).expect("the log");
    assert!(all.starts_with(|c: char| c.is_ascii_digit()), "{all:?}");
    assert!(all.contains("name=query-target\n"));
}

#[test]
fn a_log_that_cannot_be_opened_changes_nothing() {
    let mut vm = Vm::none();
    for (line, answer) in [
        (
            "logfile /nonexistent/x",
            "Error opening logfile /nonexistent/x: No such file or directory",
        ),
        ("logfile /tmp/a%x", "Bad logfile template: /tmp/a%x"),
    ] {
        assert_eq!(vm.qmp().hmp(line).trim_end(), answer, "{line}");
    }
    assert!(
        vm.qmp()
            .hmp("log foo")
            .starts_with("Log items (comma separated):")
    );
    assert!(vm.qmp().hmp("log help").contains("guest_errors"));
    if !is_stand_in() {
        assert_eq!(vm.qmp().hmp("log debug,guest_errors"), "");
        assert_eq!(vm.qmp().hmp("logitem none"), "");
        assert_eq!(vm.query("x-query-guest-errors"), json!([]));
        assert_eq!(vm.qmp().hmp("info guest-errors"), "");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    if is_stand_in() {
        return;
    }
    let builder = VmBuilder::new().none();
    let pipe = builder.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    // Both ends, so that opening does not wait; nobody reads.
    let kept = fs::File::options().read(true).write(true).open(&pipe);
    let name = pipe.to_str().expect("UTF-8").to_owned();
    let mut vm = builder.args(["-D", &name, "-d", "trace:*"]).start();
    for _ in 0..3000 {
        vm.query("query-commands");
    }
    vm.assert_alive();
    drop(kept);
    vm.query("query-status");
    // One that nobody reads yet is not waited for. A program that another test starts has our end for a moment.
    let words = format!("Error opening logfile {name}: No such device or address");
    let end = Instant::now() + seconds(10);
    loop {
        let said = vm.qmp().hmp(&format!("logfile {name}"));
        if said.trim_end() == words {
            break;
        }
        assert!(Instant::now() < end, "{said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    vm.query("query-status");
}
