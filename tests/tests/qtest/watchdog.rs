//! The watchdog 6300ESB.

use serde_json::json;
use tests::pci::{self, Function};
use tests::qtest::Qtest;

/// Where the tests put its registers.
const AT: u64 = 0xfe00_0000;
const RELOAD: u64 = AT + 0xc;
const SECOND: u64 = 1_000_000_000;

fn start(args: &[&str]) -> (Qtest, Function) {
    let mut t = Qtest::start(args);
    let dog = pci::functions(&mut t)
        .into_iter()
        .find(|function| function.read32(&mut t, 0) == 0x25ab_8086)
        .expect("a watchdog");
    assert_eq!(dog.read16(&mut t, 0x0a), 0x0880);
    assert_eq!(dog.bar_size(&mut t, 0), Some(16));
    dog.place(&mut t, 0, AT as u32);
    dog.enable(&mut t);
    (t, dog)
}

fn unlock(t: &mut Qtest) {
    t.writew(RELOAD, 0x80);
    t.writew(RELOAD, 0x86);
}

/// Starts it with two stages of a second each.
fn arm(t: &mut Qtest, dog: Function) {
    for register in [0, 4] {
        unlock(t);
        t.writel(AT + register, 1007);
    }
    dog.write16(t, 0x60, 0);
    dog.write8(t, 0x68, 2);
}

fn step(t: &mut Qtest, nanoseconds: u64) {
    t.ok(&format!("clock_step {nanoseconds}"));
}

fn bark(t: &mut Qtest, action: &str) {
    step(t, 5 * SECOND / 2);
    let told = t.vm.qmp().event("WATCHDOG");
    assert_eq!(told["data"], json!({"action": action}));
}

#[test]
fn one_that_is_not_fed_resets_the_machine() {
    let (mut t, dog) = start(&["-device", "i6300esb"]);
    arm(&mut t, dog);
    for _ in 0..4 {
        step(&mut t, 3 * SECOND / 2);
        unlock(&mut t);
        t.writew(RELOAD, 0x100);
    }
    assert!(t.vm.qmp().pending_events().is_empty());
    bark(&mut t, "reset");
    let reset = t.vm.qmp().event("RESET");
    assert_eq!(
        reset["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(dog.read8(&mut t, 0x68), 0);
    dog.place(&mut t, 0, AT as u32);
    dog.enable(&mut t);
    assert_eq!(t.readw(RELOAD), 0x1200, "the guest learns of it");
}

#[test]
fn what_is_done_can_be_chosen() {
    let (mut t, dog) = start(&["-device", "i6300esb", "-watchdog-action", "pause"]);
    arm(&mut t, dog);
    bark(&mut t, "pause");
    t.vm.qmp().event("STOP");
    let status = t.vm.query("query-status");
    assert_eq!(status, json!({"running": false, "status": "watchdog"}));
    t.vm.query("cont");
    t.vm.qmp().event("RESUME");
    let choose = |t: &mut Qtest, command: &str, arguments: serde_json::Value| {
        t.vm.qmp().exec(command, arguments);
        // The next event would be held back for a second.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    };
    choose(&mut t, "set-action", json!({"watchdog": "none"}));
    arm(&mut t, dog);
    bark(&mut t, "none");
    choose(&mut t, "watchdog-set-action", json!({"action": "debug"}));
    arm(&mut t, dog);
    bark(&mut t, "debug");
    assert_eq!(t.vm.qmp().hmp("watchdog_action Shutdown"), "");
    choose(&mut t, "query-status", json!({}));
    arm(&mut t, dog);
    bark(&mut t, "shutdown");
    t.vm.qmp().event("POWERDOWN");
    choose(&mut t, "watchdog-set-action", json!({"action": "poweroff"}));
    arm(&mut t, dog);
    bark(&mut t, "poweroff");
    assert_eq!(t.vm.wait().status, Some(0));
}

#[test]
fn a_lock_holds() {
    let (mut t, dog) = start(&["-device", "i6300esb", "-action", "watchdog=none"]);
    arm(&mut t, dog);
    dog.write8(&mut t, 0x68, 3);
    dog.write8(&mut t, 0x68, 0);
    assert_eq!(dog.read8(&mut t, 0x68), 3);
    bark(&mut t, "none");
}

#[test]
fn refusals() {
    for (args, text) in [
        (
            &["-watchdog-action", "bite"][..],
            "Parameter 'watchdog' does not accept value 'bite'",
        ),
        (&["-watchdog", "cat"], "Unknown -watchdog device 'cat'"),
        (&["-balloon", "hot-air"], "'hot-air' is no balloon"),
    ] {
        let exit = tests::VmBuilder::new().stopped().args(args).run();
        exit.assert_refused().assert_says(text);
    }
    let args = [
        "-watchdog",
        "i6300esb",
        "-balloon",
        "virtio,id=b",
        "-balloon",
        "none",
    ];
    let mut vm = tests::VmBuilder::new().stopped().args(args).start();
    assert!(vm.query("query-balloon")["actual"].is_u64());
    let refused = vm
        .qmp()
        .refused("watchdog-set-action", json!({"action": "bite"}));
    assert_eq!(
        refused.desc,
        "Parameter 'action' does not accept value 'bite'"
    );
    for (line, text) in [
        (
            "watchdog_action bite",
            "Error: invalid parameter value: bite",
        ),
        (
            "watchdog_action",
            "watchdog_action: string expected\r\nTry \"help watchdog_action\" for more information",
        ),
    ] {
        assert_eq!(vm.qmp().hmp(line), format!("{text}\r\n"));
    }
    assert!(vm.qmp().hmp("info pci").contains("8086:25ab"));
}
