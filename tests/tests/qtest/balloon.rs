//! The balloon, as its driver and the monitor see it.

use std::time::Duration;

use serde_json::json;
use tests::qtest::Qtest;
use tests::virtio::Device;

const MIB: u64 = 1 << 20;
const PATH: &str = "/machine/peripheral/b";

fn start(args: &[&str]) -> (Qtest, Device) {
    let mut t = Qtest::start(args);
    let mut device = Device::find(&mut t, 4);
    device.negotiate(&mut t, u64::MAX);
    (t, device)
}

#[test]
fn pages_go_in_and_come_out() {
    let (mut t, device) = start(&["-m", "128", "-device", "virtio-balloon-pci,id=b,addr=4.0"]);
    let mut inflate = device.queue(&mut t, 0, None);
    let mut deflate = device.queue(&mut t, 1, None);
    device.drive(&mut t);
    t.vm.qmp().exec("balloon", json!({"value": 100 * MIB}));
    let config = device.config();
    assert_eq!(u64::from(t.readl(config)), (28 * MIB) >> 12);
    let page = t.alloc(8192).next_multiple_of(4096);
    t.write(page, &[9; 16]);
    let list = t.alloc(8);
    let number = u32::try_from(page >> 12).expect("low memory");
    t.write(list, &number.to_le_bytes());
    // What is no memory is passed over.
    t.write(list + 4, &u32::MAX.to_le_bytes());
    inflate.add(&mut t, &[(list, 8, false)]);
    inflate.kick(&mut t);
    assert_eq!(inflate.wait(&mut t).1, 0);
    assert_eq!(t.read(page, 16), [0; 16]);
    deflate.add(&mut t, &[(list, 8, false)]);
    deflate.kick(&mut t);
    assert_eq!(deflate.wait(&mut t).1, 0);
}

#[test]
fn a_change_is_told_and_not_too_often() {
    let (mut t, device) = start(&["-m", "128", "-device", "virtio-balloon-pci,id=b,addr=4.0"]);
    device.drive(&mut t);
    let config = device.config();
    t.writel(config + 4, 0x100);
    let told = t.vm.qmp().event("BALLOON_CHANGE");
    assert_eq!(told["data"], json!({"actual": 127 * MIB}));
    for pages in 0x101..=0x1ff_u32 {
        t.writel(config + 4, pages);
    }
    t.writel(config + 4, 0x200);
    let told = t.vm.qmp().event("BALLOON_CHANGE");
    assert_eq!(told["data"], json!({"actual": 126 * MIB}));
    let more =
        t.vm.qmp()
            .event_within("BALLOON_CHANGE", Duration::from_millis(100));
    assert_eq!(more, None);
    assert_eq!(t.vm.query("query-balloon"), json!({"actual": 126 * MIB}));
    assert_eq!(t.vm.qmp().hmp("info balloon"), "balloon: actual=126\r\n");
    // More than there is makes no sense, and is no more than that.
    t.writel(config + 4, u32::MAX);
    t.vm.query("query-balloon");
    assert_eq!(t.vm.qmp().hmp("balloon 64"), "");
    assert_eq!(u64::from(t.readl(config)), (64 * MIB) >> 12);
}

#[test]
fn statistics() {
    let (mut t, device) = start(&[
        "-device",
        "virtio-balloon-pci,id=b,addr=4.0,guest-stats-polling-interval=3",
    ]);
    let mut queue = device.queue(&mut t, 2, None);
    device.drive(&mut t);
    let get = |t: &mut Qtest, path: &str, property: &str| {
        t.vm.qmp()
            .exec("qom-get", json!({"path": path, "property": property}))
    };
    let none = get(&mut t, PATH, "guest-stats");
    assert_eq!(none["last-update"], 0);
    assert_eq!(none["stats"]["stat-swap-in"], json!(u64::MAX));
    assert_eq!(none["stats"].as_object().map(|stats| stats.len()), Some(16));
    let list = t.alloc(20);
    let mut fill = |t: &mut Qtest, value: u64| {
        let mut bytes = 4u16.to_le_bytes().to_vec();
        bytes.extend(value.to_le_bytes());
        t.write(list, &bytes);
        queue.add(t, &[(list, 10, false)]);
        queue.kick(t);
        let told = json!(value);
        t.until("the statistics are there", |t| {
            let inner = format!("{PATH}/virtio-backend");
            get(t, &inner, "guest-stats")["stats"]["stat-free-memory"] == told
        });
    };
    fill(&mut t, 1234);
    assert!(get(&mut t, PATH, "guest-stats")["last-update"].as_u64() > Some(1_000_000_000));
    assert_eq!(get(&mut t, PATH, "guest-stats-polling-interval"), 3);
    let mut set = |value: serde_json::Value| {
        let arguments =
            json!({"path": PATH, "property": "guest-stats-polling-interval", "value": value});
        t.vm.qmp().try_exec("qom-set", arguments)
    };
    for (value, text) in [
        (json!(-1), "timer value must be greater than zero"),
        (json!(1u64 << 32), "timer value is too big"),
        (
            json!("x"),
            "Invalid parameter type for 'guest-stats-polling-interval', expected: integer",
        ),
    ] {
        let refused = set(value).expect_err("no interval");
        assert_eq!(refused.desc, text);
    }
    set(json!(2)).expect("an interval");
    if tests::binary::is_stand_in() {
        return;
    }
    t.ok("clock_step 2000000000");
    queue.wait(&mut t);
}

