//! Stopping, continuing, switching off, resetting, panicking.

use std::time::Duration;

use serde_json::json;
use tests::{artifacts, seconds};

use crate::{boot, boot_with, wait};

#[test]
fn stop_and_cont() {
    let Some((mut vm, mut serial)) = boot("512", &["-smp", "2"]) else {
        return;
    };
    serial.send(b"while :; do echo tick; sleep 0.2; done\n");
    serial.expect("tick");
    vm.query("stop");
    // What was on its way may still come.
    while serial.comes("tick", Duration::from_millis(500)) {}
    assert!(!serial.comes("tick", seconds(1)), "it runs on");
    assert_eq!(
        vm.query("query-status"),
        json!({"running": false, "status": "paused"})
    );
    vm.query("cont");
    serial.expect("tick");
    serial.expect("tick");
    for _ in 0..20 {
        vm.query("stop");
        vm.query("cont");
    }
    serial.expect("tick");
}

#[test]
fn the_power_button() {
    let Some((mut vm, mut serial)) = boot("512", &[]) else {
        return;
    };
    vm.query("system_powerdown");
    serial.expect("power button pressed");
    vm.qmp().event("POWERDOWN");
    let event = vm
        .qmp()
        .event_within("SHUTDOWN", seconds(60))
        .expect("SHUTDOWN");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn switching_off_with_no_shutdown() {
    let Some((mut vm, mut serial)) = boot("512", &["-no-shutdown"]) else {
        return;
    };
    serial.send(b"poweroff -f\n");
    vm.qmp()
        .event_within("SHUTDOWN", seconds(60))
        .expect("SHUTDOWN");
    vm.qmp().event("STOP");
    assert_eq!(vm.query("query-status")["status"], "shutdown");
    vm.query("system_reset");
    vm.query("cont");
    wait(&mut serial);
}

#[test]
fn a_reset_from_outside() {
    let Some((mut vm, mut serial)) = boot("512", &["-smp", "2"]) else {
        return;
    };
    serial.run("echo mark > /mark");
    vm.query("system_reset");
    let event = vm.qmp().event("RESET");
    assert_eq!(
        event["data"],
        json!({"guest": false, "reason": "host-qmp-system-reset"})
    );
    wait(&mut serial);
    assert_eq!(serial.try_run("test -e /mark").1, "1");
    assert_eq!(serial.run("nproc"), "2");
}

#[test]
fn a_reboot_from_inside() {
    for how in ["acpi", "kbd", "triple", "pci"] {
        let append = format!("reboot={how}");
        let Some((mut vm, mut serial)) = boot_with(tests::VmBuilder::new(), "512", &[], &append)
        else {
            return;
        };
        serial.send(b"reboot -f\n");
        let event = vm
            .qmp()
            .event_within("RESET", seconds(60))
            .unwrap_or_else(|| panic!("no RESET by {how}"));
        assert_eq!(
            event["data"],
            json!({"guest": true, "reason": "guest-reset"}),
            "{how}"
        );
        serial.expect("QVMD-GUEST-READY");
    }
}

#[test]
fn a_reboot_with_no_reboot() {
    let Some((mut vm, mut serial)) = boot("512", &["-no-reboot"]) else {
        return;
    };
    serial.send(b"reboot -f\n");
    let event = vm
        .qmp()
        .event_within("SHUTDOWN", seconds(60))
        .expect("SHUTDOWN");
    assert_eq!(
        event["data"],
        json!({"guest": true, "reason": "guest-reset"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn a_panic() {
    let args = ["-device", "pvpanic", "-action", "panic=pause"];
    let Some((mut vm, mut serial)) = boot("512", &args) else {
        return;
    };
    let driven = serial.run("cat /sys/bus/acpi/devices/QEMU0001:00/physical_node/driver/uevent; lsmod | grep -c pvpanic || true");
    println!("pvpanic: {driven}");
    serial.send(b"echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger\n");
    let event = vm
        .qmp()
        .event_within("GUEST_PANICKED", seconds(60))
        .expect("GUEST_PANICKED");
    assert_eq!(event["data"]["action"], "pause");
    vm.wait_status("guest-panicked");
    vm.quit();
}

#[test]
fn an_nmi() {
    let Some((mut vm, mut serial)) = boot("512", &["-smp", "2"]) else {
        return;
    };
    let count = |serial: &mut tests::Serial| serial.run("grep NMI: /proc/interrupts");
    let before = count(&mut serial);
    vm.query("inject-nmi");
    std::thread::sleep(Duration::from_millis(200));
    assert_ne!(count(&mut serial), before);
}

#[test]
fn registers_of_a_running_processor() {
    let Some((mut vm, _serial)) = boot("512", &["-smp", "2"]) else {
        return;
    };
    for cpu in 0..2 {
        let text = vm.exec(
            "human-monitor-command",
            json!({"command-line": "info registers", "cpu-index": cpu}),
        );
        assert!(text.as_str().is_some_and(|t| t.contains("RIP=")), "{text}");
    }
    if artifacts::accelerator() == "kvm" {
        assert_eq!(vm.query("query-kvm")["enabled"], true);
    }
}

#[test]
fn the_clock_after_a_pause() {
    let Some((mut vm, mut serial)) = boot("512", &[]) else {
        return;
    };
    vm.query("stop");
    std::thread::sleep(Duration::from_secs(3));
    vm.query("cont");
    assert_eq!(serial.run("echo fine"), "fine");
    let stuck = serial.run("dmesg | grep -ciE 'soft lockup|rcu.*stall|hung task' || true");
    assert_eq!(stuck, "0");
}
