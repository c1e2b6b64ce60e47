//! I/O threads that come, change and go while the machine runs.

use serde_json::json;
use tests::qtest::Qtest;
use tests::virtio::Device;

fn set(t: &mut Qtest, property: &str, value: serde_json::Value) -> Result<(), String> {
    let arguments = json!({"path": "/objects/io0", "property": property, "value": value});
    let answer = t.vm.qmp().try_exec("qom-set", arguments);
    answer.map(drop).map_err(|error| error.desc)
}

#[test]
fn a_thread_that_polls() {
    let mut t = Qtest::start(&[
        "-object",
        "iothread,id=io0,poll-max-ns=1000000,poll-grow=3",
        "-device",
        "virtio-balloon-pci,iothread=io0,addr=4.0",
    ]);
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    let mut queue = device.queue(&mut t, 0, None);
    device.drive(&mut t);
    let list = t.alloc(4);
    let mut inflate = |t: &mut Qtest| {
        for _ in 0..50 {
            queue.add(t, &[(list, 4, false)]);
            queue.kick(t);
            queue.wait(t);
        }
    };
    inflate(&mut t);
    for (property, value, key) in [
        ("poll-max-ns", 0, "poll-max-ns"),
        ("poll-max-ns", 500_000, "poll-max-ns"),
        ("poll-grow", 4, "poll-grow"),
        ("poll-shrink", 2, "poll-shrink"),
        ("aio-max-batch", 7, "aio-max-batch"),
    ] {
        set(&mut t, property, json!(value)).expect("a number");
        assert_eq!(t.vm.query("query-iothreads")[0][key], value);
        inflate(&mut t);
    }
    let id = t.vm.query("query-iothreads")[0]["thread-id"].clone();
    let text = format!(
        "io0:\r\n  thread_id={id}\r\n  poll-max-ns=500000\r\n  poll-grow=4\r\n  poll-shrink=2\r\n  \
         aio-max-batch=7\r\n"
    );
    assert_eq!(t.vm.qmp().hmp("info iothreads"), text);
}

#[test]
fn what_a_thread_does_not_take() {
    let mut t = Qtest::start(&["-object", "iothread,id=io0"]);
    assert_eq!(t.vm.query("query-iothreads")[0]["poll-max-ns"], 32768);
    for (property, value, text) in [
        (
            "poll-grow",
            json!(-1),
            "poll-grow value must be in range [0, 9223372036854775807]",
        ),
        (
            "thread-pool-min",
            json!(65),
            "bad thread-pool-min/thread-pool-max values",
        ),
        (
            "poll-max-ns",
            json!("x"),
            "Invalid parameter type for 'poll-max-ns', expected: integer",
        ),
        ("nothing", json!(1), "Property 'iothread.nothing' not found"),
    ] {
        assert_eq!(set(&mut t, property, value), Err(text.to_owned()));
    }
    assert_eq!(set(&mut t, "thread-pool-max", json!(2)), Ok(()));
}

#[test]
fn a_thread_in_use_stays() {
    let mut t = Qtest::start(&[
        "-device",
        "pcie-root-port,id=rp0,chassis=1,slot=1",
        "-device",
        "pcie-root-port,id=rp1,chassis=1,slot=2",
    ]);
    let object = json!({"qom-type": "iothread", "id": "io1"});
    let name = json!({"id": "io1"});
    t.vm.qmp().exec("object-add", object.clone());
    t.vm.qmp().exec("object-del", name.clone());
    t.vm.qmp().exec("object-add", object);
    let device =
        json!({"driver": "virtio-balloon-pci", "id": "b", "bus": "rp0", "iothread": "io1"});
    t.vm.qmp().exec("device_add", device);
    let refused = t.vm.qmp().refused("object-del", name.clone());
    assert_eq!(refused.desc, "object 'io1' is in use, can not be deleted");
    let refused = t.vm.qmp().refused(
        "device_add",
        json!({"driver": "virtio-balloon-pci", "bus": "rp1"}),
    );
    assert_eq!(refused.desc, "Only one balloon device is supported");
    // A reset ends what a guest would have to do; then thread and place are free.
    t.vm.qmp().exec("device_del", json!({"id": "b"}));
    t.vm.query("system_reset");
    t.vm.qmp().event("DEVICE_DELETED");
    t.vm.qmp().exec("object-del", name);
    let device = json!({"driver": "virtio-balloon", "id": "b", "bus": "rp1"});
    t.vm.qmp().exec("device_add", device);
    t.vm.query("query-balloon");
}
