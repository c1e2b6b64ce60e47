//! Every example of the manual, replayed.

use api_spec::{EXAMPLES, Example, Value};
use serde_json::json;
use tests::binary::is_stand_in;
use tests::qmp::outcome;
use tests::{Vm, VmBuilder};

/// Commands whose examples end the program or the session's beginning: each gets a program of its own.
const ALONE: &[&str] = &["quit", "qmp_capabilities"];
/// What an example shows of a machine that is not the one it is replayed on: only the shape counts.
const SHAPE: &[&str] = &[
    "query-status",
    "query-name",
    "query-version",
    "human-monitor-command",
    "query-kvm",
];

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"))
}

/// Replays an example. Objects that it wants to make are made and removed again, so that the order of
/// examples does not matter.
fn replay(vm: &mut Vm, example: &Example, machine: &str) {
    let request = parse(example.request);
    let wanted = parse(example.reply);
    let arguments = request
        .get("arguments")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let answer = vm.qmp().try_exec(example.command, arguments.clone());
    let at = format!("{} {arguments} on {machine}", example.command);
    match (outcome(&wanted), answer) {
        (Ok(wanted), Ok(got)) => {
            same_shape(&wanted, &got, &at);
            let listed = got.is_array() || got.is_object() && wanted != json!({});
            if !listed && !SHAPE.contains(&example.command) {
                assert_eq!(got, wanted, "{at}");
            }
            undo(vm, example.command, &arguments);
        }
        (Err(wanted), Err(got)) => assert_eq!(got, wanted, "{at}"),
        (Ok(wanted), Err(got)) => {
            // Without a machine some have nothing to act on, and say so.
            assert!(
                machine == "none" && got.class != "CommandNotFound",
                "{at}: {got}, not {wanted}"
            );
        }
        (Err(wanted), Ok(got)) => panic!("{at}: {got}, not {wanted}"),
    }
}

/// Members that the example shows are there and have its types; of a list the first is looked at.
fn same_shape(wanted: &Value, got: &Value, at: &str) {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            for (key, value) in wanted {
                match got.get(key) {
                    Some(inner) => same_shape(value, inner, &format!("{at}: {key}")),
                    // Optional where nothing is to be told.
                    None => assert!(
                        at.contains("query-name") || at.contains("query-fdsets"),
                        "{at}: no {key} in {got:?}"
                    ),
                }
            }
        }
        (Value::Array(wanted), Value::Array(got)) => {
            if let (Some(wanted), Some(got)) = (wanted.first(), got.first())
                && let (Some(wanted), Some(got)) = (wanted.as_object(), got.as_object())
            {
                let shared = wanted.keys().filter(|key| got.contains_key(*key)).count();
                assert!(shared > 0, "{at}: {got:?} is nothing like {wanted:?}");
            }
        }
        _ => assert_eq!(
            std::mem::discriminant(wanted),
            std::mem::discriminant(got),
            "{at}: {got} instead of {wanted}"
        ),
    }
}

fn undo(vm: &mut Vm, command: &str, arguments: &Value) {
    let (command, key, value) = match command {
        "blockdev-add" => ("blockdev-del", "node-name", &arguments["node-name"]),
        "chardev-add" => ("chardev-remove", "id", &arguments["id"]),
        "object-add" => ("object-del", "id", &arguments["id"]),
        _ => return,
    };
    vm.exec(command, json!({key: value}));
}

fn replay_all(builder: impl Fn() -> VmBuilder, machine: &str) {
    let mut vm = builder().start();
    let known = vm.query("query-commands");
    let known = known.as_array().expect("a list").clone();
    for example in EXAMPLES {
        if !known.contains(&json!({"name": example.command})) {
            assert!(is_stand_in(), "no {}", example.command);
            continue;
        }
        if example.command == "qmp_capabilities" {
            let mut fresh = builder().start();
            drop(fresh.take_qmp());
            let mut qmp = tests::Qmp::connect_raw(&fresh.monitor(0));
            qmp.greeting();
            qmp.send(example.request.as_bytes());
            assert_eq!(qmp.answer(), parse(example.reply));
        } else if ALONE.contains(&example.command) {
            replay(&mut builder().start(), example, machine);
        } else {
            replay(&mut vm, example, machine);
        }
    }
    vm.assert_alive();
}

#[test]
fn examples_on_no_machine() {
    replay_all(|| VmBuilder::new().none(), "none");
}

#[test]
fn examples_on_a_stopped_machine() {
    replay_all(|| VmBuilder::new().stopped(), "q35");
}

#[test]
fn every_command_has_an_example() {
    for command in api_spec::COMMANDS {
        assert!(
            EXAMPLES.iter().any(|e| e.command == command.name),
            "none for {}",
            command.name
        );
    }
}

#[test]
fn the_program_has_the_commands_of_the_specification_and_no_others() {
    if is_stand_in() {
        println!("skipped: the reference has more");
        return;
    }
    let mut vm = Vm::none();
    let list = vm.query("query-commands");
    let mut got: Vec<_> = list
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|c| c["name"].as_str())
        .collect();
    let mut wanted: Vec<_> = api_spec::COMMANDS.iter().map(|c| c.name).collect();
    got.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
}

#[test]
fn properties_of_every_driver_are_those_of_the_specification() {
    let mut vm = Vm::none();
    for driver in api_spec::DRIVERS
        .iter()
        .filter(|d| d.user_creatable && !d.is_abstract)
    {
        let list = vm.exec("device-list-properties", json!({"typename": driver.name}));
        let list = list.as_array().expect("a list");
        for property in driver.properties {
            let Some(got) = list.iter().find(|p| p["name"] == property.name) else {
                assert!(is_stand_in(), "no {}.{}", driver.name, property.name);
                println!("the reference has no {}.{}", driver.name, property.name);
                continue;
            };
            if is_stand_in() && got["type"] != property.kind {
                println!(
                    "{}.{}: {} there, {} here",
                    driver.name, property.name, got["type"], property.kind
                );
            } else {
                assert_eq!(
                    got["type"], property.kind,
                    "{}.{}",
                    driver.name, property.name
                );
            }
        }
    }
}
