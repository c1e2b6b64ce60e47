//! Debian's kernel on the older PC: i440FX, PIIX3, PIIX4's power management, hot-plug by ACPI.

use serde_json::json;
use tests::artifacts;
use tests::{Serial, Vm, VmBuilder, seconds};

use crate::{kernel_of, readable, wait};

/// Boots it, with these arguments besides, up to its shell. None where there is no guest.
fn boot(memory: &str, args: &[&str], append: &str) -> Option<(Vm, Serial)> {
    boot_on(VmBuilder::new(), memory, args, append)
}

/// The same on a prepared builder.
pub fn boot_on(
    builder: VmBuilder,
    memory: &str,
    args: &[&str],
    append: &str,
) -> Option<(Vm, Serial)> {
    let guest = artifacts::guest()?;
    let builder = kernel_of(builder.guest_on("pc"), &guest, append);
    let mut vm = builder.args(["-m", memory]).args(args).start();
    let mut serial = vm.serial();
    wait(&mut serial);
    Some((vm, serial))
}

const DISK: [&str; 4] = [
    "-blockdev",
    "null-co,node-name=a,size=1048576,read-zeroes=on",
    "-device",
    "virtio-blk-pci,drive=a",
];

fn read_disk(serial: &mut Serial, disk: &str) {
    let read = format!("dd if=/dev/{disk} of=/dev/null bs=4k count=64 2>&1");
    let said = serial.run(&read);
    assert!(said.contains("64+0 records in"), "{said}");
}

/// Waits until the guest has, or has not, this file.
fn until(serial: &mut Serial, test: &str) {
    let look = format!("for i in $(seq 400); do {test} && break; sleep 0.05; done; {test}");
    assert_eq!(serial.try_run(&look).1, "0", "{test}");
}

fn deleted(vm: &mut Vm, id: &str) {
    loop {
        let event = vm
            .qmp()
            .event_within("DEVICE_DELETED", seconds(60))
            .unwrap_or_else(|| panic!("{id} does not go"));
        if event["data"]["device"] == id {
            return;
        }
    }
}

/// A disk comes, is read, and goes.
fn cycle(vm: &mut Vm, serial: &mut Serial, addr: Option<&str>) {
    let mut options = json!({"driver": "virtio-blk-pci", "id": "hot", "drive": "hot"});
    if let Some(addr) = addr {
        options["addr"] = addr.into();
    }
    vm.exec("device_add", options);
    until(serial, &readable("vdb"));
    read_disk(serial, "vdb");
    vm.exec("device_del", json!({"id": "hot"}));
    deleted(vm, "hot");
    until(serial, "! test -e /dev/vdb");
}

fn hot_node(vm: &mut Vm) {
    let node =
        json!({"driver": "null-co", "node-name": "hot", "size": 1 << 20, "read-zeroes": true});
    vm.exec("blockdev-add", node);
}

#[test]
fn devices_tables_hot_plug_and_the_power_button() {
    let args = [
        "-device",
        "virtio-rng-pci",
        "-device",
        "virtio-serial-pci",
        "-chardev",
        "null,id=c0",
        "-device",
        "virtconsole,chardev=c0",
    ];
    let Some((mut vm, mut serial)) = boot("512", &[&DISK[..], &args].concat(), "") else {
        return;
    };
    read_disk(&mut serial, "vda");
    let random = serial.run("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c");
    assert_eq!(random.trim(), "64");
    assert_eq!(serial.try_run("echo hello >/dev/hvc0").1, "0");
    let ids = serial.run("cat /sys/bus/pci/devices/*/device");
    for id in ["0x1237", "0x7000", "0x7113"] {
        assert!(ids.contains(id), "no {id} in {ids}");
    }
    let tables = serial.run("ls /sys/firmware/acpi/tables");
    assert!(tables.contains("FACP") && !tables.contains("MCFG"));
    assert_eq!(
        serial.run("cat /sys/class/dmi/id/product_name"),
        "Standard PC (i440FX + PIIX, 1996)"
    );
    let errors = serial.run("dmesg | grep -iE 'acpi.*(error|warning)|firmware bug' | head -5");
    assert_eq!(errors, "");
    let clock =
        serial.run("cat /sys/devices/system/clocksource/clocksource0/available_clocksource");
    // The kernel goes without it when the host kept it waiting just as the timer began anew.
    let timer = serial.run("dmesg | grep PM-Timer || true");
    let late = timer.contains("inconsistent results");
    assert!(clock.contains("acpi_pm") || late, "{clock}: {timer}");
    hot_node(&mut vm);
    for addr in [Some("06.0"), None, Some("1f"), Some("06.0")] {
        cycle(&mut vm, &mut serial, addr);
    }
    // One that was there from the start goes, too.
    vm.exec(
        "device_add",
        json!({"driver": "virtio-rng-pci", "id": "rng"}),
    );
    vm.exec("device_del", json!({"id": "rng"}));
    deleted(&mut vm, "rng");
    vm.query("system_powerdown");
    serial.expect("power button pressed");
    let event = vm.qmp().event_within("SHUTDOWN", seconds(60));
    assert_eq!(
        event.expect("SHUTDOWN")["data"],
        json!({"guest": true, "reason": "guest-shutdown"})
    );
    assert_eq!(vm.wait().status, Some(0));
}

#[test]
fn hot_plug_with_four_processors_after_a_reset_and_memory_on_both_sides_of_the_hole() {
    let args = [&DISK[..], &["-smp", "4"]].concat();
    let Some((mut vm, mut serial)) = boot("3800", &args, "") else {
        return;
    };
    assert_eq!(serial.run("nproc"), "4");
    let total = serial.run("awk '/MemTotal/ {print $2}' /proc/meminfo");
    let total: u64 = total.trim().parse().expect("a number");
    assert!(total > 3_600_000, "{total} KiB");
    let high = serial.run("grep -c '^1[0-9a-f]*-.*System RAM' /proc/iomem");
    assert_eq!(high.trim(), "1");
    hot_node(&mut vm);
    for _ in 0..4 {
        cycle(&mut vm, &mut serial, None);
    }
    // What is asked for and not let go yet is gone after a reset, and what came stays.
    vm.exec(
        "device_add",
        json!({"driver": "virtio-rng-pci", "id": "stays", "addr": "9"}),
    );
    vm.query("system_reset");
    wait(&mut serial);
    let kept = serial.run("cat /sys/bus/pci/devices/0000:00:09.0/device");
    assert_eq!(kept, "0x1044");
    for _ in 0..2 {
        cycle(&mut vm, &mut serial, Some("8"));
    }
    vm.quit();
}

#[test]
fn pins_without_messages() {
    // Through links at the I/O APIC, and at the old controllers.
    for append in ["pci=nomsi", "acpi=off noapic pci=nomsi"] {
        let Some((vm, mut serial)) = boot("512", &DISK, append) else {
            return;
        };
        read_disk(&mut serial, "vda");
        let interrupts = serial.run("grep virtio /proc/interrupts");
        let kind = if append.contains("noapic") {
            "XT-PIC"
        } else {
            "IO-APIC"
        };
        assert!(interrupts.contains(kind), "{interrupts}");
        vm.quit();
    }
}
