//! The examples of docs/images.md and docs/networks.md, replayed in their order.

use serde_json::Value;
use tests::{Vm, qmp::Qmp};

const IMAGES: &str = include_str!("../../../docs/images.md");
const NETWORKS: &str = include_str!("../../../docs/networks.md");

/// A message of an example.
#[derive(Debug)]
pub enum Step {
    Send(Value),
    Receive(Value),
}

/// The messages of all examples; a message may go on in further lines.
pub fn steps(page: &str) -> Vec<Step> {
    let mut texts: Vec<(bool, String)> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```json";
            continue;
        }
        if !inside {
            continue;
        }
        match (line.strip_prefix("-> "), line.strip_prefix("<- ")) {
            (Some(text), _) => texts.push((true, text.to_owned())),
            (None, Some(text)) => texts.push((false, text.to_owned())),
            (None, None) => {
                let (_, text) = texts.last_mut().expect("an example begins with an arrow");
                text.push_str(line);
            }
        }
    }
    let step = |(sent, text): (bool, String)| {
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e} in {text}"));
        match sent {
            true => Step::Send(value),
            false => Step::Receive(value),
        }
    };
    texts.into_iter().map(step).collect()
}

/// Whether all that is shown is there. Lists are as long as they are shown.
fn has(shown: &Value, got: &Value) -> bool {
    match (shown, got) {
        (Value::Object(shown), Value::Object(got)) => shown
            .iter()
            .all(|(key, value)| got.get(key).is_some_and(|got| has(value, got))),
        (Value::Array(shown), Value::Array(got)) => {
            shown.len() == got.len() && shown.iter().zip(got).all(|(shown, got)| has(shown, got))
        }
        _ => shown == got,
    }
}

/// The next event that is as shown; others are passed over.
fn event(qmp: &mut Qmp, shown: &Value) {
    let name = shown["event"].as_str().expect("a name");
    loop {
        if has(shown, &qmp.event(name)) {
            return;
        }
    }
}

#[test]
fn examples_of_the_page_about_images() {
    replay(IMAGES, 20);
}

#[test]
fn examples_of_the_page_about_networks() {
    replay(NETWORKS, 10);
}

/// Replays a page with at least so many messages.
fn replay(page: &str, least: usize) {
    let mut vm = Vm::none();
    let steps = steps(page);
    assert!(steps.len() > least, "they are found");
    for step in steps {
        play(vm.qmp(), &step);
    }
    vm.assert_alive();
}

/// Sends a message, or waits for one.
pub fn play(qmp: &mut Qmp, step: &Step) {
    match step {
        Step::Send(request) => qmp.send(request.to_string().as_bytes()),
        Step::Receive(shown) if shown.get("event").is_some() => event(qmp, shown),
        Step::Receive(shown) => {
            let got = qmp.answer();
            assert!(has(shown, &got), "{got} is not {shown}");
        }
    }
}
