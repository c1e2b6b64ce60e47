//! Greeting, negotiation, out-of-band execution, several monitors, reconnecting.

use std::time::Duration;

use serde_json::json;
use tests::binary::is_stand_in;
use tests::qmp::outcome;
use tests::{Qmp, Vm, seconds};

fn raw(vm: &mut Vm) -> Qmp {
    drop(vm.take_qmp());
    Qmp::connect_raw(&vm.monitor(0))
}

#[test]
fn the_greeting_comes_at_once_and_offers_oob() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    let greeting = qmp.greeting();
    assert_eq!(
        greeting["version"]["qemu"],
        json!({"major": 10, "minor": 0, "micro": 2})
    );
    assert_eq!(greeting["capabilities"], json!(["oob"]));
}

#[test]
fn before_negotiation_everything_else_is_unknown() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    qmp.greeting();
    for command in ["query-status", "quit", "no-such-command"] {
        let error = qmp.refused(command, json!({}));
        assert_eq!(error.class, "CommandNotFound");
        assert_eq!(
            error.desc,
            "Expecting capabilities negotiation with 'qmp_capabilities'"
        );
    }
    qmp.exec("qmp_capabilities", json!({}));
    qmp.query("query-status");
}

#[test]
fn negotiating_twice_is_refused() {
    let mut vm = Vm::none();
    let error = vm.refused("qmp_capabilities", json!({}));
    assert_eq!(error.class, "CommandNotFound");
    assert_eq!(
        error.desc,
        "Capabilities negotiation is already complete, command ignored"
    );
}

#[test]
fn negotiation_with_enable() {
    let mut vm = Vm::none();
    for enable in [json!({"enable": []}), json!({"enable": ["oob"]})] {
        let mut qmp = raw(&mut vm);
        qmp.greeting();
        qmp.exec("qmp_capabilities", enable);
        qmp.query("query-status");
        vm.put_qmp(qmp);
    }
}

#[test]
fn an_unknown_capability_is_refused_and_negotiation_goes_on() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    qmp.greeting();
    let error = qmp.refused("qmp_capabilities", json!({"enable": ["bogus"]}));
    assert_eq!(error.class, "GenericError");
    assert!(error.desc.contains("bogus"), "{error}");
    assert_eq!(
        qmp.refused("query-status", json!({})).class,
        "CommandNotFound"
    );
    qmp.exec("qmp_capabilities", json!({"enable": ["oob"]}));
    qmp.query("query-status");
}

#[test]
fn commands_may_come_before_the_greeting_was_read() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    qmp.send(b"{\"execute\":\"qmp_capabilities\",\"id\":1}{\"execute\":\"query-status\",\"id\":2}");
    qmp.greeting();
    assert_eq!(qmp.answer()["id"], 1);
    assert_eq!(qmp.answer()["id"], 2);
}

#[test]
fn no_event_comes_before_negotiation() {
    let mut vm = Vm::builder().stopped().monitors(2).start();
    let mut second = Qmp::connect_raw(&vm.monitor(1));
    second.greeting();
    vm.query("system_powerdown");
    vm.qmp().event("POWERDOWN");
    second.assert_silent(Duration::from_millis(100));
    second.exec("qmp_capabilities", json!({}));
    // Events are not sent again either.
    second.assert_silent(Duration::from_millis(100));
    vm.query("system_powerdown");
    second.event("POWERDOWN");
}

#[test]
fn out_of_band_needs_to_be_enabled() {
    let mut vm = Vm::none();
    vm.qmp().send(b"{\"exec-oob\":\"query-status\",\"id\":1}");
    let error = outcome(&vm.qmp().answer()).expect_err("an error");
    assert_eq!(error.class, "GenericError");
    assert_eq!(error.desc, "QMP input member 'exec-oob' is unexpected");
}

