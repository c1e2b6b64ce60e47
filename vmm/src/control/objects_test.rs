use api_spec::{Mode, decode_value};
use serde_json::json;

use super::*;
use crate::event::Mailbox;

fn objects() -> Objects {
    Objects::new(Mailbox::new().unwrap().sender(), Opener::default())
}

fn add(objects: &mut Objects, options: serde_json::Value) -> QmpResult<()> {
    objects.add(&decode_value(options, Mode::Strict).unwrap())
}

#[test]
fn objects_come_and_go() {
    let mut objects = objects();
    let memory =
        json!({"qom-type": "memory-backend-ram", "id": "m", "size": 1 << 20, "merge": false});
    add(&mut objects, memory).unwrap();
    let thread = json!({"qom-type": "iothread", "id": "io", "poll-max-ns": 0});
    add(&mut objects, thread).unwrap();
    add(&mut objects, json!({"qom-type": "rng-builtin", "id": "r"})).unwrap();
    let random = json!({"qom-type": "rng-random", "id": "f", "filename": "/dev/zero"});
    add(&mut objects, random).unwrap();
    let threads = objects.io_threads();
    assert_eq!((threads[0].id.as_str(), threads[0].poll_max_ns), ("io", 0));
    assert!(threads[0].thread_id > 0);
    let memory = objects.memory_backends();
    assert_eq!(
        (memory[0].id.as_deref(), memory[0].merge),
        (Some("m"), false)
    );
    let tree = objects.qom();
    let (path, node) = tree.resolve("/f").unwrap();
    assert_eq!(node.get(&path, "filename"), Ok("/dev/zero".into()));
    for id in ["m", "io", "r", "f"] {
        objects.remove(id).unwrap();
    }
    let gone = objects.remove("m").unwrap_err().desc;
    assert_eq!(gone, "object 'm' not found");
}

#[test]
fn an_object_in_use_stays() {
    let mut objects = objects();
    add(&mut objects, json!({"qom-type": "iothread", "id": "io"})).unwrap();
    let user = objects.io_thread("iothread", "io").unwrap();
    let text = "object 'io' is in use, can not be deleted";
    assert_eq!(objects.remove("io").unwrap_err().desc, text);
    drop(user);
    objects.remove("io").unwrap();
    let memory = json!({"qom-type": "memory-backend-ram", "id": "m", "size": 4096});
    add(&mut objects, memory).unwrap();
    drop(objects.take_memory("m").unwrap());
    assert!(objects.remove("m").is_err());
}

#[test]
fn refusals_name_what_is_wrong() {
    let mut objects = objects();
    let builtin = |id: &str| json!({"qom-type": "rng-builtin", "id": id});
    add(&mut objects, builtin("r")).unwrap();
    for (options, text) in [
        (
            builtin("r"),
            "attempt to add duplicate property 'r' to object (type 'container')",
        ),
        (builtin("1x"), "Parameter 'id' expects an identifier"),
        (
            json!({"qom-type": "iothread", "id": "io", "poll-max-ns": -1}),
            "poll-max-ns value must be in range [0, 9223372036854775807]",
        ),
        (
            json!({"qom-type": "rng-random", "id": "f", "filename": "/nowhere"}),
            "Could not open '/nowhere': No such file or directory",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "m", "size": 0}),
            "property 'size' of memory-backend-ram doesn't take value '0'",
        ),
        (
            json!({"qom-type": "memory-backend-ram", "id": "m", "size": 1u64 << 62}),
            "cannot set up guest memory 'm': Cannot allocate memory",
        ),
    ] {
        assert_eq!(add(&mut objects, options).unwrap_err().desc, text);
    }
    // What failed left nothing behind.
    add(&mut objects, json!({"qom-type": "iothread", "id": "io"})).unwrap();
    let wrong = objects.io_thread("iothread", "r").err().unwrap().desc;
    assert_eq!(
        wrong,
        "Invalid parameter type for 'iothread', expected: iothread"
    );
    let none = objects.entropy("rng", "x").err().unwrap();
    assert_eq!(none.class, api_spec::ErrorClass::DeviceNotFound);
}
