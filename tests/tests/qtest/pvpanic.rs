//! What pvpanic tells beside panics, and pvpanic as a PCI function.

use serde_json::json;
use tests::pci;
use tests::qtest::Qtest;

/// Where the test puts the function's register.
const AT: u64 = 0xfe00_0000;

#[test]
fn a_guest_that_switches_itself_off() {
    let mut t = Qtest::start(&["-device", "pvpanic"]);
    assert_eq!(t.inb(0x505), 7);
    // The program ends with it.
    t.post("outb 0x505 0x4");
    t.vm.qmp().event("GUEST_PVSHUTDOWN");
    let told = t.vm.qmp().event("SHUTDOWN");
    let expected = json!({"guest": true, "reason": "guest-shutdown"});
    assert_eq!(told["data"], expected);
    assert_eq!(t.vm.wait().status, Some(0));
}

#[test]
fn as_a_pci_function() {
    let args = [
        "-device",
        "pvpanic-pci,events=5",
        "-no-shutdown",
        "-action",
        "panic=none",
    ];
    let mut t = Qtest::start(&args);
    let function = pci::functions(&mut t)
        .into_iter()
        .find(|function| function.read32(&mut t, 0) == 0x0011_1b36)
        .expect("a function");
    assert_eq!(function.read16(&mut t, 0x0a), 0x0880);
    function.place(&mut t, 0, AT as u32);
    function.enable(&mut t);
    assert_eq!(t.readb(AT), 5);
    t.writeb(AT, 1);
    assert_eq!(t.vm.qmp().event("GUEST_PANICKED")["data"]["action"], "run");
    t.writeb(AT, 4);
    t.vm.qmp().event("GUEST_PVSHUTDOWN");
    t.vm.qmp().event("SHUTDOWN");
    t.vm.wait_status("shutdown");
}