#[test]
fn commands_that_cannot_run_out_of_band_say_so() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    qmp.greeting();
    qmp.exec("qmp_capabilities", json!({"enable": ["oob"]}));
    qmp.send(b"{\"exec-oob\":\"query-status\",\"id\":\"o\"}");
    let answer = qmp.answer();
    assert_eq!(answer["id"], "o");
    let error = outcome(&answer).expect_err("an error");
    assert_eq!(error.class, "GenericError");
    assert_eq!(error.desc, "The command query-status does not support OOB");
    qmp.send(b"{\"exec-oob\":\"no-such\",\"id\":\"n\"}");
    assert_eq!(
        outcome(&qmp.answer()).expect_err("an error").class,
        "CommandNotFound"
    );
    qmp.send(b"{\"exec-oob\":\"query-status\",\"execute\":\"query-status\",\"id\":\"c\"}");
    assert!(outcome(&qmp.answer()).is_err());
    // Many in-band commands in flight, as is allowed with it.
    for id in 0..8 {
        qmp.send(
            json!({"execute": "query-name", "id": id})
                .to_string()
                .as_bytes(),
        );
    }
    let mut ids: Vec<_> = (0..8).map(|_| qmp.answer()["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..8).map(Some).collect::<Vec<_>>());
}

#[test]
fn more_than_eight_commands_in_flight_with_oob_all_get_answers() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    qmp.greeting();
    qmp.exec("qmp_capabilities", json!({"enable": ["oob"]}));
    let text: String = (0..40)
        .map(|id| json!({"execute": "query-name", "id": id}).to_string())
        .collect();
    qmp.send(text.as_bytes());
    for id in 0..40 {
        assert_eq!(qmp.answer()["id"], id);
    }
}

#[test]
fn several_monitors_are_independent() {
    let mut vm = Vm::builder().stopped().monitors(3).start();
    let mut second = Qmp::connect(&vm.monitor(1));
    let mut third = Qmp::connect(&vm.monitor(2));
    vm.query("system_powerdown");
    for qmp in [&mut second, &mut third] {
        qmp.event("POWERDOWN");
    }
    vm.qmp().event("POWERDOWN");
    // One that hangs up in half a command disturbs nobody.
    second.send(b"{\"execute\": \"que");
    drop(second);
    third.query("query-status");
    vm.query("query-status");
    let mut second = Qmp::connect(&vm.monitor(1));
    second.query("query-status");
}

#[test]
fn one_client_at_a_time_and_the_next_one_waits() {
    let mut vm = Vm::none();
    let mut waiting = Qmp::connect_raw(&vm.monitor(0));
    waiting.assert_silent(Duration::from_millis(100));
    vm.assert_alive();
    drop(vm.take_qmp());
    waiting.negotiate();
    waiting.query("query-status");
}

#[test]
fn a_monitor_can_be_connected_to_for_ever() {
    let mut vm = Vm::none();
    drop(vm.take_qmp());
    for round in 0..200 {
        let mut qmp = Qmp::connect(&vm.monitor(0));
        match round % 4 {
            0 => {}
            // The reference hands the answer to the next client.
            1 if !is_stand_in() => qmp.send(b"{\"execute\":\"query-commands\"}"),
            1 | 2 => qmp.send(b"{\"execute\":"),
            _ => {
                qmp.query("query-name");
            }
        }
    }
    let mut qmp = Qmp::connect(&vm.monitor(0));
    qmp.set_limit(seconds(5));
    qmp.query("query-status");
}

#[test]
fn hanging_up_without_a_word_harms_nobody() {
    let mut vm = Vm::none();
    drop(vm.take_qmp());
    for _ in 0..20 {
        drop(Qmp::connect_raw(&vm.monitor(0)));
    }
    Qmp::connect(&vm.monitor(0)).query("query-status");
}

#[test]
fn negotiation_begins_anew_with_each_connection() {
    let mut vm = Vm::none();
    let mut qmp = raw(&mut vm);
    qmp.greeting();
    let error = qmp.refused("query-status", json!({}));
    assert_eq!(error.class, "CommandNotFound");
}
