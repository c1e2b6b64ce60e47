//! Lines of the text monitor, by human-monitor-command.

use serde_json::json;
use tests::{Vm, VmBuilder};

#[test]
fn lines_end_in_cr_lf() {
    let mut vm = Vm::stopped();
    assert_eq!(
        vm.qmp().hmp("info status"),
        "VM status: paused (prelaunch)\r\n"
    );
    vm.query("cont");
    assert_eq!(vm.qmp().hmp("info status"), "VM status: running\r\n");
}

#[test]
fn facts() {
    let mut vm = VmBuilder::new()
        .stopped()
        .args([
            "-name",
            "one",
            "-uuid",
            "12345678-9abc-def0-1234-56789abcdef0",
        ])
        .args(["-device", "virtio-rng-pci,id=rng0"])
        .args([
            "-blockdev",
            "null-co,node-name=n0",
            "-device",
            "virtio-blk-pci,drive=n0,id=d0",
        ])
        .args(["-chardev", "null,id=c0"])
        .start();
    for (line, words) in [
        ("info version", "10.0.2"),
        ("info name", "one"),
        ("info uuid", "12345678-9abc-def0-1234-56789abcdef0"),
        ("info kvm", "kvm support: disabled"),
        ("info cpus", "* CPU #0: thread_id="),
        ("info registers", "IP="),
        ("info pci", "Bus  0, device   0, function 0:"),
        ("info qtree", "rng0"),
        ("info block", "n0"),
        ("info chardev", "c0: filename=null"),
        ("help", "info"),
    ] {
        let text = vm.qmp().hmp(line);
        assert!(text.contains(words), "{line}: no {words:?} in {text}");
        assert!(text.ends_with("\r\n"), "{line}: {text:?}");
        assert!(!text.replace("\r\n", "").contains('\n'), "{line}: {text:?}");
    }
}

#[test]
fn failures_are_told_in_the_text() {
    let mut vm = Vm::stopped();
    let text = vm.qmp().hmp("bogus");
    assert!(text.starts_with("unknown command: 'bogus'"), "{text:?}");
    let text = vm.qmp().hmp("info bogus");
    assert!(text.contains("bogus") || text.contains("info"), "{text:?}");
    vm.qmp().hmp("");
    vm.assert_alive();
}

#[test]
fn actions_are_the_same_as_the_commands() {
    let mut vm = Vm::stopped();
    assert_eq!(vm.qmp().hmp("cont"), "");
    vm.qmp().event("RESUME");
    assert_eq!(vm.qmp().hmp("stop"), "");
    vm.qmp().event("STOP");
    assert_eq!(vm.qmp().hmp("system_powerdown"), "");
    vm.qmp().event("POWERDOWN");
    assert_eq!(vm.qmp().hmp("system_reset"), "");
    vm.qmp().event("RESET");
    vm.qmp().hmp("quit");
    vm.qmp().assert_end();
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_processor_can_be_chosen() {
    let mut vm = VmBuilder::new().stopped().args(["-smp", "2"]).start();
    let text = vm.exec(
        "human-monitor-command",
        json!({"command-line": "info registers", "cpu-index": 1}),
    );
    assert!(text.as_str().is_some_and(|t| t.contains("IP=")), "{text}");
    let error = vm.refused(
        "human-monitor-command",
        json!({"command-line": "info registers", "cpu-index": 9}),
    );
    assert_eq!(error.desc, "Parameter 'cpu-index' expects a CPU number");
}