#[test]
fn what_cannot_be_set() {
    let (mut t, _device) = start(&["-device", "virtio-balloon-pci,id=b,addr=4.0"]);
    for (path, property, text) in [
        (
            PATH,
            "guest-stats",
            "Property 'virtio-balloon-device.guest-stats' is not writable",
        ),
        (
            PATH,
            "addr",
            "Attempt to set property 'addr' on device 'b' (type 'virtio-balloon-pci') after it \
             was realized",
        ),
        (PATH, "nope", "Property 'virtio-balloon-pci.nope' not found"),
    ] {
        let arguments = json!({"path": path, "property": property, "value": "3"});
        let refused = t.vm.qmp().refused("qom-set", arguments);
        assert_eq!(refused.desc, text);
    }
}

#[test]
fn refusals() {
    let mut vm = tests::VmBuilder::new().stopped().start();
    for (command, arguments) in [
        ("balloon", json!({"value": 1 << 20})),
        ("query-balloon", json!({})),
    ] {
        let refused = vm.qmp().refused(command, arguments);
        assert_eq!(refused.class, "DeviceNotActive");
        assert_eq!(refused.desc, "No balloon device has been activated");
    }
    let text = "Error: No balloon device has been activated\r\n";
    assert_eq!(vm.qmp().hmp("info balloon"), text);
    assert_eq!(vm.qmp().hmp("balloon 64"), text);
    let args = ["-device", "virtio-balloon-pci,id=b"];
    let mut vm = tests::VmBuilder::new().stopped().args(args).start();
    for value in [0i64, -1, i64::MIN] {
        let refused = vm.qmp().refused("balloon", json!({"value": value}));
        assert_eq!(refused.desc, "Parameter 'value' expects a size");
    }
    vm.qmp().exec("balloon", json!({"value": i64::MAX}));
    for (line, text) in [
        ("balloon", "unexpected end of expression"),
        ("balloon x", "invalid char 'x' in expression"),
    ] {
        let expected = format!("{text}\r\nTry \"help balloon\" for more information\r\n");
        assert_eq!(vm.qmp().hmp(line), expected);
    }
    for (args, text) in [
        (
            &[
                "-device",
                "virtio-balloon-pci",
                "-device",
                "virtio-balloon-pci",
            ][..],
            "Only one balloon device is supported",
        ),
        (
            &["-device", "virtio-balloon-pci,free-page-hint=on"],
            "'free-page-hint' requires 'iothread' to be set",
        ),
        (
            &[
                "-device",
                "virtio-balloon-pci,guest-stats-polling-interval=-3",
            ],
            "timer value must be greater than zero",
        ),
    ] {
        let exit = tests::VmBuilder::new().stopped().args(args).run();
        exit.assert_refused().assert_says(text);
    }
}

#[test]
fn free_memory_is_reported() {
    let (mut t, device) = start(&[
        "-object",
        "memory-backend-memfd,id=m,size=64M",
        "-machine",
        "memory-backend=m",
        "-object",
        "iothread,id=io0",
        "-device",
        "virtio-balloon-pci,id=b,addr=4.0,free-page-reporting=on,free-page-hint=on,iothread=io0",
    ]);
    assert_eq!(device.queues(&mut t), 5);
    let mut reports = device.queue(&mut t, 4, None);
    device.drive(&mut t);
    let page = t.alloc(3 * 4096).next_multiple_of(4096);
    t.write(page, &[5; 8192]);
    reports.add(&mut t, &[(page, 4096, true)]);
    reports.kick(&mut t);
    reports.wait(&mut t);
    assert_eq!(t.read(page, 1), [0]);
    assert_eq!(t.read(page + 4096, 1), [5]);
}
