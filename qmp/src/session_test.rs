use super::*;
use serde_json::json;

fn ready(enable: Value) -> Session {
    let mut session = Session::default();
    let text = ask(
        &mut session,
        json!({"execute": "qmp_capabilities", "arguments": enable}),
    );
    assert_eq!(text, "{\"return\": {}}");
    session
}

/// What is sent for a value that needs no command carried out.
fn ask(session: &mut Session, value: Value) -> String {
    let action = session
        .accept(Frame::Value(value), Vec::new())
        .or_else(|| session.next_action());
    match action {
        Some(Action::Send(text)) => text,
        other => panic!("{other:?}"),
    }
}

fn desc(text: &str) -> String {
    let value: Value = serde_json::from_str(text).expect(text);
    value["error"]["desc"].as_str().expect(text).to_string()
}

#[test]
fn negotiation_comes_first_and_only_once() {
    let mut session = Session::default();
    let text = ask(&mut session, json!({"execute": "query-status", "id": 1}));
    assert!(
        text.contains("CommandNotFound") && text.ends_with(", \"id\": 1}"),
        "{text}"
    );
    assert_eq!(
        desc(&text),
        "Expecting capabilities negotiation with 'qmp_capabilities'"
    );
    let text = ask(
        &mut session,
        json!({"execute": "qmp_capabilities", "arguments": {"enable": ["x"]}}),
    );
    assert_eq!(
        desc(&text),
        "Parameter 'enable[0]' does not accept value 'x'"
    );
    assert!(!session.is_ready());
    let mut session = ready(json!({"enable": []}));
    let text = ask(&mut session, json!({"execute": "qmp_capabilities"}));
    assert_eq!(
        desc(&text),
        "Capabilities negotiation is already complete, command ignored"
    );
}

#[test]
fn envelopes_are_checked_and_ids_echoed() {
    let mut session = ready(json!({}));
    for (value, text) in [
        (json!(1), "QMP input must be a JSON object"),
        (json!({"id": "a"}), "QMP input lacks member 'execute'"),
        (
            json!({"execute": 1, "id": {"x": null}}),
            "QMP input member 'execute' must be a string",
        ),
        (
            json!({"execute": "stop", "x": 1, "id": null}),
            "QMP input member 'x' is unexpected",
        ),
        (
            json!({"execute": "stop", "arguments": null, "id": 7}),
            "QMP input member 'arguments' must be an object",
        ),
        (
            json!({"exec-oob": "stop", "id": 8}),
            "QMP input member 'exec-oob' is unexpected",
        ),
        (
            json!({"execute": "stop", "arguments": {"a": 1}, "id": 9}),
            "Parameter 'a' is unexpected",
        ),
    ] {
        let answer = ask(&mut session, value.clone());
        assert_eq!(desc(&answer), text);
        let answer: Value = serde_json::from_str(&answer).expect("json");
        assert_eq!(answer.get("id"), value.get("id"));
    }
}

#[test]
fn in_band_commands_are_carried_out_in_order() {
    let mut session = ready(json!({}));
    for id in 0..3 {
        let _ = session.accept(
            Frame::Value(json!({"execute": "query-status", "id": id})),
            Vec::new(),
        );
    }
    assert!(!matches!(session.next_action(), Some(Action::Send(_))));
    assert!(session.next_action().is_none(), "one at a time");
    assert!(!session.wants_input());
    session.answered();
    let Some(Action::Run { id, .. }) = session.next_action() else {
        panic!()
    };
    assert_eq!(id, Some(json!(1)));
}

#[test]
fn out_of_band_needs_the_capability_and_a_command_that_allows_it() {
    let mut session = ready(json!({"enable": ["oob"]}));
    let text = ask(&mut session, json!({"exec-oob": "query-status", "id": 1}));
    assert_eq!(desc(&text), "The command query-status does not support OOB");
    let text = ask(&mut session, json!({"exec-oob": "nope", "id": 1}));
    assert_eq!(desc(&text), "The command nope has not been found");
    let text = ask(&mut session, json!({"exec-oob": "stop", "execute": "stop"}));
    assert_eq!(
        desc(&text),
        "QMP input member 'execute' clashes with 'exec-oob'"
    );
    for _ in 0..QUEUE_LIMIT {
        assert!(session.wants_input());
        let _ = session.accept(Frame::Value(json!({"execute": "query-status"})), Vec::new());
    }
    assert!(!session.wants_input());
}
