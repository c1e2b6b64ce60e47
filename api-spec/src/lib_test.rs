use crate::*;
use serde_json::json;

fn decode(name: &str, arguments: Value) -> QmpResult<Command> {
    decode_command(name, arguments.as_object().cloned())
}

fn refused(name: &str, arguments: Value) -> String {
    decode(name, arguments).expect_err(name).desc
}

#[test]
fn refusals_name_the_member_and_what_was_expected() {
    for (name, arguments, text) in [
        ("blockdev-add", json!({}), "Parameter 'driver' is missing"),
        (
            "blockdev-add",
            json!({"driver": "nbd"}),
            "Parameter 'driver' does not accept value 'nbd'",
        ),
        (
            "blockdev-add",
            json!({"driver": "raw", "file": {"driver": "file", "filename": "a", "aio": "x"}}),
            "Parameter 'aio' does not accept value 'x'",
        ),
        (
            "blockdev-add",
            json!({"driver": 1}),
            "Invalid parameter type for 'driver', expected: string",
        ),
        (
            "blockdev-add",
            json!({"driver": "null-co", "foo": 1}),
            "Parameter 'foo' is unexpected",
        ),
        (
            "blockdev-add",
            json!({"driver": "raw", "file": {"driver": "file", "filename": 1}}),
            "Invalid parameter type for 'file.filename', expected: string",
        ),
        (
            "blockdev-add",
            json!({"driver": "raw", "file": {"driver": "file", "filename": "a", "x": 1}}),
            "Parameter 'file.x' is unexpected",
        ),
        (
            "blockdev-add",
            json!({"driver": "null-co", "read-only": "on"}),
            "Invalid parameter type for 'read-only', expected: boolean",
        ),
        ("stop", json!({"a": 1}), "Parameter 'a' is unexpected"),
        (
            "object-add",
            json!({"qom-type": "iothread"}),
            "Parameter 'id' is missing",
        ),
        (
            "add-fd",
            json!({"fdset-id": 1.5}),
            "Invalid parameter type for 'fdset-id', expected: integer",
        ),
        (
            "set-action",
            json!({"reboot": "x"}),
            "Parameter 'reboot' does not accept value 'x'",
        ),
    ] {
        assert_eq!(refused(name, arguments), text, "{name}");
    }
    let error = decode("nothing", json!({})).expect_err("unknown");
    assert_eq!(error.class, ErrorClass::CommandNotFound);
    assert_eq!(error.desc, "The command nothing has not been found");
}

#[test]
fn nested_arguments_decode() {
    let command = decode(
        "chardev-add",
        json!({"id": "c", "backend": {"type": "socket", "data": {
            "addr": {"type": "unix", "data": {"path": "/a"}}, "server": true, "wait": false}}}),
    )
    .expect("decodes");
    let Command::ChardevAdd(args) = command else {
        panic!("{command:?}")
    };
    let ChardevBackendBranch::Socket(socket) = args.backend.r#type else {
        panic!()
    };
    assert_eq!(socket.data.wait, Some(false));
}

#[test]
fn values_survive_encoding() {
    let text = r#"{"node-name": "n", "driver": "raw", "file": {"driver": "file", "filename": "\u00e4"}, "offset": 512}"#;
    let value: Value = serde_json::from_str(text).expect("json");
    let options: BlockdevOptions = decode_value(value.clone(), Mode::Strict).expect("decodes");
    let encoded = to_json(&options);
    assert!(encoded.is_ascii());
    let again: Value = serde_json::from_str(&encoded).expect("json");
    assert_eq!(
        decode_value::<BlockdevOptions>(again, Mode::Strict).expect("decodes"),
        options
    );
}

#[test]
fn device_properties_are_typed_but_lenient() {
    let device = |v: Value| decode_value::<DeviceOptions>(v, Mode::Lenient);
    let options = device(
        json!({"driver": "virtio-blk-pci", "drive": "d", "num-queues": "4",
        "addr": "0x4.0", "share-rw": "on", "id": "x"}),
    )
    .expect("decodes");
    let DeviceDriver::VirtioBlkPci(blk) = options.driver else {
        panic!()
    };
    assert_eq!(blk.num_queues, Some(4));
    assert_eq!(
        blk.addr,
        Some(decode::PciAddr {
            slot: 4,
            function: 0
        })
    );
    assert!(blk.share_rw);
    assert_eq!(blk.queue_size, 256);
    let desc = |v: Value| device(v).expect_err("refused").desc;
    assert_eq!(
        desc(json!({"driver": "x"})),
        "'x' is not a valid device model name"
    );
    assert_eq!(desc(json!({})), "Parameter 'driver' is missing");
    assert_eq!(
        desc(json!({"driver": "virtio-rng-pci", "foo": 1})),
        "Property 'virtio-rng-pci.foo' not found"
    );
}

#[test]
fn command_line_text_decodes_into_the_same_types() {
    let object: ObjectOptions = keyval::decode_keyval(
        "memory-backend-ram,id=m,size=64M,host-nodes=0,policy=bind,share=on",
        Some("qom-type"),
        keyval::Flags::Refused,
    )
    .expect("decodes");
    let ObjectOptionsBranch::MemoryBackendRam(ram) = object.qom_type else {
        panic!()
    };
    assert_eq!(ram.size.0, 64 << 20);
    assert_eq!(ram.host_nodes, Some(vec![0]));
}

#[test]
fn tables_are_sorted_and_complete() {
    assert!(COMMANDS.windows(2).all(|w| w[0].name < w[1].name));
    assert!(command_info("query-status").is_some_and(|c| c.allow_preconfig));
    assert!(command_info("query").is_none());
    for example in EXAMPLES.iter().filter(|e| e.command != "qmp_capabilities") {
        let request: Value = serde_json::from_str(example.request).expect(example.request);
        let arguments = request.get("arguments").and_then(Value::as_object).cloned();
        let reply: Value = serde_json::from_str(example.reply).expect(example.reply);
        // Some examples show what the decoder itself refuses.
        if let Err(refused) = decode_command(example.command, arguments) {
            let told = reply["error"]["desc"].as_str();
            assert_eq!(told, Some(refused.desc.as_str()), "{}", example.request);
        }
    }
}

#[test]
fn every_reference_of_the_schema_resolves() {
    let schema: Vec<Value> = serde_json::from_str(QUERY_QMP_SCHEMA_JSON).expect("json");
    let names: std::collections::HashSet<_> =
        schema.iter().filter_map(|e| e["name"].as_str()).collect();
    assert_eq!(names.len(), schema.len(), "names are unique");
    let mut stack: Vec<&Value> = schema.iter().collect();
    while let Some(value) = stack.pop() {
        match value {
            Value::Object(object) => {
                for (key, value) in object {
                    if matches!(
                        key.as_str(),
                        "arg-type" | "ret-type" | "type" | "element-type"
                    ) {
                        assert!(
                            names.contains(value.as_str().expect("name")),
                            "{key} {value}"
                        );
                    }
                    stack.push(value);
                }
            }
            Value::Array(items) => stack.extend(items),
            _ => {}
        }
    }
}

#[test]
fn rate_limits_are_per_port() {
    let event = Event::VserportChange {
        id: "p0".into(),
        open: true,
    };
    assert_eq!(
        event.rate_limit().map(|l| l.key).as_deref(),
        Some("VSERPORT_CHANGE:p0")
    );
    assert_eq!(
        event.data_json().as_deref(),
        Some(r#"{"id": "p0", "open": true}"#)
    );
    assert_eq!(Event::Stop.data_json(), None);
    assert_eq!(Event::Stop.rate_limit(), None);
}
