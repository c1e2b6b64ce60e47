//! What a driver does wrong is counted, and does not fill the log.

use serde_json::json;
use tests::binary::is_stand_in;
use tests::qtest::Qtest;
use tests::virtio::Device;

const TIMES: u64 = 200;

#[test]
fn a_hostile_queue_is_counted_each_time_and_logged_seldom() {
    if is_stand_in() {
        return;
    }
    let mut t = Qtest::start(&["-device", "virtio-rng-pci,id=rng7,addr=5.0"]);
    assert_eq!(t.vm.query("x-query-guest-errors"), json!([]));
    for _ in 0..TIMES {
        t.free_all();
        let mut device = Device::find(&mut t, 5);
        device.negotiate(&mut t, u64::MAX);
        let mut queue = device.queue(&mut t, 0, None);
        device.drive(&mut t);
        let size = queue.size;
        queue.offer(&mut t, size);
        queue.kick(&mut t);
        t.until("the device needs a reset", |t| {
            device.status(t) & tests::virtio::status::NEEDS_RESET != 0
        });
    }
    let all = t.vm.query("x-query-guest-errors");
    let own = &all[0];
    assert_eq!(own["device"], "rng7", "{all}");
    assert_eq!(own["kind"], "needs-reset");
    assert_eq!(own["count"], TIMES);
    let text = t.vm.qmp().hmp("info guest-errors");
    assert!(
        text.starts_with(&format!("rng7: needs-reset {TIMES} (queue 0: ")),
        "{text}"
    );
    let said = t.vm.stderr().matches("needs a reset by its driver").count();
    assert!((1..=20).contains(&said), "{said}");
}

#[test]
fn quiet_kinds_are_counted_and_logged_when_wanted() {
    if is_stand_in() {
        return;
    }
    let mut t = Qtest::start(&["-device", "pvpanic"]);
    t.outb(0x505, 0x80);
    let all = t.vm.query("x-query-guest-errors");
    assert_eq!(all[0]["kind"], "bad-register", "{all}");
    assert_eq!(all[0]["device"], "pvpanic");
    assert_eq!(t.vm.stderr(), "");
    t.vm.qmp().hmp("log guest_errors");
    t.outb(0x505, 0x40);
    assert!(
        t.vm.stderr()
            .contains("Guest error of device 'pvpanic' (bad-register): unknown event 0x40")
    );
    assert_eq!(t.vm.query("x-query-guest-errors")[0]["count"], 2);
}
