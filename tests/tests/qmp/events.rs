//! What is sent, in which order, and what is not sent.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Vm, VmBuilder};

/// The messages up to and with the answer, as events' names and `return`.
fn order(vm: &mut Vm, command: &str) -> (Vec<String>, Vec<Value>) {
    let qmp = vm.qmp();
    assert!(qmp.pending_events().is_empty());
    qmp.send(json!({"execute": command}).to_string().as_bytes());
    let (mut names, mut messages) = (Vec::new(), Vec::new());
    loop {
        let message = qmp.recv();
        let name = message["event"].as_str().unwrap_or("return").to_owned();
        assert!(message.get("error").is_none(), "{message}");
        let done = name == "return";
        names.push(name);
        messages.push(message);
        if done {
            return (names, messages);
        }
    }
}

#[test]
fn cont_and_stop() {
    let mut vm = Vm::stopped();
    assert_eq!(
        vm.query("query-status"),
        json!({"running": false, "status": "prelaunch"})
    );
    assert_eq!(order(&mut vm, "cont").0, ["RESUME", "return"]);
    assert_eq!(
        vm.query("query-status"),
        json!({"running": true, "status": "running"})
    );
    assert_eq!(order(&mut vm, "cont").0, ["return"]);
    assert_eq!(order(&mut vm, "stop").0, ["STOP", "return"]);
    assert_eq!(
        vm.query("query-status"),
        json!({"running": false, "status": "paused"})
    );
    assert_eq!(order(&mut vm, "stop").0, ["return"]);
    vm.qmp().assert_silent(Duration::from_millis(50));
}

#[test]
fn events_without_a_payload_have_no_data() {
    let mut vm = Vm::stopped();
    for command in ["cont", "stop", "system_powerdown"] {
        let (_, messages) = order(&mut vm, command);
        let event = messages.first().expect("an event");
        assert!(event.get("event").is_some(), "{event}");
        assert!(event.get("data").is_none(), "{event}");
        assert!(
            event["timestamp"]["seconds"]
                .as_u64()
                .is_some_and(|s| s > 1_600_000_000)
        );
        let micros = event["timestamp"]["microseconds"].as_u64();
        assert!(micros.is_some_and(|us| us < 1_000_000), "{event}");
    }
}

#[test]
fn system_reset() {
    let mut vm = VmBuilder::new().idle().start();
    for _ in 0..3 {
        vm.qmp().send(b"{\"execute\":\"system_reset\"}");
        let event = vm.qmp().event("RESET");
        assert_eq!(
            event["data"],
            json!({"guest": false, "reason": "host-qmp-system-reset"})
        );
    }
    while vm.qmp().recv_within(Duration::from_millis(100)).is_some() {}
    assert_eq!(vm.query("query-status")["status"], "running");
}

#[test]
fn system_reset_of_a_stopped_machine_leaves_it_stopped() {
    let mut vm = Vm::stopped();
    vm.query("system_reset");
    vm.qmp().event("RESET");
    assert_eq!(vm.query("query-status")["running"], false);
}

#[test]
fn reset_comes_before_the_answer() {
    let mut vm = VmBuilder::new().idle().start();
    let (names, _) = order(&mut vm, "system_reset");
    assert_eq!(names, ["RESET", "return"]);
}

#[test]
fn system_powerdown() {
    let mut vm = VmBuilder::new().idle().start();
    assert_eq!(
        order(&mut vm, "system_powerdown").0,
        ["POWERDOWN", "return"]
    );
    assert_eq!(vm.query("query-status")["status"], "running");
}

#[test]
fn quit_tells_then_answers_then_ends() {
    for builder in [
        VmBuilder::new().none(),
        VmBuilder::new().stopped(),
        VmBuilder::new().idle(),
    ] {
        let mut vm = builder.start();
        let (names, messages) = order(&mut vm, "quit");
        assert_eq!(names, ["SHUTDOWN", "return"]);
        assert_eq!(
            messages[0]["data"],
            json!({"guest": false, "reason": "host-qmp-quit"})
        );
        assert!(vm.qmp().recv_bytes().is_none(), "more after the answer");
        assert_eq!(vm.wait().status, Some(0));
    }
}

#[test]
fn quit_on_a_monitor_reaches_the_others() {
    let mut vm = VmBuilder::new().none().monitors(2).start();
    let mut second = tests::Qmp::connect(&vm.monitor(1));
    vm.query("quit");
    let event = second.event("SHUTDOWN");
    assert_eq!(event["data"]["reason"], "host-qmp-quit");
    second.assert_end();
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_signal_is_told_as_such() {
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        let mut vm = VmBuilder::new().idle().start();
        vm.signal(signal);
        let event = vm.qmp().event("SHUTDOWN");
        assert_eq!(
            event["data"],
            json!({"guest": false, "reason": "host-signal"})
        );
        assert_eq!(vm.wait().status, Some(0));
    }
}

#[test]
fn commands_behind_quit_are_not_run() {
    let mut vm = VmBuilder::new().none().start();
    vm.qmp()
        .send(b"{\"execute\":\"quit\",\"id\":1}{\"execute\":\"query-name\",\"id\":2}");
    vm.qmp().assert_end();
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_machine_that_is_none_knows_no_reset_of_anything_but_answers() {
    let mut vm = Vm::none();
    for command in ["stop", "cont", "system_reset", "system_powerdown"] {
        vm.query(command);
    }
    vm.assert_alive();
}

#[test]
fn without_shutdown_the_guests_end_is_a_pause() {
    // The action of a shutdown says what becomes of a signal, too: nothing.
    let mut vm = VmBuilder::new().idle().arg("-no-shutdown").start();
    vm.query("quit");
    assert_eq!(vm.wait().status, Some(0));
}
