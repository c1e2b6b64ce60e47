//! Bytes in, lines out.

use std::time::Duration;

use serde_json::{Value, json};
use tests::qmp::outcome;
use tests::{Qmp, QmpError, Vm};

fn error(qmp: &mut Qmp) -> QmpError {
    let answer = qmp.answer();
    assert!(answer.get("id").is_none(), "{answer}");
    outcome(&answer).expect_err("an error")
}

#[track_caller]
fn assert_parse_error(qmp: &mut Qmp) {
    let error = error(qmp);
    assert_eq!(error.class, "GenericError");
    assert!(error.desc.contains("JSON parse error"), "{error}");
}

#[test]
fn answers_are_lines_ended_by_cr_lf() {
    let mut vm = Vm::none();
    vm.qmp().send(b"{\"execute\": \"query-version\"}\n");
    let line = vm.qmp().recv_bytes().expect("an answer");
    assert!(
        line.starts_with(b"{\"return\": {"),
        "{}",
        String::from_utf8_lossy(&line)
    );
    assert!(line.ends_with(b"}\r\n"));
    assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
}

#[test]
fn a_command_needs_no_newline() {
    let mut vm = Vm::none();
    vm.qmp().send(b"{\"execute\":\"query-status\"}");
    assert!(vm.qmp().answer()["return"]["status"].is_string());
}

#[test]
fn an_empty_answer_is_just_that() {
    let mut vm = Vm::none();
    vm.qmp()
        .send(b"{\"execute\":\"qom-list-types\",\"arguments\":{\"implements\":\"no-such-type\"}}");
    let line = vm.qmp().recv_bytes();
    assert_eq!(line.as_deref(), Some(&b"{\"return\": []}\r\n"[..]));
    vm.qmp().send(b"{\"execute\":\"set-action\"}");
    let line = vm.qmp().recv_bytes();
    assert_eq!(line.as_deref(), Some(&b"{\"return\": {}}\r\n"[..]));
}

#[test]
fn two_commands_in_one_write_are_answered_in_order() {
    let mut vm = Vm::none();
    vm.qmp()
        .send(b"{\"execute\":\"query-name\",\"id\":1}{\"execute\":\"query-uuid\",\"id\":2}");
    assert_eq!(vm.qmp().answer()["id"], 1);
    let second = vm.qmp().answer();
    assert_eq!(second["id"], 2);
    assert!(second["return"]["UUID"].is_string());
}

#[test]
fn many_commands_in_one_write_are_answered_in_order() {
    let mut vm = Vm::none();
    let mut text = String::new();
    for id in 0..200 {
        text += &format!("{{\"execute\":\"query-name\",\"id\":{id}}} ");
    }
    vm.qmp().send(text.as_bytes());
    for id in 0..200 {
        assert_eq!(vm.qmp().answer()["id"], id);
    }
}

