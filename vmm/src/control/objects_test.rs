use api_spec::{Mode, decode_value};
use serde_json::json;

use super::*;
use crate::event::Mailbox;

fn objects() -> Objects {
    let mail = Mailbox::new().unwrap().sender();
    let pool = crate::control::blockdev::pool(mail.clone());
    Objects::new(mail, Opener::default(), Graph::new(pool))
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

#[test]
fn throttle_groups_are_limited_anew() {
    let mut objects = objects();
    let group = json!({"qom-type": "throttle-group", "id": "g", "x-bps-total": 7,
                       "limits": {"iops-total": 100, "iops-total-max": 200}});
    add(&mut objects, group.clone()).unwrap();
    let get = |objects: &Objects, name: &str| {
        let tree = objects.qom();
        let (path, node) = tree.resolve("/g").unwrap();
        node.get(&path, name).unwrap()
    };
    assert_eq!(get(&objects, "limits")["iops-total-max"], 200);
    assert_eq!(get(&objects, "limits")["bps-total"], 7);
    assert_eq!(get(&objects, "x-iops-total"), 100);
    let set = objects.set("g", "limits", &json!({"iops-total": 150}));
    assert_eq!(set, Ok(true));
    assert_eq!(get(&objects, "limits")["iops-total"], 150);
    assert_eq!(get(&objects, "limits")["bps-total"], 7, "it stays");
    for (property, value, message) in [
        (
            "x-iops-total",
            json!(1),
            "Property cannot be set after initialization",
        ),
        (
            "limits",
            json!({"iops-total": 300}),
            "bps_max/iops_max cannot be lower than bps/iops",
        ),
        (
            "limits",
            json!({"iops": 300}),
            "Parameter 'iops' is unexpected",
        ),
    ] {
        let error = objects.set("g", property, &value).unwrap_err();
        assert_eq!(error.desc, message);
    }
    assert_eq!(objects.set("g", "other", &json!(1)), Ok(false));
    let null = block::NodeSpec::new(block::DriverSpec::Null(block::NullSpec::default()));
    let node = block::NodeSpec::new(block::DriverSpec::Throttle {
        file: Box::new(block::ChildSpec::Inline(null)),
        group: "g".into(),
    });
    let mut opener = Opener::default();
    objects.graph.add(node.named("n"), &mut opener).unwrap();
    let error = objects.remove("g").unwrap_err();
    assert_eq!(error.desc, "object 'g' is in use, can not be deleted");
    drop(objects.graph.del("n").unwrap());
    objects.remove("g").unwrap();
    let wrong = json!({"qom-type": "throttle-group", "id": "g", "limits": {"iops-size": 1}});
    assert!(add(&mut objects, wrong).is_err());
    assert!(!objects.has("g"));
}
