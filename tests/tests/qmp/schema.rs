//! query-qmp-schema agrees with itself, and with what the program does.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};
use tests::binary::skip_on_stand_in;
use tests::{Vm, VmBuilder};

struct Schema {
    entries: Vec<Value>,
    by_name: HashMap<String, Value>,
}

impl Schema {
    fn of(vm: &mut Vm) -> Self {
        let entries = vm
            .query("query-qmp-schema")
            .as_array()
            .expect("a list")
            .clone();
        let by_name = entries
            .iter()
            .map(|e| (text(e, "name").to_owned(), e.clone()))
            .collect();
        Schema { entries, by_name }
    }

    fn get(&self, name: &str) -> &Value {
        self.by_name
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in the schema"))
    }

    /// Member of a command's or event's arguments.
    fn member(&self, of: &str, name: &str) -> &Value {
        let arguments = self.get(text(self.get(of), "arg-type"));
        let members = arguments["members"].as_array().expect("members");
        members
            .iter()
            .find(|m| m["name"] == name)
            .unwrap_or_else(|| panic!("no {name} of {of}"))
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no text {key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Every type that an entry names.
fn references(entry: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = ["arg-type", "ret-type", "element-type"]
        .iter()
        .filter_map(|key| entry[*key].as_str())
        .collect();
    for key in ["members", "variants"] {
        names.extend(list(entry, key).iter().filter_map(|m| m["type"].as_str()));
    }
    names
}

#[test]
fn every_type_is_there_and_every_type_is_used() {
    let mut vm = Vm::none();
    let schema = Schema::of(&mut vm);
    assert_eq!(
        schema.by_name.len(),
        schema.entries.len(),
        "a name is there twice"
    );
    let mut used = HashSet::new();
    for entry in &schema.entries {
        for name in references(entry) {
            schema.get(name);
            used.insert(name.to_owned());
        }
    }
    if skip_on_stand_in("the reference keeps types whose users were left out") {
        return;
    }
    for entry in &schema.entries {
        let kind = text(entry, "meta-type");
        if kind != "command" && kind != "event" {
            assert!(used.contains(text(entry, "name")), "nothing uses {entry}");
        }
    }
}

#[test]
fn every_entry_has_the_shape_of_its_kind() {
    let mut vm = Vm::none();
    let schema = Schema::of(&mut vm);
    for entry in &schema.entries {
        let name = text(entry, "name");
        match text(entry, "meta-type") {
            "command" => {
                assert_eq!(
                    schema.get(text(entry, "arg-type"))["meta-type"],
                    "object",
                    "{entry}"
                );
                schema.get(text(entry, "ret-type"));
            }
            "event" => assert_eq!(schema.get(text(entry, "arg-type"))["meta-type"], "object"),
            "builtin" => {
                text(entry, "json-type");
            }
            "array" => assert_eq!(name, format!("[{}]", text(entry, "element-type"))),
            "enum" => {
                let members: Vec<_> = list(entry, "members")
                    .iter()
                    .map(|m| text(m, "name"))
                    .collect();
                let values: Vec<_> = list(entry, "values")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                assert_eq!(members, values, "{entry}");
                assert!(!members.is_empty());
            }
            "object" => check_object(&schema, entry),
            "alternate" => assert!(list(entry, "members").len() > 1, "{entry}"),
            other => panic!("{other} in {entry}"),
        }
        if let Some(features) = entry.get("features") {
            assert!(
                features.as_array().is_some_and(|f| !f.is_empty()),
                "{entry}"
            );
        }
    }
}

fn check_object(schema: &Schema, entry: &Value) {
    let mut seen = HashSet::new();
    for member in list(entry, "members") {
        assert!(seen.insert(text(member, "name")), "twice in {entry}");
        // The only default that introspection knows.
        assert!(member.get("default").is_none_or(Value::is_null), "{member}");
    }
    let Some(tag) = entry.get("tag") else {
        assert!(entry.get("variants").is_none(), "{entry}");
        return;
    };
    let tag = list(entry, "members")
        .iter()
        .find(|m| m["name"] == *tag)
        .expect("the tag is a member");
    let values = schema.get(text(tag, "type"));
    assert_eq!(values["meta-type"], "enum");
    let values: HashSet<_> = list(values, "values")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for variant in list(entry, "variants") {
        assert!(values.contains(text(variant, "case")), "{variant}");
        assert_eq!(schema.get(text(variant, "type"))["meta-type"], "object");
    }
}

#[test]
fn types_of_the_program_have_numbers_for_names() {
    let mut vm = Vm::none();
    for entry in Schema::of(&mut vm).entries {
        let name = text(&entry, "name");
        let kind = text(&entry, "meta-type");
        if ["enum", "object", "alternate"].contains(&kind) {
            assert!(name.bytes().all(|b| b.is_ascii_digit()), "{name}");
        }
    }
}

#[test]
fn what_clients_look_for_is_there() {
    let mut vm = Vm::none();
    let schema = Schema::of(&mut vm);
    assert_eq!(schema.get("query-status")["meta-type"], "command");
    assert_eq!(schema.get("SHUTDOWN")["meta-type"], "event");
    let reason = schema.get(text(schema.member("SHUTDOWN", "reason"), "type"));
    assert!(list(reason, "values").contains(&json!("host-qmp-quit")));
    // A flat union by its tag.
    let blockdev = schema.get(text(schema.get("blockdev-add"), "arg-type"));
    assert_eq!(blockdev["tag"], "driver");
    let file = list(blockdev, "variants")
        .iter()
        .find(|v| v["case"] == "file")
        .expect("file");
    let file = schema.get(text(file, "type"));
    let aio = list(file, "members")
        .iter()
        .find(|m| m["name"] == "aio")
        .expect("aio");
    assert_eq!(aio.get("default"), Some(&Value::Null));
    let engines = schema.get(text(aio, "type"));
    for engine in ["threads", "native", "io_uring"] {
        assert!(list(engines, "values").contains(&json!(engine)), "{engine}");
    }
    assert_eq!(
        schema.get(text(schema.get("object-add"), "arg-type"))["tag"],
        "qom-type"
    );
    let command = schema.get("human-monitor-command");
    assert_eq!(schema.get(text(command, "ret-type"))["json-type"], "string");
}

#[test]
fn every_command_of_the_schema_is_there() {
    let mut vm = Vm::none();
    let schema = Schema::of(&mut vm);
    for entry in schema
        .entries
        .iter()
        .filter(|e| e["meta-type"] == "command")
    {
        let name = text(entry, "name");
        // An argument that no command has: it is refused before anything is done.
        match vm.qmp().try_exec(name, json!({"no-such-argument": 1})) {
            Ok(value) => panic!("{name} takes anything: {value}"),
            Err(error) => assert!(
                error.class == "GenericError" || name == "qmp_capabilities",
                "{name}: {error}"
            ),
        }
    }
    vm.assert_alive();
}

#[test]
fn answers_have_the_members_that_the_schema_gives_them() {
    if skip_on_stand_in("some of its answers need a machine") {
        return;
    }
    // Some queries need a device.
    let devices = ["-device", "virtio-balloon-pci", "-device", "vmgenid"];
    let mut vm = VmBuilder::new().stopped().args(devices).start();
    let schema = Schema::of(&mut vm);
    for entry in schema
        .entries
        .iter()
        .filter(|e| e["meta-type"] == "command")
    {
        let name = text(entry, "name");
        let arguments = schema.get(text(entry, "arg-type"));
        let needs = list(arguments, "members")
            .iter()
            .any(|m| m.get("default").is_none());
        if !name.starts_with("query-") || needs {
            continue;
        }
        let value = vm.query(name);
        check(&schema, text(entry, "ret-type"), &value, name);
    }
}

/// Checks a value against a type of the schema.
fn check(schema: &Schema, kind: &str, value: &Value, at: &str) {
    let entry = schema.get(kind);
    match text(entry, "meta-type") {
        "builtin" => {
            let fits = match text(entry, "json-type") {
                "string" => value.is_string(),
                "int" => value.is_i64() || value.is_u64(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                _ => true,
            };
            assert!(fits, "{at}: {value} is no {entry}");
        }
        "enum" => assert!(list(entry, "values").contains(value), "{at}: {value}"),
        "array" => {
            for item in value
                .as_array()
                .unwrap_or_else(|| panic!("{at}: {value} is no list"))
            {
                check(schema, text(entry, "element-type"), item, at);
            }
        }
        "object" => check_members(schema, entry, value, at),
        _ => {}
    }
}

fn check_members(schema: &Schema, entry: &Value, value: &Value, at: &str) {
    let object = value
        .as_object()
        .unwrap_or_else(|| panic!("{at}: {value} is no object"));
    let mut members: Vec<&Value> = list(entry, "members").iter().collect();
    if let Some(tag) = entry["tag"].as_str() {
        let variant = list(entry, "variants")
            .iter()
            .find(|v| v["case"] == value[tag]);
        if let Some(variant) = variant {
            members.extend(list(schema.get(text(variant, "type")), "members"));
        }
    }
    for member in &members {
        let name = text(member, "name");
        match object.get(name) {
            Some(inner) => check(schema, text(member, "type"), inner, &format!("{at}.{name}")),
            None => assert!(
                member.get("default").is_some(),
                "{at}: no {name} in {value}"
            ),
        }
    }
    for key in object.keys() {
        assert!(
            members.iter().any(|m| m["name"] == key.as_str()),
            "{at}: {key} in {value}"
        );
    }
}