#[test]
fn one_byte_at_a_time_works() {
    let mut vm = Vm::none();
    for byte in b"{\"execute\": \"query-name\", \"id\": \"a b\"}" {
        vm.qmp().send(&[*byte]);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(vm.qmp().answer()["id"], "a b");
}

#[test]
fn cr_lf_and_white_space_between_commands_are_nothing() {
    let mut vm = Vm::none();
    vm.qmp().send(
        b"\r\n\r\n \t{\"execute\":\r\n\"query-name\"}\r\n\r\n{ \"execute\" : \"query-uuid\" }\r\n",
    );
    assert!(vm.qmp().answer()["return"].is_object());
    assert!(vm.qmp().answer()["return"]["UUID"].is_string());
    vm.qmp().assert_silent(Duration::from_millis(50));
}

#[test]
fn single_quotes_are_quotes() {
    let mut vm = Vm::none();
    vm.qmp()
        .send(b"{'execute': 'query-name', 'id': 'say \"it\"'}");
    assert_eq!(vm.qmp().answer()["id"], "say \"it\"");
}

#[test]
fn ids_of_every_type_come_back_as_they_were() {
    let mut vm = Vm::none();
    for id in [
        json!(null),
        json!(true),
        json!(0),
        json!(-7),
        json!(9_223_372_036_854_775_807_i64),
        json!(18_446_744_073_709_551_615_u64),
        json!(1.5),
        json!(""),
        json!("text with \"quotes\" and \\ and \n"),
        json!("gr\u{fc}n \u{1f600}"),
        json!([]),
        json!([1, [2, {"a": null}]]),
        json!({}),
        json!({"b": 1, "a": {"c": [false]}}),
    ] {
        for command in ["query-name", "no-such-command"] {
            let request = json!({"execute": command, "id": id});
            vm.qmp().send(request.to_string().as_bytes());
            let answer = vm.qmp().answer();
            assert_eq!(answer.get("id"), Some(&id), "{answer}");
        }
    }
}

#[test]
fn no_id_gives_no_id() {
    let mut vm = Vm::none();
    for command in ["query-name", "no-such-command"] {
        vm.qmp()
            .send(json!({"execute": command}).to_string().as_bytes());
        assert!(vm.qmp().answer().get("id").is_none());
    }
}

#[test]
fn errors_in_the_envelope_carry_the_id() {
    let mut vm = Vm::none();
    for (request, words) in [
        (
            json!({"execute": "query-name", "extra": 1}),
            "QMP input member 'extra' is unexpected",
        ),
        (json!({}), "QMP input lacks member 'execute'"),
        (
            json!({"execute": 1}),
            "QMP input member 'execute' must be a string",
        ),
        (
            json!({"execute": null}),
            "QMP input member 'execute' must be a string",
        ),
        (
            json!({"execute": "query-name", "arguments": null}),
            "QMP input member 'arguments' must be an object",
        ),
        (
            json!({"execute": "query-name", "arguments": []}),
            "QMP input member 'arguments' must be an object",
        ),
    ] {
        let mut with_id = request.clone();
        with_id["id"] = json!("x");
        vm.qmp().send(with_id.to_string().as_bytes());
        let answer = vm.qmp().answer();
        assert_eq!(answer["id"], "x", "{answer}");
        let error = outcome(&answer).expect_err("an error");
        assert_eq!(
            (error.class.as_str(), error.desc.as_str()),
            ("GenericError", words)
        );
    }
}

#[test]
fn the_id_may_come_last_or_first() {
    let mut vm = Vm::none();
    vm.qmp().send(b"{\"id\":1,\"execute\":\"query-name\"}{\"execute\":\"query-name\",\"arguments\":{},\"id\":2}");
    assert_eq!(vm.qmp().answer()["id"], 1);
    assert_eq!(vm.qmp().answer()["id"], 2);
}

#[test]
fn what_is_no_object_is_refused() {
    let mut vm = Vm::none();
    for text in [
        "[]",
        "\"execute\"",
        "17 ",
        "null ",
        "true\n",
        "[{\"execute\":\"quit\"}]",
    ] {
        vm.qmp().send(text.as_bytes());
        let error = error(vm.qmp());
        assert_eq!(error.desc, "QMP input must be a JSON object", "{text}");
    }
    vm.assert_alive();
}

#[test]
fn duplicate_keys_are_refused() {
    let mut vm = Vm::none();
    vm.qmp()
        .send(b"{\"execute\":\"query-name\",\"execute\":\"quit\"}");
    let answer = vm.qmp().answer();
    assert!(outcome(&answer).is_err(), "{answer}");
    vm.assert_alive();
}

#[test]
fn garbage_gives_an_error_and_the_next_command_works() {
    let mut vm = Vm::none();
    for garbage in [
        &b"{\"execute\": }\n"[..],
        b"{]\n",
        b"{\"execute\": \"query-name\"]\n",
        b"{\"execute\" \"query-name\"}\n",
        b"{execute: \"query-name\"}\n",
        b"{\"a\": nul}\n",
        b"{\"a\": tru}\n",
        b"{\"a\": \"\\q\"}\n",
        b"{\"a\": \"\\ud800\"}\n",
        b"{\"a\": 01}\n",
        b"{\"a\": 1,}\n",
        b"}\n",
        b"]\n",
        b"bogus\n",
    ] {
        let mut qmp = vm.take_qmp();
        qmp.send(garbage);
        let answer = qmp.answer();
        let text = String::from_utf8_lossy(garbage);
        let error = outcome(&answer).expect_err("an error");
        assert_eq!(error.class, "GenericError", "{text}");
        assert!(
            error.desc.starts_with("JSON parse error"),
            "{text}: {error}"
        );
        assert!(answer.get("id").is_none(), "{answer}");
        // One piece of garbage may cost more than one error; then comes the answer.
        qmp.send(b"\xff{\"execute\":\"query-name\",\"id\":\"next\"}");
        let mut errors = 0;
        while qmp.answer().get("id") != Some(&Value::from("next")) {
            errors += 1;
            assert!(errors < 8, "{text}");
        }
        drop(qmp);
        let mut again = Qmp::connect_raw(&vm.monitor(0));
        again.negotiate();
        vm = with_qmp(vm, again);
    }
}

/// The connection is made anew for each round, so that no state is left over.
fn with_qmp(mut vm: Vm, qmp: Qmp) -> Vm {
    vm.put_qmp(qmp);
    vm
}

#[test]
fn a_control_byte_ends_half_a_command() {
    let mut vm = Vm::none();
    for byte in [0xffu8, 0x00, 0x01, 0x1b] {
        let mut bytes = b"{\"execute\": \"query".to_vec();
        bytes.push(byte);
        vm.qmp().send(&bytes);
        assert_parse_error(vm.qmp());
        vm.qmp().send(b"\n{\"execute\":\"query-name\"}");
        let mut answer = vm.qmp().answer();
        while answer.get("error").is_some() {
            answer = vm.qmp().answer();
        }
        assert!(answer["return"].is_object(), "{byte:#x}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut vm = Vm::none();
    vm.qmp().send(b"{\"execute\":\"\xc3\x28\"}\n");
    let answer = vm.qmp().answer();
    assert!(outcome(&answer).is_err(), "{answer}");
    vm.qmp().send(b"\xff");
    vm.qmp().send(b"{\"execute\":\"query-name\",\"id\":1}");
    while vm.qmp().answer().get("id").is_none() {}
}

#[test]
fn answers_are_ascii() {
    let mut vm = Vm::builder()
        .none()
        .args(["-name", "gr\u{fc}n \u{1f600}"])
        .start();
    // The reader checks that no byte is above 127.
    assert_eq!(vm.query("query-name")["name"], "gr\u{fc}n \u{1f600}");
}

#[test]
fn an_escaped_name_of_a_command_is_that_command() {
    let mut vm = Vm::none();
    vm.qmp().send(b"{\"exec\\u0075te\": \"query-n\\u0061me\"}");
    assert!(vm.qmp().answer()["return"].is_object());
}

#[test]
fn one_answer_is_one_read() {
    let mut vm = Vm::none();
    // Every message comes whole: what is there after the first byte is the whole line.
    for _ in 0..50 {
        let mut qmp = vm.take_qmp();
        qmp.send(b"{\"execute\":\"query-commands\"}");
        let piece = qmp.read_once();
        assert!(
            piece.ends_with(b"\r\n"),
            "{}",
            String::from_utf8_lossy(&piece)
        );
        vm.put_qmp(qmp);
    }
}
